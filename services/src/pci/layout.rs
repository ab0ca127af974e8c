//! Who goes where: bridge windows are measured from the leaves up, addresses
//! handed out from the root down.

use super::Host;
use super::bridge::{Bridge, Class, Window};
use super::capability::Slot;
use super::scan::Node;
use super::space::Space;
use alloc::vec::Vec;

/// What is kept free behind bridges where devices may be plugged in, and other
/// things one can do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    /// I/O ports: as many as the host wishes, or the least a window can have.
    io: bool,
    /// Memory below 4 GiB, and addresses for option ROMs.
    memory: bool,
    /// Prefetchable memory in bytes where the host has no wish.
    prefetchable: u64,
}

/// Twice what Linux reserves behind a hot-plug bridge (`pci=hpmemsize`), so that
/// such a bridge can be plugged in itself.
const HOT_PLUG_MEMORY: u64 = 4 << 20;
/// Room for what is worth plugging in: a graphics card, shared memory.
const HOT_PLUG_PREFETCHABLE: u64 = 1 << 30;

impl Padding {
    /// From plenty to nothing. I/O goes first: there are only 13 windows of it.
    pub(super) const ATTEMPTS: [&Self; 4] = [
        &Self::new(true, true, HOT_PLUG_PREFETCHABLE),
        &Self::new(false, true, HOT_PLUG_PREFETCHABLE),
        &Self::new(false, true, HOT_PLUG_MEMORY),
        &Self::new(false, false, 0),
    ];

    const fn new(io: bool, memory: bool, prefetchable: u64) -> Self {
        Self {
            io,
            memory,
            prefetchable,
        }
    }

    /// Bytes that a window has at least.
    fn least(&self, class: Class, slot: &Slot) -> u64 {
        let (wanted, wish, default) = match class {
            Class::Io => (self.io, slot.reserve.io, Class::Io.granularity()),
            Class::Memory => (self.memory, slot.reserve.memory, HOT_PLUG_MEMORY),
            Class::Prefetchable => (self.memory, slot.reserve.prefetchable, self.prefetchable),
        };
        match wish {
            _ if !wanted => 0,
            Some(wish) => wish,
            None if slot.hot_plug => default,
            None => 0,
        }
    }
}

/// Something that needs an address.
struct Item<'a> {
    size: u64,
    alignment: u64,
    wide: bool,
    address: &'a mut Option<u64>,
}

/// Gives everything an address. Returns whether the host had room for all; what
/// it had none for has no address, nor has anything behind such a window.
pub(super) fn place(nodes: &mut [Node], padding: &Padding, host: &Host) -> bool {
    measure(nodes, padding);
    let (mut io, mut low, mut high) = (host.io.clone(), host.low.clone(), host.high.clone());
    let mut complete = take(nodes, Class::Io, padding, false, &mut [&mut io]);
    // What can only be below 4 GiB chooses first.
    complete &= take(nodes, Class::Memory, padding, false, &mut [&mut low]);
    let spaces = &mut [&mut low, &mut high];
    complete &= take(nodes, Class::Memory, padding, true, spaces);
    let spaces = &mut [&mut high, &mut low];
    complete &= take(nodes, Class::Prefetchable, padding, true, spaces);
    settle(nodes, padding);
    complete
}

/// The items of a class on one bus, largest alignment first, so that they fit
/// together without gaps.
fn items<'a>(nodes: &'a mut [Node], class: Class, padding: &Padding) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for node in nodes {
        for bar in node.bars.iter_mut().filter(|bar| bar.class == class) {
            if bar.rom && !padding.memory {
                bar.address = None;
                continue;
            }
            let item = Item {
                size: bar.size,
                alignment: bar.size,
                wide: bar.wide,
                address: &mut bar.address,
            };
            add(&mut items, item);
        }
        let windows = node.bridge.iter_mut().flat_map(|it| &mut it.windows);
        for window in windows.filter(|window| window.class == class) {
            if window.size == 0 {
                window.address = None;
                continue;
            }
            let item = Item {
                size: window.size,
                alignment: window.alignment,
                wide: class == Class::Prefetchable,
                address: &mut window.address,
            };
            add(&mut items, item);
        }
    }
    items
}

/// Adds `item` behind those that are at least as large.
fn add<'a>(items: &mut Vec<Item<'a>>, item: Item<'a>) {
    let extent = (item.alignment, item.size);
    let index = items.partition_point(|other| (other.alignment, other.size) >= extent);
    items.insert(index, item);
}

/// Puts items behind each other from `base` on. Returns size and alignment.
fn pack(items: Vec<Item<'_>>, base: Option<u64>) -> (u64, u64) {
    let alignment = items.first().map_or(1, |item| item.alignment);
    let mut offset = 0_u64;
    for item in items {
        offset = up(offset, item.alignment);
        *item.address = base.and_then(|base| base.checked_add(offset));
        offset = offset.saturating_add(item.size);
    }
    (offset, alignment)
}

/// The next multiple; what is beyond all addresses fits nowhere.
fn up(value: u64, alignment: u64) -> u64 {
    value
        .checked_next_multiple_of(alignment)
        .unwrap_or(u64::MAX)
}

/// Sizes all windows, the innermost first.
fn measure(nodes: &mut [Node], padding: &Padding) {
    for Bridge {
        slot,
        windows,
        children,
    } in nodes.iter_mut().filter_map(|node| node.bridge.as_mut())
    {
        measure(children, padding);
        for window in windows {
            let needed = pack(items(children, window.class, padding), None);
            size(window, needed, padding.least(window.class, slot));
        }
    }
}

/// Sizes a window for what is behind it, or for `least` bytes that may come.
fn size(window: &mut Window, (size, alignment): (u64, u64), least: u64) {
    let granularity = window.class.granularity();
    window.size = match window.exists {
        true => up(size.max(least), granularity),
        false => 0,
    };
    // Something that takes up all of `least` is aligned to its size.
    let most = least.checked_ilog2().map_or(1, |bits| 1 << bits);
    window.alignment = alignment.max(granularity).max(most);
}

/// Takes addresses for the items on the root buses from the first space that
/// has room. Returns whether all found one.
fn take(
    nodes: &mut [Node],
    class: Class,
    padding: &Padding,
    wide: bool,
    spaces: &mut [&mut Space],
) -> bool {
    let mut complete = true;
    let items = items(nodes, class, padding).into_iter();
    for item in items.filter(|item| item.wide == wide) {
        let mut spaces = spaces.iter_mut();
        *item.address = spaces.find_map(|space| space.take(item.size, item.alignment));
        complete &= item.address.is_some();
    }
    complete
}

/// Hands a window's addresses to what is behind it.
fn settle(nodes: &mut [Node], padding: &Padding) {
    let bridges = nodes.iter_mut().filter_map(|node| node.bridge.as_mut());
    for Bridge {
        windows, children, ..
    } in bridges
    {
        for window in windows {
            pack(items(children, window.class, padding), window.address);
        }
        settle(children, padding);
    }
}
