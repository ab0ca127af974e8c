//! Drivers and controllers (UEFI 2.11 §7.3.12-7.3.13, §11.1). The drivers are
//! functions of this application, the controllers handles with a protocol.

use crate::calls::Guest;
use crate::report::{Area, Failure, Outcome, equal, status, success};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use r_efi::efi::protocols::device_path::Protocol as Path;
use r_efi::efi::protocols::driver_binding::{self, Protocol as Binding};
use r_efi::efi::{
    self, Boolean, Guid, Handle, OPEN_PROTOCOL_BY_CHILD_CONTROLLER as BY_CHILD,
    OPEN_PROTOCOL_BY_DRIVER as BY_DRIVER, OPEN_PROTOCOL_EXCLUSIVE as EXCLUSIVE, Status,
    SystemTable,
};

pub const AREA: Area = Area {
    name: "7.3.12 ConnectController, DisconnectController",
    checks: &[
        ("7.3.12 ConnectController without a driver", no_driver),
        ("7.3.12 the higher version comes first", by_version),
        ("7.3.12 a named driver comes first", named),
        ("7.3.12 recursively to the children", recursive),
        ("7.3.12 a path that ends needs no driver", end_of_path),
        ("7.3.13 DisconnectController stops the driver", disconnected),
        ("7.3.13 children are stopped first", children_first),
        ("7.3.13 one child of several", one_child),
        ("7.3.13 wrong parameters", wrong_parameters),
        ("7.3.9 an exclusive user has the driver go", exclusive),
        ("7.3.9 a driver that stays", stays),
        (
            "7.3.3 an interface that goes has its driver go",
            uninstalled,
        ),
        (
            "7.3.4 another interface has its driver come back",
            reinstalled,
        ),
    ],
};

/// What the drivers manage, and what their children carry.
const BUS: Guid = guid(1);
const CHILD: Guid = guid(2);

const fn guid(number: u8) -> Guid {
    let node = &[0x1f, 0x60, 0x8e, 0xaa, 0x37, number];
    Guid::from_fields(0x70c1_5d2e, 0xb84a, 0x4e0f, 0x91, 0x6d, node)
}

const NONE: Handle = ptr::null_mut();

/// What the drivers did, four bits each, the latest lowest: started 1 or 2; stopped
/// 9 or a, and before that how many children.
static DONE: AtomicU64 = AtomicU64::new(0);
static SYSTEM: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());
/// Whether the drivers refuse to stop, and whether they make two children.
static STUBBORN: AtomicBool = AtomicBool::new(false);
static BEARING: AtomicBool = AtomicBool::new(false);

fn done() -> u64 {
    DONE.swap(0, Ordering::Relaxed)
}

fn note(what: u64) {
    let before = DONE.load(Ordering::Relaxed);
    DONE.store(before << 4 | what, Ordering::Relaxed);
}

fn services() -> Guest {
    Guest::new(NONE, SYSTEM.load(Ordering::Relaxed))
}

fn driver(this: *mut Binding) -> (Handle, u64) {
    // SAFETY: a protocol of this application's.
    let this = unsafe { &*this };
    (this.driver_binding_handle, u64::from(this.version))
}

fn open(guest: &Guest, controller: Handle, agent: Handle, for_: Handle, mode: u32) -> Status {
    guest.open_protocol(controller, &BUS, &mut ptr::null_mut(), agent, for_, mode)
}

extern "efiapi" fn supported(this: *mut Binding, controller: Handle, _: *mut Path) -> Status {
    let (guest, agent) = (services(), driver(this).0);
    let found = open(&guest, controller, agent, controller, BY_DRIVER);
    if found == Status::SUCCESS {
        guest.close_protocol(controller, &BUS, agent, controller);
    }
    found
}

extern "efiapi" fn start(this: *mut Binding, controller: Handle, _: *mut Path) -> Status {
    let (guest, (agent, version)) = (services(), driver(this));
    let found = open(&guest, controller, agent, controller, BY_DRIVER);
    note(version);
    if BEARING.swap(false, Ordering::Relaxed) {
        for _ in 0..2 {
            if let Ok(child) = controller_with(&guest, &CHILD) {
                open(&guest, controller, agent, child, BY_CHILD);
            }
        }
    }
    found
}

