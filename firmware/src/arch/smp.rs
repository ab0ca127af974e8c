//! The other processors: each is started once, to set the registers that must
//! be the same on all of them, and then waits for the system to start it again
//! (Intel SDM vol. 3 §9.4, §11.6).

use super::apic::{self, COMMAND, LINT0, LINT1};
use super::time::tsc;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};
use ovmf_lite_services::mtrr::Msr;
use x86_64::registers::model_specific;

/// Page at which the others start: memory that nobody uses before the memory
/// map exists. What is left there is of no use to anyone.
const START_PAGE: usize = 0x8000;
const PAGE_SIZE: usize = 0x1000;
/// How long they are waited for in time stamps: 4 s at 5 GHz, longer on slower
/// processors. They need microseconds, where the host gives them time.
const PATIENCE: u64 = 20_000_000_000;

const DELIVER_EXTINT: u32 = 7 << 8;
const DELIVER_NMI: u32 = 4 << 8;
/// Commands to all but self, level asserted: INIT, and start at a page.
const INIT_OTHERS: u32 = 3 << 18 | 1 << 14 | 5 << 8;
const START_OTHERS: u32 = 3 << 18 | 1 << 14 | 6 << 8;

/// IA32_FEATURE_CONTROL and its lock bit.
const FEATURE_CONTROL: u32 = 0x3a;
const FEATURE_CONTROL_LOCKED: u64 = 1;

unsafe extern "C" {
    static processor_start: u8;
    static processor_count: u8;
    static processor_end: u8;
}

/// How many of the other processors have answered.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    /// Processors that should have.
    pub expected: u32,
    /// Processors that have.
    pub found: u32,
}

/// IA32_FEATURE_CONTROL with this value; nothing if it is locked already, as
/// writing it then is an exception.
pub fn feature_control(value: u64) -> Option<Msr> {
    let locked = read_msr(FEATURE_CONTROL) & FEATURE_CONTROL_LOCKED != 0;
    (!locked).then_some((FEATURE_CONTROL, value))
}

/// Sets registers on this processor and on `others` more, and leaves the local
/// APIC of this one as a virtual wire for the 8259's interrupts.
///
/// No caches are flushed: a processor out of reset has cached nothing, as
/// memory is uncacheable until the MTRRs are turned on.
pub fn set_everywhere(registers: &[Msr], others: u32) -> Result<(), Missing> {
    for (register, value) in registers {
        write_msr(*register, *value);
    }
    if !apic::is_there() {
        return Ok(());
    }
    apic::enable();
    apic::write(LINT0, DELIVER_EXTINT);
    apic::write(LINT1, DELIVER_NMI);
    if others == 0 {
        return Ok(());
    }
    let count = place(registers);
    apic::write(COMMAND, INIT_OTHERS);
    apic::write(COMMAND, START_OTHERS | (START_PAGE / PAGE_SIZE) as u32);
    let result = wait(count, others);
    // They wait for the system inside the processor now, not in memory that
    // will be somebody else's.
    apic::write(COMMAND, INIT_OTHERS);
    result
}

/// Writes the others' program and its list to the page where they start.
/// Returns the count of those that are done.
fn place(registers: &[Msr]) -> &'static AtomicU32 {
    let start = (&raw const processor_start).addr();
    let size = (&raw const processor_end).addr() - start;
    let page = core::ptr::with_exposed_provenance_mut::<u8>(START_PAGE);
    // SAFETY: the page is RAM that nothing else uses yet; see its definition.
    let bytes = unsafe { core::slice::from_raw_parts_mut(page, PAGE_SIZE) };
    // SAFETY: the program lies between its two symbols.
    let program = unsafe { core::slice::from_raw_parts(&raw const processor_start, size) };
    let (code, list) = bytes.split_at_mut(size);
    code.copy_from_slice(program);
    list.fill(0);
    for ((register, value), entry) in registers.iter().zip(list.chunks_exact_mut(12)) {
        entry[..4].copy_from_slice(&register.to_le_bytes());
        entry[4..].copy_from_slice(&value.to_le_bytes());
    }
    let count = (&raw const processor_count).addr() - start;
    let count = core::ptr::with_exposed_provenance_mut(START_PAGE + count);
    // SAFETY: aligned in the program, which lies at the start of a page; from
    // here on only touched by atomic instructions.
    unsafe { AtomicU32::from_ptr(count) }
}

fn wait(count: &AtomicU32, expected: u32) -> Result<(), Missing> {
    let start = tsc();
    loop {
        let found = count.load(Ordering::SeqCst);
        if found >= expected {
            return Ok(());
        }
        if tsc().wrapping_sub(start) > PATIENCE {
            return Err(Missing { expected, found });
        }
        spin_loop();
    }
}

/// Reads a register that the processor is known to have.
pub fn read_msr(register: u32) -> u64 {
    // SAFETY: reading has no effect on memory.
    unsafe { model_specific::Msr::new(register).read() }
}

/// Writes such a register.
pub fn write_msr(register: u32, value: u64) {
    // SAFETY: only memory types, the feature lock and the local APIC are
    // written here, none of which moves memory.
    unsafe { model_specific::Msr::new(register).write(value) };
}
