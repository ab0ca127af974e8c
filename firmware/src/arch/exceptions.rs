//! Exceptions: everything the processor says goes to the console, then the
//! machine stops (Intel SDM vol. 3 §6.15).
//!
//! Nothing is repaired. A program that faults cannot be continued in any way
//! that would be true, and the report is worth more than a reset. One breakpoint
//! is no fault: the one that stands for code which is still packed, see [`cold`].

use super::{cold, tick};
use crate::console::Console;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use x86_64::registers::control::{Cr2, Cr3};

/// The processor's own vectors.
const VECTORS: usize = 32;
const BREAKPOINT: u64 = 3;
/// The first behind them, for [`tick`].
pub const TICK: u8 = VECTORS as u8;
/// For an interrupt that is gone when it is asked for. Its low bits are ones, as the
/// first processors with a local APIC want them.
pub const SPURIOUS: u8 = 0x2f;
const GATES: usize = SPURIOUS as usize + 1;
/// Selector of the 64-bit code segment in `start.s`.
const CODE_SELECTOR: u64 = 0x18;
/// Present, interrupt gate: type byte of an IDT entry.
const INTERRUPT_GATE: u64 = 0x8e;
/// Bytes between two stubs.
const STUB_SIZE: u64 = 16;

// One stub a vector: an error code (the processor's or 0), the vector, then the
// registers, and over to Rust with a pointer to all of it.
global_asm!(
    ".balign 16",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    // 8, 10 to 14, 17, 21, 29 and 30 come with an error code.
    ".if ((0x60227d00 >> vector) & 1) == 0",
    "push 0",
    ".endif",
    "push vector",
    "jmp exception_common",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rbx",
    "push rax",
    "mov rdi, rsp",
    "mov rbp, rsp",
    "and rsp, -16",
    "cld",
    "call {handle}",
    "mov rsp, rbp",
    "pop rax",
    "pop rbx",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "add rsp, 16",
    "iretq",
    handle = sym handle,
);

unsafe extern "C" {
    static exception_stubs: u8;
}

/// What the stubs leave on the stack.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const REGISTERS: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8 ", "r9 ", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

const NAMES: [&str; VECTORS] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection",
    "page fault",
    "reserved",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.vector)
            .ok()
            .and_then(|vector| NAMES.get(vector));
        writeln!(
            f,
            "exception {}: {}, error code {:#x}",
            self.vector,
            name.unwrap_or(&"unknown"),
            self.error_code
        )?;
        writeln!(
            f,
            "  rip {:016x}  cs  {:04x}  rflags {:08x}  rsp {:016x}  ss {:04x}",
            self.rip, self.cs, self.rflags, self.rsp, self.ss
        )?;
        writeln!(
            f,
            "  cr2 {:016x}  cr3 {:016x}",
            Cr2::read_raw(),
            Cr3::read().0.start_address()
        )?;
        for (name, value) in REGISTERS.iter().zip(self.registers) {
            writeln!(f, "  {name} {value:016x}")?;
        }
        Ok(())
    }
}

/// Returns to call again what had been packed, else never.
extern "C" fn handle(frame: &mut Frame) {
    // It reports the address behind its one byte.
    let called = frame.rip.wrapping_sub(1);
    if frame.vector == BREAKPOINT && cold::thaw(called) {
        frame.rip = called;
    } else {
        report(frame);
    }
}

#[cold]
fn report(frame: &Frame) -> ! {
    let _ = write!(Console, "\novmf-lite: {frame}");
    crate::stop();
}

/// The interrupt descriptor table: two words an entry.
#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; GATES]>);

// SAFETY: written once, before it is loaded, by the only processor that runs.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; GATES]));

/// Operand of LIDT.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// An interrupt gate to the code at `address`.
fn gate(address: u64) -> [u64; 2] {
    let low = address & 0xffff | CODE_SELECTOR << 16 | INTERRUPT_GATE << 40;
    [low | (address & 0xffff_0000) << 32, address >> 32]
}

/// Fills the interrupt descriptor table and loads it.
pub fn init() {
    let first = (&raw const exception_stubs).addr() as u64;
    // SAFETY: the table is not loaded yet: no one else reads or writes it.
    let gates = unsafe { &mut *TABLE.0.get() };
    let (own, others) = gates.split_at_mut(VECTORS);
    for (stub, entry) in (first..).step_by(STUB_SIZE as usize).zip(own) {
        *entry = gate(stub);
    }
    // TICK is the first of them, SPURIOUS the last; those between never come.
    others.fill(gate(tick::handler as *const () as u64));
    let pointer = Pointer {
        limit: (size_of::<Table>() - 1) as u16,
        base: TABLE.0.get().addr() as u64,
    };
    // SAFETY: the table is filled, static, and its gates lead to the stubs.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
}
