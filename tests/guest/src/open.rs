//! Opening protocols, and who has them open (UEFI 2.11 §7.3.9-7.3.11, §7.3.14).

use crate::calls::Guest;
use crate::install::{installed, interface, protocol, uninstall};
use crate::pool;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{
    self, Guid, Handle, OPEN_PROTOCOL_BY_CHILD_CONTROLLER as BY_CHILD,
    OPEN_PROTOCOL_BY_DRIVER as BY_DRIVER, OPEN_PROTOCOL_EXCLUSIVE as EXCLUSIVE,
    OPEN_PROTOCOL_GET_PROTOCOL as GET, OpenProtocolInformationEntry as Entry, Status,
};

pub const AREA: Area = Area {
    name: "open",
    checks: &[
        ("OpenProtocol as anyone may", get),
        ("OpenProtocol to test", test),
        ("OpenProtocol of a protocol that is not there", unknown),
        ("OpenProtocol with wrong parameters", wrong_parameters),
        ("one driver at a time", one_driver),
        ("a driver and an exclusive user", exclusive),
        ("a child's use of its parent", child),
        ("an interface in use stays", stays),
        ("OpenProtocolInformation", information),
        ("CloseProtocol with wrong parameters", close_wrong),
        ("ProtocolsPerHandle", per_handle),
    ],
};

const NONE: Handle = ptr::null_mut();
/// What is in the place for an interface before a call.
const UNTOUCHED: usize = 0xdead;

/// Opens `protocol(1)`: the status, and the interface or what is left there.
fn open(
    guest: &Guest,
    handle: Handle,
    agent: Handle,
    controller: Handle,
    mode: u32,
) -> (Status, *mut c_void) {
    let mut found = interface(UNTOUCHED);
    let status = guest.open_protocol(handle, &protocol(1), &mut found, agent, controller, mode);
    (status, found)
}

fn close(guest: &Guest, handle: Handle, agent: Handle, controller: Handle) -> Status {
    guest.close_protocol(handle, &protocol(1), agent, controller)
}

/// What a successful [`open`] gives.
fn opened() -> (Status, *mut c_void) {
    (Status::SUCCESS, interface(1))
}

fn refused() -> (Status, *mut c_void) {
    (Status::ACCESS_DENIED, interface(UNTOUCHED))
}

