//! What is there: numbers the buses, depth first, and sizes every base address.
//!
//! Afterwards no function decodes anything and all base addresses are zero.

use super::bridge::{self, Bridge, Class};
use super::capability::{self, Slot};
use super::registers::{self, BARS, BUSES, Header, decode, exists};
use super::{Configuration, Function, Shortage};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;
/// Bits of a base address that say what it is, and their values
/// (PCI Local Bus 3.0 §6.2.5.1).
const IS_IO: u32 = 1;
const IO_FLAGS: u32 = 0x3;
const MEMORY_FLAGS: u32 = 0xf;
const MEMORY_TYPE: u32 = 0x6;
const MEMORY_64: u32 = 0x4;
const PREFETCHABLE: u32 = 0x8;
/// Bits of a ROM's base address that are address; bit 0 enables it.
const ROM_ADDRESS: u32 = 0xffff_f800;
/// Address bits that a register of 32 bits implies.
const ABOVE_4GIB: u64 = !0xffff_ffff;
/// The largest sizes that leave an address bit to stick.
const LARGEST_IO: u64 = 1 << 15;
const LARGEST_32: u64 = 1 << 31;
const LARGEST_64: u64 = 1 << 63;

/// What a scan has found.
pub(super) struct Found {
    /// The functions on the root buses, with what is behind them.
    pub(super) nodes: Vec<Node>,
    /// Bridges for which no bus number was left.
    pub(super) unnumbered: Vec<Shortage>,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Function,
    pub(super) bars: Vec<Bar>,
    pub(super) bridge: Option<Bridge>,
}

/// A base address register.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) register: u8,
    /// Size and alignment in bytes, a power of two.
    pub(super) size: u64,
    pub(super) class: Class,
    /// Its addresses have 64 bits, in two registers.
    pub(super) wide: bool,
    /// An option ROM: stays disabled, may go without an address.
    pub(super) rom: bool,
    pub(super) address: Option<u64>,
}

/// Scans all buses. With `spare`, each place for hot-plug keeps bus numbers.
pub(super) fn run(config: &mut impl Configuration, extra_roots: bool, spare: bool) -> Found {
    let roots = roots(config, extra_roots);
    let mut scan = Scan {
        config,
        spare,
        highest: 0,
        unnumbered: Vec::new(),
    };
    let mut nodes = Vec::new();
    let mut roots = roots.into_iter().peekable();
    while let Some(root) = roots.next() {
        let limit = roots.peek().map_or(u8::MAX, |next| next.saturating_sub(1));
        scan.highest = root;
        scan.bus(&mut nodes, root..=limit, false, true);
    }
    Found {
        nodes,
        unnumbered: scan.unnumbered,
    }
}

/// The root buses. Extra ones answer before any bridge has a number; numbers
/// left by an earlier scan are taken back first, so that only they do.
fn roots(config: &mut impl Configuration, extra: bool) -> Vec<u8> {
    let mut roots = alloc::vec![0];
    if !extra {
        return roots;
    }
    for bus in 0..=u8::MAX {
        let found = functions(config, bus, DEVICES);
        for (at, _) in found.iter().filter(|(_, kind)| *kind == Header::Bridge) {
            config.write(*at, BUSES, 0);
        }
        if bus != 0 && !found.is_empty() {
            roots.push(bus);
        }
    }
    roots
}

/// The functions on a bus that has a number.
fn functions(config: &mut impl Configuration, bus: u8, devices: u8) -> Vec<(Function, Header)> {
    let mut found = Vec::new();
    for device in 0..devices {
        let mut count = 1;
        for function in 0..FUNCTIONS {
            let at = Function {
                bus,
                device,
                function,
            };
            if function >= count || !exists(config, at) {
                continue;
            }
            let (header, multiple) = registers::header(config, at);
            if function == 0 && multiple {
                count = FUNCTIONS;
            }
            found.push((at, header));
        }
    }
    found
}

struct Scan<'c, C> {
    config: &'c mut C,
    spare: bool,
    /// The highest bus number in use.
    highest: u8,
    unnumbered: Vec<Shortage>,
}

