//! Images: loaded, started, left, unloaded.

use super::*;
use core::cell::Cell;
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::AllocateType;

/// Subsystem of a boot services driver.
const DRIVER: u16 = 11;
/// A device path: one file path node "a", and the End node.
const PATH: [u8; 12] = [4, 4, 8, 0, 0x61, 0, 0, 0, 0x7f, 0xff, 4, 0];

impl World {
    /// LoadImage by another image, which is gone afterwards.
    fn load(&self, source: &[u8], path: &[u8]) -> (Status, Handle) {
        let parent = images::load(&application(), images::Origin::default());
        let parent = parent.expect("an image").to_raw();
        let loaded = self.load_by(parent, source, path);
        assert_eq!(self.unload(parent), Status::SUCCESS);
        loaded
    }

    fn load_by(&self, parent: Handle, source: &[u8], path: &[u8]) -> (Status, Handle) {
        let path: *const u8 = if path.is_empty() {
            null()
        } else {
            path.as_ptr()
        };
        let (bytes, size) = (source.as_ptr(), source.len());
        let mut handle = null_mut();
        let policy = Boolean::FALSE;
        // SAFETY: the source has `size` bytes, the path is whole or null.
        let status = unsafe {
            (self.services.load_image)(policy, parent, path.cast(), bytes, size, &mut handle)
        };
        (status, handle)
    }

    /// The interface of a protocol that an image's handle has.
    fn found(&self, handle: Handle, guid: Guid) -> *mut c_void {
        let mut interface: *mut c_void = null_mut();
        // SAFETY: room for one pointer.
        let status = unsafe { (self.services.handle_protocol)(handle, &guid, &mut interface) };
        assert_eq!(status, Status::SUCCESS);
        interface
    }

    fn unload(&self, handle: Handle) -> Status {
        // SAFETY: no pointers.
        unsafe { (self.services.unload_image)(handle) }
    }
}

#[test]
fn what_is_no_image_is_not_loaded() {
    let world = open(false);
    let (before, _) = world.map();
    assert_eq!(world.load(b"#!/bin/sh\n", &[]).0, Status::LOAD_ERROR);
    assert_eq!(world.map().0, before);
    for parent in [null_mut(), core::ptr::dangling_mut()] {
        let (status, _) = world.load_by(parent, &application(), &[]);
        assert_eq!(status, Status::INVALID_PARAMETER);
    }
}

/// The smallest application: headers and one section that is all zeros.
pub fn application() -> Vec<u8> {
    program(10)
}

/// The same of another subsystem.
fn program(subsystem: u16) -> Vec<u8> {
    let mut file = vec![0u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664u16.to_le_bytes());
    put(0x46, &1u16.to_le_bytes()); // sections
    put(0x54, &112u16.to_le_bytes()); // optional header
    put(0x56, &0x22u16.to_le_bytes());
    let optional = 0x58;
    put(optional, &0x20bu16.to_le_bytes());
    put(optional + 16, &0x1000u32.to_le_bytes()); // entry
    put(optional + 32, &0x1000u32.to_le_bytes()); // section alignment
    put(optional + 36, &0x200u32.to_le_bytes()); // file alignment
    put(optional + 56, &0x2000u32.to_le_bytes()); // size of image
    put(optional + 60, &0x200u32.to_le_bytes()); // size of headers
    put(optional + 68, &subsystem.to_le_bytes());
    let section = optional + 112;
    put(section, b".text");
    put(section + 8, &0x200u32.to_le_bytes());
    put(section + 12, &0x1000u32.to_le_bytes());
    put(section + 16, &0x200u32.to_le_bytes());
    put(section + 20, &0x200u32.to_le_bytes());
    put(section + 36, &0x6000_0020u32.to_le_bytes());
    file
}

#[test]
fn an_application_is_loaded_started_and_gone_when_it_returns() {
    let world = open(false);
    let (before, _) = world.map();
    let origin = images::Origin::host(vec![0x61, 0]);
    let handle = images::load(&application(), origin).unwrap();
    let interface = world.found(handle.to_raw(), LoadedImageProtocol::GUID);
    // SAFETY: the protocol of a loaded image.
    let protocol = unsafe { &*interface.cast::<LoadedImageProtocol>() };
    assert_eq!(
        (protocol.image_size, protocol.load_options_size),
        (0x2000, 4)
    );
    assert_eq!(protocol.system_table, world.table.cast_const());
    assert_eq!(images::start(handle), Ok(Status::ABORTED));
    assert_eq!(images::start(handle), Err(Status::INVALID_PARAMETER));
    assert_eq!(world.map().0, before);
}

