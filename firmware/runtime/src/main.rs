//! The part of the firmware that stays after ExitBootServices.
//!
//! A closed PE image, placed once by the firmware and mapped by the operating
//! system wherever it likes (UEFI 2.11 §8). Promises:
//!
//! * No addresses inside: everything is reached relative to the instruction
//!   pointer, so the image has no base relocations and works at every address
//!   it is mapped at, at all of them at once, before and after
//!   SetVirtualAddressMap. Only the pointers in the two UEFI tables are absolute.
//! * Nothing outside: no import, no allocation, no pointer into memory that
//!   ExitBootServices gives back.
//! * No panic: one that the optimiser cannot rule out fails the link.
//! * No waiting: a call that finds another one active returns `DEVICE_ERROR`.
//!
//! Refuses what it cannot do honestly with `UNSUPPORTED`, and says so in
//! `EFI_RT_PROPERTIES_TABLE`. Build with `--profile runtime`; without fat LTO
//! the proof that nothing panics does not go through.
#![no_std]
#![no_main]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

mod caller;
mod clock;
mod disk;
mod flash;
mod hypercall;
mod memory;
mod monotonic;
mod ports;
mod registers;
mod remote;
mod reset;
mod state;
mod tables;
mod unsupported;
mod variables;
mod virtual_map;

use core::panic::PanicInfo;
use ovmf_lite_services::resident::{Entry, HANDOFF_VERSION, Handoff};
use uefi_raw::Status;

const _: Entry = efi_main;

/// The entry point: fills the tables and tells the firmware where they are.
///
/// # Safety
/// As [`Entry`] says.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn efi_main(handoff: *mut Handoff) -> Status {
    // The version comes first in every version of the structure.
    let version = handoff.cast::<u32>();
    // SAFETY: the caller points to a structure that starts with its version.
    if unsafe { version.read() } != HANDOFF_VERSION {
        return Status::INCOMPATIBLE_VERSION;
    }
    // SAFETY: of this version it is, and the caller gives it to us exclusively.
    let handoff = unsafe { &mut *handoff };
    state::init(handoff);
    tables::fill(handoff);
    Status::SUCCESS
}

unsafe extern "C" {
    /// Defined nowhere. If the linker misses it, a panic can be reached: look
    /// for an index, a division or an arithmetic overflow in the last change.
    fn a_panic_is_reachable_in_the_runtime_image() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    // SAFETY: an image that contains this call does not link.
    unsafe { a_panic_is_reachable_in_the_runtime_image() }
}
