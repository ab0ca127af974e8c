//! Text input, plain and extended, of the one console (UEFI 2.11 §12.2-12.3).
//!
//! A key is looked for when somebody asks: for one, whether there is one, or by
//! waiting. A terminal does not tell which shift keys are held down, nor can its
//! locks be set.
//!
//! Coverage, protocols:
//!
//! | EFI_SIMPLE_TEXT_INPUT_PROTOCOL | 12.3 | ConIn | serial port or Xen's console; one byte a key, and the sequences of a VT100 for arrows, editing and function keys. Keys are looked for when somebody asks |
//! | EFI_SIMPLE_TEXT_INPUT_EX_PROTOCOL | 12.2 | ConIn | shift keys and locks are not known: SetState is `EFI_UNSUPPORTED` |

use super::{Alleged, machine, protocols, status, trace, with};
use crate::catalog;
use crate::catalog::Service;
use crate::events::{EventId, Notify};
use crate::handles::Interface;
use crate::keys;
use crate::sorted::gathered;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use spin::Mutex;
use uefi_raw::protocol::console::{
    InputKey, KeyData, KeyNotifyFn, KeyShiftState, KeyState, KeyToggleState,
    SimpleTextInputExProtocol, SimpleTextInputProtocol,
};
use uefi_raw::table::boot::{EventType, Tpl};
use uefi_raw::{Boolean, Event, Handle, Status};

/// Most keys that are dropped at a reset: more than a queue can hold.
const MAX_DROPPED: usize = 64 * 1024;
/// How long the rest of a sequence may take, in steps of 100 microseconds.
const SEQUENCE_STEPS: u32 = 50;
/// Most functions that are called when a key is pressed.
const MAX_LISTENERS: usize = 64;

/// The protocols, at a fixed address.
struct Protocols {
    plain: SimpleTextInputProtocol,
    extended: SimpleTextInputExProtocol,
}

/// RegisterKeyNotify as uefi-raw declares it, which knows no null.
type RegisterSlot = unsafe extern "efiapi" fn(
    *mut SimpleTextInputExProtocol,
    *const KeyData,
    KeyNotifyFn,
    *mut *mut c_void,
) -> Status;

/// As above, where null is what it is.
type Register = unsafe extern "efiapi" fn(
    *mut SimpleTextInputExProtocol,
    *const KeyData,
    Option<KeyNotifyFn>,
    *mut *mut c_void,
) -> Status;

// SAFETY: the types differ in what they allow a caller to pass only.
const REGISTER: RegisterSlot = unsafe { transmute::<Register, RegisterSlot>(register_key_notify) };

/// A key that somebody wants to hear of, and whom to call then.
struct Listener {
    number: usize,
    key: KeyData,
    function: KeyNotifyFn,
}

/// What is known of keys.
struct Keyboard {
    /// A key that was seen and not read yet.
    seen: Option<InputKey>,
    listeners: Vec<Listener>,
    numbers: usize,
}

static KEYBOARD: Mutex<Keyboard> = Mutex::new(Keyboard {
    seen: None,
    listeners: Vec::new(),
    numbers: 0,
});

/// Puts the protocols on a new handle: that handle, and the plain one.
pub(super) fn publish() -> Result<(Handle, *mut SimpleTextInputProtocol), Status> {
    let event = with(Service::Firmware, |boot| {
        let notify = Notify {
            function: key_wanted,
            context: 0,
        };
        let created = boot
            .events
            .create(EventType::NOTIFY_WAIT, Tpl::NOTIFY, Some(notify), None);
        created.map_err(status::from)
    })?;
    let both = Box::leak(Box::new(both(event.to_raw())));
    let plain = trace::published(&raw const both.plain, catalog::INPUT, 2).cast_mut();
    let extended = trace::published(&raw const both.extended, catalog::INPUT_EX, 6);
    let handle = protocols::publish(&[
        (
            SimpleTextInputProtocol::GUID,
            Interface(plain.expose_provenance()),
        ),
        (
            SimpleTextInputExProtocol::GUID,
            Interface(extended.expose_provenance()),
        ),
    ])?;
    Ok((handle.to_raw(), plain))
}

fn both(wait_for_key: Event) -> Protocols {
    Protocols {
        plain: SimpleTextInputProtocol {
            reset: reset_plain,
            read_key_stroke,
            wait_for_key,
        },
        extended: SimpleTextInputExProtocol {
            reset: reset_extended,
            read_key_stroke_ex,
            wait_for_key_ex: wait_for_key,
            set_state,
            register_key_notify: REGISTER,
            unregister_key_notify,
        },
    }
}

fn keyboard<R>(call: impl FnOnce(&mut Keyboard) -> R) -> Result<R, Status> {
    let mut keyboard = KEYBOARD.try_lock().ok_or(Status::DEVICE_ERROR)?;
    Ok(call(&mut keyboard))
}

