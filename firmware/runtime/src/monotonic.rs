//! The monotonic counter (UEFI 2.11 §7.5.5, §8.5.2).
//!
//! Promises a count that grows: its high half is one more at each start of the
//! machine that asks for a count, and kept in a variable, the same as EDK2's; its
//! low half begins with 0 each time. Who does not ask causes no write. Without
//! flash the variable lives as long as all the others do, until the machine is
//! reset.

use crate::state::{self, State};
use ovmf_lite_services::variables::{Error, Key, Name};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, Status, guid};

/// `gMtcVendorGuid` (EDK2, MdeModulePkg).
const VENDOR: Guid = guid!("eb704011-1402-11d3-8e77-00a0c969723b");
/// "MTC" in UTF-16.
const NAME: &[u8] = b"M\0T\0C\0\0\0";

/// GetNextMonotonicCount (§7.5.5).
pub unsafe extern "efiapi" fn get_next_monotonic_count(count: *mut u64) -> Status {
    if count.is_null() {
        return Status::INVALID_PARAMETER;
    }
    match next() {
        Ok(next) => {
            // SAFETY: not NULL, so room for a count.
            unsafe { count.write_unaligned(next) };
            Status::SUCCESS
        }
        Err(status) => status,
    }
}

/// GetNextHighMonotonicCount (§8.5.2).
pub unsafe extern "efiapi" fn get_next_high_monotonic_count(high: *mut u32) -> Status {
    if high.is_null() {
        return Status::INVALID_PARAMETER;
    }
    match state::lock().and_then(|mut state| next_high(&mut state)) {
        Ok(next) => {
            // SAFETY: not NULL, so room for half a count.
            unsafe { high.write_unaligned(next) };
            Status::SUCCESS
        }
        Err(status) => status,
    }
}

fn next() -> Result<u64, Status> {
    let mut state = state::lock()?;
    let low = match state.low {
        Some(low) => low,
        // Nobody has asked yet, or the low half has come to its end.
        None => {
            next_high(&mut state)?;
            0
        }
    };
    state.low = low.checked_add(1);
    Ok(u64::from(state.high) << u32::BITS | u64::from(low))
}

/// Begins with the next high half, and returns it.
fn next_high(state: &mut State) -> Result<u32, Status> {
    let name = Name::from_buffer(NAME).ok_or(Status::DEVICE_ERROR)?;
    let key = Key {
        vendor: VENDOR,
        name,
    };
    let kept = state.get(state::phase(), key, size_of::<u32>()).ok();
    let kept = kept.and_then(|kept| kept.bytes.first_chunk().copied());
    let last = kept.map_or(0, u32::from_le_bytes).max(state.high);
    let next = last.checked_add(1).ok_or(Status::DEVICE_ERROR)?;
    let attributes = VariableAttributes::NON_VOLATILE
        | VariableAttributes::BOOTSERVICE_ACCESS
        | VariableAttributes::RUNTIME_ACCESS;
    let data = next.to_le_bytes();
    let written = state.set(state::phase(), key, attributes, &data);
    written.map_err(|error| match error {
        Error::Frozen => Status::UNSUPPORTED,
        _ => Status::DEVICE_ERROR,
    })?;
    state.high = next;
    state.low = Some(0);
    Ok(next)
}
