//! The stores against a model: a map that knows the rules but no bytes. A
//! hundred thousand calls in a release build, fewer otherwise.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

use super::layout::Layout;
use super::simulated::Flash;
use super::tests::utf16;
use super::{BLOCK, Error, FIRST, Key, Name, Phase, Variables, Volume, record};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

/// Small, so that random writes fill it.
const MEMORY: usize = BLOCK;
const FLASH: Layout = Layout::with_spare(5 * BLOCK, BLOCK);

/// Memory, and flash of as many bytes for variables.
const CAPACITY: usize = BLOCK - FIRST;

type Store = Variables<Flash, MEMORY>;

/// Writes in a row, fewer than this; the interpreter Miri is slow.
const WRITES: usize = if cfg!(miri) { 8 } else { 80 };

const VENDORS: [Guid; 2] = [
    guid!("cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0"),
    guid!("12345678-0000-0000-0000-000000000001"),
];
const NAMES: [&str; 4] = ["", "A", "AB", "BootOrder"];

type Model = BTreeMap<(usize, usize), (A, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Write {
    vendor: usize,
    name: usize,
    attributes: A,
    data: Vec<u8>,
}

fn writes() -> impl Strategy<Value = Write> {
    let attributes = prop_oneof![
        6 => prop::sample::select(vec![0x02, 0x03, 0x06, 0x07, 0x42, 0x43, 0x46, 0x47]),
        1 => prop::sample::select(vec![0x00, 0x01, 0x04, 0x05, 0x40, 0x0b, 0x0c, 0x0f, 0x14, 0x17, 0x24, 0x27, 0x37, 0x87, 0xa7, 0x100]),
        1 => any::<u32>(),
    ];
    let data = prop_oneof![
        1 => Just(vec![]),
        6 => prop::collection::vec(any::<u8>(), 1..600),
        1 => prop::collection::vec(any::<u8>(), 3000..5000),
    ];
    (0..VENDORS.len(), 0..NAMES.len(), attributes, data).prop_map(
        |(vendor, name, attributes, data)| Write {
            vendor,
            name,
            attributes: A::from_bits_retain(attributes),
            data,
        },
    )
}

/// Bytes a variable takes.
fn size(name: usize, data: usize) -> usize {
    record::size(utf16(NAMES[name]).len(), data)
}

/// Bytes that are free where variables of such `attributes` are.
fn free(model: &Model, flash: bool, attributes: A) -> usize {
    let lasting = |attributes: &A| flash && attributes.contains(A::NON_VOLATILE);
    let alike = model
        .iter()
        .filter(|(_, (other, _))| lasting(other) == lasting(&attributes));
    let taken: usize = alike
        .map(|((_, name), (_, data))| size(*name, data.len()))
        .sum();
    CAPACITY - taken
}

/// What the specification says about `write`.
fn expected(model: &mut Model, flash: bool, phase: Phase, write: &Write) -> Result<(), Error> {
    let (attributes, append) = (
        write.attributes - A::APPEND_WRITE,
        write.attributes.contains(A::APPEND_WRITE),
    );
    let signed = A::from_bits_retain(write.attributes.bits() & 0xb8);
    if write.name == 0 {
        return Err(Error::EmptyName);
    } else if write.attributes.bits() > 0xff {
        return Err(Error::UndefinedAttributes(
            (write.attributes.bits() & !0xff) as usize,
        ));
    } else if signed.bits() & 0x10 == 0 && attributes.bits() & 6 == 4 {
        return Err(Error::RuntimeOnly);
    } else if signed.bits() & 0x18 == 8 && attributes.bits() & 7 != 7 {
        return Err(Error::HalfErrorRecord);
    } else if signed.bits() == 0x20 {
        // No random data are a descriptor.
        return Err(Error::NoDescriptor);
    } else if !signed.is_empty() {
        return Err(Error::unsupported(signed));
    }
    let key = (write.vendor, write.name);
    let no_access = attributes.bits() & 6 == 0;
    let delete = no_access || (write.data.is_empty() && !append);
    let free = free(model, flash, attributes);
    match model.get_mut(&key) {
        Some((old, _)) if phase == Phase::Runtime && old.bits() & 5 != 5 => Err(Error::ReadOnly),
        Some((old, _)) if *old != attributes && !no_access => Err(Error::AttributesDiffer),
        Some(_) if delete => model.remove(&key).map(|_| ()).ok_or(Error::NotFound),
        Some((_, data)) => {
            let kept = if append { data.clone() } else { vec![] };
            let [old, new] =
                [data.len(), kept.len() + write.data.len()].map(|data| size(write.name, data));
            let needed = new.saturating_sub(old);
            if needed > free {
                return Err(Error::full(needed, free));
            }
            *data = [kept, write.data.clone()].concat();
            Ok(())
        }
        None if delete => Err(Error::NotFound),
        None if write.data.is_empty() => Ok(()),
        None if phase == Phase::Runtime && attributes.bits() & 5 != 5 => Err(Error::NotForRuntime),
        None => {
            let needed = size(write.name, write.data.len());
            if needed > free {
                return Err(Error::full(needed, free));
            }
            model.insert(key, (attributes, write.data.clone()));
            Ok(())
        }
    }
}

fn key_of(name: &[u8], vendor: Guid) -> Key<'_> {
    Key {
        vendor,
        name: Name::from_buffer(name).unwrap(),
    }
}

