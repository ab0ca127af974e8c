//! Times what a kernel's EFI stub asks of the firmware.
//!
//! Each function pointer of both service tables, OutputString and the initrd's
//! LoadFile2 are led through a thunk that reads the time stamp counter before
//! and after the call. A call that the firmware makes to itself meanwhile counts
//! for the outer one. What is left of the time from the kernel's entry to the
//! end of boot services is the kernel's own work.

use super::output;
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr;
use r_efi::efi;
use r_efi::protocols::{device_path, load_file2, simple_text_output};

/// Function pointers of the boot and runtime services tables, behind headers.
const BOOT: usize = (size_of::<efi::BootServices>() - size_of::<efi::TableHeader>()) / 8;
const RUNTIME: usize = (size_of::<efi::RuntimeServices>() - size_of::<efi::TableHeader>()) / 8;
/// Slots: boot services, runtime services, OutputString, LoadFile.
const OUTPUT: usize = BOOT + RUNTIME;
const LOAD_FILE: usize = OUTPUT + 1;
const SLOTS: usize = LOAD_FILE + 1;
/// The slot of ExitBootServices, the 27th function of its table.
const EXIT_BOOT_SERVICES: usize = 26;
/// Calls in calls that are kept apart; the firmware's stack is finite, too.
const DEPTH: usize = 64;
/// Bytes from one thunk to the next.
const THUNK: usize = 16;

/// Everything the thunks know, in the order in which they address it.
#[repr(C)]
struct Record {
    depth: u64,
    /// When the kernel was entered.
    entered: u64,
    /// Of each call under way: its slot, its start, where it returns to.
    calls: [[u64; 4]; DEPTH],
    /// Of each slot: the function itself, time in it, calls of it.
    slots: [[u64; 4]; SLOTS],
}

struct Shared(UnsafeCell<Record>);

// SAFETY: one processor, and no interrupt calls a service.
unsafe impl Sync for Shared {}

static RECORD: Shared = Shared(UnsafeCell::new(Record {
    depth: 0,
    entered: 0,
    calls: [[0; 4]; DEPTH],
    slots: [[0; 4]; SLOTS],
}));

/// One thunk a slot: its number to eax, which no argument is in.
#[unsafe(naked)]
unsafe extern "efiapi" fn thunks() {
    naked_asm!(
        ".balign 16",
        ".set slot, 0",
        ".rept {slots}",
        ".balign 16",
        "mov eax, offset slot",
        "jmp {call}",
        ".set slot, slot + 1",
        ".endr",
        slots = const SLOTS,
        call = sym call,
    )
}

/// Takes the return address off the stack, so that the function finds its
/// arguments where its caller put them, and puts it back when it has returned.
#[unsafe(naked)]
unsafe extern "efiapi" fn call() {
    naked_asm!(
        "lea r10, [rip + {record}]",
        "mov r11, [r10]",
        "inc qword ptr [r10]",
        "shl r11, 5",
        "lea r11, [r10 + r11 + 16]",
        "mov [r11], rax",
        "pop qword ptr [r11 + 16]",
        "shl eax, 5",
        "lea r10, [r10 + rax + {slots}]",
        "mov [r11 + 24], rdx",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [r11 + 8], rax",
        "mov rdx, [r11 + 24]",
        "call [r10]",
        "mov r8, rax",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "lea r10, [rip + {record}]",
        "dec qword ptr [r10]",
        "mov r11, [r10]",
        "mov rdx, r11",
        "shl r11, 5",
        "lea r11, [r10 + r11 + 16]",
        "push qword ptr [r11 + 16]",
        "test rdx, rdx",
        "jnz 2f",
        "mov rcx, [r11]",
        "shl ecx, 5",
        "lea r10, [r10 + rcx + {slots}]",
        "sub rax, [r11 + 8]",
        "add [r10 + 8], rax",
        "inc qword ptr [r10 + 16]",
        "test r8, r8",
        "jnz 2f",
        "cmp ecx, {exit} << 5",
        "je {report}",
        "2: mov rax, r8",
        "ret",
        record = sym RECORD,
        slots = const core::mem::offset_of!(Record, slots),
        exit = const EXIT_BOOT_SERVICES,
        report = sym report,
    )
}

