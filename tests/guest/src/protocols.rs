//! Finding handles and protocols (UEFI 2.11 §7.3).

use crate::calls::Guest;
use crate::install::interface;
use crate::pool;
use crate::report::{Area, Outcome, equal, gives, holds, invalid, status, success};
use core::mem::size_of;
use core::ptr;
use r_efi::efi::protocols::{loaded_image, simple_text_output};
use r_efi::efi::{self, Guid, Handle, Status};

pub const HANDLE_PROTOCOL: Area = Area {
    name: "7.3.7 HandleProtocol",
    checks: &[
        ("a protocol that is not there", not_on_handle),
        ("the handles of the system table", console_handles),
        ("Handle of NULL", |g| {
            invalid(handle_protocol(g, ptr::null_mut()))
        }),
        ("Handle that is none", |g| {
            invalid(handle_protocol(g, interface(0x1234_5678)))
        }),
        ("Handle beyond all memory", |g| {
            invalid(handle_protocol(g, interface(1 << 50)))
        }),
        ("Protocol of NULL", |g| {
            invalid(g.handle_protocol(g.handle, ptr::null(), &mut ptr::null_mut()))
        }),
        ("Interface of NULL", |g| {
            invalid(g.handle_protocol(g.handle, &IMAGE, ptr::null_mut()))
        }),
    ],
};

pub const LOCATE_HANDLE: Area = Area {
    name: "7.3.6 LocateHandle",
    checks: &[
        ("ByProtocol", locate_handle),
        ("AllHandles", |g| {
            some(locate(g, efi::ALL_HANDLES, ptr::null(), ROOM * 8))
        }),
        ("a buffer that lacks a byte", one_byte_short),
        ("no room at all", |g| {
            gives(
                Status::BUFFER_TOO_SMALL,
                locate(g, BY_PROTOCOL, &IMAGE, 0).0,
            )
        }),
        ("a protocol that nobody has", |g| {
            gives(
                Status::NOT_FOUND,
                locate(g, BY_PROTOCOL, &UNKNOWN, ROOM * 8).0,
            )
        }),
        ("ByProtocol with Protocol of NULL", |g| {
            invalid(locate(g, BY_PROTOCOL, ptr::null(), ROOM * 8).0)
        }),
        ("ByRegisterNotify with SearchKey of NULL", |g| {
            invalid(locate(g, efi::BY_REGISTER_NOTIFY, ptr::null(), ROOM * 8).0)
        }),
        ("a SearchType that is none", |g| {
            invalid(locate(g, 3, &IMAGE, ROOM * 8).0)
        }),
        ("BufferSize of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.locate_handle(BY_PROTOCOL, &IMAGE, null, null.cast(), null.cast()))
        }),
        ("Buffer of NULL with a size that is enough", |g| {
            let null = ptr::null_mut();
            invalid(g.locate_handle(BY_PROTOCOL, &IMAGE, null, &mut { ROOM * 8 }, null.cast()))
        }),
    ],
};

pub const LOCATE_BUFFER: Area = Area {
    name: "7.3.15 LocateHandleBuffer",
    checks: &[
        ("ByProtocol", |g| has_us(g, BY_PROTOCOL, &IMAGE)),
        ("AllHandles", |g| has_us(g, efi::ALL_HANDLES, ptr::null())),
        ("a protocol that nobody has", |g| {
            gives(Status::NOT_FOUND, buffer(g, BY_PROTOCOL, &UNKNOWN))
        }),
        ("ByProtocol with Protocol of NULL", |g| {
            invalid(buffer(g, BY_PROTOCOL, ptr::null()))
        }),
        ("ByRegisterNotify with SearchKey of NULL", |g| {
            invalid(buffer(g, efi::BY_REGISTER_NOTIFY, ptr::null()))
        }),
        ("a SearchType that is none", |g| {
            invalid(buffer(g, 3, &IMAGE))
        }),
        ("NoHandles of NULL", |g| {
            let (null, mut handles) = (ptr::null_mut(), ptr::null_mut());
            invalid(g.locate_handle_buffer(BY_PROTOCOL, &IMAGE, null, null.cast(), &mut handles))
        }),
        ("Buffer of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.locate_handle_buffer(BY_PROTOCOL, &IMAGE, null, &mut 0, null.cast()))
        }),
    ],
};

