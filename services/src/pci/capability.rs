//! A function's list of capabilities (PCI Local Bus 3.0 §6.7), and the ones
//! that say what a bridge needs in advance: PCI Express slots, SHPC, and
//! QEMU's hints (QEMU `docs/pcie_pci_bridge.txt`).

use super::registers::{CAPABILITIES, COMMAND, HAS_CAPABILITIES, ID};
use super::{Configuration, Function};

const VENDOR_SPECIFIC: u8 = 0x09;
const HOT_PLUG_CONTROLLER: u8 = 0x0c;
const PCI_EXPRESS: u8 = 0x10;
/// Most capabilities that fit: a list that is longer goes round in circles.
const MAX_CAPABILITIES: usize = 48;

/// PCI Express capability, first 4 bytes (PCI Express 4.0 §7.5.3.2).
const PORT_TYPE_SHIFT: u32 = 20;
const ROOT_PORT: u32 = 4;
const DOWNSTREAM_PORT: u32 = 6;
const SLOT_IMPLEMENTED: u32 = 1 << 24;
/// Offset of the slot capabilities, and a bit in them (§7.5.3.9).
const SLOT_CAPABILITIES: u8 = 0x14;
const HOT_PLUG_CAPABLE: u32 = 1 << 6;

/// QEMU's capability: vendor, type and least length.
const RED_HAT: u32 = 0x1b36;
const RESOURCE_RESERVE: u32 = 1;
const RESERVE_BYTES: u32 = 32;

/// What is known of the place behind a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// Only device 0 can be there: a PCI Express link has two ends.
    pub(super) single: bool,
    /// Devices may come while the system runs.
    pub(super) hot_plug: bool,
    /// What the host asks to keep free.
    pub(super) reserve: Reserve,
}

/// The host's wishes in bytes, or bus numbers; `None` is no wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reserve {
    pub(super) buses: Option<u32>,
    pub(super) io: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) prefetchable: Option<u64>,
}

/// Reads what a bridge's capabilities say.
pub(super) fn slot(config: &mut impl Configuration, at: Function) -> Slot {
    let mut slot = Slot::default();
    let vendor = config.read(at, ID) & 0xffff;
    let mut next = match config.read(at, COMMAND) & HAS_CAPABILITIES {
        0 => 0,
        _ => low_byte(config.read(at, CAPABILITIES)),
    };
    for _ in 0..MAX_CAPABILITIES {
        let offset = next & !3;
        if offset == 0 {
            break;
        }
        let head = config.read(at, offset);
        match low_byte(head) {
            PCI_EXPRESS => express(config, at, offset, &mut slot),
            HOT_PLUG_CONTROLLER => slot.hot_plug = true,
            VENDOR_SPECIFIC if vendor == RED_HAT => slot.reserve = reserve(config, at, offset),
            _ => {}
        }
        next = low_byte(head >> 8);
    }
    slot
}

fn express(config: &mut impl Configuration, at: Function, offset: u8, slot: &mut Slot) {
    let head = config.read(at, offset);
    let port = head >> PORT_TYPE_SHIFT & 0xf;
    slot.single = matches!(port, ROOT_PORT | DOWNSTREAM_PORT);
    if slot.single && head & SLOT_IMPLEMENTED != 0 {
        let capabilities = read(config, at, offset, SLOT_CAPABILITIES);
        slot.hot_plug |= capabilities & HOT_PLUG_CAPABLE != 0;
    }
}

fn reserve(config: &mut impl Configuration, at: Function, offset: u8) -> Reserve {
    let head = config.read(at, offset);
    if head >> 24 != RESOURCE_RESERVE || head >> 16 & 0xff < RESERVE_BYTES {
        return Reserve::default();
    }
    let mut word = |at_offset| read(config, at, offset, at_offset);
    let short = |value: u32| (value != u32::MAX).then_some(value);
    let long = |low: u32, high: u32| {
        let value = u64::from(low) | u64::from(high) << 32;
        (value != u64::MAX).then_some(value)
    };
    Reserve {
        buses: short(word(4)),
        io: long(word(8), word(12)),
        memory: short(word(16)).map(u64::from),
        prefetchable: long(word(24), word(28)).or(short(word(20)).map(u64::from)),
    }
}

/// The 4 bytes `within` a capability; 0 behind the end of configuration space.
fn read(config: &mut impl Configuration, at: Function, offset: u8, within: u8) -> u32 {
    let register = offset.checked_add(within);
    register.map_or(0, |register| config.read(at, register))
}

fn low_byte(value: u32) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}
