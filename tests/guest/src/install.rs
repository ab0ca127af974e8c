//! Installing, replacing and removing protocols (UEFI 2.11 §7.3.2-7.3.4,
//! §7.3.17-7.3.18), through the services with a variable number of arguments as
//! well.

use crate::calls::Guest;
use crate::protocols::UNKNOWN;
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, status, success};
use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use r_efi::efi::protocols::device_path;
use r_efi::efi::{
    self, BootInstallMultipleProtocolInterfaces as InstallSlot, Guid, Handle, Status,
};

pub const INSTALL: Area = Area {
    name: "7.3.2 InstallProtocolInterface",
    checks: &[
        ("a protocol on a new handle, and another one", life),
        ("a protocol without an interface", tag),
        ("a protocol that is there already", twice),
        ("one interface on two handles", on_two),
        ("Handle of NULL", |g| {
            let null = ptr::null_mut();
            invalid(g.install_protocol_interface(null, &UNKNOWN, NATIVE, null.cast()))
        }),
        ("Handle that is none", |g| {
            let mut handle = interface(0x1230);
            invalid(g.install_protocol_interface(&mut handle, &UNKNOWN, NATIVE, interface(0)))
        }),
        ("Protocol of NULL", |g| {
            let mut handle = ptr::null_mut();
            invalid(g.install_protocol_interface(&mut handle, ptr::null(), NATIVE, interface(0)))
        }),
        ("InterfaceType other than EFI_NATIVE_INTERFACE", |g| {
            let mut handle = ptr::null_mut();
            invalid(g.install_protocol_interface(&mut handle, &UNKNOWN, NATIVE + 1, interface(0)))
        }),
    ],
};

pub const UNINSTALL: Area = Area {
    name: "7.3.3 UninstallProtocolInterface",
    checks: &[
        ("the last protocol takes the handle along", last_one),
        ("a handle that is gone", gone_already),
        ("an interface that is another one", other_interface),
        ("a protocol that is not there", |g| {
            not_found(g.uninstall_protocol_interface(g.handle, &UNKNOWN, interface(0)))
        }),
        ("Handle of NULL", |g| {
            invalid(g.uninstall_protocol_interface(ptr::null_mut(), &UNKNOWN, interface(0)))
        }),
        ("Protocol of NULL", |g| {
            invalid(g.uninstall_protocol_interface(g.handle, ptr::null(), interface(0)))
        }),
    ],
};

pub const REINSTALL: Area = Area {
    name: "7.3.4 ReinstallProtocolInterface",
    checks: &[
        ("another interface", |g| reinstalled(g, 7)),
        ("the same interface", |g| reinstalled(g, 1)),
        ("no interface", |g| reinstalled(g, 0)),
        ("an interface that is not there", reinstall_other),
        ("a protocol that is not there", |g| {
            let (old, new) = (interface(0), interface(1));
            not_found(g.reinstall_protocol_interface(g.handle, &UNKNOWN, old, new))
        }),
        ("Handle of NULL", |g| {
            let none = interface(0);
            invalid(g.reinstall_protocol_interface(none, &UNKNOWN, none, none))
        }),
        ("Protocol of NULL", |g| {
            let none = interface(0);
            invalid(g.reinstall_protocol_interface(g.handle, ptr::null(), none, none))
        }),
    ],
};

pub const MULTIPLE: Area = Area {
    name: "7.3.17 Install- and UninstallMultipleProtocolInterfaces",
    checks: &[
        ("no protocols at all", none),
        ("one protocol", one),
        ("a protocol that is there already", one_twice),
        ("Handle of NULL", one_nowhere),
        ("five protocols", five),
        ("all protocols or none", all_or_none),
        ("the removal of all protocols or none", remove_all_or_none),
        ("a device path that is there already", known_path),
    ],
};

const NATIVE: u32 = efi::NATIVE_INTERFACE;

/// Protocols of these checks, by number.
pub const fn protocol(number: u8) -> Guid {
    Guid::from_fields(
        0x4b6d_10e9,
        0x8f27,
        0x4c15,
        0xa3,
        0x58,
        &[0x77, 0x02, 0xbe, 0x91, 0x4d, number],
    )
}

