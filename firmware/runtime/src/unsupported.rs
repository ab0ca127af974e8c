//! The runtime services this firmware does not have.
//!
//! Promises `UNSUPPORTED` whatever the arguments, which is what the absence of
//! their bits in `EFI_RT_PROPERTIES_TABLE` announces (UEFI 2.11 §4.6).

use core::ffi::c_void;
use uefi_raw::capsule::CapsuleHeader;
use uefi_raw::table::runtime::ResetType;
use uefi_raw::time::Time;
use uefi_raw::{Boolean, PhysicalAddress, Status};

/// GetWakeupTime (§8.3.3): nobody would wake the machine up.
pub unsafe extern "efiapi" fn get_wakeup_time(
    _: *mut Boolean,
    _: *mut Boolean,
    _: *mut Time,
) -> Status {
    Status::UNSUPPORTED
}

/// SetWakeupTime (§8.3.4): nobody would wake the machine up.
pub unsafe extern "efiapi" fn set_wakeup_time(_: Boolean, _: *const Time) -> Status {
    Status::UNSUPPORTED
}

/// ConvertPointer (§8.4.2): it may only be called from a notification of
/// SetVirtualAddressMap, and this firmware sends none at that time.
pub unsafe extern "efiapi" fn convert_pointer(_: usize, _: *mut *mut c_void) -> Status {
    Status::UNSUPPORTED
}

/// GetNextHighMonotonicCount (§8.5.2): its promise to grow across resets needs
/// storage that survives them.
pub unsafe extern "efiapi" fn get_next_high_monotonic_count(_: *mut u32) -> Status {
    Status::UNSUPPORTED
}

/// UpdateCapsule (§8.5.3): the firmware is the host's to update.
pub unsafe extern "efiapi" fn update_capsule(
    _: *const *const CapsuleHeader,
    _: usize,
    _: PhysicalAddress,
) -> Status {
    Status::UNSUPPORTED
}

/// QueryCapsuleCapabilities (§8.5.3): the firmware is the host's to update.
pub unsafe extern "efiapi" fn query_capsule_capabilities(
    _: *const *const CapsuleHeader,
    _: usize,
    _: *mut u64,
    _: *mut ResetType,
) -> Status {
    Status::UNSUPPORTED
}
