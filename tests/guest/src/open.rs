//! Opening protocols, in all combinations of attributes (UEFI 2.11 §7.3.9).

use crate::calls::Guest;
use crate::install::{installed, interface, protocol, uninstall};
use crate::protocols::UNKNOWN;
use crate::report::{Area, Outcome, equal, gives, invalid, status, success};
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{
    self, Guid, Handle, OPEN_PROTOCOL_BY_CHILD_CONTROLLER as BY_CHILD,
    OPEN_PROTOCOL_BY_DRIVER as BY_DRIVER, OPEN_PROTOCOL_BY_HANDLE_PROTOCOL as BY_HANDLE,
    OPEN_PROTOCOL_EXCLUSIVE as EXCLUSIVE, OPEN_PROTOCOL_GET_PROTOCOL as GET, Status,
};

pub const OPEN: Area = Area {
    name: "7.3.9 OpenProtocol",
    checks: &[
        ("GET_PROTOCOL without an agent", |g| by_anyone(g, GET)),
        ("BY_HANDLE_PROTOCOL without an agent", |g| {
            by_anyone(g, BY_HANDLE)
        }),
        ("TEST_PROTOCOL of a protocol that is there", |g| {
            test(g, &protocol(1), Status::SUCCESS)
        }),
        ("TEST_PROTOCOL of one that is not", |g| {
            test(g, &UNKNOWN, Status::UNSUPPORTED)
        }),
        ("a protocol that is not there", unknown),
        ("Attributes that are no combination", no_mode),
        ("Handle of NULL", |g| {
            invalid(open(g, NONE, NONE, NONE, GET).0)
        }),
        ("Handle that is none", |g| {
            invalid(open(g, interface(0x1230), NONE, NONE, GET).0)
        }),
        ("Protocol of NULL", no_protocol),
        ("Interface of NULL", no_interface),
        ("Interface of NULL to test", |g| {
            test(g, &protocol(1), Status::SUCCESS)
        }),
        ("no agent BY_CHILD_CONTROLLER", |g| no_agent(g, BY_CHILD)),
        ("no agent BY_DRIVER", |g| no_agent(g, BY_DRIVER)),
        ("no agent BY_DRIVER | EXCLUSIVE", |g| {
            no_agent(g, BY_DRIVER | EXCLUSIVE)
        }),
        ("no agent EXCLUSIVE", |g| no_agent(g, EXCLUSIVE)),
        ("no controller BY_CHILD_CONTROLLER", |g| {
            no_controller(g, BY_CHILD)
        }),
        ("no controller BY_DRIVER", |g| no_controller(g, BY_DRIVER)),
        ("no controller BY_DRIVER | EXCLUSIVE", |g| {
            no_controller(g, BY_DRIVER | EXCLUSIVE)
        }),
        ("no controller EXCLUSIVE", no_controller_needed),
        ("a handle as its own child", own_child),
        ("who has it open: nobody", |g| held(g, None)),
        ("who has it open: GET_PROTOCOL", |g| held(g, Some(GET))),
        ("who has it open: BY_HANDLE_PROTOCOL", |g| {
            held(g, Some(BY_HANDLE))
        }),
        ("who has it open: BY_CHILD_CONTROLLER", |g| {
            held(g, Some(BY_CHILD))
        }),
        ("who has it open: BY_DRIVER", |g| held(g, Some(BY_DRIVER))),
        ("who has it open: BY_DRIVER | EXCLUSIVE", |g| {
            held(g, Some(BY_DRIVER | EXCLUSIVE))
        }),
        ("who has it open: EXCLUSIVE", |g| held(g, Some(EXCLUSIVE))),
        ("BY_DRIVER again is EFI_ALREADY_STARTED", |g| {
            again(g, BY_DRIVER)
        }),
        ("BY_DRIVER | EXCLUSIVE again is EFI_ALREADY_STARTED", |g| {
            again(g, BY_DRIVER | EXCLUSIVE)
        }),
        ("another driver once the first has closed it", one_driver),
        (
            "GET_PROTOCOL and BY_HANDLE_PROTOCOL do not keep an interface",
            |g| {
                leaves(g, GET)?;
                leaves(g, BY_HANDLE)
            },
        ),
        ("BY_CHILD_CONTROLLER keeps an interface", child),
        ("BY_DRIVER keeps an interface", |g| stays(g, BY_DRIVER)),
        ("BY_DRIVER | EXCLUSIVE keeps an interface", |g| {
            stays(g, BY_DRIVER | EXCLUSIVE)
        }),
        ("EXCLUSIVE keeps an interface", |g| stays(g, EXCLUSIVE)),
    ],
};