/// An interface that nobody looks behind.
pub fn interface(number: usize) -> *mut c_void {
    ptr::without_provenance_mut(number)
}

/// A new handle with `protocol(number)`.
pub fn installed(guest: &Guest, number: u8) -> Result<Handle, Failure> {
    let mut handle = ptr::null_mut();
    success(
        "InstallProtocolInterface",
        install(guest, &mut handle, number),
    )?;
    holds("a handle", !handle.is_null())?;
    Ok(handle)
}

fn install(guest: &Guest, handle: &mut Handle, number: u8) -> Status {
    let (kind, interface) = (efi::NATIVE_INTERFACE, interface(number.into()));
    guest.install_protocol_interface(handle, &protocol(number), kind, interface)
}

/// Removes what [`installed`] made.
pub fn uninstall(guest: &Guest, handle: Handle, number: u8) -> Status {
    let interface = interface(number.into());
    guest.uninstall_protocol_interface(handle, &protocol(number), interface)
}

/// Checks that the handle has `protocol(number)`.
fn has(guest: &Guest, handle: Handle, number: u8) -> Outcome {
    let found = guest.interface(handle, &protocol(number));
    equal("interface", found, Ok(interface(number.into())))
}

/// Checks that the handle has it not, though others.
fn has_not(guest: &Guest, handle: Handle, number: u8) -> Outcome {
    let found = guest.interface::<u8>(handle, &protocol(number));
    equal("interface", found, Err(Status::UNSUPPORTED))
}

/// Checks that the handle is none any more.
fn gone(guest: &Guest, handle: Handle) -> Outcome {
    let found = guest.interface::<u8>(handle, &protocol(1));
    equal(
        "a handle that is gone",
        found,
        Err(Status::INVALID_PARAMETER),
    )
}

fn life(guest: &Guest) -> Outcome {
    let mut handle = installed(guest, 1)?;
    let mut found = ptr::null_mut();
    let located = guest.locate_protocol(&protocol(1), ptr::null_mut(), &mut found);
    success("LocateProtocol", located)?;
    equal("interface", found, interface(1))?;
    success("a second protocol", install(guest, &mut handle, 2))?;
    has(guest, handle, 1)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    has_not(guest, handle, 1)?;
    has(guest, handle, 2)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 2))?;
    gone(guest, handle)
}

fn tag(guest: &Guest) -> Outcome {
    let (mut handle, none) = (ptr::null_mut(), ptr::null_mut());
    let kind = efi::NATIVE_INTERFACE;
    let found = guest.install_protocol_interface(&mut handle, &protocol(1), kind, none);
    success("InstallProtocolInterface", found)?;
    equal("interface", guest.interface(handle, &protocol(1)), Ok(none))?;
    let found = guest.uninstall_protocol_interface(handle, &protocol(1), none);
    success("UninstallProtocolInterface", found)
}

fn twice(guest: &Guest) -> Outcome {
    let mut handle = installed(guest, 1)?;
    let found = install(guest, &mut handle, 1);
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    invalid(found)
}

fn on_two(guest: &Guest) -> Outcome {
    let (first, second) = (installed(guest, 1)?, installed(guest, 1)?);
    holds("two handles", first != second)?;
    success("the first", uninstall(guest, first, 1))?;
    has(guest, second, 1)?;
    success("the second", uninstall(guest, second, 1))
}

fn not_found(found: Status) -> Outcome {
    gives(Status::NOT_FOUND, found)
}

fn last_one(guest: &Guest) -> Outcome {
    let mut handle = installed(guest, 1)?;
    success("InstallProtocolInterface", install(guest, &mut handle, 2))?;
    success("the first", uninstall(guest, handle, 1))?;
    has(guest, handle, 2)?;
    success("the last", uninstall(guest, handle, 2))?;
    gone(guest, handle)
}

fn gone_already(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    invalid(uninstall(guest, handle, 1))
}

fn other_interface(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let found = guest.uninstall_protocol_interface(handle, &protocol(1), interface(2));
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    not_found(found)
}

