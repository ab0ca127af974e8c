//! What [`assign`] leaves in the registers, judged from the registers alone.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use super::simulated::{BarSpec, BridgeSpec, Parent, Spec, Tree};
use super::*;
use core::ops::Range;
use proptest::prelude::*;

const LOW: Range<u64> = 0xc000_0000..0xfec0_0000;
const HIGH: Range<u64> = 0x1_0000_0000..0x80_0000_0000;

fn host() -> Host {
    Host {
        extra_roots: false,
        io: Space::new([0xc000..0x1_0000, 0x1000..0xa000]),
        low: Space::new(Some(LOW)),
        high: Space::new(Some(HIGH)),
        routing: Routing::Ich9,
    }
}

fn device(bars: &[BarSpec]) -> Spec {
    Spec {
        bars: bars.to_vec(),
        bridge: None,
    }
}

fn bridge(spec: BridgeSpec, children: &[Spec]) -> Spec {
    Spec {
        bars: Vec::new(),
        bridge: Some((spec, children.to_vec())),
    }
}

const PORT: BridgeSpec = BridgeSpec {
    io: true,
    prefetchable: true,
    port: true,
    reserve: None,
};

const PLAIN: BridgeSpec = BridgeSpec {
    port: false,
    ..PORT
};

fn wide(size: u64) -> BarSpec {
    BarSpec::Wide {
        size,
        prefetchable: true,
    }
}

fn assigned(specs: &[Spec], host: &Host) -> (Tree, Vec<Shortage>) {
    let mut tree = Tree::default();
    tree.add(Parent::Root(0), specs);
    let shortages = assign(&mut tree, host);
    (tree, shortages)
}

/// What a function decodes, by the kind of cycle it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decoded {
    io: bool,
    range: Range<u64>,
}

/// A base address as the register has it.
fn bar(tree: &Tree, index: usize, register: u8, spec: BarSpec) -> Decoded {
    let registers = &tree.0[index].registers;
    let word = usize::from(register / 4);
    let low = u64::from(registers[word]);
    let (io, size, start) = match spec {
        BarSpec::Io(size) => (true, size, low & !3),
        BarSpec::Memory(size) => (false, size, low & !0xf),
        BarSpec::Rom(size) => (false, size, low & !0x7ff),
        BarSpec::Wide { size, .. } => {
            let high = u64::from(registers[word + 1]);
            (false, size, high << 32 | low & !0xf)
        }
    };
    let range = start..start + size;
    Decoded { io, range }
}

/// The open windows of a bridge.
fn windows(tree: &Tree, index: usize) -> Vec<Decoded> {
    let it = &tree.0[index];
    let Some(spec) = it.bridge else {
        return Vec::new();
    };
    let registers = it.registers.map(u64::from);
    let window = |io, start: u64, last: u64| Decoded {
        io,
        range: start..last + 1,
    };
    let memory = registers[8];
    let mut windows = vec![window(
        false,
        (memory & 0xfff0) << 16,
        memory & 0xfff0_0000 | 0xf_ffff,
    )];
    if spec.io {
        let io = registers[7];
        windows.push(window(true, (io & 0xf0) << 8, io & 0xf000 | 0xfff));
    }
    if spec.prefetchable {
        let low = registers[9];
        let start = registers[10] << 32 | (low & 0xfff0) << 16;
        let last = registers[11] << 32 | low & 0xfff0_0000 | 0xf_ffff;
        windows.push(window(false, start, last));
    }
    windows.retain(|window| !window.range.is_empty());
    windows
}

/// Everything of one function that has an address, and what it decodes now.
fn claims(tree: &Tree, index: usize) -> Vec<Decoded> {
    let bars = tree.0[index].bars.iter();
    let mut claims: Vec<_> = bars
        .map(|(register, spec)| bar(tree, index, *register, *spec))
        .filter(|claim| claim.range.start != 0)
        .collect();
    for claim in &claims {
        let size = claim.range.end - claim.range.start;
        assert_eq!(claim.range.start % size, 0, "not aligned: {claim:x?}");
    }
    claims.extend(windows(tree, index));
    claims
}