pub const LOCATE_PROTOCOL: Area = Area {
    name: "7.3.16 LocateProtocol",
    checks: &[
        ("a protocol that somebody has", locate_protocol),
        ("a protocol that nobody has", unknown_protocol),
        ("Protocol of NULL", |g| {
            invalid(g.locate_protocol(ptr::null(), ptr::null_mut(), &mut ptr::null_mut()))
        }),
        ("Interface of NULL", |g| {
            invalid(g.locate_protocol(&IMAGE, ptr::null_mut(), ptr::null_mut()))
        }),
    ],
};

const BY_PROTOCOL: u32 = efi::BY_PROTOCOL;
/// More handles than any firmware has here.
const ROOM: usize = 512;

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

fn handle_protocol(guest: &Guest, handle: Handle) -> Status {
    guest.handle_protocol(handle, &IMAGE, &mut ptr::null_mut())
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
    holds("an interface", !interface.is_null())
}

/// Linux goes by the pointer, not by the status: it must be null.
fn unknown_protocol(guest: &Guest) -> Outcome {
    let mut interface = ptr::null_mut();
    let found = guest.locate_protocol(&UNKNOWN, ptr::null_mut(), &mut interface);
    status("LocateProtocol", found, Status::NOT_FOUND)?;
    holds("no interface", interface.is_null())
}

/// LocateHandle with `room` bytes: status, size and whether this image is there.
fn locate(guest: &Guest, kind: u32, protocol: *const Guid, room: usize) -> (Status, usize, bool) {
    let mut handles: [Handle; ROOM] = [ptr::null_mut(); ROOM];
    let mut size = room;
    let buffer = handles.as_mut_ptr();
    let status = guest.locate_handle(kind, protocol, ptr::null_mut(), &mut size, buffer);
    (status, size, handles.contains(&guest.handle))
}

/// Handles were found, and this image among them.
fn some((found, size, us): (Status, usize, bool)) -> Outcome {
    success("LocateHandle", found)?;
    equal(
        "rest of a division by a handle's size",
        size % size_of::<Handle>(),
        0,
    )?;
    holds("this image among them", us)
}

fn locate_handle(guest: &Guest) -> Outcome {
    let needed = locate(guest, BY_PROTOCOL, &IMAGE, 0).1;
    let found = locate(guest, BY_PROTOCOL, &IMAGE, ROOM * size_of::<Handle>());
    equal("size", found.1, needed)?;
    some(found)
}

fn one_byte_short(guest: &Guest) -> Outcome {
    let needed = locate(guest, BY_PROTOCOL, &IMAGE, 0).1;
    let (found, size, us) = locate(guest, BY_PROTOCOL, &IMAGE, needed - 1);
    gives(Status::BUFFER_TOO_SMALL, found)?;
    equal("size and buffer", (size, us), (needed, false))
}

/// LocateHandleBuffer that has to fail.
fn buffer(guest: &Guest, kind: u32, protocol: *const Guid) -> Status {
    let null = ptr::null_mut();
    guest.locate_handle_buffer(kind, protocol, null, &mut 0, &mut ptr::null_mut())
}

/// LocateHandleBuffer finds this image.
fn has_us(guest: &Guest, kind: u32, protocol: *const Guid) -> Outcome {
    let (mut count, mut handles) = (0, ptr::null_mut());
    let null = ptr::null_mut();
    let found = guest.locate_handle_buffer(kind, protocol, null, &mut count, &mut handles);
    success("LocateHandleBuffer", found)?;
    let ours = (0..count).any(|i| {
        // SAFETY: the buffer holds `count` handles.
        let handle = unsafe { handles.wrapping_add(i).read() };
        handle == guest.handle
    });
    pool::free(guest, handles)?;
    holds("this image", ours)
}