/// Puts interface `number` in the place of that of `protocol(1)`, and back.
fn reinstalled(guest: &Guest, number: usize) -> Outcome {
    let handle = installed(guest, 1)?;
    let call = |old, new| {
        let found = guest.reinstall_protocol_interface(handle, &protocol(1), old, new);
        success("ReinstallProtocolInterface", found)
    };
    call(interface(1), interface(number))?;
    let found = guest.interface(handle, &protocol(1));
    call(interface(number), interface(1))?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    equal("interface", found, Ok(interface(number)))
}

fn reinstall_other(guest: &Guest) -> Outcome {
    let handle = installed(guest, 1)?;
    let (old, new) = (interface(7), interface(8));
    let found = guest.reinstall_protocol_interface(handle, &protocol(1), old, new);
    has(guest, handle, 1)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    not_found(found)
}

/// A protocol and its interface, as arguments.
type Pair<'a> = (&'a Guid, *mut c_void);

/// Calls the slot of InstallMultipleProtocolInterfaces, or of its opposite,
/// whose handle comes by value. r-efi has them with three arguments.
fn with_one(slot: InstallSlot, handle: *mut Handle, a: Pair<'_>) -> Status {
    type One =
        unsafe extern "efiapi" fn(*mut Handle, *const Guid, *mut c_void, *const Guid) -> Status;
    // SAFETY: a variadic function is called as one with the actual arguments.
    let service = unsafe { transmute::<InstallSlot, One>(slot) };
    // SAFETY: the protocols live on, and the list ends in null.
    unsafe { service(handle, a.0, a.1, ptr::null()) }
}

/// As [`with_one`], with two pairs: the last arguments are on the stack.
fn with_two(slot: InstallSlot, handle: *mut Handle, a: Pair<'_>, b: Pair<'_>) -> Status {
    type Two = unsafe extern "efiapi" fn(
        *mut Handle,
        *const Guid,
        *mut c_void,
        *const Guid,
        *mut c_void,
        *const Guid,
    ) -> Status;
    // SAFETY: as in `with_one`.
    let service = unsafe { transmute::<InstallSlot, Two>(slot) };
    // SAFETY: as in `with_one`.
    unsafe { service(handle, a.0, a.1, b.0, b.1, ptr::null()) }
}

/// As [`with_one`], with `protocol(1)` to `protocol(5)`.
fn with_five(slot: InstallSlot, handle: *mut Handle) -> Status {
    type P = *const Guid;
    type I = *mut c_void;
    type Five = unsafe extern "efiapi" fn(*mut Handle, P, I, P, I, P, I, P, I, P, I, P) -> Status;
    // SAFETY: as in `with_one`.
    let service = unsafe { transmute::<InstallSlot, Five>(slot) };
    let guids = [1, 2, 3, 4, 5].map(protocol);
    let [a, b, c, d, e] = guids.each_ref().map(ptr::from_ref);
    let (one, two, three) = (interface(1), interface(2), interface(3));
    let (four, five) = (interface(4), interface(5));
    // SAFETY: as in `with_one`.
    unsafe {
        service(
            handle,
            a,
            one,
            b,
            two,
            c,
            three,
            d,
            four,
            e,
            five,
            ptr::null(),
        )
    }
}

fn installer(guest: &Guest) -> InstallSlot {
    guest.boot().install_multiple_protocol_interfaces
}

/// The opposite, as if its handle came by address: it is cast back.
fn remover(guest: &Guest) -> InstallSlot {
    let slot = guest.boot().uninstall_multiple_protocol_interfaces;
    // SAFETY: pointers of one size, whatever they lead to.
    unsafe { transmute::<efi::BootUninstallMultipleProtocolInterfaces, InstallSlot>(slot) }
}

fn none(guest: &Guest) -> Outcome {
    let (mut handle, null) = (ptr::null_mut(), ptr::null_mut());
    let found = guest.install_multiple_protocol_interfaces(&mut handle, null, null);
    success("InstallMultipleProtocolInterfaces", found)?;
    holds("no handle", handle.is_null())?;
    let found = guest.uninstall_multiple_protocol_interfaces(guest.handle, null, null);
    success("UninstallMultipleProtocolInterfaces", found)
}

