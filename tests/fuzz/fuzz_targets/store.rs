//! Arbitrary bytes as flash with a variable store: it is opened, formatted if it
//! is none, takes variables, lists each once, and has them when it is opened
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_fuzz::Flash;
use ovmf_lite_services::variables::{FIRST, Key, Layout, Name, Opened, Phase, Variables, Volume};
use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

const SIZE: usize = 0x2_0000;
/// What there is to damage: headers and variables, working block, spare area.
const PARTS: [usize; 3] = [0, 0xf000, 0x1_0000];

type Store = Variables<Flash, 4096>;

fuzz_target!(|input: (bool, [Vec<u8>; 3])| {
    let (formatted, parts) = input;
    let mut bytes = vec![0xff; SIZE];
    let mut skip = 0;
    if formatted {
        bytes = open(bytes).1;
        skip = FIRST;
    }
    for (start, part) in PARTS.into_iter().zip(parts) {
        let start = start.max(skip);
        let length = part.len().min(0xe000 - FIRST);
        bytes[start..][..length].copy_from_slice(&part[..length]);
        skip = 0;
    }
    let (mut store, _) = open(bytes);
    let listed = list(&store);
    let name = [b'N', 0, b'e', 0, b'w', 0, 0, 0];
    let new = key(Guid::ZERO, &name);
    let attributes = VariableAttributes::from_bits_retain(7);
    let known = store.get(Phase::Boot, new).is_ok();
    let written = store.set(Phase::Boot, new, attributes, b"new").is_ok();
    let count = list(&store).len();
    assert!(!written || count == listed.len() + usize::from(!known));
    let bytes = store.flash_mut().expect("a store in flash").0.clone();
    let (store, _) = open(bytes);
    assert!(!written || store.get(Phase::Boot, new).expect("it is kept").data == b"new");
    assert_eq!(list(&store).len(), count);
});

/// The store in `bytes`, and what they are now.
fn open(bytes: Vec<u8>) -> (Store, Vec<u8>) {
    let layout = Layout::of_flash(SIZE).expect("a known size");
    let mut store = Store::new();
    let opened = store.open(Some(Volume::new(Flash(bytes), layout)));
    let opened = opened.expect("this flash takes every write");
    let bytes = store.flash_mut().expect("a store in flash").0.clone();
    assert!(opened != Opened::Formatted || list(&store).is_empty());
    (store, bytes)
}

fn key(vendor: Guid, name: &[u8]) -> Key<'_> {
    let name = Name::from_buffer(name).expect("a name that ends in NUL");
    Key { vendor, name }
}

fn list(store: &Store) -> Vec<(Guid, Vec<u8>)> {
    let (mut vendor, mut name) = (Guid::ZERO, vec![0, 0]);
    let mut listed = Vec::new();
    while let Ok(next) = store.next(Phase::Boot, key(vendor, &name)) {
        (vendor, name) = (next.vendor, next.name.to_vec());
        let found = store.get(Phase::Boot, key(vendor, &name));
        assert_eq!(found, Ok(next), "listed and not found");
        assert!(!listed.contains(&(vendor, name.clone())), "listed twice");
        listed.push((vendor, name.clone()));
    }
    listed
}