fn inside(inner: &Range<u64>, outer: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn overlap(a: &Decoded, b: &Decoded) -> bool {
    a.io == b.io && a.range.start < b.range.end && b.range.start < a.range.end
}

/// Everything that must hold, whatever the tree.
fn check(tree: &Tree, shortages: &[Shortage]) {
    for index in 0..tree.0.len() {
        let Some(at) = tree.at(index) else {
            assert!(!shortages.is_empty(), "unreachable, and not said so");
            continue;
        };
        let claims = claims(tree, index);
        check_inside(tree, index, &claims);
        check_siblings(tree, index, &claims);
        check_enabled(tree, index, at, shortages);
    }
}

fn check_inside(tree: &Tree, index: usize, of: &[Decoded]) {
    let spaces = match tree.0[index].parent {
        Parent::Bridge(bridge) => windows(tree, bridge),
        Parent::Root(_) => {
            let space = |io, range| Decoded { io, range };
            vec![
                space(true, 0xc000..0x1_0000),
                space(true, 0x1000..0xa000),
                space(false, LOW),
                space(false, HIGH),
            ]
        }
    };
    for claim in of {
        let mut spaces = spaces.iter().filter(|space| space.io == claim.io);
        let fits = spaces.any(|space| inside(&claim.range, &space.range));
        assert!(fits, "outside what is above it: {claim:x?}");
    }
}

fn check_siblings(tree: &Tree, index: usize, of: &[Decoded]) {
    for (n, claim) in of.iter().enumerate() {
        let own = of[..n].iter().find(|other| overlap(claim, other));
        assert_eq!(own, None, "overlaps {claim:x?} of the same function");
    }
    let parent = tree.0[index].parent;
    for other in (0..index).filter(|other| tree.0[*other].parent == parent) {
        for claim in claims(tree, other) {
            let hit = of.iter().find(|mine| overlap(&claim, mine));
            assert_eq!(hit, None, "overlaps {claim:x?}");
        }
    }
}

fn check_enabled(tree: &Tree, index: usize, at: Function, shortages: &[Shortage]) {
    let it = &tree.0[index];
    let command = it.registers[1] & 0x7;
    assert_eq!(command & 4, 0, "bus master");
    let complained = shortages.contains(&Shortage::Addresses(at));
    assert_eq!(command & 3 != 3, complained, "command {command} of {at}");
    for (register, spec) in &it.bars {
        let bar = bar(tree, index, *register, *spec);
        let rom = matches!(spec, BarSpec::Rom(_));
        if rom {
            assert_eq!(it.registers[usize::from(register / 4)] & 1, 0, "ROM on");
        }
        let on = command & if bar.io { 1 } else { 2 } != 0;
        assert!(bar.range.start != 0 || rom || !on, "decodes address zero");
    }
}

fn bars() -> impl Strategy<Value = Vec<BarSpec>> {
    let bar = prop_oneof![
        (2_u32..9).prop_map(|bits| BarSpec::Io(1 << bits)),
        (4_u32..29).prop_map(|bits| BarSpec::Memory(1 << bits)),
        (4_u32..36, any::<bool>()).prop_map(|(bits, prefetchable)| BarSpec::Wide {
            size: 1 << bits,
            prefetchable
        }),
        (11_u32..20).prop_map(|bits| BarSpec::Rom(1 << bits)),
    ];
    proptest::collection::vec(bar, 0..5)
}

fn reserves() -> impl Strategy<Value = Option<(u32, u64, u32, u64)>> {
    let io = prop_oneof![Just(u64::MAX), Just(0), 0_u64..0x3000];
    let memory = prop_oneof![Just(u32::MAX), any::<u32>(), 0_u32..0x200_0000];
    let prefetchable = prop_oneof![Just(u64::MAX), any::<u64>(), 0_u64..1 << 36];
    let buses = prop_oneof![Just(u32::MAX), 0_u32..9, any::<u32>()];
    proptest::option::of((buses, io, memory, prefetchable))
}

/// Devices and bridges of a root bus, fewer than this; the interpreter Miri is
/// slow.
const NODES: usize = if cfg!(miri) { 2 } else { 12 };

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let device = bars().prop_map(|bars| Spec { bars, bridge: None });
    let kind = (any::<[bool; 3]>(), reserves()).prop_map(|([io, prefetchable, port], reserve)| {
        BridgeSpec {
            io,
            prefetchable,
            port,
            reserve,
        }
    });
    let kind = kind.boxed();
    let node = device.prop_recursive(4, 40, 6, move |inner| {
        let children = proptest::collection::vec(inner, 0..6);
        (bars(), kind.clone(), children).prop_map(|(bars, kind, children)| Spec {
            bars,
            bridge: Some((kind, children)),
        })
    });
    proptest::collection::vec(node, 0..NODES)
}

