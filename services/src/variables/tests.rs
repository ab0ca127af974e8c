//! The rules of UEFI 2.11 §8.2, one by one.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::{Error, FIRST, Info, Key, Memory, Name, Phase, Variables, record};
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

const VENDOR: Guid = guid!("605dab50-e046-4300-abb6-3dd810dd8b23");
const OTHER: Guid = guid!("cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0");
const SIZE: usize = 4096;
const CAPACITY: usize = SIZE - FIRST;

const BS: A = A::BOOTSERVICE_ACCESS;
const BS_RT: A = BS.union(A::RUNTIME_ACCESS);
const NV_BS_RT: A = BS_RT.union(A::NON_VOLATILE);

/// `text` as a caller passes it.
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// A store and a shorthand for calls on variables of [`VENDOR`].
struct Store(Variables<Memory<0>, SIZE>);

impl Store {
    fn new() -> Self {
        let mut variables = Variables::new();
        variables.open(None).unwrap();
        Self(variables)
    }

    fn set_in(
        &mut self,
        phase: Phase,
        name: &str,
        attributes: A,
        data: &[u8],
    ) -> Result<(), Error> {
        let name = utf16(name);
        self.0.set(
            phase,
            Key {
                vendor: VENDOR,
                name: Name::from_buffer(&name).unwrap(),
            },
            attributes,
            data,
        )
    }

    fn set(&mut self, name: &str, attributes: A, data: &[u8]) -> Result<(), Error> {
        self.set_in(Phase::Boot, name, attributes, data)
    }

    fn get_in(&self, phase: Phase, name: &str) -> Result<(A, Vec<u8>), Error> {
        let name = utf16(name);
        let key = Key {
            vendor: VENDOR,
            name: Name::from_buffer(&name).unwrap(),
        };
        self.0
            .get(phase, key)
            .map(|variable| (variable.attributes, variable.data.to_vec()))
    }

    fn get(&self, name: &str) -> Result<(A, Vec<u8>), Error> {
        self.get_in(Phase::Boot, name)
    }

    fn next_in(&self, phase: Phase, name: &str, vendor: Guid) -> Result<(Vec<u8>, Guid), Error> {
        let name = utf16(name);
        let key = Key {
            vendor,
            name: Name::from_buffer(&name).unwrap(),
        };
        self.0
            .next(phase, key)
            .map(|variable| (variable.name.to_vec(), variable.vendor))
    }
}

#[test]
fn a_variable_is_read_back() {
    let mut store = Store::new();
    assert_eq!(store.set("Boot0000", NV_BS_RT, b"entry"), Ok(()));
    assert_eq!(store.get("Boot0000"), Ok((NV_BS_RT, b"entry".to_vec())));
    assert_eq!(store.get("Boot000"), Err(Error::NotFound));
    assert_eq!(
        store.get("boot0000"),
        Err(Error::NotFound),
        "names are case sensitive"
    );
}

#[test]
fn replacing_keeps_the_neighbours_and_the_order() {
    let mut store = Store::new();
    for name in ["A", "B", "C"] {
        store.set(name, BS, name.as_bytes()).unwrap();
    }
    for data in [b"longer than before".as_slice(), b"s"] {
        store.set("B", BS, data).unwrap();
        assert_eq!(store.get("A"), Ok((BS, b"A".to_vec())));
        assert_eq!(store.get("B"), Ok((BS, data.to_vec())));
        assert_eq!(store.get("C"), Ok((BS, b"C".to_vec())));
        assert_eq!(
            store.next_in(Phase::Boot, "A", VENDOR),
            Ok((utf16("B"), VENDOR))
        );
        assert_eq!(
            store.next_in(Phase::Boot, "B", VENDOR),
            Ok((utf16("C"), VENDOR))
        );
    }
}

#[test]
fn append_extends_creates_and_is_not_an_attribute() {
    let mut store = Store::new();
    let append = BS | A::APPEND_WRITE;
    assert_eq!(
        store.set("V", append, b""),
        Ok(()),
        "nothing appended to nothing"
    );
    assert_eq!(store.get("V"), Err(Error::NotFound));
    assert_eq!(store.set("V", append, b"one"), Ok(()));
    assert_eq!(store.set("V", append, b"two"), Ok(()));
    assert_eq!(store.set("V", append, b""), Ok(()));
    assert_eq!(store.get("V"), Ok((BS, b"onetwo".to_vec())));
}

