//! Connecting drivers to controllers (UEFI 2.11 §7.3.12-7.3.13, §11.1).
//!
//! Promises the order of §7.3.12: the drivers that the caller names, then all
//! others by version, the highest first. Refuses: to ask the override protocols
//! of platforms, families and buses, which nobody installs here. Loops of
//! controllers that are each other's children are walked once.

use super::{Alleged, protocols, status, with};
use crate::catalog::Service;
use crate::device_path::Header;
use crate::handles::{HandleId, Mode, Search};
use alloc::vec::Vec;
use core::ptr;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::driver::DriverBindingProtocol;
use uefi_raw::{Boolean, Guid, Handle, Status};

/// The driver binding protocol of a driver.
type Binding = *mut DriverBindingProtocol;
type Path = *const DevicePathProtocol;

/// Most drivers that a caller names; a list that is longer has lost its null.
const MAX_NAMED: usize = 1024;

#[cold]
fn binding(driver: HandleId) -> Result<Binding, Status> {
    let found = with(Service::ConnectController, |boot| {
        let found = boot.handles.interface(driver, DriverBindingProtocol::GUID);
        found.map_err(|_| Status::INVALID_PARAMETER)
    })?;
    match protocols::pointer(found).cast::<DriverBindingProtocol>() {
        binding if binding.is_null() => Err(Status::INVALID_PARAMETER),
        binding => Ok(binding),
    }
}

fn version(driver: HandleId) -> u32 {
    // SAFETY: the driver's protocol, which lives as long as it is installed.
    binding(driver).map_or(0, |binding| unsafe { (*binding).version })
}

/// The handles of all drivers, the ones that are `named` first.
fn drivers(named: Vec<HandleId>) -> Result<Vec<HandleId>, Status> {
    let search = Search::ByProtocol(DriverBindingProtocol::GUID);
    let all = with(Service::ConnectController, |boot| {
        Ok(boot.handles.locate(search))
    })?;
    let (first, mut drivers) = (named.len(), named);
    for driver in all {
        if !drivers.contains(&driver) {
            let version = self::version(driver);
            let mut others = drivers.iter().skip(first);
            let higher = others.position(|other| self::version(*other) < version);
            let at = higher.map_or(drivers.len(), |index| first.saturating_add(index));
            drivers.insert(at, driver);
        }
    }
    Ok(drivers)
}

/// Starts every driver that supports a controller; whether there was one.
#[cold]
fn connect_one(controller: HandleId, named: Vec<HandleId>, path: Path) -> Result<bool, Status> {
    let mut drivers = drivers(named)?;
    let mut started = false;
    while let Some(at) = drivers.iter().position(|driver| {
        let supported = binding(*driver).map(|this| {
            // SAFETY: the driver's protocol, which is still installed.
            let supported = unsafe { (*this).supported };
            // SAFETY: the driver's own function, with its protocol.
            unsafe { supported(this, controller.to_raw(), path) }
        });
        supported == Ok(Status::SUCCESS)
    }) {
        let this = binding(drivers.remove(at))?;
        // SAFETY: the driver's protocol, which is still installed.
        let start = unsafe { (*this).start };
        // SAFETY: the driver's own function, with its protocol.
        started |= unsafe { start(this, controller.to_raw(), path) } == Status::SUCCESS;
    }
    Ok(started)
}

/// Connects drivers to everything below a controller.
#[cold]
fn connect_children(controller: HandleId) {
    let mut all = children(controller, None).unwrap_or_default();
    let mut next = 0;
    while let Some(&child) = all.get(next) {
        let _ = connect_one(child, Vec::new(), ptr::null());
        for grandchild in children(child, None).unwrap_or_default() {
            if !all.contains(&grandchild) {
                all.push(grandchild);
            }
        }
        next = next.saturating_add(1);
    }
}

#[cold]
fn children(controller: HandleId, driver: Option<HandleId>) -> Result<Vec<HandleId>, Status> {
    with(Service::ConnectController, |boot| {
        let all = boot.handles.opened_on(controller, None);
        let of = all.filter(|opener| driver.is_none() || opener.agent == driver);
        let of = of.filter(|opener| opener.mode == Mode::BY_CHILD_CONTROLLER);
        Ok(unique(of.filter_map(|opener| opener.controller)))
    })
}

/// The drivers that manage a controller, or one protocol of it.
#[cold]
fn managing(controller: HandleId, protocol: Option<Guid>) -> Result<Vec<HandleId>, Status> {
    with(Service::ConnectController, |boot| {
        let all = boot.handles.opened_on(controller, protocol);
        let by_driver = all.filter(|opener| opener.mode.by_driver());
        Ok(unique(by_driver.filter_map(|opener| opener.agent)))
    })
}

