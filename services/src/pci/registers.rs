//! Where things are in configuration space, and reading them.
//!
//! Registers are read and written 4 bytes at a time. Status bits are cleared by
//! writing ones, so the status half of a command register is written as zero.

use super::{Configuration, Function};

/// Vendor (low half) and device.
pub(super) const ID: u8 = 0x00;
/// Command (low half) and status.
pub(super) const COMMAND: u8 = 0x04;
/// Cache line size, latency timer, header type, self-test.
pub(super) const HEADER: u8 = 0x0c;
/// The first base address register.
pub(super) const BARS: u8 = 0x10;
/// Primary, secondary and subordinate bus number, latency timer.
pub(super) const BUSES: u8 = 0x18;
/// Bridge: I/O base and limit, secondary status.
pub(super) const IO_WINDOW: u8 = 0x1c;
/// Bridge: memory base and limit.
pub(super) const MEMORY_WINDOW: u8 = 0x20;
/// Bridge: prefetchable memory base and limit.
pub(super) const PREFETCHABLE_WINDOW: u8 = 0x24;
/// Bridge: upper halves of the prefetchable base and limit.
pub(super) const PREFETCHABLE_BASE_HIGH: u8 = 0x28;
/// See [`PREFETCHABLE_BASE_HIGH`].
pub(super) const PREFETCHABLE_LIMIT_HIGH: u8 = 0x2c;
/// Bridge: upper halves of I/O base and limit.
pub(super) const IO_WINDOW_HIGH: u8 = 0x30;
/// Offset of the first capability.
pub(super) const CAPABILITIES: u8 = 0x34;
/// Interrupt line and pin.
pub(super) const INTERRUPT: u8 = 0x3c;

/// [`COMMAND`]: the function decodes I/O.
pub(super) const DECODE_IO: u32 = 1 << 0;
/// [`COMMAND`]: the function decodes memory.
pub(super) const DECODE_MEMORY: u32 = 1 << 1;
/// [`COMMAND`], status half: there is a list of capabilities.
pub(super) const HAS_CAPABILITIES: u32 = 1 << 20;

/// What follows the common part of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A device: six base addresses, a ROM at 0x30.
    Device,
    /// A PCI-to-PCI bridge: two base addresses, a ROM at 0x38.
    Bridge,
    /// Something without base addresses that we know of.
    Other,
}

impl Header {
    /// Behind the last base address register.
    pub(super) fn bars_end(self) -> u8 {
        match self {
            Self::Device => 0x28,
            Self::Bridge => 0x18,
            Self::Other => BARS,
        }
    }

    /// The ROM's base address register.
    pub(super) fn rom(self) -> Option<u8> {
        match self {
            Self::Device => Some(0x30),
            Self::Bridge => Some(0x38),
            Self::Other => None,
        }
    }
}

/// Whether a function is there.
pub(super) fn exists(config: &mut impl Configuration, at: Function) -> bool {
    config.read(at, ID) & 0xffff != 0xffff
}

/// The header type, and whether the device has more functions than the first.
pub(super) fn header(config: &mut impl Configuration, at: Function) -> (Header, bool) {
    let kind = config.read(at, HEADER) >> 16 & 0xff;
    let header = match kind & 0x7f {
        0 => Header::Device,
        1 => Header::Bridge,
        _ => Header::Other,
    };
    (header, kind & 0x80 != 0)
}

/// Chooses what a function decodes; leaves the other command bits as they are.
pub(super) fn decode(config: &mut impl Configuration, at: Function, what: u32) {
    let others = config.read(at, COMMAND) & 0xffff & !(DECODE_IO | DECODE_MEMORY);
    config.write(at, COMMAND, others | what);
}