/// The key that is next; whoever wants to hear of it does, once.
#[cold]
fn look() -> Result<Option<InputKey>, Status> {
    let seen = keyboard(|keyboard| keyboard.seen)?;
    if seen.is_some() {
        return Ok(seen);
    }
    let machine = machine(Service::Firmware)?;
    let more = || {
        (0..SEQUENCE_STEPS).find_map(|_| {
            (machine.read_console)().or_else(|| {
                (machine.stall)(100);
                None
            })
        })
    };
    let key = keys::read(machine.read_console, more);
    if let Some(key) = key {
        keyboard(|keyboard| keyboard.seen = Some(key))?;
        tell(key)?;
    }
    Ok(key)
}

fn tell(key: InputKey) -> Result<(), Status> {
    let data = KeyData {
        key,
        key_state: KeyState::default(),
    };
    let functions = keyboard(|keyboard| {
        let all = keyboard.listeners.iter();
        let wanted = all.filter(|listener| listener.key.key == key && no_shift(&listener.key));
        gathered(wanted.map(|listener| listener.function))
    })?;
    for function in functions {
        // SAFETY: the function that its owner gave for this, with a key.
        let _ = unsafe { function(&data) };
    }
    Ok(())
}

/// Whether a key is wanted without shift keys, the only way it comes.
fn no_shift(key: &KeyData) -> bool {
    let shift = key.key_state.key_shift_state;
    shift.difference(KeyShiftState::VALID).is_empty()
}

/// Somebody waits for a key: the event is signalled when there is one.
#[cold]
unsafe extern "efiapi" fn key_wanted(event: Event, _: *mut c_void) {
    if let Ok(Some(_)) = look() {
        let _ = with(Service::Firmware, |boot| {
            let signalled = boot.events.signal(EventId::from_raw(event));
            signalled.map_err(status::from)
        });
    }
}

#[cold]
fn reset() -> Status {
    status::of(machine(Service::Firmware).and_then(|machine| {
        // Typed before the reset.
        for _ in 0..MAX_DROPPED {
            if (machine.read_console)().is_none() {
                break;
            }
        }
        keyboard(|keyboard| keyboard.seen = None)
    }))
}

unsafe extern "efiapi" fn reset_plain(_: *mut SimpleTextInputProtocol, _: Boolean) -> Status {
    reset()
}

unsafe extern "efiapi" fn reset_extended(_: *mut SimpleTextInputExProtocol, _: Boolean) -> Status {
    reset()
}

/// Takes the next key; `NOT_READY` when there is none.
#[cold]
fn take() -> Result<InputKey, Status> {
    let key = look()?.ok_or(Status::NOT_READY)?;
    keyboard(|keyboard| keyboard.seen = None)?;
    Ok(key)
}

#[cold]
unsafe extern "efiapi" fn read_key_stroke(
    _this: *mut SimpleTextInputProtocol,
    key: *mut InputKey,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let key = unsafe { Alleged::new(key) };
    if key.is_null() {
        return Status::INVALID_PARAMETER;
    }
    status::of(take().and_then(|taken| key.write(taken)))
}

#[cold]
unsafe extern "efiapi" fn read_key_stroke_ex(
    _this: *mut SimpleTextInputExProtocol,
    data: *mut KeyData,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let data = unsafe { Alleged::new(data) };
    let none = data.write(KeyData::default());
    status::of(none.and_then(|()| {
        let key = take()?;
        data.write(KeyData {
            key,
            key_state: KeyState::default(),
        })
    }))
}

unsafe extern "efiapi" fn set_state(
    _this: *mut SimpleTextInputExProtocol,
    state: *const KeyToggleState,
) -> Status {
    if state.is_null() {
        return Status::INVALID_PARAMETER;
    }
    Status::UNSUPPORTED
}

#[cold]
unsafe extern "efiapi" fn register_key_notify(
    _this: *mut SimpleTextInputExProtocol,
    data: *const KeyData,
    function: Option<KeyNotifyFn>,
    handle: *mut *mut c_void,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let data = unsafe { Alleged::new(data) };
    // SAFETY: OUT, the caller's promise.
    let handle = unsafe { Alleged::new(handle) };
    let Some(function) = function.filter(|_| !handle.is_null()) else {
        return Status::INVALID_PARAMETER;
    };
    status::of(data.read().and_then(|key| {
        let number = keyboard(|keyboard| {
            if keyboard.listeners.len() >= MAX_LISTENERS {
                return Err(Status::OUT_OF_RESOURCES);
            }
            keyboard.numbers = keyboard.numbers.saturating_add(1);
            let number = keyboard.numbers;
            keyboard.listeners.push(Listener {
                number,
                key,
                function,
            });
            Ok(number)
        })??;
        handle.write(ptr::without_provenance_mut(number))
    }))
}

#[cold]
unsafe extern "efiapi" fn unregister_key_notify(
    _this: *mut SimpleTextInputExProtocol,
    handle: *mut c_void,
) -> Status {
    status::of(
        keyboard(|keyboard| {
            let before = keyboard.listeners.len();
            let listeners = &mut keyboard.listeners;
            listeners.retain(|listener| listener.number != handle.addr());
            (listeners.len() < before)
                .then_some(())
                .ok_or(Status::INVALID_PARAMETER)
        })
        .and_then(|removed| removed),
    )
}