proptest! {
    #[test]
    fn whatever_is_there_nothing_overlaps(specs in specs()) {
        let (tree, shortages) = assigned(&specs, &host());
        check(&tree, &shortages);
    }

    #[test]
    fn assigning_twice_changes_nothing(specs in specs()) {
        let (mut tree, shortages) = assigned(&specs, &host());
        let before: Vec<_> = tree.0.iter().map(|it| it.registers).collect();
        prop_assert_eq!(assign(&mut tree, &host()), shortages);
        let after: Vec<_> = tree.0.iter().map(|it| it.registers).collect();
        prop_assert_eq!(before, after);
    }
}

#[test]
fn a_plain_machine_gets_everything() {
    let nic = device(&[
        BarSpec::Memory(0x2_0000),
        BarSpec::Io(0x20),
        BarSpec::Rom(0x4_0000),
    ]);
    let gpu = device(&[wide(1 << 34), BarSpec::Memory(0x1000)]);
    let (tree, shortages) = assigned(&[nic, bridge(PORT, &[gpu])], &host());
    check(&tree, &shortages);
    assert_eq!(shortages, []);
    assert!(tree.0.iter().all(|it| it.registers[1] & 3 == 3));
    let (register, spec) = tree.0[2].bars[0];
    assert!(inside(&bar(&tree, 2, register, spec).range, &HIGH));
}

#[test]
fn an_empty_port_has_room_and_a_spare_bus() {
    let (tree, shortages) = assigned(&[bridge(PORT, &[])], &host());
    assert_eq!(shortages, []);
    let sizes: Vec<u64> = windows(&tree, 0)
        .iter()
        .map(|window| window.range.end - window.range.start)
        .collect();
    assert_eq!(sizes, [4 << 20, 4 << 10, 1 << 30]);
    assert_eq!(tree.0[0].registers[6], 0x0002_0100);
}