/// Boot services have ended.
unsafe extern "efiapi" fn report() -> ! {
    let left = time_stamp();
    // SAFETY: no call is under way any more.
    let record = unsafe { &*RECORD.0.get() };
    output::line("kernel", &[record.entered, left]);
    for (slot, [_, time, calls, _]) in record.slots.iter().enumerate() {
        if *calls != 0 {
            output::line("service", &[slot as u64, *calls, *time]);
        }
    }
    output::end()
}

/// Leads all services through the thunks, then enters the kernel; `entered` is
/// when it was meant to be.
pub fn run(
    handle: efi::Handle,
    system_table: *mut efi::SystemTable,
    entered: u64,
    kernel: *const u8,
) -> efi::Status {
    output::line("entered", &[entered]);
    // SAFETY: the firmware's tables.
    let table = unsafe { &mut *system_table };
    watch_initrd(table.boot_services);
    watch(
        table
            .boot_services
            .wrapping_byte_add(size_of::<efi::TableHeader>()),
        0,
        BOOT,
    );
    watch(
        table
            .runtime_services
            .wrapping_byte_add(size_of::<efi::TableHeader>()),
        BOOT,
        RUNTIME,
    );
    let output_string: *mut simple_text_output::Protocol = table.con_out;
    watch(output_string.wrapping_byte_add(8), OUTPUT, 1);
    let record = RECORD.0.get();
    // SAFETY: no thunk is running.
    unsafe { (*record).entered = time_stamp() };
    // SAFETY: the host has put the kernel's entry point there.
    let kernel = unsafe {
        core::mem::transmute::<
            *const u8,
            extern "efiapi" fn(efi::Handle, *mut efi::SystemTable) -> efi::Status,
        >(kernel)
    };
    kernel(handle, system_table);
    output::line("failed", &[]);
    output::end()
}

/// Puts thunks in the place of `count` function pointers.
fn watch<T>(table: *mut T, first: usize, count: usize) {
    let thunks = (thunks as *const ()).addr().next_multiple_of(THUNK);
    for index in 0..count {
        let pointer = table.cast::<u64>().wrapping_add(index);
        let slot = first + index;
        let record = RECORD.0.get();
        // SAFETY: a field of a table that the firmware has in memory.
        let function = unsafe { pointer.read() };
        // SAFETY: no thunk is running, `slot` is one.
        unsafe { (*record).slots[slot][0] = function };
        // SAFETY: as above; everything is writable before ExitBootServices.
        unsafe { pointer.write((thunks + slot * THUNK) as u64) };
    }
}

/// Device path of the initrd: vendor media, `LINUX_EFI_INITRD_MEDIA_GUID`, End.
static INITRD: [u8; 24] = [
    0x04, 0x03, 0x14, 0x00, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55,
    0x52, 0x31, 0xcc, 0x68, 0x7f, 0xff, 0x04, 0x00,
];

/// Watches LoadFile of the initrd, if there is one.
fn watch_initrd(services: *mut efi::BootServices) {
    // SAFETY: the firmware's table.
    let services = unsafe { &*services };
    let mut guid = load_file2::PROTOCOL_GUID;
    let mut path: *mut device_path::Protocol = (&raw const INITRD).cast_mut().cast();
    let mut handle = ptr::null_mut();
    let mut interface: *mut c_void = ptr::null_mut();
    // SAFETY: as the specification says; `path` is a device path.
    let found = unsafe { (services.locate_device_path)(&mut guid, &mut path, &mut handle) };
    if found != efi::Status::SUCCESS {
        return;
    }
    // SAFETY: as the specification says.
    let found = unsafe { (services.handle_protocol)(handle, &mut guid, &mut interface) };
    if found == efi::Status::SUCCESS {
        watch(interface, LOAD_FILE, 1);
    }
}

fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}
