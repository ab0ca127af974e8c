//! Boot services this firmware does not offer: callable, each returns
//! `EFI_UNSUPPORTED`. `docs/COVERAGE.md` lists them.

use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::{Boolean, Handle, Status};

/// Defines stubs with the signatures of their slots.
macro_rules! unsupported {
    ($($name:ident($($argument:ty),*);)*) => {
        $(pub(super) unsafe extern "efiapi" fn $name($(_: $argument),*) -> Status {
            Status::UNSUPPORTED
        })*
    };
}

unsupported! {
    connect_controller(Handle, *const Handle, *const DevicePathProtocol, Boolean);
    disconnect_controller(Handle, Handle, Handle);
}