#[test]
fn the_hosts_wishes_count_more_than_defaults() {
    let reserve = Some((4, 0, 16 << 20, 8 << 30));
    let wish = BridgeSpec { reserve, ..PORT };
    let (tree, shortages) = assigned(&[bridge(wish, &[])], &host());
    assert_eq!(shortages, []);
    let windows = windows(&tree, 0);
    let sizes = windows.iter().map(|it| it.range.end - it.range.start);
    assert_eq!(sizes.collect::<Vec<_>>(), [16 << 20, 8 << 30]);
    assert_eq!(tree.0[0].registers[6], 0x0005_0100);
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of bridges: minutes in Miri")]
fn many_ports_go_without_io_but_keep_memory() {
    let ports = vec![bridge(PORT, &[]); 30];
    let (tree, shortages) = assigned(&ports, &host());
    check(&tree, &shortages);
    assert_eq!(shortages, []);
    for port in 0..30 {
        let windows = windows(&tree, port);
        assert!(windows.iter().all(|window| !window.io));
        assert_eq!(windows.len(), 2);
    }
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of bridges: minutes in Miri")]
fn spare_buses_go_before_devices_do() {
    let behind = vec![bridge(PORT, &[device(&[BarSpec::Memory(0x1000)])]); 30];
    let bridges = vec![bridge(PLAIN, &behind); 6];
    let (tree, shortages) = assigned(&bridges, &host());
    check(&tree, &shortages);
    assert_eq!(shortages, []);
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of bridges: minutes in Miri")]
fn bridges_without_a_number_are_said() {
    let mut deep = device(&[]);
    for _ in 0..300 {
        deep = bridge(PLAIN, &[deep]);
    }
    let (tree, shortages) = assigned(&[deep], &host());
    check(&tree, &shortages);
    assert!(matches!(shortages[..], [Shortage::BusNumber(at)] if at.bus == 255));
}

#[test]
fn what_does_not_fit_stays_off_and_the_rest_works() {
    let big = device(&[BarSpec::Memory(1 << 30)]);
    let small = device(&[BarSpec::Memory(1 << 20)]);
    let (tree, shortages) = assigned(&[big.clone(), small, big], &host());
    check(&tree, &shortages);
    assert_eq!(shortages.len(), 2);
    assert_eq!(tree.0[1].registers[1] & 3, 3);
    assert_eq!(tree.0[0].registers[1] & 3, 1);
    assert_eq!(tree.0[0].registers[4], 0);
}

#[test]
fn a_large_wide_address_moves_when_its_first_choice_is_full() {
    let fixed = BarSpec::Wide {
        size: 1 << 32,
        prefetchable: false,
    };
    let (tree, shortages) = assigned(&[device(&[fixed])], &host());
    assert_eq!(shortages, []);
    assert!(inside(&claims(&tree, 0)[0].range, &HIGH));

    let mut cramped = host();
    cramped.high = Space::default();
    let (tree, shortages) = assigned(&[device(&[wide(1 << 20)])], &cramped);
    assert_eq!(shortages, []);
    assert!(inside(&claims(&tree, 0)[0].range, &LOW));
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of buses: half a minute in Miri")]
fn extra_root_buses_keep_their_numbers() {
    let mut tree = Tree::default();
    tree.add(Parent::Root(0), &[bridge(PLAIN, &[]), device(&[])]);
    let behind = bridge(PORT, &[device(&[BarSpec::Memory(0x1000)])]);
    tree.add(Parent::Root(0x20), &[behind]);
    tree.add(Parent::Root(0x80), &[device(&[wide(1 << 30)])]);
    let extra = Host {
        extra_roots: true,
        ..host()
    };
    let shortages = assign(&mut tree, &extra);
    check(&tree, &shortages);
    assert_eq!(shortages, []);
    assert_eq!(tree.0[0].registers[6], 0x0001_0100);
    assert_eq!(tree.0[2].registers[6], 0x0022_2120);
    assert_eq!(tree.0[4].registers[1] & 3, 3);
}

#[test]
fn interrupt_lines_follow_the_pins_through_bridges() {
    let child = device(&[]);
    let children = vec![child; 2];
    let (tree, _) = assigned(&[device(&[]), bridge(PLAIN, &children)], &host());
    let line = |index: usize| tree.0[index].registers[15] & 0xff;
    // Root devices 0 and 1, pin A; then devices 0 and 1 behind root device 1.
    let lines: Vec<u32> = (0..4).map(line).collect();
    let [a, b, c, _] = LINES.map(u32::from);
    assert_eq!(lines, [a, b, b, c]);
}

#[test]
fn a_list_of_capabilities_that_is_a_circle_ends() {
    let mut tree = Tree::default();
    tree.add(Parent::Root(0), &[bridge(PORT, &[])]);
    tree.0[0].registers[0x40 / 4] |= 0x4000;
    assert_eq!(assign(&mut tree, &host()), []);
}
