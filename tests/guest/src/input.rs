//! Text input, as far as it goes without anybody at the keyboard (UEFI 2.11
//! §12.2-12.3). With the word `keys` in the load options somebody is: the keys
//! are printed until one is `q`.

use crate::calls::Guest;
use crate::images::has_option;
use crate::output;
use crate::report::{Area, Failure, Outcome, equal, status, success};
use core::ptr;
use r_efi::efi::protocols::simple_text_input_ex::{self as extended, KeyData, Protocol};
use r_efi::efi::{self, Boolean, Status};

pub const AREA: Area = Area {
    name: "12.2 EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL",
    checks: &[
        ("12.3 WaitForKey is not signalled without a key", no_key),
        ("12.2 ReadKeyStrokeEx without a key", no_key_extended),
        ("12.2 SetState without a state", no_state),
        ("12.2 a key's notification comes and goes", notification),
        ("12.2 Reset", reset),
    ],
};

fn protocol(guest: &Guest) -> Result<*mut Protocol, Failure> {
    let handle = guest.system().console_in_handle;
    let found = guest.interface(handle, &extended::PROTOCOL_GUID);
    found.map_err(|status| Failure::new(format_args!("HandleProtocol: {status}")))
}

fn no_key(guest: &Guest) -> Outcome {
    // SAFETY: the firmware's protocol, while there are boot services.
    let event = unsafe { (*guest.system().con_in).wait_for_key };
    status("CheckEvent", guest.check_event(event), Status::NOT_READY)?;
    // SAFETY: as above.
    let event = unsafe { (*protocol(guest)?).wait_for_key_ex };
    status("CheckEvent", guest.check_event(event), Status::NOT_READY)
}

fn read(this: *mut Protocol, data: *mut KeyData) -> Status {
    // SAFETY: the firmware's protocol.
    let read = unsafe { (*this).read_key_stroke_ex };
    // SAFETY: room for a key, or null.
    unsafe { read(this, data) }
}

fn no_key_extended(guest: &Guest) -> Outcome {
    let this = protocol(guest)?;
    let mut data = KeyData::default();
    data.key.unicode_char = 0x5a;
    status("ReadKeyStrokeEx", read(this, &mut data), Status::NOT_READY)?;
    let key = (data.key.scan_code, data.key.unicode_char);
    equal("no key", key, (0, 0))?;
    let found = read(this, ptr::null_mut());
    status("no room", found, Status::INVALID_PARAMETER)
}

fn no_state(guest: &Guest) -> Outcome {
    let this = protocol(guest)?;
    // SAFETY: the firmware's protocol.
    let set_state = unsafe { (*this).set_state };
    // SAFETY: null is what is to be refused.
    let found = unsafe { set_state(this, ptr::null_mut()) };
    status("SetState", found, Status::INVALID_PARAMETER)
}

extern "efiapi" fn pressed(data: *mut KeyData) -> Status {
    // SAFETY: the firmware's, while it calls.
    let key = unsafe { (*data).key };
    output::line(format_args!("guest: heard {:x}", key.unicode_char));
    Status::SUCCESS
}

/// Registers `pressed` for a character.
fn register(this: *mut Protocol, character: u16) -> (Status, *mut core::ffi::c_void) {
    let (mut data, mut handle) = (KeyData::default(), ptr::null_mut());
    data.key.unicode_char = character;
    // SAFETY: the firmware's protocol.
    let register = unsafe { (*this).register_key_notify };
    // SAFETY: a key, and room for a handle.
    let found = unsafe { register(this, &mut data, pressed, &mut handle) };
    (found, handle)
}

fn notification(guest: &Guest) -> Outcome {
    let this = protocol(guest)?;
    let (found, handle) = register(this, 3);
    success("RegisterKeyNotify", found)?;
    // SAFETY: the firmware's protocol.
    let unregister = unsafe { (*this).unregister_key_notify };
    // SAFETY: a handle of its own.
    success("UnregisterKeyNotify", unsafe { unregister(this, handle) })?;
    // SAFETY: null is what is to be refused.
    let found = unsafe { unregister(this, ptr::null_mut()) };
    status("no handle", found, Status::INVALID_PARAMETER)
}

fn reset(guest: &Guest) -> Outcome {
    let this = protocol(guest)?;
    // SAFETY: the firmware's protocol.
    let reset = unsafe { (*this).reset };
    // SAFETY: as above.
    success("Reset", unsafe { reset(this, Boolean::FALSE) })
}

/// Prints the keys that are pressed until one is `q`, if the load options say so.
pub fn on_demand(guest: &Guest) {
    let (true, Ok(this)) = (has_option(guest, "keys"), protocol(guest)) else {
        return;
    };
    // SAFETY: the firmware's protocol.
    let mut event = unsafe { (*this).wait_for_key_ex };
    let (heard, _) = register(this, u16::from(b'x'));
    output::line(format_args!("guest: keys, {heard}"));
    let mut data = KeyData::default();
    while data.key.unicode_char != u16::from(b'q') {
        let waited = guest.wait_for_event(1, &mut event, &mut 0);
        if waited != Status::SUCCESS || read(this, &mut data) != Status::SUCCESS {
            return;
        }
        let key = data.key;
        output::line(format_args!(
            "guest: key {:x} {:x}",
            key.scan_code, key.unicode_char
        ));
    }
    guest.reset_system(efi::RESET_SHUTDOWN, Status::SUCCESS, 0, ptr::null_mut());
}
