//! The variable store in memory: after any sequence of writes it holds what the
//! successful ones wrote, each variable once, in the space it says it takes.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ovmf_lite_services::variables::{Key, Memory, Name, Phase, Variables};
use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

#[derive(Arbitrary, Debug)]
struct Write {
    runtime: bool,
    vendor: u8,
    name: Vec<u8>,
    attributes: u8,
    data: Vec<u8>,
}

type Store = Variables<Memory<0>, 4096>;

fuzz_target!(|writes: Vec<Write>| {
    let mut store = Variables::new();
    store.open(None).expect("memory takes everything");
    for write in &writes {
        apply(&mut store, write);
        check(&store);
    }
});

fn apply(store: &mut Store, write: &Write) {
    let phase = if write.runtime {
        Phase::Runtime
    } else {
        Phase::Boot
    };
    let Some(name) = Name::from_buffer(&write.name) else {
        return;
    };
    let vendor = Guid::from_bytes([write.vendor % 4; 16]);
    let key = Key { vendor, name };
    let attributes = VariableAttributes::from_bits_retain(write.attributes.into());
    let before = store.get(phase, key).map(|variable| variable.data.to_vec());
    let result = store.set(phase, key, attributes, &write.data);
    let after = store.get(phase, key).map(|variable| variable.data.to_vec());
    match result {
        Err(_) => assert_eq!(after, before, "a call that fails changes nothing"),
        Ok(()) => assert!(after.is_err() || after.is_ok_and(|data| data.ends_with(&write.data))),
    }
}

fn check(store: &Store) {
    let all = VariableAttributes::BOOTSERVICE_ACCESS | VariableAttributes::RUNTIME_ACCESS;
    let info = store.info(Phase::Boot, all).expect("a legal combination");
    let mut taken = 0;
    let mut listed = Vec::new();
    let mut key = Key {
        vendor: Guid::ZERO,
        name: Name::from_buffer(&[0, 0]).expect("the empty name"),
    };
    while let Ok(next) = store.next(Phase::Boot, key) {
        assert!(!listed.contains(&(next.vendor, next.name)), "listed twice");
        listed.push((next.vendor, next.name));
        taken += next.name.len() + next.data.len();
        key = Key {
            vendor: next.vendor,
            name: Name::from_buffer(next.name).expect("stored names end in NUL"),
        };
    }
    assert!(taken + info.remaining <= info.storage);
    assert_eq!(listed.is_empty(), info.remaining == info.storage);
}