extern "efiapi" fn stop(
    this: *mut Binding,
    controller: Handle,
    count: usize,
    children: *mut Handle,
) -> Status {
    let (guest, (agent, version)) = (services(), driver(this));
    if STUBBORN.load(Ordering::Relaxed) {
        return Status::DEVICE_ERROR;
    }
    for index in 0..count {
        // SAFETY: as many children as said.
        let child = unsafe { children.wrapping_add(index).read() };
        guest.close_protocol(controller, &BUS, agent, child);
        guest.uninstall_protocol_interface(child, &CHILD, ptr::null_mut());
    }
    if count == 0 {
        guest.close_protocol(controller, &BUS, agent, controller);
        note(8 + version);
    } else {
        note(count as u64);
    }
    Status::SUCCESS
}

fn binding(version: u32) -> Binding {
    Binding {
        supported,
        start,
        stop,
        version,
        image_handle: NONE,
        driver_binding_handle: NONE,
    }
}

fn controller_with(guest: &Guest, protocol: &Guid) -> Result<Handle, Failure> {
    let (mut handle, native) = (NONE, efi::NATIVE_INTERFACE);
    let found = guest.install_protocol_interface(&mut handle, protocol, native, ptr::null_mut());
    success("InstallProtocolInterface", found)?;
    Ok(handle)
}

/// Two drivers, of versions 1 and 2, and a controller.
struct Bed {
    drivers: [Handle; 2],
    controller: Handle,
}

impl Bed {
    /// Does `check` with a bed.
    fn with(guest: &Guest, check: fn(&Guest, &Self) -> Outcome) -> Outcome {
        SYSTEM.store(guest.system_table(), Ordering::Relaxed);
        let mut bindings = [binding(1), binding(2)];
        let mut bed = Self {
            drivers: [NONE; 2],
            controller: controller_with(guest, &BUS)?,
        };
        for (binding, handle) in bindings.iter_mut().zip(&mut bed.drivers) {
            let interface = ptr::from_mut(binding);
            let (protocol, native) = (&driver_binding::PROTOCOL_GUID, efi::NATIVE_INTERFACE);
            let pointer = interface.cast::<c_void>();
            let found = guest.install_protocol_interface(handle, protocol, native, pointer);
            success("InstallProtocolInterface", found)?;
            binding.driver_binding_handle = *handle;
            binding.image_handle = guest.handle;
        }
        done();
        let outcome = check(guest, &bed);
        STUBBORN.store(false, Ordering::Relaxed);
        BEARING.store(false, Ordering::Relaxed);
        guest.disconnect_controller(bed.controller, NONE, NONE);
        guest.uninstall_protocol_interface(bed.controller, &BUS, ptr::null_mut());
        for (binding, handle) in bindings.iter_mut().zip(bed.drivers) {
            let interface = ptr::from_mut(binding).cast();
            let protocol = &driver_binding::PROTOCOL_GUID;
            let found = guest.uninstall_protocol_interface(handle, protocol, interface);
            success("UninstallProtocolInterface", found)?;
        }
        outcome
    }

    fn connect(&self, guest: &Guest) -> Outcome {
        success(
            "ConnectController",
            connect(guest, self.controller, Boolean::FALSE),
        )
    }

    /// Connected to a driver that has made two children.
    fn bear(&self, guest: &Guest) -> Result<[Handle; 2], Failure> {
        BEARING.store(true, Ordering::Relaxed);
        self.connect(guest)?;
        done();
        let (mut size, mut children) = (2 * size_of::<Handle>(), [NONE; 2]);
        let (kind, none) = (efi::BY_PROTOCOL, ptr::null_mut());
        let found = guest.locate_handle(kind, &CHILD, none, &mut size, children.as_mut_ptr());
        success("LocateHandle", found)?;
        Ok(children)
    }
}

fn connect(guest: &Guest, controller: Handle, recursive: Boolean) -> Status {
    guest.connect_controller(controller, ptr::null_mut(), ptr::null_mut(), recursive)
}

fn no_driver(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, _| {
        let other = controller_with(guest, &CHILD)?;
        let found = connect(guest, other, Boolean::FALSE);
        success(
            "UninstallProtocolInterface",
            guest.uninstall_protocol_interface(other, &CHILD, ptr::null_mut()),
        )?;
        status("ConnectController", found, Status::NOT_FOUND)?;
        let found = connect(guest, other, Boolean::FALSE);
        status("no controller", found, Status::INVALID_PARAMETER)
    })
}

fn by_version(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        equal("started", done(), 2)?;
        let again = connect(guest, bed.controller, Boolean::FALSE);
        status("a second time", again, Status::NOT_FOUND)?;
        equal("started", done(), 0)
    })
}