/// No handle.
pub const NONE: Handle = ptr::null_mut();
/// What is in the place for an interface before a call.
const UNTOUCHED: usize = 0xdead;

/// Opens `protocol(1)`: the status, and the interface or what is left there.
pub fn open(
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

/// Closes `protocol(1)`.
pub fn close(guest: &Guest, handle: Handle, agent: Handle, controller: Handle) -> Status {
    guest.close_protocol(handle, &protocol(1), agent, controller)
}

/// What a successful [`open`] gives.
pub fn opened() -> (Status, *mut c_void) {
    (Status::SUCCESS, interface(1))
}

fn refused() -> (Status, *mut c_void) {
    (Status::ACCESS_DENIED, interface(UNTOUCHED))
}

/// Does `act` with a new handle that has `protocol(1)`, and removes it.
pub fn with_handle(guest: &Guest, act: impl FnOnce(Handle) -> Outcome) -> Outcome {
    let handle = installed(guest, 1)?;
    let outcome = act(handle);
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    outcome
}

/// As [`with_handle`], with another handle that has `protocol(2)`.
pub fn with_two(guest: &Guest, act: impl FnOnce(Handle, Handle) -> Outcome) -> Outcome {
    with_handle(guest, |handle| {
        let other = installed(guest, 2)?;
        let outcome = act(handle, other);
        success("UninstallProtocolInterface", uninstall(guest, other, 2))?;
        outcome
    })
}

fn by_anyone(guest: &Guest, mode: u32) -> Outcome {
    with_handle(guest, |handle| {
        equal("interface", open(guest, handle, NONE, NONE, mode), opened())
    })
}

fn test(guest: &Guest, protocol: &Guid, expected: Status) -> Outcome {
    with_handle(guest, |handle| {
        let (null, mode) = (ptr::null_mut(), efi::OPEN_PROTOCOL_TEST_PROTOCOL);
        gives(
            expected,
            guest.open_protocol(handle, protocol, null, NONE, NONE, mode),
        )
    })
}

fn unknown(guest: &Guest) -> Outcome {
    let found = open(guest, guest.handle, guest.handle, NONE, GET);
    equal(
        "OpenProtocol",
        found,
        (Status::UNSUPPORTED, ptr::null_mut()),
    )
}

/// The seven combinations of attributes that there are.
const MODES: [u32; 7] = [
    BY_HANDLE,
    GET,
    efi::OPEN_PROTOCOL_TEST_PROTOCOL,
    BY_CHILD,
    BY_DRIVER,
    BY_DRIVER | EXCLUSIVE,
    EXCLUSIVE,
];

fn no_mode(guest: &Guest) -> Outcome {
    with_two(guest, |handle, other| {
        let mut others = (0..0x100)
            .chain([u32::MAX, 1 << 31])
            .filter(|mode| !MODES.contains(mode));
        others.try_for_each(|mode| {
            let found = open(guest, handle, guest.handle, other, mode);
            equal(
                "no such mode",
                found,
                (Status::INVALID_PARAMETER, interface(UNTOUCHED)),
            )
        })
    })
}

fn no_protocol(guest: &Guest) -> Outcome {
    let mut found = interface(0);
    invalid(guest.open_protocol(guest.handle, ptr::null(), &mut found, NONE, NONE, GET))
}

fn no_interface(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        let null = ptr::null_mut();
        invalid(guest.open_protocol(handle, &protocol(1), null, NONE, NONE, GET))
    })
}

fn no_agent(guest: &Guest, mode: u32) -> Outcome {
    with_two(guest, |handle, other| {
        invalid(open(guest, handle, NONE, other, mode).0)
    })
}

fn no_controller(guest: &Guest, mode: u32) -> Outcome {
    with_handle(guest, |handle| {
        invalid(open(guest, handle, guest.handle, NONE, mode).0)
    })
}

