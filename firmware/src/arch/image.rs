//! Into an image and out of it again, by return or by Exit.

use core::arch::naked_asm;
use ovmf_lite_services::abi;
use ovmf_lite_services::boot::{Boot, Machine};
use ovmf_lite_services::resident::{Entry, Handoff};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Handle, Status};

/// See [`ovmf_lite_services::boot::EnterImage`].
///
/// Calls from the C convention of this target (rdi, rsi, rdx, rcx) into the EFI
/// one (rcx, rdx; 32 bytes of shadow space; UEFI 2.11 §2.3.4.2). Everything
/// that the EFI convention has a callee preserve is saved here, xmm6 to xmm15
/// included, since an image that leaves through Exit restores nothing.
///
/// # Safety
/// As [`ovmf_lite_services::boot::EnterImage`] says.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(
    frame: *mut usize,
    entry: u64,
    handle: Handle,
    system_table: *mut SystemTable,
) -> Status {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 168",
        "stmxcsr [rsp + 160]",
        "movaps [rsp], xmm6",
        "movaps [rsp + 16], xmm7",
        "movaps [rsp + 32], xmm8",
        "movaps [rsp + 48], xmm9",
        "movaps [rsp + 64], xmm10",
        "movaps [rsp + 80], xmm11",
        "movaps [rsp + 96], xmm12",
        "movaps [rsp + 112], xmm13",
        "movaps [rsp + 128], xmm14",
        "movaps [rsp + 144], xmm15",
        "mov [rdi], rsp",
        "mov rax, rsi",
        "xchg rcx, rdx", // handle to rcx, system table to rdx
        "sub rsp, 32",
        "call rax",
        "add rsp, 32",
        "jmp {restore}",
        restore = sym restore,
    )
}

/// See [`ovmf_lite_services::boot::LeaveImage`].
///
/// # Safety
/// As [`ovmf_lite_services::boot::LeaveImage`] says.
#[unsafe(naked)]
pub unsafe extern "C" fn leave(frame: *const usize, status: Status) -> ! {
    naked_asm!(
        "mov rsp, [rdi]",
        "mov rax, rsi",
        "cld",
        "jmp {restore}",
        restore = sym restore,
    )
}

/// The common end of [`enter`]: rsp at the frame, the status in rax.
#[unsafe(naked)]
unsafe extern "C" fn restore() {
    naked_asm!(
        "movaps xmm6, [rsp]",
        "movaps xmm7, [rsp + 16]",
        "movaps xmm8, [rsp + 32]",
        "movaps xmm9, [rsp + 48]",
        "movaps xmm10, [rsp + 64]",
        "movaps xmm11, [rsp + 80]",
        "movaps xmm12, [rsp + 96]",
        "movaps xmm13, [rsp + 112]",
        "movaps xmm14, [rsp + 128]",
        "movaps xmm15, [rsp + 144]",
        "ldmxcsr [rsp + 160]",
        "add rsp, 168",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Calls the entry point of the placed runtime image.
pub fn enter_resident(image: &mut [u8], entry: u32, handoff: &mut Handoff) -> Status {
    let entry: *const u8 = image.as_ptr().wrapping_add(entry as usize);
    entry.expose_provenance();
    // SAFETY: the loader checked that the entry point lies inside the image,
    // and the build that the image's entry point has this signature.
    let entry = unsafe { core::mem::transmute::<*const u8, Entry>(entry) };
    // SAFETY: the input fields of the handoff are filled; this is the one call.
    unsafe { entry(handoff) }
}

/// Opens boot services over a placed runtime image.
pub fn open_services(boot: Boot, machine: Machine, handoff: Handoff) {
    // SAFETY: the handoff comes from the image that `resident::place` put into
    // its own, never freed pages; only the boot services write to its table.
    unsafe { abi::start(boot, machine, handoff) };
}