#[test]
fn deletion_by_size_or_by_attributes() {
    let mut store = Store::new();
    for (attributes, data) in [
        (BS, b"".as_slice()),
        (A::empty(), b""),
        (A::empty(), b"ignored"),
        (A::NON_VOLATILE, b"ignored"),
    ] {
        store.set("V", BS, b"data").unwrap();
        assert_eq!(store.set("V", attributes, data), Ok(()));
        assert_eq!(store.get("V"), Err(Error::NotFound));
        assert_eq!(store.set("V", attributes, data), Err(Error::NotFound));
    }
}

#[test]
fn attributes_of_an_existing_variable_are_fixed() {
    let mut store = Store::new();
    store.set("V", BS, b"old").unwrap();
    assert_eq!(store.set("V", BS_RT, b"new"), Err(Error::AttributesDiffer));
    assert_eq!(
        store.set("V", NV_BS_RT | A::APPEND_WRITE, b"new"),
        Err(Error::AttributesDiffer)
    );
    assert_eq!(store.get("V"), Ok((BS, b"old".to_vec())));
}

#[test]
fn refused_arguments() {
    let mut store = Store::new();
    assert_eq!(store.set("", BS, b"x"), Err(Error::EmptyName));
    assert_eq!(
        store.set("V", A::RUNTIME_ACCESS, b"x"),
        Err(Error::RuntimeOnly)
    );
    for bit in [0x08, 0x10, 0x80] {
        let bit = A::from_bits_retain(bit);
        assert_eq!(
            store.set("V", NV_BS_RT | bit, b"x"),
            Err(Error::unsupported(bit))
        );
    }
    let undefined = A::from_bits_retain(0x8000_0102);
    assert_eq!(
        store.set("V", undefined, b"x"),
        Err(Error::UndefinedAttributes(0x8000_0100))
    );
    assert_eq!(store.get("V"), Err(Error::NotFound));
}

#[test]
fn a_full_store_keeps_what_it_has() {
    let mut store = Store::new();
    store.set("V", BS, b"old").unwrap();
    let size = |data| record::size(utf16("V").len(), data);
    let free = CAPACITY - size(3);
    let full = |data| {
        let needed = size(data) - size(3);
        Err(Error::full(needed, free))
    };
    assert_eq!(store.set("V", BS, &[1; CAPACITY]), full(CAPACITY));
    assert_eq!(
        store.set("V", BS | A::APPEND_WRITE, &[1; CAPACITY]),
        full(CAPACITY + 3)
    );
    assert!(matches!(
        store.set("W", BS, &[1; CAPACITY]),
        Err(Error::Full(_))
    ));
    assert_eq!(store.get("V"), Ok((BS, b"old".to_vec())));
    assert_eq!(store.set("V", BS | A::APPEND_WRITE, &vec![1; free]), Ok(()));
    assert_eq!(store.0.info(Phase::Boot, BS).unwrap().remaining, 0);
    assert_eq!(
        store.set("V", BS, b""),
        Ok(()),
        "a full store can be emptied"
    );
    assert_eq!(store.0.info(Phase::Boot, BS).unwrap().remaining, CAPACITY);
}

#[test]
fn the_largest_variable_fits_and_one_byte_more_does_not() {
    let mut store = Store::new();
    store.set("Other", BS, b"data").unwrap();
    let Info {
        storage,
        remaining,
        largest,
    } = store.0.info(Phase::Boot, NV_BS_RT).unwrap();
    assert_eq!(storage, CAPACITY);
    assert_eq!(remaining - largest, record::HEADER);
    let data = largest - utf16("V").len();
    assert!(store.set("V", NV_BS_RT, &vec![1; data + 1]).is_err());
    assert_eq!(store.set("V", NV_BS_RT, &vec![1; data]), Ok(()));
    assert_eq!(store.0.info(Phase::Boot, BS).unwrap().largest, 0);
}

