//! Boot services this firmware does not offer: callable, each returns
//! `EFI_UNSUPPORTED`. `docs/COVERAGE.md` lists them.

use core::ffi::c_void;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::table::boot::{EventNotifyFn, EventType, TimerDelay, Tpl};
use uefi_raw::{Boolean, Event, Guid, Handle, Status};

/// Defines stubs with the signatures of their slots.
macro_rules! unsupported {
    ($($name:ident($($argument:ty),*);)*) => {
        $(pub(super) unsafe extern "efiapi" fn $name($(_: $argument),*) -> Status {
            Status::UNSUPPORTED
        })*
    };
}

unsupported! {
    create_event(EventType, Tpl, Option<EventNotifyFn>, *mut c_void, *mut Event);
    create_event_ex(EventType, Tpl, Option<EventNotifyFn>, *const c_void, *const Guid, *mut Event);
    set_timer(Event, TimerDelay, u64);
    wait_for_event(usize, *const Event, *mut usize);
    signal_event(Event);
    close_event(Event);
    check_event(Event);
    register_protocol_notify(*const Guid, Event, *mut *mut c_void);
    get_next_monotonic_count(*mut u64);
    set_watchdog_timer(usize, u64, usize, *const u16);
    connect_controller(Handle, *const Handle, *const DevicePathProtocol, Boolean);
    disconnect_controller(Handle, Handle, Handle);
}
