//! The initial RAM disk as Linux asks for it: LOAD_FILE2 on a vendor media
//! device path (`drivers/firmware/efi/libstub/efi-stub-helper.c`).
//!
//! Whether there has to be one is told by the word `initrd` in the load options.

use crate::calls::Guest;
use crate::images::has_option;
use crate::memory::{self, PAGE};
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::ptr;
use r_efi::efi::protocols::device_path::{self, Protocol as DevicePath};
use r_efi::efi::protocols::load_file2::{self, Protocol as LoadFile2};
use r_efi::efi::{Boolean, Handle, Status};

pub const AREA: Area = Area {
    name: "13.2 EFI_LOAD_FILE2_PROTOCOL of the initrd",
    checks: &[
        ("LocateDevicePath", locate),
        ("LocateDevicePath with a longer path", longer_path),
        ("LocateDevicePath with wrong parameters", wrong_parameters),
        ("LoadFile for a boot option", boot_policy),
        ("LoadFile without a buffer", size_query),
        ("LoadFile with a buffer that is too small", too_small),
        ("LoadFile", load),
    ],
};

/// Vendor media node 5568e427-68fc-4f3d-ac74-ca555231cc68.
const NODE: [u8; NODE_SIZE] = [
    0x04, 0x03, 0x14, 0x00, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55,
    0x52, 0x31, 0xcc, 0x68,
];
const NODE_SIZE: usize = 20;
const END: [u8; 4] = [0x7f, 0xff, 4, 0];

/// A device path in memory; 1 to 3 nodes.
struct Path([u8; 48]);

