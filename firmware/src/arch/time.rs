//! Time: waiting by the time stamp counter, whose frequency the host tells or
//! which is measured once against the 8254's third counter, when a program first
//! waits; and whether there is a clock.

use super::tick;
use crate::arch::once::Once;
use crate::ports::{read, write};
use core::arch::x86_64::__cpuid;
use core::hint::spin_loop;
use ovmf_lite_services::resident::Clock;

/// Frequency of the 8254 in Hz (Intel 8254 data sheet).
const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// System control port B: gate of counter 2 in bit 0, its output in bit 5.
const PORT_B: u16 = 0x61;
/// How long a run of the measurement takes, and how many there are.
const CALIBRATION_TICKS: u16 = 11_932; // 10 ms
const RUNS: u32 = 3;
/// Polls after which a counter that does not move is given up.
const MAX_POLLS: u32 = 50_000_000;
/// Assumed when nothing can be measured: waits then take too long, never too
/// short, on any processor up to this frequency.
pub const FALLBACK_HZ: u64 = 5_000_000_000;

static TSC_HZ: Once<u64> = Once::new();

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is always available in 64-bit mode at privilege level 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The host says how fast the time stamp counter counts: nothing is measured.
pub fn counts_at(hz: u64) {
    TSC_HZ.get_or(|| hz);
}

/// How often the time stamp counter counts in a second, as far as it is known
/// without waiting: from the host, the processor, or the ACPI timer if it runs.
pub fn known_hz() -> Option<u64> {
    TSC_HZ.get().or_else(told).or_else(by_acpi_timer)
}

/// Leaf with the clock of the counter (Intel SDM vol. 2 CPUID), and the leaf in
/// which hypervisors tell its kHz (VMware's, which QEMU has for KVM).
const CPUID_TSC: u32 = 0x15;
const HYPERVISOR: u32 = 0x4000_0000;
const HYPERVISOR_TSC_KHZ: u32 = 0x4000_0010;

fn told() -> Option<u64> {
    if super::has_hypervisor() && __cpuid(HYPERVISOR).eax >= HYPERVISOR_TSC_KHZ {
        let khz = __cpuid(HYPERVISOR_TSC_KHZ).eax;
        return (khz != 0).then_some(u64::from(khz) * 1000);
    }
    if __cpuid(0).eax < CPUID_TSC {
        return None;
    }
    let clock = __cpuid(CPUID_TSC);
    let hz = u64::from(clock.ecx) * u64::from(clock.ebx);
    hz.checked_div(clock.eax.into()).filter(|hz| *hz != 0)
}

/// The ACPI timer: its port, and it and the time stamp counter at one moment.
static ACPI_TIMER: Once<(u16, u32, u64)> = Once::new();
/// Its frequency in Hz, and how far it counts (ACPI 6.5 §4.8.2.1).
const ACPI_TIMER_HZ: u64 = 3_579_545;
const ACPI_TIMER_MASK: u32 = 0x00ff_ffff;
/// Fewer counts than these tell nothing.
const ACPI_TIMER_LEAST: u64 = 256;

/// An ACPI timer runs at this port from now on.
pub fn acpi_timer_runs(port: u16) {
    ACPI_TIMER.get_or(|| (port, read(port), tsc()));
}

/// What both have counted meanwhile, which is as long as the start takes.
fn by_acpi_timer() -> Option<u64> {
    let (port, count, stamp) = ACPI_TIMER.get()?;
    let passed = tsc().wrapping_sub(stamp);
    let counts = read::<u32>(port).wrapping_sub(count) & ACPI_TIMER_MASK;
    let hz = passed.saturating_mul(ACPI_TIMER_HZ) / u64::from(counts.max(1));
    (u64::from(counts) >= ACPI_TIMER_LEAST).then_some(hz)
}

/// Frequency of the time stamp counter in Hz, measured if nobody has told it.
#[inline(never)]
#[cold]
pub fn hz() -> u64 {
    TSC_HZ.get_or(|| told().unwrap_or_else(measure))
}

/// A wait that need not be exact to a tick, in microseconds.
const LONG: u64 = 500_000;

/// Waits for at least this many microseconds.
#[cold]
pub fn stall(microseconds: u64) {
    let ticks = u128::from(microseconds) * u128::from(hz()) / 1_000_000;
    let start = tsc();
    while u128::from(tsc().wrapping_sub(start)) < ticks {
        if microseconds < LONG {
            spin_loop();
        } else {
            tick::pause();
        }
    }
}

/// Time that has passed since the time stamp counter was 0, in units of 100 ns.
pub fn now() -> u64 {
    (u128::from(tsc()) * 10_000_000 / u128::from(hz())) as u64
}

/// Time stamps during a run of the 8254's counter 2, the least of several: what a
/// host takes away from us makes a run longer. Only done when a program first
/// waits.
fn measure() -> u64 {
    let gate: u8 = read(PORT_B);
    write(PORT_B, gate & !0x02 | 0x01); // speaker off, gate on
    let elapsed = (0..RUNS).filter_map(|_| run_counter()).min();
    write(PORT_B, gate);
    elapsed.map_or(FALLBACK_HZ, |elapsed| {
        elapsed.saturating_mul(PIT_HZ) / u64::from(CALIBRATION_TICKS)
    })
}

/// Time stamps from before the counter starts until after it has ended: never
/// fewer than passed (mode 0: the output rises at the end). None without a
/// counter, or when we were away for all of its run.
fn run_counter() -> Option<u64> {
    write(PIT_COMMAND, 0xb0u8); // counter 2, low then high byte, mode 0
    write(PIT_CHANNEL2, CALIBRATION_TICKS as u8);
    let start = tsc();
    write(PIT_CHANNEL2, (CALIBRATION_TICKS >> 8) as u8);
    // The output is low while the counter counts; a bus without one reads high.
    let present = read::<u8>(PORT_B) & 0x20 == 0;
    let ended = (0..MAX_POLLS).any(|_| read::<u8>(PORT_B) & 0x20 != 0);
    (present && ended).then(|| tsc().wrapping_sub(start))
}

/// The CMOS clock's index and data ports, and its register D: bit 7 says that
/// the battery is good, the others read 0 (MC146818 data sheet).
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const CMOS_REGISTER_D: u8 = 0x0d;
const CMOS_BATTERY: u8 = 0x80;

/// The clock of this machine: QEMU's `microvm` and Xen's PVH guests may have none.
pub fn clock() -> Clock {
    write(CMOS_INDEX, CMOS_REGISTER_D);
    match read::<u8>(CMOS_DATA) & !CMOS_BATTERY {
        0 => Clock::CMOS,
        _ => Clock::NONE,
    }
}
