//! An EFI application that measures the firmware that starts it.
//!
//! Promises: its first act is to read the time stamp counter. Started by itself
//! it prints that, what the memory map holds, and ends the machine. Put into a
//! kernel, with the word [`KERNEL`] set to where the kernel's own entry point
//! is, it times each call that the kernel makes into the firmware, up to the
//! ExitBootServices that succeeds ([`watch`]), prints that and ends the machine.
//!
//! Writes to COM1 itself, by port, in lines of `probe: NAME NUMBER…`, decimal,
//! and ends QEMU by its isa-debug-exit device at port 0xF4. Holds no address, so
//! that it runs wherever its bytes lie. The host's side is xtask/src/bench.
#![no_std]
#![no_main]

mod output;
mod watch;

use core::arch::naked_asm;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::ptr;
use r_efi::efi::{self, MemoryDescriptor};

/// What the host looks for in this file, and behind it the distance from the
/// start of this image to the kernel's entry point in bytes; 0 for no kernel.
#[repr(C)]
struct Kernel {
    mark: [u8; 16],
    distance: i64,
}

#[used]
static KERNEL: Kernel = Kernel {
    mark: *b"OVMF-lite probe:",
    distance: 0,
};

/// Room for a memory map in bytes.
const ROOM: usize = 24 << 10;
/// Memory types of the specification.
const TYPES: usize = efi::PERSISTENT_MEMORY as usize + 1;

/// `efi_main(handle, system table)`: adds the time stamp and goes on to
/// [`start`]. It touches no register that matters and no memory.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "efiapi" fn efi_main() {
    naked_asm!(
        "mov r10, rdx",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov r8, rax",
        "mov rdx, r10",
        "jmp {start}",
        start = sym start,
    )
}

unsafe extern "C" {
    /// The start of this image in memory.
    #[link_name = "__ImageBase"]
    static IMAGE: u8;
}

extern "efiapi" fn start(
    handle: efi::Handle,
    system_table: *mut efi::SystemTable,
    entered: u64,
) -> efi::Status {
    // SAFETY: a static; volatile because the host changes it in the file.
    let distance = unsafe { ptr::read_volatile(&raw const KERNEL.distance) };
    if distance != 0 {
        let kernel = (&raw const IMAGE).wrapping_offset(distance as isize);
        return watch::run(handle, system_table, entered, kernel);
    }
    output::line("entered", &[entered]);
    memory(system_table);
    output::end()
}

/// Prints the number of descriptors, and the pages of each type.
fn memory(system_table: *mut efi::SystemTable) {
    let mut buffer = MaybeUninit::<[u64; ROOM / 8]>::uninit();
    let (mut size, mut key, mut stride, mut version) = (ROOM, 0, 0, 0);
    // SAFETY: the firmware's table, before ExitBootServices.
    let services = unsafe { (*system_table).boot_services };
    // SAFETY: likewise.
    let get = unsafe { (*services).get_memory_map };
    let map: *mut MemoryDescriptor = buffer.as_mut_ptr().cast();
    // SAFETY: as the specification says.
    let status = unsafe { get(&mut size, map, &mut key, &mut stride, &mut version) };
    if status != efi::Status::SUCCESS || stride == 0 {
        output::line("failed", &[status.as_usize() as u64]);
        return;
    }
    let mut pages = [0; TYPES];
    for at in (0..size / stride).map(|index| index * stride) {
        // SAFETY: the firmware says that a descriptor is there.
        let descriptor = unsafe { map.wrapping_byte_add(at).read_unaligned() };
        if let Some(pages) = pages.get_mut(descriptor.r#type as usize) {
            *pages += descriptor.number_of_pages;
        }
    }
    output::line("descriptors", &[(size / stride) as u64]);
    output::line("pages", &pages);
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    output::line("failed", &[]);
    output::end()
}
