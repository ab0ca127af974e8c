//! Writes what was decided into the registers.

use super::bridge::{self, Bridge, Class, low};
use super::interrupts::{Routing, swizzle};
use super::registers::{DECODE_IO, DECODE_MEMORY, INTERRUPT, decode};
use super::scan::{Bar, Node};
use super::{Configuration, Function, Shortage};
use alloc::vec::Vec;

/// The way of an interrupt pin from a bus to the root bus.
#[derive(Clone, Copy)]
struct Path {
    /// The device on the root bus; `None` while on it.
    root: Option<u8>,
    /// Sum of the device numbers between.
    shift: u8,
}

impl Path {
    fn behind(self, device: u8) -> Self {
        match self.root {
            None => Self {
                root: Some(device),
                shift: 0,
            },
            root => Self {
                root,
                shift: self.shift.wrapping_add(device),
            },
        }
    }

    /// The line of a device's pin, 0 for INTA.
    fn line(self, routing: Routing, device: u8, pin: u8) -> u8 {
        match self.root {
            None => routing.line(device, pin),
            Some(root) => routing.line(root, swizzle(self.shift.wrapping_add(device), pin)),
        }
    }
}

/// Programs functions on a root bus and everything behind them. What found no
/// room is added to `shortages`.
pub(super) fn all(
    config: &mut impl Configuration,
    nodes: &[Node],
    routing: Routing,
    shortages: &mut Vec<Shortage>,
) {
    let mut program = Program {
        config,
        routing,
        shortages,
    };
    let path = Path {
        root: None,
        shift: 0,
    };
    program.nodes(nodes, path);
}

struct Program<'a, C> {
    config: &'a mut C,
    routing: Routing,
    shortages: &'a mut Vec<Shortage>,
}

impl<C: Configuration> Program<'_, C> {
    fn nodes(&mut self, nodes: &[Node], path: Path) {
        for node in nodes {
            self.node(node, path);
        }
    }

    fn node(&mut self, node: &Node, path: Path) {
        let at = node.at;
        for bar in &node.bars {
            self.bar(at, bar);
        }
        let windows = node.bridge.iter().flat_map(|bridge| &bridge.windows);
        for (window, address) in windows.filter_map(|it| Some((it, it.address?))) {
            let range = address..address.saturating_add(window.size);
            bridge::open(self.config, at, window.class, range);
        }
        self.interrupt(at, path);
        self.enable(node);
        if let Some(Bridge { children, .. }) = &node.bridge {
            self.nodes(children, path.behind(at.device));
        }
    }

    fn bar(&mut self, at: Function, bar: &Bar) {
        // A register without an address is zero since it was sized.
        let Some(address) = bar.address else { return };
        self.config.write(at, bar.register, low(address));
        if bar.wide {
            let high = bar.register.saturating_add(4);
            self.config.write(at, high, low(address >> 32));
        }
    }

    /// Writes the interrupt line of a function that has a pin.
    fn interrupt(&mut self, at: Function, path: Path) {
        let value = self.config.read(at, INTERRUPT);
        let [_, pin, ..] = value.to_le_bytes();
        if let Some(pin @ 0..=3) = pin.checked_sub(1) {
            let line = path.line(self.routing, at.device, pin);
            let value = value & !0xff | u32::from(line);
            self.config.write(at, INTERRUPT, value);
        }
    }

    /// Turns decoding on, but not of a kind of which something has no address.
    fn enable(&mut self, node: &Node) {
        let mut what = DECODE_IO | DECODE_MEMORY;
        let mut without = |class, address: Option<u64>| {
            if address.is_none() {
                what &= match class {
                    Class::Io => !DECODE_IO,
                    Class::Memory | Class::Prefetchable => !DECODE_MEMORY,
                };
            }
        };
        for bar in node.bars.iter().filter(|bar| !bar.rom) {
            without(bar.class, bar.address);
        }
        for window in node.bridge.iter().flat_map(|bridge| &bridge.windows) {
            if window.size > 0 {
                without(window.class, window.address);
            }
        }
        if what != DECODE_IO | DECODE_MEMORY {
            self.shortages.push(Shortage::Addresses(node.at));
        }
        decode(self.config, node.at, what);
    }
}