/// Enumerates as a caller would, and reads what it finds.
fn contents(store: &Store, phase: Phase) -> Model {
    let mut found = Model::new();
    let (mut name, mut vendor) = (vec![0, 0], VENDORS[0]);
    while let Ok(next) = store.next(phase, key_of(&name, vendor)) {
        assert_eq!(store.get(phase, key_of(next.name, next.vendor)), Ok(next));
        let place = (
            VENDORS
                .iter()
                .position(|vendor| *vendor == next.vendor)
                .unwrap(),
            NAMES
                .iter()
                .position(|name| utf16(name) == next.name)
                .unwrap(),
        );
        let twice = found.insert(place, (next.attributes, next.data.to_vec()));
        assert_eq!(twice, None, "listed twice");
        (name, vendor) = (next.name.to_vec(), next.vendor);
    }
    found
}

/// A store in memory, with or without one in flash.
fn open(flash: bool) -> Store {
    let mut store = Store::new();
    let volume = Volume::new(Flash::blank(FLASH.size), FLASH);
    store.open(flash.then_some(volume)).unwrap();
    store
}

/// What a machine finds that starts with the flash of `store`.
fn restarted(store: &mut Store) -> Store {
    let bytes = store.flash_mut().unwrap().bytes.clone();
    let mut store = Store::new();
    store
        .open(Some(Volume::new(Flash::new(bytes), FLASH)))
        .unwrap();
    store
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if !cfg!(debug_assertions) {
        config.cases = config.cases.max(2600);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn behaves_like_the_model(
        writes in prop::collection::vec(writes(), 0..WRITES),
        exit in 0..WRITES,
        flash in any::<bool>(),
    ) {
        let (mut store, mut model) = (open(flash), Model::new());
        for (step, write) in writes.iter().enumerate() {
            let phase = if step < exit { Phase::Boot } else { Phase::Runtime };
            let name = utf16(NAMES[write.name]);
            let result = store.set(phase, key_of(&name, VENDORS[write.vendor]), write.attributes, &write.data);
            prop_assert_eq!(result, expected(&mut model, flash, phase, write));
            let mut visible = model.clone();
            visible.retain(|_, (attributes, _)| phase == Phase::Boot || attributes.contains(A::RUNTIME_ACCESS));
            prop_assert_eq!(contents(&store, phase), visible);
            for attributes in [6, 7].map(A::from_bits_retain) {
                let info = store.info(phase, attributes).unwrap();
                prop_assert_eq!(info.remaining, free(&model, flash, attributes));
            }
        }
        if flash {
            model.retain(|_, (attributes, _)| attributes.contains(A::NON_VOLATILE));
            prop_assert_eq!(contents(&restarted(&mut store), Phase::Boot), model);
        }
    }

    #[test]
    fn any_bytes_as_a_name_are_survived(buffer in prop::collection::vec(0u8..3, 0..12)) {
        let mut store = open(false);
        let Some(name) = Name::from_buffer(&buffer) else {
            prop_assert!(!buffer.as_chunks().0.contains(&[0, 0]));
            return Ok(());
        };
        let key = Key { vendor: VENDORS[0], name };
        let created = store.set(Phase::Boot, key, A::BOOTSERVICE_ACCESS, b"x");
        prop_assert_eq!(created.is_err(), name.is_empty());
        prop_assert_eq!(store.get(Phase::Boot, key).is_ok(), created.is_ok());
    }
}