#[test]
fn info_checks_attributes() {
    let store = Store::new();
    let info = |phase, bits| {
        store
            .0
            .info(phase, A::from_bits_retain(bits))
            .map(|info| info.storage)
    };
    assert_eq!(info(Phase::Boot, 0), Err(Error::NoAccess));
    assert_eq!(info(Phase::Boot, 1), Err(Error::NoAccess));
    assert_eq!(info(Phase::Boot, 4), Err(Error::RuntimeOnly));
    assert_eq!(
        info(Phase::Boot, 0xf),
        Err(Error::unsupported(A::HARDWARE_ERROR_RECORD))
    );
    assert_eq!(info(Phase::Boot, 3), Ok(CAPACITY));
    assert_eq!(info(Phase::Runtime, 3), Err(Error::NotForRuntime));
    assert_eq!(info(Phase::Runtime, 7), Ok(CAPACITY));
}

#[test]
fn enumeration_separates_vendors_and_ends() {
    let mut store = Store::new();
    assert_eq!(store.next_in(Phase::Boot, "", VENDOR), Err(Error::NotFound));
    store.set("A", BS, b"1").unwrap();
    let name = utf16("A");
    let twin = Key {
        vendor: OTHER,
        name: Name::from_buffer(&name).unwrap(),
    };
    store.0.set(Phase::Boot, twin, BS, b"2").unwrap();
    assert_eq!(
        store.next_in(Phase::Boot, "", OTHER),
        Ok((utf16("A"), VENDOR)),
        "vendor ignored"
    );
    assert_eq!(
        store.next_in(Phase::Boot, "A", VENDOR),
        Ok((utf16("A"), OTHER))
    );
    assert_eq!(store.next_in(Phase::Boot, "A", OTHER), Err(Error::NotFound));
    assert_eq!(
        store.next_in(Phase::Boot, "B", VENDOR),
        Err(Error::UnknownPredecessor)
    );
}

#[test]
fn after_exit_boot_services_boot_variables_are_out_of_reach() {
    let mut store = Store::new();
    store.set("Boot", BS, b"b").unwrap();
    store.set("Both", NV_BS_RT, b"r").unwrap();
    assert_eq!(store.get_in(Phase::Runtime, "Boot"), Err(Error::NotFound));
    assert_eq!(
        store.next_in(Phase::Runtime, "", VENDOR),
        Ok((utf16("Both"), VENDOR))
    );
    assert_eq!(
        store.next_in(Phase::Runtime, "Boot", VENDOR),
        Err(Error::UnknownPredecessor)
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "Boot", BS, b"x"),
        Err(Error::ReadOnly)
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "Boot", A::empty(), b""),
        Err(Error::ReadOnly)
    );
    assert_eq!(store.get("Boot"), Ok((BS, b"b".to_vec())));
}

#[test]
fn after_exit_boot_services_only_non_volatile_variables_are_written() {
    let mut store = Store::new();
    store.set("Volatile", BS_RT, b"v").unwrap();
    assert_eq!(
        store.get_in(Phase::Runtime, "Volatile"),
        Ok((BS_RT, b"v".to_vec()))
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "Volatile", BS_RT, b"x"),
        Err(Error::ReadOnly)
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "Volatile", BS_RT, b""),
        Err(Error::ReadOnly)
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "New", BS_RT, b"x"),
        Err(Error::NotForRuntime)
    );
    assert_eq!(
        store.set_in(Phase::Runtime, "New", BS | A::NON_VOLATILE, b"x"),
        Err(Error::NotForRuntime)
    );
    assert_eq!(store.set_in(Phase::Runtime, "New", NV_BS_RT, b"x"), Ok(()));
    assert_eq!(store.set_in(Phase::Runtime, "New", NV_BS_RT, b""), Ok(()));
}

#[test]
fn a_name_ends_within_its_buffer() {
    assert_eq!(Name::from_buffer(&[]), None);
    assert_eq!(Name::from_buffer(&[0]), None);
    assert_eq!(Name::from_buffer(&[0x41, 0]), None);
    assert_eq!(Name::from_buffer(&[0x41, 0, 0]), None, "half a terminator");
    assert_eq!(
        Name::from_buffer(&[0, 0x41, 0x41, 0, 0, 0, 9, 9])
            .unwrap()
            .bytes(),
        [0, 0x41, 0x41, 0, 0, 0]
    );
}

#[test]
fn errors_say_what_to_do() {
    assert_eq!(
        Error::full(10, 3).to_string(),
        "expected room for the variable, found 7 bytes too few; delete variables"
    );
}
