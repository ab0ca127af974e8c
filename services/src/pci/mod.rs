//! PCI: bus numbers, base addresses, bridge windows and interrupt lines, for a
//! machine on which nobody has assigned any (PCI Local Bus 3.0 §6.2.5,
//! PCI-to-PCI Bridge 1.2 §3.2.5, PCI Express 4.0 §7.5).
//!
//! [`assign`] promises: what it enables lies inside the windows of every bridge
//! above it and inside the [`Host`]'s ranges, aligned to its size, and overlaps
//! nothing. What has no room stays disabled and is reported. It runs no option
//! ROMs, lets no function become bus master and leaves legacy VGA alone.

mod bridge;
mod capability;
mod interrupts;
mod layout;
mod program;
mod registers;
mod scan;
#[cfg(test)]
mod simulated;
mod space;
#[cfg(test)]
mod tests;

pub use interrupts::{LINES, Routing};
pub use space::Space;

use alloc::vec::Vec;
use core::fmt;
use layout::Padding;

/// A function's place in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bus,
            device,
            function,
        } = self;
        write!(f, "{bus:02x}:{device:02x}.{function}")
    }
}

/// The first 256 bytes of each function's configuration space.
pub trait Configuration {
    /// Reads the 4 bytes at `register`, a multiple of 4. All ones where no
    /// function is.
    fn read(&mut self, at: Function, register: u8) -> u32;

    /// Writes the 4 bytes at `register`, a multiple of 4.
    fn write(&mut self, at: Function, register: u8, value: u32);
}

/// What the host bridge has to give.
#[derive(Clone, Debug)]
pub struct Host {
    /// There are root buses besides bus 0, at numbers the host has fixed.
    pub extra_roots: bool,
    /// I/O ports.
    pub io: Space,
    /// Memory addresses below 4 GiB.
    pub low: Space,
    /// Memory addresses above 4 GiB, best first.
    pub high: Space,
    /// Which interrupt line a pin is wired to.
    pub routing: Routing,
}

/// Something that could not be given to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// No bus number is left for what is behind this bridge.
    BusNumber(Function),
    /// Some of the function's addresses, or a window of the bridge, found no
    /// room; it decodes nothing of that kind, I/O or memory.
    Addresses(Function),
}

impl fmt::Display for Shortage {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BusNumber(at) => write!(
                f,
                "PCI: expected at most 255 buses, found no number for the one behind {at}: \
                 give the guest fewer bridges or smaller bus reserves"
            ),
            Self::Addresses(at) => write!(
                f,
                "PCI: expected room for every address of {at}, found too little, so part of it \
                 stays off: give the guest fewer or smaller devices, or their bridges larger \
                 reserves"
            ),
        }
    }
}

/// Gives every function its place and enables it. Returns what went without.
pub fn assign(config: &mut impl Configuration, host: &Host) -> Vec<Shortage> {
    let mut found = scan::run(config, host.extra_roots, true);
    if !found.unnumbered.is_empty() {
        // Without spare numbers for hot-plug there may be enough.
        found = scan::run(config, host.extra_roots, false);
    }
    for padding in Padding::ATTEMPTS {
        if layout::place(&mut found.nodes, padding, host) {
            break;
        }
    }
    // The last attempt stands, complete or not.
    let mut shortages = found.unnumbered;
    program::all(config, &found.nodes, host.routing, &mut shortages);
    shortages
}