fn no_controller_needed(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        equal(
            "interface",
            open(guest, handle, guest.handle, NONE, EXCLUSIVE),
            opened(),
        )?;
        success("CloseProtocol", close(guest, handle, guest.handle, NONE))
    })
}

fn own_child(guest: &Guest) -> Outcome {
    with_handle(guest, |handle| {
        invalid(open(guest, handle, guest.handle, handle, BY_CHILD).0)
    })
}

/// Whether one use of an interface keeps out another by somebody else.
fn excludes(held: u32, wanted: u32) -> bool {
    let (held_driver, held_exclusive) = (held & BY_DRIVER != 0, held & EXCLUSIVE != 0);
    match wanted {
        BY_DRIVER => held_driver || held_exclusive,
        // A driver would have to be disconnected. There is none that could be.
        EXCLUSIVE | BOTH => held_driver || held_exclusive,
        _ => false,
    }
}

const BOTH: u32 = BY_DRIVER | EXCLUSIVE;

/// All that another agent may want from an interface which we hold.
fn held(guest: &Guest, held: Option<u32>) -> Outcome {
    with_two(guest, |handle, other| {
        if let Some(mode) = held {
            equal(
                "the first",
                open(guest, handle, guest.handle, other, mode),
                opened(),
            )?;
        }
        let outcome = [GET, BY_HANDLE, BY_CHILD, BY_DRIVER, BOTH, EXCLUSIVE]
            .into_iter()
            .try_for_each(|mode| {
                let controller = if mode == BY_CHILD { other } else { handle };
                let found = open(guest, handle, other, controller, mode);
                let expected = match held {
                    Some(held) if excludes(held, mode) => refused(),
                    _ => opened(),
                };
                equal("the second", found, expected)?;
                if found.0 == Status::SUCCESS {
                    success("CloseProtocol", close(guest, handle, other, controller))?;
                }
                Ok(())
            });
        if held.is_some() {
            success("CloseProtocol", close(guest, handle, guest.handle, other))?;
        }
        outcome
    })
}

fn again(guest: &Guest, mode: u32) -> Outcome {
    with_handle(guest, |handle| {
        equal(
            "the first",
            open(guest, handle, guest.handle, handle, mode),
            opened(),
        )?;
        let found = open(guest, handle, guest.handle, handle, mode);
        success("CloseProtocol", close(guest, handle, guest.handle, handle))?;
        equal("the second", found, (Status::ALREADY_STARTED, interface(1)))
    })
}

fn one_driver(guest: &Guest) -> Outcome {
    with_two(guest, |handle, other| {
        for agent in [guest.handle, other] {
            equal(
                "open",
                open(guest, handle, agent, handle, BY_DRIVER),
                opened(),
            )?;
            success("CloseProtocol", close(guest, handle, agent, handle))?;
        }
        Ok(())
    })
}

fn leaves(guest: &Guest, mode: u32) -> Outcome {
    let handle = installed(guest, 1)?;
    equal(
        "interface",
        open(guest, handle, guest.handle, NONE, mode),
        opened(),
    )?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))
}

fn child(guest: &Guest) -> Outcome {
    with_two(guest, |handle, other| {
        equal(
            "its child",
            open(guest, handle, guest.handle, other, BY_CHILD),
            opened(),
        )?;
        let found = uninstall(guest, handle, 1);
        success("CloseProtocol", close(guest, handle, guest.handle, other))?;
        status("UninstallProtocolInterface", found, Status::ACCESS_DENIED)
    })
}

/// Of the two services that could take it away.
fn stays(guest: &Guest, mode: u32) -> Outcome {
    with_handle(guest, |handle| {
        equal(
            "interface",
            open(guest, handle, guest.handle, handle, mode),
            opened(),
        )?;
        let removed = uninstall(guest, handle, 1);
        let (old, new) = (interface(1), interface(2));
        let replaced = guest.reinstall_protocol_interface(handle, &protocol(1), old, new);
        let closed = close(guest, handle, guest.handle, handle);
        status("UninstallProtocolInterface", removed, Status::ACCESS_DENIED)?;
        status(
            "ReinstallProtocolInterface",
            replaced,
            Status::ACCESS_DENIED,
        )?;
        success("CloseProtocol", closed)
    })
}