fn named(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        let mut list = [bed.drivers[0], NONE];
        let (list, path) = (list.as_mut_ptr(), ptr::null_mut());
        let found = guest.connect_controller(bed.controller, list, path, Boolean::FALSE);
        success("ConnectController", found)?;
        equal("started", done(), 1)
    })
}

fn recursive(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        let [child, _] = bed.bear(guest)?;
        // What makes the child a controller that a driver supports.
        let (mut handle, native) = (child, efi::NATIVE_INTERFACE);
        let found = guest.install_protocol_interface(&mut handle, &BUS, native, ptr::null_mut());
        success("InstallProtocolInterface", found)?;
        connect(guest, bed.controller, Boolean::FALSE);
        let flat = done();
        connect(guest, bed.controller, Boolean::TRUE);
        let deep = done();
        let stopped = guest.disconnect_controller(child, NONE, NONE);
        guest.uninstall_protocol_interface(child, &BUS, ptr::null_mut());
        equal("started flat, deep", (flat, deep), (0, 2))?;
        success("DisconnectController", stopped)
    })
}

fn end_of_path(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        let mut end = [0x7f_u8, 0xff, 4, 0];
        let path = end.as_mut_ptr().cast();
        let none = ptr::null_mut();
        let found = guest.connect_controller(bed.controller, none, path, Boolean::FALSE);
        success("ConnectController", found)
    })
}

fn disconnected(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        let disconnect = || guest.disconnect_controller(bed.controller, NONE, NONE);
        success("DisconnectController of a free one", disconnect())?;
        bed.connect(guest)?;
        success("DisconnectController", disconnect())?;
        equal("started and stopped", done(), 0x2a)
    })
}

fn children_first(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.bear(guest)?;
        let found = guest.disconnect_controller(bed.controller, NONE, NONE);
        success("DisconnectController", found)?;
        equal("two children, then the driver", done(), 0x2a)
    })
}

fn one_child(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        let [one, two] = bed.bear(guest)?;
        let found = guest.disconnect_controller(bed.controller, bed.drivers[1], one);
        success("DisconnectController(one)", found)?;
        equal("one child, and no more", done(), 0x1)?;
        let found = guest.disconnect_controller(bed.controller, bed.drivers[1], two);
        success("DisconnectController(two)", found)?;
        equal("the last child, and its driver", done(), 0x1a)
    })
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        let refused = Status::INVALID_PARAMETER;
        let junk = ptr::without_provenance_mut(0x1234_5678);
        let found = guest.disconnect_controller(junk, NONE, NONE);
        status("no controller", found, refused)?;
        let found = guest.disconnect_controller(bed.controller, NONE, junk);
        status("no child", found, refused)?;
        let found = guest.disconnect_controller(bed.controller, guest.handle, NONE);
        status("no driver", found, refused)
    })
}

fn exclusive(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        let found = open(guest, bed.controller, guest.handle, NONE, EXCLUSIVE);
        success("OpenProtocol(exclusive)", found)?;
        equal("started and stopped", done(), 0x2a)?;
        let found = connect(guest, bed.controller, Boolean::FALSE);
        status("ConnectController meanwhile", found, Status::NOT_FOUND)?;
        let found = guest.close_protocol(bed.controller, &BUS, guest.handle, NONE);
        success("CloseProtocol", found)
    })
}

fn stays(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        STUBBORN.store(true, Ordering::Relaxed);
        let refused = Status::ACCESS_DENIED;
        let found = open(guest, bed.controller, guest.handle, NONE, EXCLUSIVE);
        status("OpenProtocol(exclusive)", found, refused)?;
        let found = guest.uninstall_protocol_interface(bed.controller, &BUS, ptr::null_mut());
        status("UninstallProtocolInterface", found, refused)
    })
}

fn uninstalled(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        let found = guest.uninstall_protocol_interface(bed.controller, &BUS, ptr::null_mut());
        success("UninstallProtocolInterface", found)?;
        equal("started and stopped", done(), 0x2a)
    })
}

fn reinstalled(guest: &Guest) -> Outcome {
    Bed::with(guest, |guest, bed| {
        bed.connect(guest)?;
        let null = ptr::null_mut();
        let found = guest.reinstall_protocol_interface(bed.controller, &BUS, null, null);
        success("ReinstallProtocolInterface", found)?;
        equal("started, stopped, started", done(), 0x2a2)
    })
}