impl<C: Configuration> Scan<'_, C> {
    /// Adds to `nodes` the functions on the first of `buses` and, with the numbers behind it,
    /// everything below. `wide`: all bridges above have a window for
    /// prefetchable memory anywhere.
    fn bus(&mut self, nodes: &mut Vec<Node>, buses: RangeInclusive<u8>, single: bool, wide: bool) {
        let devices = if single { 1 } else { DEVICES };
        let found = functions(self.config, *buses.start(), devices);
        for (at, header) in &found {
            decode(self.config, *at, 0);
            if *header == Header::Bridge {
                self.config.write(*at, BUSES, 0);
            }
        }
        for (at, header) in found {
            nodes.push(self.node(at, header, *buses.end(), wide));
        }
    }

    fn node(&mut self, at: Function, header: Header, limit: u8, wide: bool) -> Node {
        Node {
            at,
            bars: bars(self.config, at, header, wide),
            bridge: (header == Header::Bridge).then(|| self.bridge(at, limit, wide)),
        }
    }

    fn bridge(&mut self, at: Function, limit: u8, wide: bool) -> Bridge {
        let slot = capability::slot(self.config, at);
        let mut bridge = bridge::probe(self.config, at, slot);
        let next = self.highest.checked_add(1);
        let Some(secondary) = next.filter(|next| *next <= limit) else {
            self.unnumbered.push(Shortage::BusNumber(at));
            bridge.slot = Slot::default();
            return bridge;
        };
        self.highest = secondary;
        self.number(at, secondary, limit);
        let wide = wide && bridge.has(Class::Prefetchable);
        self.bus(&mut bridge.children, secondary..=limit, slot.single, wide);
        if self.spare {
            let behind = secondary.saturating_add(spare_buses(slot));
            self.highest = self.highest.max(behind).min(limit);
        }
        self.number(at, secondary, self.highest);
        bridge
    }

    fn number(&mut self, at: Function, secondary: u8, subordinate: u8) {
        let value = u32::from_le_bytes([at.bus, secondary, subordinate, 0]);
        self.config.write(at, BUSES, value);
    }
}

/// Bus numbers to keep behind the secondary bus: one where a bridge may be
/// plugged in, or as many as the host wishes.
fn spare_buses(slot: Slot) -> u8 {
    let wish = slot.reserve.buses.unwrap_or(u32::from(slot.hot_plug));
    u8::try_from(wish).unwrap_or(u8::MAX)
}

/// Sizes a function's base addresses and leaves them zero.
fn bars(config: &mut impl Configuration, at: Function, header: Header, wide: bool) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut register = BARS;
    while register < header.bars_end() {
        let bar = bar(config, at, register, wide);
        let two = bar.as_ref().is_some_and(|bar| bar.wide);
        register = register.saturating_add(if two { 8 } else { 4 });
        bars.extend(bar);
    }
    let rom = header.rom().and_then(|register| rom(config, at, register));
    bars.extend(rom);
    bars
}

/// Writes ones and reads which bits stick; the register is zero afterwards.
fn sticking(config: &mut impl Configuration, at: Function, register: u8) -> u32 {
    config.write(at, register, u32::MAX);
    let sticking = config.read(at, register);
    config.write(at, register, 0);
    sticking
}

fn bar(config: &mut impl Configuration, at: Function, register: u8, wide: bool) -> Option<Bar> {
    let value = sticking(config, at, register);
    if value & IS_IO != 0 {
        // Functions may leave out the upper half (PCI Local Bus 3.0 §6.2.5.1).
        let size = size(u64::from(value & !IO_FLAGS) | !0xffff, LARGEST_IO)?;
        return Some(new_bar(register, size, Class::Io, false));
    }
    let low = u64::from(value & !MEMORY_FLAGS);
    if value & MEMORY_TYPE != MEMORY_64 {
        let size = size(low | ABOVE_4GIB, LARGEST_32)?;
        return Some(new_bar(register, size, Class::Memory, false));
    }
    let high = sticking(config, at, register.saturating_add(4));
    let size = size(u64::from(high) << 32 | low, LARGEST_64)?;
    let class = match wide && value & PREFETCHABLE != 0 {
        true => Class::Prefetchable,
        false => Class::Memory,
    };
    Some(new_bar(register, size, class, true))
}

fn rom(config: &mut impl Configuration, at: Function, register: u8) -> Option<Bar> {
    let value = sticking(config, at, register) & ROM_ADDRESS;
    let size = size(u64::from(value) | ABOVE_4GIB, LARGEST_32)?;
    let bar = new_bar(register, size, Class::Memory, false);
    Some(Bar { rom: true, ..bar })
}

fn new_bar(register: u8, size: u64, class: Class, wide: bool) -> Bar {
    Bar {
        register,
        size,
        class,
        wide,
        rom: false,
        address: None,
    }
}

/// The size that a mask of sticking address bits means, when it is one; a mask
/// without any, of a register that is no base address, is larger than `largest`.
fn size(mask: u64, largest: u64) -> Option<u64> {
    let size = (!mask).checked_add(1)?;
    (size.is_power_of_two() && size <= largest).then_some(size)
}
