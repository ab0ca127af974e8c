//! The runtime services this firmware does not have.
//!
//! Promises `UNSUPPORTED` whatever the arguments, which is what the absence of
//! their bits in `EFI_RT_PROPERTIES_TABLE` announces (UEFI 2.11 §4.6).

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
