//! When what happened on the way from reset to the kernel, in time stamps of the
//! processor, and what becomes of them.
//!
//! The operating system gets two of them, in microseconds, in the variables of
//! systemd's boot loader interface, from which `systemd-analyze` tells how long
//! firmware and loader took; only if it is known how fast the counter counts,
//! since nothing is waited for to find out. The host gets all on the console, as
//! they are, if it asks by the fw_cfg file [`ASKED`].

use crate::arch::time::{self, tsc};
use crate::console::info;
use crate::ports::fw_cfg;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use ovmf_lite_services::{abi, text};
use uefi_raw::{Guid, guid};

/// The host wants to see the phases.
pub const ASKED: &str = "opt/org.ovmf-lite/phases";

static WANTED: AtomicBool = AtomicBool::new(false);
static STAMPS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

const COUNT: usize = NAMES.len();
const NAMES: [&str; 7] = [
    "reset",
    "long-mode",
    "platform",
    "tables",
    "placed",
    "started",
    "exit",
];

/// Moments, each the end of what comes before.
#[repr(usize)]
#[derive(Clone, Copy)]
pub enum Phase {
    /// The first instruction.
    Reset,
    /// The first in 64-bit mode.
    LongMode,
    /// The host has told everything, and the machine is set up.
    Platform,
    /// Its tables and the runtime image are in memory.
    Tables,
    /// So is the kernel's image.
    Placed,
    /// The kernel is entered.
    Started,
    /// Boot services have ended.
    Exit,
}

/// systemd's `LOADER_GUID`, and the names of times that its
/// `efi_loader_get_boot_usec` reads (systemd `src/shared/efi-loader.c`): decimal
/// numbers as text, when the loader was entered and when the kernel.
const LOADER: Guid = guid!("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
const TIMES: [(&str, Phase); 2] = [
    ("LoaderTimeInitUSec", Phase::Tables),
    ("LoaderTimeExecUSec", Phase::Started),
];

/// Notes that `phase` is reached.
pub fn mark(phase: Phase) {
    set(phase, tsc());
}

/// When `phase` was; 0 before.
pub fn stamp(phase: Phase) -> u64 {
    STAMPS[phase as usize].load(Relaxed)
}

/// Notes when `phase` was.
pub fn set(phase: Phase, stamp: u64) {
    STAMPS[phase as usize].store(stamp, Relaxed);
}

/// The host has asked.
pub fn show() {
    WANTED.store(true, Relaxed);
}

/// The operating system is about to be entered. It is told if it costs little: it
/// can do without.
pub fn started(tell: bool) {
    mark(Phase::Started);
    if !tell {
        return;
    }
    let Some(megahertz) = time::known_hz().map(|hz| hz / 1_000_000) else {
        return;
    };
    for (name, phase) in TIMES {
        let stamp = stamp(phase);
        let microseconds = stamp / megahertz.max(1);
        let value = text::load_options(alloc::format!("{microseconds}").as_bytes());
        let name = text::load_options(name.as_bytes());
        let _ = abi::set_volatile(&name, &LOADER, &value);
    }
}

/// Boot services end. Tells the host, if it has asked.
pub fn end() {
    if WANTED.load(Relaxed) {
        mark(Phase::Exit);
        info!("phases:{All}; {} bytes fetched", fw_cfg::fetched());
    }
}

struct All;

impl fmt::Display for All {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = NAMES.iter().zip(&STAMPS);
        all.try_for_each(|(name, stamp)| write!(f, " {name} {}", stamp.load(Relaxed)))
    }
}