#[test]
fn an_image_keeps_a_copy_of_its_device_path() {
    let world = open(false);
    let mut path = PATH;
    let (status, handle) = world.load(&application(), &path);
    assert_eq!(status, Status::SUCCESS);
    path.fill(0);
    let guid = guid!("bc62157e-3e33-4fec-9920-2d3b36d750df");
    let kept = world.found(handle, guid).cast::<[u8; 12]>();
    // SAFETY: as long as the path that was given.
    assert_eq!(unsafe { kept.read() }, PATH);
    let protocol = world.found(handle, LoadedImageProtocol::GUID);
    // SAFETY: the protocol of a loaded image.
    let file_path = unsafe { (*protocol.cast::<LoadedImageProtocol>()).file_path };
    assert_eq!(file_path.addr(), kept.addr());
    assert_eq!(world.unload(handle), Status::SUCCESS);
    assert_eq!(world.unload(handle), Status::INVALID_PARAMETER);
}

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// A driver that agrees when it is asked for the second time.
unsafe extern "efiapi" fn second_time(_: Handle) -> Status {
    ASKED.set(ASKED.get() + 1);
    if ASKED.get() == 1 {
        Status::ACCESS_DENIED
    } else {
        Status::SUCCESS
    }
}

#[test]
fn a_driver_stays_until_it_agrees_to_go() {
    let world = open(false);
    let (before, _) = world.map();
    let (status, handle) = world.load(&program(DRIVER), &[]);
    assert_eq!(status, Status::SUCCESS);
    *RETURNED.lock().unwrap() = Status::SUCCESS;
    let started = images::start(crate::handles::HandleId::from_raw(handle));
    *RETURNED.lock().unwrap() = Status::ABORTED;
    assert_eq!(started, Ok(Status::SUCCESS));
    assert_eq!(world.unload(handle), Status::UNSUPPORTED);
    let protocol = world.found(handle, LoadedImageProtocol::GUID);
    // SAFETY: the protocol of a loaded image, which is its own to change.
    unsafe { (*protocol.cast::<LoadedImageProtocol>()).unload = Some(second_time) };
    assert_eq!(world.unload(handle), Status::ACCESS_DENIED);
    assert_ne!(world.map().0, before);
    assert_eq!(world.unload(handle), Status::SUCCESS);
    assert_eq!(world.map().0, before);
}

/// Pages of a program's code, as many as its image and one more, that start with
/// `file`; rubbish behind it.
fn pages_of(world: &World, file: &[u8]) -> &'static mut [u8] {
    let (any, mut start) = (AllocateType::ANY_PAGES, 0);
    let allocate = world.services.allocate_pages;
    // SAFETY: room for one address.
    let status = unsafe { allocate(any, MemoryType::LOADER_CODE, 3, &mut start) };
    assert_eq!(status, Status::SUCCESS);
    let memory = core::ptr::with_exposed_provenance_mut(usize::try_from(start).unwrap());
    // SAFETY: three pages that were just allocated.
    let pages: &mut [u8] = unsafe { core::slice::from_raw_parts_mut(memory, 3 * PAGE) };
    pages.fill(0xaa);
    pages[..file.len()].copy_from_slice(file);
    pages
}

/// The address of the image of `file`, loaded from pages that it was read to, and
/// the address of the pages.
fn loaded_from(world: &World, file: &[u8]) -> (usize, usize) {
    let pages = pages_of(world, file);
    let start = pages.as_ptr().addr();
    let handle = images::load_from(pages, file.len(), images::Origin::host(Vec::new())).unwrap();
    let interface = world.found(handle.to_raw(), LoadedImageProtocol::GUID);
    // SAFETY: the protocol of a loaded image.
    let protocol = unsafe { &*interface.cast::<LoadedImageProtocol>() };
    let base = protocol.image_base.expose_provenance();
    let placed = core::ptr::with_exposed_provenance::<u8>(base + 0x200);
    // SAFETY: the image has two pages there.
    let behind_headers = unsafe { core::slice::from_raw_parts(placed, 2 * PAGE - 0x200) };
    assert!(behind_headers.iter().all(|byte| *byte == 0));
    assert_eq!(images::start(handle), Ok(Status::ABORTED));
    (base, start)
}

#[test]
fn an_image_stays_where_its_file_was_read_to_if_it_can() {
    let world = open(false);
    let (before, _) = world.map();
    let (base, start) = loaded_from(&world, &application());
    assert_ne!(base, start);
    assert_eq!(world.map().0, before);
    // The same with its section at the same place in the file.
    let mut file = application();
    file.resize(0x1200, 0);
    file[0x58 + 112 + 20..][..4].copy_from_slice(&0x1000u32.to_le_bytes());
    let (base, start) = loaded_from(&world, &file);
    assert_eq!(base, start);
    assert_eq!(world.map().0, before);
    let pages = pages_of(&world, b"no program");
    let loaded = images::load_from(pages, 10, images::Origin::host(Vec::new()));
    assert!(loaded.is_err());
    assert_eq!(world.map().0, before);
}
