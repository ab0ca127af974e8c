//! Finding handles and protocols (UEFI 2.11 §7.3).

use crate::calls::Guest;
use crate::pool;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::mem::size_of;
use core::ptr;
use r_efi::efi::protocols::{loaded_image, simple_text_output};
use r_efi::efi::{self, Guid, Handle, Status};

pub const AREA: Area = Area {
    name: "protocols",
    checks: &[
        (
            "HandleProtocol of a protocol that is not there",
            not_on_handle,
        ),
        ("HandleProtocol with wrong parameters", handle_protocol),
        ("the handles of the system table", console_handles),
        ("LocateProtocol", locate_protocol),
        ("LocateProtocol of an unknown protocol", unknown_protocol),
        ("LocateHandle", locate_handle),
        ("LocateHandle of an unknown protocol", unknown_handle),
        ("LocateHandleBuffer", locate_handle_buffer),
        ("LocateHandleBuffer of all handles", all_handles),
        ("LocateHandleBuffer of an unknown protocol", unknown_buffer),
    ],
};

/// A protocol that no firmware has.
pub const UNKNOWN: Guid = Guid::from_fields(
    0x7be1_d3a0,
    0x53c9,
    0x4f3e,
    0x9a,
    0x61,
    &[0x0c, 0x8e, 0x2b, 0x74, 0xd5, 0x19],
);

const IMAGE: Guid = loaded_image::PROTOCOL_GUID;

fn not_on_handle(guest: &Guest) -> Outcome {
    let found = guest.interface::<u8>(guest.handle, &UNKNOWN);
    equal("HandleProtocol", found, Err(Status::UNSUPPORTED))
}

fn handle_protocol(guest: &Guest) -> Outcome {
    let mut interface = ptr::null_mut();
    let found = guest.handle_protocol(guest.handle, &IMAGE, ptr::null_mut());
    status("no interface", found, Status::INVALID_PARAMETER)?;
    let found = guest.handle_protocol(guest.handle, ptr::null(), &mut interface);
    status("no protocol", found, Status::INVALID_PARAMETER)?;
    let found = guest.handle_protocol(ptr::null_mut(), &IMAGE, &mut interface);
    status("no handle", found, Status::INVALID_PARAMETER)?;
    let junk = ptr::without_provenance_mut(0x1234_5678);
    let found = guest.handle_protocol(junk, &IMAGE, &mut interface);
    status("not a handle", found, Status::INVALID_PARAMETER)
}

fn console_handles(guest: &Guest) -> Outcome {
    let handle = guest.system().console_out_handle;
    let found = guest.interface(handle, &simple_text_output::PROTOCOL_GUID);
    equal(
        "text output of ConsoleOutHandle",
        found,
        Ok(guest.system().con_out),
    )
}

fn locate_protocol(guest: &Guest) -> Outcome {
    let mut interface = ptr::null_mut();
    let found = guest.locate_protocol(&IMAGE, ptr::null_mut(), &mut interface);
    success("LocateProtocol", found)?;
    holds("an interface", !interface.is_null())?;
    let found = guest.locate_protocol(&IMAGE, ptr::null_mut(), ptr::null_mut());
    status("no interface", found, Status::INVALID_PARAMETER)
}

/// Linux goes by the pointer, not by the status: it must be null.
fn unknown_protocol(guest: &Guest) -> Outcome {
    let mut interface = ptr::null_mut();
    let found = guest.locate_protocol(&UNKNOWN, ptr::null_mut(), &mut interface);
    status("LocateProtocol", found, Status::NOT_FOUND)?;
    holds("no interface", interface.is_null())
}

fn locate_handle(guest: &Guest) -> Outcome {
    const ROOM: usize = 256;
    let none = ptr::null_mut();
    let mut handles: [Handle; ROOM] = [none; ROOM];
    let mut size = 0;
    let found = guest.locate_handle(efi::BY_PROTOCOL, &IMAGE, none, &mut size, ptr::null_mut());
    status("LocateHandle(no room)", found, Status::BUFFER_TOO_SMALL)?;
    let needed = size;
    holds(
        "whole handles",
        needed > 0 && needed % size_of::<Handle>() == 0,
    )?;
    size = size_of_val(&handles);
    let buffer = handles.as_mut_ptr();
    let found = guest.locate_handle(efi::BY_PROTOCOL, &IMAGE, none, &mut size, buffer);
    success("LocateHandle", found)?;
    equal("size", size, needed)?;
    let mut found = handles.iter().take(size / size_of::<Handle>());
    holds(
        "this image among them",
        found.any(|&handle| handle == guest.handle),
    )
}

fn unknown_handle(guest: &Guest) -> Outcome {
    let none = ptr::null_mut();
    let mut size = 0;
    let found = guest.locate_handle(efi::BY_PROTOCOL, &UNKNOWN, none, &mut size, ptr::null_mut());
    status("LocateHandle", found, Status::NOT_FOUND)
}

/// Whether LocateHandleBuffer finds this image.
fn buffer_has_us(guest: &Guest, kind: u32, protocol: *const Guid) -> Result<bool, Failure> {
    let (mut count, mut handles) = (0, ptr::null_mut());
    let found =
        guest.locate_handle_buffer(kind, protocol, ptr::null_mut(), &mut count, &mut handles);
    success("LocateHandleBuffer", found)?;
    let ours = (0..count).any(|i| {
        // SAFETY: the buffer holds `count` handles.
        let handle = unsafe { handles.wrapping_add(i).read() };
        handle == guest.handle
    });
    pool::free(guest, handles)?;
    Ok(ours)
}

fn locate_handle_buffer(guest: &Guest) -> Outcome {
    holds(
        "this image",
        buffer_has_us(guest, efi::BY_PROTOCOL, &IMAGE)?,
    )
}

fn all_handles(guest: &Guest) -> Outcome {
    holds(
        "this image",
        buffer_has_us(guest, efi::ALL_HANDLES, ptr::null())?,
    )
}

fn unknown_buffer(guest: &Guest) -> Outcome {
    let none = ptr::null_mut();
    let (mut count, mut handles) = (1, ptr::null_mut());
    let kind = efi::BY_PROTOCOL;
    let found = guest.locate_handle_buffer(kind, &UNKNOWN, none, &mut count, &mut handles);
    status("LocateHandleBuffer", found, Status::NOT_FOUND)
}
