//! A tree of PCI functions that answers as hardware does: read-only bits stay,
//! configuration cycles find a bus by the bridges' bus numbers.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use super::{Configuration, Function};

/// A base address: size in bytes (a power of two), and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarSpec {
    Io(u64),
    Memory(u64),
    Wide { size: u64, prefetchable: bool },
    Rom(u64),
}

/// What a PCI-to-PCI bridge can do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BridgeSpec {
    pub(super) io: bool,
    pub(super) prefetchable: bool,
    /// A PCI Express port with a slot for hot-plug.
    pub(super) port: bool,
    /// QEMU's hints: buses, I/O, memory, prefetchable.
    pub(super) reserve: Option<(u32, u64, u32, u64)>,
}

/// A function to be.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) bars: Vec<BarSpec>,
    pub(super) bridge: Option<(BridgeSpec, Vec<Spec>)>,
}

/// A function: registers, the bits of them that can be written, its bus.
pub(super) struct Simulated {
    pub(super) registers: [u32; 64],
    writable: [u32; 64],
    pub(super) parent: Parent,
    pub(super) device: u8,
    pub(super) bars: Vec<(u8, BarSpec)>,
    pub(super) bridge: Option<BridgeSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Root(u8),
    /// Index of a bridge.
    Bridge(usize),
}

/// The machine.
#[derive(Default)]
pub(super) struct Tree(pub(super) Vec<Simulated>);

impl Tree {
    /// Adds functions as devices 0, 1, ... of a bus.
    pub(super) fn add(&mut self, parent: Parent, specs: &[Spec]) {
        for (spec, device) in specs.iter().zip(0_u8..32) {
            let index = self.0.len();
            let bridge = spec.bridge.as_ref().map(|(bridge, _)| *bridge);
            self.0.push(simulate(parent, device, &spec.bars, bridge));
            if let Some((bridge, children)) = &spec.bridge {
                let most = if bridge.port { 1 } else { children.len() };
                self.add(Parent::Bridge(index), &children[..most.min(children.len())]);
            }
        }
    }

    /// The number of the bus that a function is on, when it can be reached.
    pub(super) fn bus(&self, index: usize) -> Option<u8> {
        match self.0[index].parent {
            Parent::Root(bus) => Some(bus),
            Parent::Bridge(bridge) => {
                let [_, secondary, subordinate, _] = self.0[bridge].registers[6].to_le_bytes();
                let above = self.bus(bridge)?;
                (secondary > above && subordinate >= secondary).then_some(secondary)
            }
        }
    }

    pub(super) fn at(&self, index: usize) -> Option<Function> {
        Some(Function {
            bus: self.bus(index)?,
            device: self.0[index].device,
            function: 0,
        })
    }

    fn find(&self, at: Function) -> Option<usize> {
        // Looking at the bridge right above first makes this quick.
        let near = |it: &Simulated| match it.parent {
            Parent::Root(bus) => bus == at.bus,
            Parent::Bridge(bridge) => self.0[bridge].registers[6] >> 8 & 0xff == at.bus.into(),
        };
        let mut found = (0..self.0.len()).filter(|index| {
            let it = &self.0[*index];
            it.device == at.device && near(it) && self.at(*index) == Some(at)
        });
        let first = found.next();
        assert!(found.next().is_none(), "two functions answer at {at}");
        first
    }
}

impl Configuration for Tree {
    fn read(&mut self, at: Function, register: u8) -> u32 {
        let found = self.find(at);
        found.map_or(u32::MAX, |it| {
            self.0[it].registers[usize::from(register / 4)]
        })
    }

    fn write(&mut self, at: Function, register: u8, value: u32) {
        if let Some(index) = self.find(at) {
            let (function, word) = (&mut self.0[index], usize::from(register / 4));
            let writable = function.writable[word];
            let kept = function.registers[word] & !writable;
            function.registers[word] = kept | value & writable;
        }
    }
}

fn simulate(parent: Parent, device: u8, bars: &[BarSpec], bridge: Option<BridgeSpec>) -> Simulated {
    let mut it = Simulated {
        registers: [0; 64],
        writable: [0; 64],
        parent,
        device,
        bars: Vec::new(),
        bridge,
    };
    it.registers[0] = 0x1234_1b36;
    it.writable[1] = 0x0007;
    // Pin A, and a line that can be written.
    it.registers[15] = 0x100;
    it.writable[15] = 0xff;
    let (mut word, end, rom) = if bridge.is_some() {
        (4, 6, 14)
    } else {
        (4, 10, 12)
    };
    for bar in bars {
        let words = if matches!(bar, BarSpec::Wide { .. }) {
            2
        } else {
            1
        };
        if matches!(bar, BarSpec::Rom(_)) {
            it.bar(rom, *bar);
        } else if word + words <= end {
            it.bar(word, *bar);
            word += words;
        }
    }
    if let Some(bridge) = bridge {
        it.bridge(bridge);
    }
    it
}

impl Simulated {
    fn bar(&mut self, word: usize, spec: BarSpec) {
        if self
            .bars
            .iter()
            .any(|(register, _)| usize::from(*register) == word * 4)
        {
            return;
        }
        let (size, flags) = match spec {
            BarSpec::Io(size) => (size, 1),
            BarSpec::Memory(size) => (size, 0),
            BarSpec::Wide { size, prefetchable } => (size, 4 | u32::from(prefetchable) << 3),
            BarSpec::Rom(size) => (size, 0),
        };
        let mask = !(size - 1);
        self.registers[word] = flags;
        self.writable[word] = mask as u32;
        match spec {
            BarSpec::Rom(_) => self.writable[word] |= 1,
            BarSpec::Wide { .. } => self.writable[word + 1] = (mask >> 32) as u32,
            BarSpec::Io(_) | BarSpec::Memory(_) => {}
        }
        self.bars.push((word as u8 * 4, spec));
    }

    fn bridge(&mut self, spec: BridgeSpec) {
        self.registers[3] = 0x0001_0000;
        self.writable[6] = 0x00ff_ffff;
        self.writable[8] = 0xfff0_fff0;
        if spec.io {
            self.writable[7] = 0xf0f0;
        }
        if spec.prefetchable {
            self.registers[9] = 0x0001_0001;
            self.writable[9] = 0xfff0_fff0;
            self.writable[10] = u32::MAX;
            self.writable[11] = u32::MAX;
        }
        if spec.port {
            // PCI Express at 0x40: root port with a slot, hot-plug capable.
            self.capability(0x40, 0x0142_0010);
            self.registers[0x54 / 4] = 1 << 6;
        }
        if let Some((buses, io, memory, prefetchable)) = spec.reserve {
            self.capability(0x80, 0x0120_0009);
            let words = [
                buses,
                io as u32,
                (io >> 32) as u32,
                memory,
                u32::MAX,
                prefetchable as u32,
                (prefetchable >> 32) as u32,
            ];
            self.registers[0x84 / 4..][..7].copy_from_slice(&words);
        }
    }

    /// Puts a capability at the head of the list.
    fn capability(&mut self, offset: u8, head: u32) {
        self.registers[1] |= 1 << 20;
        self.registers[usize::from(offset / 4)] = head | self.registers[13] << 8;
        self.registers[13] = u32::from(offset);
    }
}