impl Path {
    fn new(nodes: &[&[u8]]) -> Self {
        let mut bytes = [0; 48];
        let all = nodes.iter().copied().flatten();
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    fn initrd() -> Self {
        Self::new(&[&NODE, &END])
    }

    /// The handle of the initrd and how much of this path it covers.
    fn locate(&mut self, guest: &Guest) -> Result<(Handle, usize), Status> {
        let start: *mut DevicePath = self.0.as_mut_ptr().cast();
        let (mut path, mut handle) = (start, ptr::null_mut());
        match guest.locate_device_path(&load_file2::PROTOCOL_GUID, &mut path, &mut handle) {
            Status::SUCCESS => Ok((handle, path.addr() - start.addr())),
            status => Err(status),
        }
    }
}

/// Linux ends with an error unless it finds exactly `NOT_FOUND` or a handle.
fn locate(guest: &Guest) -> Outcome {
    let found = Path::initrd().locate(guest);
    if !has_option(guest, "initrd") {
        let found = found.map(drop);
        return equal("LocateDevicePath", found, Err(Status::NOT_FOUND));
    }
    let covered = found.map(|(_, covered)| covered);
    equal("bytes of the path covered", covered, Ok(NODE_SIZE))?;
    let handle = found.unwrap_or((ptr::null_mut(), 0)).0;
    let path = guest.interface::<[u8; 24]>(handle, &device_path::PROTOCOL_GUID);
    // SAFETY: a device path of at least two nodes, one of 20 bytes.
    let path = path.map(|path| unsafe { path.read() });
    equal(
        "its own path",
        path,
        Ok(*Path::initrd().0.first_chunk().unwrap_or(&[0; 24])),
    )
}

fn longer_path(guest: &Guest) -> Outcome {
    const FILE: [u8; 8] = [0x04, 0x04, 8, 0, b'a', 0, 0, 0];
    let found = Path::new(&[&NODE, &FILE, &END]).locate(guest);
    let covered = found.map(|(_, covered)| covered);
    let expected = if has_option(guest, "initrd") {
        Ok(NODE_SIZE)
    } else {
        Err(Status::NOT_FOUND)
    };
    equal("bytes of the path covered", covered, expected)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let protocol = &load_file2::PROTOCOL_GUID;
    let (mut no_path, mut handle) = (ptr::null_mut(), ptr::null_mut());
    let found = guest.locate_device_path(protocol, &mut no_path, &mut handle);
    status("no path", found, Status::INVALID_PARAMETER)?;
    let mut path = Path::initrd();
    let mut start = path.0.as_mut_ptr().cast();
    let found = guest.locate_device_path(ptr::null(), &mut start, &mut handle);
    status("no protocol", found, Status::INVALID_PARAMETER)
}

/// Calls LoadFile; `None` when there is no initrd to load.
fn call(guest: &Guest, policy: Boolean, size: &mut usize, buffer: *mut u8) -> Option<Status> {
    let (handle, _) = Path::initrd().locate(guest).ok()?;
    let this = guest
        .interface::<LoadFile2>(handle, &load_file2::PROTOCOL_GUID)
        .ok()?;
    let mut rest = END;
    let path = rest.as_mut_ptr().cast();
    // SAFETY: the firmware's protocol.
    let load_file = unsafe { (*this).load_file };
    // SAFETY: the buffer is null or has `size` bytes.
    Some(unsafe { load_file(this, path, policy, size, buffer.cast()) })
}

fn boot_policy(guest: &Guest) -> Outcome {
    let found = call(guest, Boolean::TRUE, &mut 0, ptr::null_mut());
    status(
        "LoadFile",
        found.unwrap_or(Status::UNSUPPORTED),
        Status::UNSUPPORTED,
    )
}

/// The size of the initrd; 0 when there is none.
fn size_of_initrd(guest: &Guest, garbage: usize) -> Result<usize, Failure> {
    let mut size = garbage;
    match call(guest, Boolean::FALSE, &mut size, ptr::null_mut()) {
        None => Ok(0),
        Some(found) => status("LoadFile", found, Status::BUFFER_TOO_SMALL).map(|()| size),
    }
}

/// Linux 5.10 asks with an uninitialised size: a null buffer is a question
/// whatever the size.
fn size_query(guest: &Guest) -> Outcome {
    let size = size_of_initrd(guest, 0)?;
    equal(
        "size for another question",
        size_of_initrd(guest, 0x3e2e_4f98)?,
        size,
    )?;
    equal(
        "an initrd of some size",
        size > 0,
        has_option(guest, "initrd"),
    )
}

fn too_small(guest: &Guest) -> Outcome {
    let size = size_of_initrd(guest, 0)?;
    let (mut room, mut byte) = (size.saturating_sub(1).min(1), 0);
    match call(guest, Boolean::FALSE, &mut room, &mut byte) {
        Some(found) if size > 1 => {
            status("LoadFile", found, Status::BUFFER_TOO_SMALL)?;
            equal("size", room, size)
        }
        _ => Ok(()),
    }
}

fn load(guest: &Guest) -> Outcome {
    let mut size = size_of_initrd(guest, 0)?;
    if size == 0 {
        return Ok(());
    }
    let pages = (size as u64).div_ceil(PAGE) as usize;
    let address = memory::allocate(guest, pages)?;
    let buffer = ptr::with_exposed_provenance_mut::<u8>(address as usize);
    let words = pages * PAGE as usize / 8;
    // SAFETY: the pages just allocated.
    unsafe { buffer.cast::<u64>().write_bytes(0xa5, words) };
    let wanted = size;
    let found = call(guest, Boolean::FALSE, &mut size, buffer);
    success("LoadFile", found.unwrap_or(Status::NOT_FOUND))?;
    equal("size", size, wanted)?;
    // SAFETY: the pages just allocated, all of them written above.
    let bytes = unsafe { core::slice::from_raw_parts(buffer, words * 8) };
    let (file, rest) = bytes.split_at(size);
    holds(
        "nothing written behind the file",
        rest.iter().all(|&byte| byte == 0xa5),
    )?;
    holds("contents", file.iter().any(|&byte| byte != 0xa5))?;
    memory::free(guest, address, pages)
}
