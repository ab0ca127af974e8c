//! PCI-to-PCI bridges: which windows one has and how they are opened
//! (PCI-to-PCI Bridge 1.2 §3.2.5.6 to §3.2.5.10).

use super::capability::Slot;
use super::registers::{
    COMMAND, DECODE_IO, IO_WINDOW, IO_WINDOW_HIGH, MEMORY_WINDOW, PREFETCHABLE_BASE_HIGH,
    PREFETCHABLE_LIMIT_HIGH, PREFETCHABLE_WINDOW, decode,
};
use super::scan::Node;
use super::{Configuration, Function};
use alloc::vec::Vec;
use core::ops::Range;

/// Windows that begin behind their end: closed.
const IO_CLOSED: u32 = 0x00f0;
const MEMORY_CLOSED: u32 = 0x0000_fff0;
/// The window's type nibble: its addresses have 64 bits.
const PREFETCHABLE_64: u32 = 1;

/// The kinds of address a bridge passes on, each through a window of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory,
    /// Prefetchable memory anywhere.
    Prefetchable,
}

impl Class {
    pub(super) const ALL: [Self; 3] = [Self::Io, Self::Memory, Self::Prefetchable];

    /// What a window's ends are multiples of, in bytes.
    pub(super) fn granularity(self) -> u64 {
        match self {
            Self::Io => 4 << 10,
            Self::Memory | Self::Prefetchable => 1 << 20,
        }
    }
}

/// A window: how large it must be and where it is.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) class: Class,
    /// The bridge has this window.
    pub(super) exists: bool,
    /// Size in bytes; 0 when nothing behind the bridge needs it.
    pub(super) size: u64,
    /// Alignment in bytes.
    pub(super) alignment: u64,
    /// Its first address, when it has found room.
    pub(super) address: Option<u64>,
}

/// A bridge and everything behind it.
#[derive(Clone, Debug)]
pub(super) struct Bridge {
    pub(super) slot: Slot,
    pub(super) windows: [Window; 3],
    pub(super) children: Vec<Node>,
}

impl Bridge {
    pub(super) fn has(&self, class: Class) -> bool {
        let mut windows = self.windows.iter();
        windows.any(|window| window.class == class && window.exists)
    }
}

/// Finds out which windows a bridge has and closes them.
pub(super) fn probe(config: &mut impl Configuration, at: Function, slot: Slot) -> Bridge {
    // A window that does not exist reads as zero, whatever is written. This one
    // is closed: it begins behind its end.
    config.write(at, IO_WINDOW, 0x10f0);
    config.write(at, PREFETCHABLE_WINDOW, 0xfff0_fff0);
    // QEMU's ports without I/O do have that register, but never decode I/O.
    decode(config, at, DECODE_IO);
    let decodes = config.read(at, COMMAND) & DECODE_IO != 0;
    decode(config, at, 0);
    let io = decodes && config.read(at, IO_WINDOW) & 0xf0f0 != 0;
    let prefetchable = config.read(at, PREFETCHABLE_WINDOW);
    let wide = prefetchable & 0xfff0 != 0 && prefetchable & 0xf == PREFETCHABLE_64;
    for class in Class::ALL {
        close(config, at, class);
    }
    let window = |class, exists| Window {
        class,
        exists,
        size: 0,
        alignment: 1,
        address: None,
    };
    Bridge {
        slot,
        windows: [
            window(Class::Io, io),
            window(Class::Memory, true),
            // One of 32 bits has nothing over the memory window.
            window(Class::Prefetchable, wide),
        ],
        children: Vec::new(),
    }
}

fn close(config: &mut impl Configuration, at: Function, class: Class) {
    match class {
        Class::Io => {
            config.write(at, IO_WINDOW, IO_CLOSED);
            config.write(at, IO_WINDOW_HIGH, 0);
        }
        Class::Memory => config.write(at, MEMORY_WINDOW, MEMORY_CLOSED),
        Class::Prefetchable => {
            config.write(at, PREFETCHABLE_WINDOW, MEMORY_CLOSED);
            config.write(at, PREFETCHABLE_BASE_HIGH, 0);
            config.write(at, PREFETCHABLE_LIMIT_HIGH, 0);
        }
    }
}

/// Opens a closed window.
pub(super) fn open(config: &mut impl Configuration, at: Function, class: Class, range: Range<u64>) {
    let last = range.end.saturating_sub(1);
    match class {
        Class::Io => {
            // 8 bits each of base and limit stand for address bits 12 to 15.
            let value = (range.start >> 8 & 0xf0) | (last & 0xf000);
            config.write(at, IO_WINDOW, low(value));
        }
        Class::Memory => config.write(at, MEMORY_WINDOW, low(memory_window(range.start, last))),
        Class::Prefetchable => {
            config.write(at, PREFETCHABLE_BASE_HIGH, low(range.start >> 32));
            config.write(at, PREFETCHABLE_LIMIT_HIGH, low(last >> 32));
            let value = memory_window(range.start, last);
            config.write(at, PREFETCHABLE_WINDOW, low(value));
        }
    }
}

/// 16 bits each of base and limit stand for address bits 20 to 31.
fn memory_window(first: u64, last: u64) -> u64 {
    (first >> 16 & 0xfff0) | (last & 0xfff0_0000)
}

/// The low half.
pub(super) fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
