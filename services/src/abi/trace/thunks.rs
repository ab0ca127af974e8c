//! The few instructions between a caller and a service.
//!
//! There is one thunk for each slot, a call of `common`: the address it would
//! return to tells the slot. The caller left 32 bytes above its return address for
//! the arguments in registers (UEFI 2.11 §2.3.4.2); with these stored there, all
//! arguments are in a row. Nothing else of its stack is touched.

use crate::catalog::SLOTS;
use core::arch::naked_asm;

/// Length of a call with a 32-bit displacement.
const LENGTH: usize = 5;

#[unsafe(naked)]
#[cold]
unsafe extern "efiapi" fn thunks() {
    naked_asm!(
        ".rept {slots}",
        "call {common}",
        ".endr",
        slots = const SLOTS,
        common = sym common,
    )
}

#[unsafe(naked)]
#[cold]
unsafe extern "efiapi" fn common() {
    naked_asm!(
        "pop rax", // where the thunk ends
        "mov [rsp + 8], rcx",
        "mov [rsp + 16], rdx",
        "mov [rsp + 24], r8",
        "mov [rsp + 32], r9",
        "lea rcx, [rip + {thunks}]",
        "sub rax, rcx",
        "xor edx, edx",
        "mov ecx, {length}",
        "div ecx",
        "lea ecx, [rax - 1]",
        "lea rdx, [rsp + 8]",
        "sub rsp, 40", // 32 bytes for the callee, and 8 that align the stack
        "call {enter}",
        "add rsp, 40",
        "mov rcx, [rsp + 8]",
        "mov rdx, [rsp + 16]",
        "mov r8, [rsp + 24]",
        "mov r9, [rsp + 32]",
        "jmp rax",
        thunks = sym thunks,
        length = const LENGTH,
        enter = sym super::enter,
    )
}

/// Where remembered calls return to: the real address takes the place of the
/// return address again, the result stays.
#[unsafe(naked)]
unsafe extern "efiapi" fn returned() {
    naked_asm!(
        "sub rsp, 48",
        "mov [rsp + 32], rax",
        "mov rcx, rax",
        "lea rdx, [rsp + 40]",
        "call {leave}",
        "mov [rsp + 40], rax",
        "mov rax, [rsp + 32]",
        "add rsp, 40",
        "ret",
        leave = sym super::leave,
    )
}

/// Returns its first argument.
#[unsafe(naked)]
unsafe extern "efiapi" fn refuse() {
    naked_asm!("mov rax, rcx", "ret")
}

fn address_of(function: unsafe extern "efiapi" fn()) -> usize {
    (function as *const ()).expose_provenance()
}

/// The thunk of a slot.
pub(super) fn address(slot: usize) -> usize {
    address_of(thunks).saturating_add(slot.saturating_mul(LENGTH))
}

/// See `returned`.
pub(super) fn end() -> usize {
    address_of(returned)
}

/// See `refuse`.
pub(super) fn refusal() -> usize {
    address_of(refuse)
}
