//! The state behind the boot services, in one place.
//!
//! Each field is a data structure of this crate with its own rules; the ABI
//! edge ([`crate::abi`]) takes the lock, asks one of them, drops the lock and
//! only then calls foreign code.

use crate::events::Events;
use crate::handles::Handles;
use crate::images::Images;
use crate::memory::{MemoryMap, Pool};
use uefi_raw::table::boot::{MemoryAttribute, Tpl};

/// Everything boot services know, from the first call to ExitBootServices.
pub struct Boot {
    /// Physical memory and who has it.
    pub memory: MemoryMap,
    /// Memory smaller than a page.
    pub pool: Pool,
    /// Handles and their protocols.
    pub handles: Handles,
    /// Loaded and running images.
    pub images: Images,
    /// Events and their timers.
    pub events: Events,
    /// The task priority level that runs.
    pub tpl: Tpl,
    /// Whether ExitBootServices was called.
    pub leaving: bool,
    /// When the watchdog resets the machine, as [`Machine::now`] counts.
    pub watchdog: Option<u64>,
    /// The initial RAM disk for the kernel, when the host gave one.
    pub initrd: Option<Initrd>,
}

impl Boot {
    /// The state before the first program: described memory, nothing else.
    #[must_use]
    pub const fn new(memory: MemoryMap, initrd: Option<Initrd>) -> Self {
        Self {
            memory,
            pool: Pool::new(),
            handles: Handles::new(),
            images: Images::new(),
            events: Events::new(),
            tpl: Tpl::APPLICATION,
            leaving: false,
            watchdog: None,
            initrd,
        }
    }
}

/// An initial RAM disk that still lies with the host and is copied only once,
/// to where the kernel wants it.
#[derive(Clone, Copy, Debug)]
pub struct Initrd {
    /// Size in bytes, not 0.
    pub size: usize,
    /// Fills a buffer of [`Self::size`] bytes; says why when it cannot.
    pub read: fn(&mut [u8]) -> Result<(), &'static str>,
}

/// The few things boot services ask of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Writes text to the consoles; must not call a boot service.
    pub write_console: fn(&str),
    /// Takes one byte of keyboard input, when there is one.
    pub read_console: fn() -> Option<u8>,
    /// Waits for at least this many microseconds.
    pub stall: fn(microseconds: u64),
    /// Leaves the processor to others for some milliseconds at most.
    pub pause: fn(),
    /// Time that has passed since some moment, in units of 100 ns.
    pub now: fn() -> u64,
    /// Makes sure that no interrupt comes any more, and gives devices back.
    pub quiesce: fn(),
    /// Enables interrupts or disables them, while programs run.
    pub interrupts: fn(enable: bool),
    /// Random numbers: a generator's, and those of its source.
    pub random: [Option<Fill>; 2],
    /// What may not be done with these bytes of memory, whole pages; `None` when
    /// that is not the same for all of them.
    pub protection: fn(start: u64, bytes: u64) -> Option<MemoryAttribute>,
    /// Changes that: allows what is in `clear`, forbids what is in `set`. All of it
    /// or, when that is an error, nothing.
    pub protect: Protect,
    /// Calls an image's entry point such that `leave_image` can end it.
    pub enter_image: EnterImage,
    /// Ends the image that was entered with this frame.
    pub leave_image: LeaveImage,
}

/// Fills a buffer; whether it has.
pub type Fill = fn(&mut [u8]) -> bool;

/// See [`Machine::protect`]: start, bytes, `clear`, `set`. The page tables it needs
/// come out of the memory map.
pub type Protect =
    fn(&mut MemoryMap, u64, u64, MemoryAttribute, MemoryAttribute) -> Result<(), ProtectError>;

/// Why what may be done with memory stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectError {
    /// There is nothing at some of the addresses, or the processor cannot forbid it.
    Unmapped,
    /// Some of it is the firmware's own.
    Firmware,
    /// No memory for page tables, or too many of them.
    Full,
}

/// Calls `entry(handle, system_table)` in the EFI calling convention and
/// returns what it, or Exit, returns. Stores at `*frame` what [`LeaveImage`]
/// needs.
///
/// # Safety
/// `entry` is an image's entry point; `frame` is valid for writes until the
/// call returns.
pub type EnterImage = unsafe extern "C" fn(
    frame: *mut usize,
    entry: u64,
    handle: uefi_raw::Handle,
    system_table: *mut uefi_raw::table::system::SystemTable,
) -> uefi_raw::Status;

/// Unwinds to the [`EnterImage`] call that was given `frame` and makes it return
/// `status`.
///
/// # Safety
/// That call has not returned, and is the innermost one.
pub type LeaveImage = unsafe extern "C" fn(frame: *const usize, status: uefi_raw::Status) -> !;