fn unique(handles: impl Iterator<Item = HandleId>) -> Vec<HandleId> {
    let mut all = Vec::new();
    for handle in handles {
        if !all.contains(&handle) {
            all.push(handle);
        }
    }
    all
}

#[cold]
fn known(handle: HandleId) -> Result<(), Status> {
    with(Service::ConnectController, |boot| {
        boot.handles
            .protocols(handle)
            .map(drop)
            .map_err(status::from)
    })
}

/// Has a driver stop managing a controller, or only one child of it.
#[cold]
fn stop(controller: HandleId, driver: HandleId, child: Option<HandleId>) -> Result<(), Status> {
    let this = binding(driver)?;
    let children = children(controller, Some(driver))?;
    let managed = managing(controller, None)?.contains(&driver);
    if !managed || child.is_some_and(|child| !children.contains(&child)) {
        return Ok(());
    }
    // SAFETY: the driver's protocol, which is installed.
    let stop = unsafe { (*this).stop };
    let call = |children: &[HandleId]| {
        // An identifier is such a handle.
        let list = match children {
            [] => ptr::null(),
            _ => children.as_ptr().cast::<Handle>(),
        };
        // SAFETY: the driver's own function, with its protocol and as many children
        // as said.
        let stopped = unsafe { stop(this, controller.to_raw(), children.len(), list) };
        let stopped = stopped == Status::SUCCESS;
        stopped.then_some(()).ok_or(Status::DEVICE_ERROR)
    };
    match child {
        _ if children.is_empty() => {}
        None => call(&children)?,
        Some(child) => call(&[child])?,
    }
    match child {
        Some(_) if children.len() > 1 => Ok(()),
        _ => call(&[]),
    }
}

/// Has the drivers go that manage an interface, until one does not; whether there
/// were some.
#[cold]
pub(super) fn let_go(controller: HandleId, protocol: Guid) -> bool {
    let drivers = managing(controller, Some(protocol)).unwrap_or_default();
    let mut stopped = drivers.iter().map(|driver| stop(controller, *driver, None));
    let _ = stopped.all(|stopped| stopped.is_ok());
    !drivers.is_empty()
}

/// Connects all drivers to a controller and to what is below it.
#[cold]
pub(super) fn connect_all(controller: HandleId) {
    let _ = connect_one(controller, Vec::new(), ptr::null());
    connect_children(controller);
}

/// The handles of a list up to its null; none without a list.
fn read_list(list: Alleged<Handle>) -> Result<Vec<HandleId>, Status> {
    let mut handles = Vec::new();
    while !list.is_null() && handles.len() < MAX_NAMED {
        match HandleId::optional(list.at(handles.len())?.read()?) {
            Some(handle) => handles.push(handle),
            None => break,
        }
    }
    Ok(handles)
}

#[cold]
pub(super) unsafe extern "efiapi" fn connect_controller(
    controller: Handle,
    named: *const Handle,
    path: *const DevicePathProtocol,
    recursive: Boolean,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let named = unsafe { Alleged::new(named) };
    // SAFETY: IN, the caller's promise.
    let header = unsafe { Alleged::new(path.cast::<[u8; 4]>()) };
    let controller = HandleId::from_raw(controller);
    status::of(known(controller).and_then(|()| {
        let started = connect_one(controller, read_list(named)?, path)?;
        if recursive.is_true() {
            connect_children(controller);
        }
        let header = header.read().ok().and_then(Header::parse);
        let nothing_more = header.is_some_and(|header| header.ends_path());
        let connected = started || nothing_more;
        connected.then_some(()).ok_or(Status::NOT_FOUND)
    }))
}

#[cold]
pub(super) unsafe extern "efiapi" fn disconnect_controller(
    controller: Handle,
    driver: Handle,
    child: Handle,
) -> Status {
    let controller = HandleId::from_raw(controller);
    let child = HandleId::optional(child);
    status::of(disconnect(controller, HandleId::optional(driver), child))
}

fn disconnect(
    controller: HandleId,
    driver: Option<HandleId>,
    child: Option<HandleId>,
) -> Result<(), Status> {
    known(controller)?;
    child.map_or(Ok(()), known)?;
    let drivers = match driver {
        Some(driver) => Vec::from([driver]),
        None => managing(controller, None)?,
    };
    // One that stays does not keep the others, and one that went is a success.
    let mut last = Ok(());
    let mut one_went = false;
    for driver in drivers {
        last = stop(controller, driver, child);
        one_went |= last.is_ok();
    }
    if one_went { Ok(()) } else { last }
}
