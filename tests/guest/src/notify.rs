//! Registration for protocols that are to come (UEFI 2.11 §7.3.5-7.3.6).

use crate::calls::Guest;
use crate::events::{called, close, noting};
use crate::pool;
use crate::report::{Area, Failure, Outcome, equal, status, success};
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{self, Event, Guid, Handle, Status};

pub const AREA: Area = Area {
    name: "7.3.5 RegisterProtocolNotify",
    checks: &[
        (
            "7.3.5 RegisterProtocolNotify with wrong parameters",
            wrong_parameters,
        ),
        ("7.3.2 InstallProtocolInterface is told", installed),
        ("7.3.4 ReinstallProtocolInterface is told", reinstalled),
        ("7.3.6 LocateHandle by registration", by_handle),
        ("7.3.15 LocateHandleBuffer by registration", by_buffer),
        ("7.3.16 LocateProtocol by registration", by_protocol),
    ],
};

/// A protocol that only these checks install.
const GUID: Guid = Guid::from_fields(
    0x2f68_a1c7,
    0x0d33,
    0x4b1e,
    0xb2,
    0x54,
    &[0x6a, 0x91, 0x0e, 0xf3, 0x28, 0xd5],
);

/// An interface that nobody looks behind.
const INTERFACE: *mut c_void = ptr::without_provenance_mut(0x1000);

/// A registration, its event, and handles with the protocol.
struct Listener {
    event: Event,
    key: *mut c_void,
    handles: [Handle; 2],
}

impl Listener {
    /// Registers between the first and the second handle.
    fn new(guest: &Guest) -> Result<Self, Failure> {
        let (event, mut key) = (noting(guest, efi::TPL_CALLBACK, 1)?, ptr::null_mut());
        let first = install(guest)?;
        let found = guest.register_protocol_notify(&GUID, event, &mut key);
        success("RegisterProtocolNotify", found)?;
        let handles = [first, install(guest)?];
        Ok(Self {
            event,
            key,
            handles,
        })
    }

    fn end(self, guest: &Guest) -> Outcome {
        for handle in self.handles {
            let found = guest.uninstall_protocol_interface(handle, &GUID, INTERFACE);
            success("UninstallProtocolInterface", found)?;
        }
        close(guest, &[self.event])
    }

    /// LocateHandle by registration with room for `room` handles.
    fn locate(&self, guest: &Guest, room: usize) -> (Status, Handle) {
        let (mut size, mut handle) = (room * size_of::<Handle>(), ptr::null_mut());
        let kind = efi::BY_REGISTER_NOTIFY;
        let found = guest.locate_handle(kind, ptr::null(), self.key, &mut size, &mut handle);
        (found, handle)
    }
}

fn install(guest: &Guest) -> Result<Handle, Failure> {
    let (mut handle, native) = (ptr::null_mut(), efi::NATIVE_INTERFACE);
    let found = guest.install_protocol_interface(&mut handle, &GUID, native, INTERFACE);
    success("InstallProtocolInterface", found)?;
    Ok(handle)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let (event, mut key) = (noting(guest, efi::TPL_CALLBACK, 1)?, ptr::null_mut());
    let refused = Status::INVALID_PARAMETER;
    let found = guest.register_protocol_notify(ptr::null(), event, &mut key);
    status("no protocol", found, refused)?;
    let found = guest.register_protocol_notify(&GUID, ptr::null_mut(), &mut key);
    status("no event", found, refused)?;
    let found = guest.register_protocol_notify(&GUID, event, ptr::null_mut());
    status("no registration", found, refused)?;
    close(guest, &[event])
}

fn installed(guest: &Guest) -> Outcome {
    let listener = Listener::new(guest)?;
    equal("notifications", called(), 1)?;
    listener.end(guest)
}

fn reinstalled(guest: &Guest) -> Outcome {
    let listener = Listener::new(guest)?;
    called();
    let [handle, _] = listener.handles;
    let found = guest.reinstall_protocol_interface(handle, &GUID, INTERFACE, INTERFACE);
    success("ReinstallProtocolInterface", found)?;
    equal("notifications", called(), 1)?;
    listener.end(guest)
}

fn by_handle(guest: &Guest) -> Outcome {
    let listener = Listener::new(guest)?;
    let [first, second] = listener.handles;
    let (found, _) = listener.locate(guest, 0);
    status("no room", found, Status::BUFFER_TOO_SMALL)?;
    for handle in [first, second] {
        let found = listener.locate(guest, 1);
        equal("one that is new", found, (Status::SUCCESS, handle))?;
    }
    status("no more", listener.locate(guest, 1).0, Status::NOT_FOUND)?;
    let found = guest.reinstall_protocol_interface(first, &GUID, INTERFACE, INTERFACE);
    success("ReinstallProtocolInterface", found)?;
    let found = listener.locate(guest, 1);
    equal("one that is new again", found, (Status::SUCCESS, first))?;
    status("no more", listener.locate(guest, 1).0, Status::NOT_FOUND)?;
    called();
    listener.end(guest)
}

fn by_buffer(guest: &Guest) -> Outcome {
    let listener = Listener::new(guest)?;
    called();
    let (mut count, mut buffer) = (0, ptr::null_mut());
    let kind = efi::BY_REGISTER_NOTIFY;
    for handle in listener.handles {
        let (none, key) = (ptr::null(), listener.key);
        let found = guest.locate_handle_buffer(kind, none, key, &mut count, &mut buffer);
        success("LocateHandleBuffer", found)?;
        // SAFETY: the buffer holds `count` handles, of which there is one at least.
        let first = unsafe { buffer.read() };
        equal("handles", (count, first), (1, handle))?;
        pool::free(guest, buffer)?;
    }
    status("no more", listener.locate(guest, 1).0, Status::NOT_FOUND)?;
    listener.end(guest)
}

fn by_protocol(guest: &Guest) -> Outcome {
    let listener = Listener::new(guest)?;
    called();
    let mut interface = ptr::null_mut();
    for _ in listener.handles {
        let found = guest.locate_protocol(&GUID, listener.key, &mut interface);
        success("LocateProtocol", found)?;
        equal("interface", interface, INTERFACE)?;
    }
    let found = guest.locate_protocol(&GUID, listener.key, &mut interface);
    status("no more", found, Status::NOT_FOUND)?;
    listener.end(guest)
}