fn get(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    for mode in [GET, efi::OPEN_PROTOCOL_BY_HANDLE_PROTOCOL] {
        equal("by nobody", open(guest, handle, NONE, NONE, mode), opened())?;
        equal(
            "by us",
            open(guest, handle, guest.handle, NONE, mode),
            opened(),
        )?;
    }
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn test(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let mode = efi::OPEN_PROTOCOL_TEST_PROTOCOL;
    let call =
        |protocol: &Guid| guest.open_protocol(handle, protocol, ptr::null_mut(), NONE, NONE, mode);
    success("a protocol that is there", call(&protocol(1)))?;
    status("one that is not", call(&UNKNOWN), Status::UNSUPPORTED)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn unknown(guest: &Guest) -> Outcome {
    let found = open(guest, guest.handle, guest.handle, NONE, GET);
    equal(
        "OpenProtocol",
        found,
        (Status::UNSUPPORTED, ptr::null_mut()),
    )
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let invalid = (Status::INVALID_PARAMETER, interface(UNTOUCHED));
    let call = |agent, controller, mode| open(guest, handle, agent, controller, mode);
    for mode in [0, 3, 0x18, 0x40, EXCLUSIVE | GET] {
        equal(
            "no such mode",
            call(guest.handle, guest.handle, mode),
            invalid,
        )?;
    }
    for mode in [BY_CHILD, BY_DRIVER, BY_DRIVER | EXCLUSIVE] {
        equal("no agent", call(NONE, guest.handle, mode), invalid)?;
        equal("no controller", call(guest.handle, NONE, mode), invalid)?;
    }
    equal("no agent", call(NONE, guest.handle, EXCLUSIVE), invalid)?;
    equal(
        "its own child",
        call(guest.handle, handle, BY_CHILD),
        invalid,
    )?;
    equal("no handle", open(guest, NONE, NONE, NONE, GET), invalid)?;
    let found = guest.open_protocol(handle, &protocol(1), ptr::null_mut(), NONE, NONE, GET);
    status("no interface", found, Status::INVALID_PARAMETER)?;
    let found = guest.open_protocol(handle, ptr::null(), &mut interface(0), NONE, NONE, GET);
    status("no protocol", found, Status::INVALID_PARAMETER)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn one_driver(guest: &Guest) -> Outcome {
    let (handle, other) = (installed(guest, 1)?, installed(guest, 2)?);
    for mode in [BY_DRIVER, BY_DRIVER | EXCLUSIVE] {
        let call = |agent| open(guest, handle, agent, handle, mode);
        equal("the first", call(guest.handle), opened())?;
        let again = (Status::ALREADY_STARTED, interface(1));
        equal("the same", call(guest.handle), again)?;
        equal("another", call(other), refused())?;
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
        equal("another, now", call(other), opened())?;
        success("CloseProtocol", close(guest, handle, other, handle))?;
    }
    success("UninstallProtocolInterface", uninstall(guest, other, 2))?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

/// The driver would have to be disconnected, which is not offered.
fn exclusive(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let call = |mode| open(guest, handle, guest.handle, handle, mode);
    for (held, wanted) in [
        (BY_DRIVER, EXCLUSIVE),
        (BY_DRIVER, BY_DRIVER | EXCLUSIVE),
        (EXCLUSIVE, BY_DRIVER),
        (EXCLUSIVE, EXCLUSIVE),
        (EXCLUSIVE, BY_DRIVER | EXCLUSIVE),
        (BY_DRIVER | EXCLUSIVE, EXCLUSIVE),
        (BY_DRIVER | EXCLUSIVE, BY_DRIVER),
    ] {
        equal("the first", call(held), opened())?;
        equal("the second", call(wanted), refused())?;
        equal("to get at it", call(GET), opened())?;
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
    }
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn child(guest: &Guest) -> Outcome {
    let (handle, other) = (installed(guest, 1)?, installed(guest, 2)?);
    equal(
        "the driver",
        open(guest, handle, guest.handle, handle, BY_DRIVER),
        opened(),
    )?;
    equal(
        "its child",
        open(guest, handle, guest.handle, other, BY_CHILD),
        opened(),
    )?;
    success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
    let found = uninstall(guest, handle, 1);
    status("with the child left", found, Status::ACCESS_DENIED)?;
    success("CloseProtocol", close(guest, handle, guest.handle, other))?;
    success("UninstallProtocolInterface", uninstall(guest, other, 2))?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn stays(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    for mode in [BY_DRIVER, EXCLUSIVE, BY_DRIVER | EXCLUSIVE] {
        let found = open(guest, handle, guest.handle, handle, mode);
        equal("OpenProtocol", found, opened())?;
        let found = uninstall(guest, handle, 1);
        status("UninstallProtocolInterface", found, Status::ACCESS_DENIED)?;
        let (old, new) = (interface(1), interface(2));
        let found = guest.reinstall_protocol_interface(handle, &protocol(1), old, new);
        status("ReinstallProtocolInterface", found, Status::ACCESS_DENIED)?;
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
    }
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
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
    let handle = installed(guest, 1)?;
    equal("entries", list(guest, handle)?.1, 0)?;
    for mode in [GET, BY_DRIVER, GET] {
        let found = open(guest, handle, guest.handle, handle, mode);
        equal("OpenProtocol", found, opened())?;
    }
    let (entries, count) = list(guest, handle)?;
    equal("entries", count, 2)?;
    let entry = |e: Entry| {
        (
            e.agent_handle,
            e.controller_handle,
            e.attributes,
            e.open_count,
        )
    };
    let expected =
        [(GET, 2), (BY_DRIVER, 1)].map(|(mode, count)| Some((guest.handle, handle, mode, count)));
    equal("entries", entries.map(|e| e.map(entry)), expected)?;
    success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
    equal("entries", list(guest, handle)?.1, 0)?;
    let (mut entries, mut count) = (ptr::null_mut(), 0);
    let found = guest.open_protocol_information(handle, &UNKNOWN, &mut entries, &mut count);
    status("a protocol that is not there", found, Status::NOT_FOUND)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn close_wrong(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let invalid = |what, found| status(what, found, Status::INVALID_PARAMETER);
    invalid("no handle", close(guest, NONE, guest.handle, NONE))?;
    invalid("no agent", close(guest, handle, NONE, NONE))?;
    let found = close(guest, handle, guest.handle, interface(0x1234));
    invalid("not a controller", found)?;
    let found = guest.close_protocol(handle, ptr::null(), guest.handle, NONE);
    invalid("no protocol", found)?;
    let found = close(guest, handle, guest.handle, NONE);
    status("not open", found, Status::NOT_FOUND)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn per_handle(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let (mut list, mut count) = (ptr::null_mut(), 0);
    let found = guest.protocols_per_handle(handle, &mut list, &mut count);
    success("ProtocolsPerHandle", found)?;
    equal("protocols", count, 1)?;
    // SAFETY: the buffer holds one pointer.
    let first = unsafe { list.read() };
    // SAFETY: the pointer leads to a GUID.
    equal("protocol", unsafe { first.read() }, protocol(1))?;
    pool::free(guest, list)?;
    let found = guest.protocols_per_handle(NONE, &mut list, &mut count);
    status("no handle", found, Status::INVALID_PARAMETER)?;
    let found = guest.protocols_per_handle(handle, ptr::null_mut(), &mut count);
    status("no buffer", found, Status::INVALID_PARAMETER)?;
    let found = guest.protocols_per_handle(handle, &mut list, ptr::null_mut());
    status("no count", found, Status::INVALID_PARAMETER)?;
    holds("no list", count == 0)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}
