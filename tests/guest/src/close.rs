//! Closing protocols, and who has them open (UEFI 2.11 §7.3.10, §7.3.11, §7.3.14).

use crate::calls::Guest;
use crate::install::{interface, protocol};
use crate::open::{NONE, close, open, opened, with_handle, with_two};
use crate::pool;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Failure, Outcome, equal, gives, invalid, success};
use core::ptr;
use r_efi::efi::{
    Handle, OPEN_PROTOCOL_BY_DRIVER as BY_DRIVER, OPEN_PROTOCOL_GET_PROTOCOL as GET,
    OpenProtocolInformationEntry as Entry, Status,
};

pub const CLOSE: Area = Area {
    name: "7.3.10 CloseProtocol",
    checks: &[
        ("closes all that agent and controller have open", close_all),
        ("leaves what another controller has open", close_other),
        ("Handle of NULL", |g| {
            invalid(close(g, NONE, g.handle, NONE))
        }),
        ("Protocol of NULL", |g| {
            invalid(g.close_protocol(g.handle, ptr::null(), g.handle, NONE))
        }),
        ("AgentHandle of NULL", |g| {
            with_handle(g, |h| invalid(close(g, h, NONE, NONE)))
        }),
        ("ControllerHandle that is none", |g| {
            with_handle(g, |h| invalid(close(g, h, g.handle, interface(0x1230))))
        }),
        ("a protocol that is not open", |g| {
            with_handle(g, |h| gives(Status::NOT_FOUND, close(g, h, g.handle, NONE)))
        }),
        ("a second time", close_twice),
    ],
};

pub const INFORMATION: Area = Area {
    name: "7.3.11 OpenProtocolInformation",
    checks: &[
        ("a protocol that nobody has open", |g| {
            with_handle(g, |h| equal("entries", list(g, h)?.1, 0))
        }),
        ("entries with their counts", information),
        ("a protocol that is not there", no_information),
    ],
};

pub const PER_HANDLE: Area = Area {
    name: "7.3.14 ProtocolsPerHandle",
    checks: &[
        ("the protocols of a handle", per_handle),
        ("Handle of NULL", |g| {
            invalid(g.protocols_per_handle(NONE, &mut ptr::null_mut(), &mut 0))
        }),
        ("Handle that is none", |g| {
            invalid(g.protocols_per_handle(interface(0x1230), &mut ptr::null_mut(), &mut 0))
        }),
        ("ProtocolBuffer of NULL", |g| {
            invalid(g.protocols_per_handle(g.handle, ptr::null_mut(), &mut 0))
        }),
        ("ProtocolBufferCount of NULL", |g| {
            invalid(g.protocols_per_handle(g.handle, &mut ptr::null_mut(), ptr::null_mut()))
        }),
    ],
};

fn close_all(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        for mode in [GET, BY_DRIVER, GET] {
            let found = open(guest, handle, guest.handle, handle, mode);
            equal("OpenProtocol", found, opened())?;
        }
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
        equal("entries", list(guest, handle)?.1, 0)
    })
}

fn close_other(guest: &Guest) -> Outcome {
    with_two(guest, |handle, other| {
        for controller in [handle, other] {
            equal(
                "OpenProtocol",
                open(guest, handle, guest.handle, controller, GET),
                opened(),
            )?;
        }
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
        let (entries, count) = list(guest, handle)?;
        success("CloseProtocol", close(guest, handle, guest.handle, other))?;
        equal("entries", count, 1)?;
        equal(
            "controller",
            entries[0].map(|entry| entry.controller_handle),
            Some(other),
        )
    })
}

fn close_twice(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        equal(
            "OpenProtocol",
            open(guest, handle, guest.handle, NONE, GET),
            opened(),
        )?;
        success("CloseProtocol", close(guest, handle, guest.handle, NONE))?;
        gives(Status::NOT_FOUND, close(guest, handle, guest.handle, NONE))
    })
}

/// The open list of `protocol(1)`: its first two entries and their number.
fn list(guest: &Guest, handle: Handle) -> Result<([Option<Entry>; 2], usize), Failure> {
    let (mut entries, mut count) = (ptr::null_mut(), 0);
    let found = guest.open_protocol_information(handle, &protocol(1), &mut entries, &mut count);
    success("OpenProtocolInformation", found)?;
    let entry = |index| {
        // SAFETY: the buffer holds `count` entries.
        (index < count).then(|| unsafe { entries.wrapping_add(index).read() })
    };
    let first = [0, 1].map(entry);
    pool::free(guest, entries)?;
    Ok((first, count))
}

fn information(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        for mode in [GET, BY_DRIVER, GET] {
            let found = open(guest, handle, guest.handle, handle, mode);
            equal("OpenProtocol", found, opened())?;
        }
        let (entries, count) = list(guest, handle)?;
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
        equal("entries", count, 2)?;
        let entry = |mode, count| {
            let entry = entries
                .into_iter()
                .flatten()
                .find(|entry| entry.attributes == mode);
            let found = entry.map(|e| (e.agent_handle, e.controller_handle, e.open_count));
            equal("entry", found, Some((guest.handle, handle, count)))
        };
        entry(GET, 2)?;
        entry(BY_DRIVER, 1)
    })
}

fn no_information(guest: &Guest) -> Outcome {
    let (mut entries, mut count) = (ptr::null_mut(), 0);
    let found = guest.open_protocol_information(guest.handle, &UNKNOWN, &mut entries, &mut count);
    gives(Status::NOT_FOUND, found)
}

fn per_handle(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        let (mut list, mut count) = (ptr::null_mut(), 0);
        let found = guest.protocols_per_handle(handle, &mut list, &mut count);
        success("ProtocolsPerHandle", found)?;
        equal("protocols", count, 1)?;
        // SAFETY: the buffer holds one pointer.
        let first = unsafe { list.read() };
        // SAFETY: the pointer leads to a GUID.
        equal("protocol", unsafe { first.read() }, protocol(1))?;
        pool::free(guest, list)
    })
}