fn one(guest: &Guest) -> Outcome {
    let (mut handle, guid) = (ptr::null_mut(), protocol(1));
    let pair = (&guid, interface(1));
    success("install", with_one(installer(guest), &mut handle, pair))?;
    has(guest, handle, 1)?;
    let found = with_one(remover(guest), handle.cast(), pair);
    success("uninstall", found)?;
    gone(guest, handle)
}

fn one_twice(guest: &Guest) -> Outcome {
    let (mut handle, guid) = (installed(guest, 1)?, protocol(1));
    let found = with_one(installer(guest), &mut handle, (&guid, interface(1)));
    success("UninstallProtocolInterface", uninstall(guest, handle, 1))?;
    invalid(found)
}

fn one_nowhere(guest: &Guest) -> Outcome {
    let pair = (&protocol(1), interface(1));
    invalid(with_one(installer(guest), ptr::null_mut(), pair))
}

fn five(guest: &Guest) -> Outcome {
    let mut handle = ptr::null_mut();
    success("InstallMultiple", with_five(installer(guest), &mut handle))?;
    (1..=5).try_for_each(|number| has(guest, handle, number))?;
    success(
        "UninstallMultiple",
        with_five(remover(guest), handle.cast()),
    )?;
    gone(guest, handle)
}

fn all_or_none(guest: &Guest) -> Outcome {
    let mut handle = installed(guest, 2)?;
    let before = handle;
    let (first, second) = (protocol(1), protocol(2));
    let (a, b) = ((&first, interface(1)), (&second, interface(2)));
    let found = with_two(installer(guest), &mut handle, a, b);
    status("InstallMultiple", found, Status::INVALID_PARAMETER)?;
    equal("handle", handle, before)?;
    has_not(guest, handle, 1)?;
    success("UninstallProtocolInterface", uninstall(guest, handle, 2))
}

fn remove_all_or_none(guest: &Guest) -> Outcome {
    let mut handle = ptr::null_mut();
    let (first, second) = (protocol(1), protocol(2));
    let (a, b) = ((&first, interface(1)), (&second, interface(2)));
    success(
        "InstallMultiple",
        with_two(installer(guest), &mut handle, a, b),
    )?;
    for wrong in [(&second, interface(9)), (&UNKNOWN, interface(2)), a] {
        let found = with_two(remover(guest), handle.cast(), a, wrong);
        status("UninstallMultiple", found, Status::INVALID_PARAMETER)?;
        has(guest, handle, 1)?;
        has(guest, handle, 2)?;
    }
    success(
        "UninstallMultiple",
        with_two(remover(guest), handle.cast(), a, b),
    )?;
    gone(guest, handle)
}

/// A device path that no one else has: one vendor-defined media node.
static PATH: [u8; 24] = [
    0x04, 0x03, 0x14, 0x00, 0xe1, 0x30, 0x5c, 0x88, 0x1d, 0x9b, 0x6a, 0x45, 0xb2, 0x04, 0xc6, 0x3f,
    0x90, 0x52, 0x7e, 0x28, 0x7f, 0xff, 0x04, 0x00,
];

/// A boot loader finds out so that another one has left an initrd already.
fn known_path(guest: &Guest) -> Outcome {
    let (mut first, mut second) = (ptr::null_mut(), ptr::null_mut());
    let (path, tag) = (device_path::PROTOCOL_GUID, protocol(1));
    let copy = PATH;
    let pair = |bytes: &[u8]| (bytes.as_ptr().cast_mut().cast(), (&tag, interface(1)));
    let (bytes, tagged) = pair(&PATH);
    let found = with_two(installer(guest), &mut first, tagged, (&path, bytes));
    success("InstallMultiple", found)?;
    let (same, _) = pair(&copy);
    let found = with_two(installer(guest), &mut second, tagged, (&path, same));
    status("the same path", found, Status::ALREADY_STARTED)?;
    holds("no handle", second.is_null())?;
    let found = with_two(remover(guest), first.cast(), tagged, (&path, bytes));
    success("UninstallMultiple", found)?;
    gone(guest, first)
}
