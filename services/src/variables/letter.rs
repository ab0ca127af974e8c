//! More rules of UEFI 2.11 §8.2, the firmware's own variables (§3.3) and the
//! habits of Linux, over memory and flash.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::layout::Layout;
use super::simulated::Flash;
use super::tests::utf16;
use super::{BLOCK, Error, Key, Name, Phase, Variable, Variables, Volume};
use uefi_raw::table::runtime::VariableAttributes as A;
use uefi_raw::{Guid, guid};

const GLOBAL: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const SECURITY: Guid = guid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
/// Of no meaning here, and so anybody's.
const OTHER: Guid = guid!("605dab50-e046-4300-abb6-3dd810dd8b23");
const BS_RT: A = A::BOOTSERVICE_ACCESS.union(A::RUNTIME_ACCESS);
const NV_BS_RT: A = BS_RT.union(A::NON_VOLATILE);
const TIME_BASED: A = A::TIME_BASED_AUTHENTICATED_WRITE_ACCESS;
const LAYOUT: Layout = Layout::with_spare(34 * BLOCK, 16 * BLOCK);

type Store = Variables<Flash, 8192>;

fn with_key<R>(vendor: Guid, name: &str, then: impl FnOnce(Key<'_>) -> R) -> R {
    let name = utf16(name);
    let name = Name::from_buffer(&name).unwrap();
    then(Key { vendor, name })
}

fn set(store: &mut Store, name: &str, attributes: A, data: &[u8]) -> Result<(), Error> {
    with_key(GLOBAL, name, |key| {
        store.set(Phase::Boot, key, attributes, data)
    })
}

fn value(store: &Store, name: &str) -> Option<(A, Vec<u8>)> {
    let copy = |found: Variable<'_>| (found.attributes, found.data.to_vec());
    with_key(GLOBAL, name, |key| {
        store.get(Phase::Runtime, key).ok().map(copy)
    })
}

/// A machine that starts with `flash`, and how the flash was written meanwhile.
fn boot(flash: Option<Vec<u8>>) -> Store {
    let mut store = Store::new();
    let volume = flash.map(|bytes| Volume::new(Flash::new(bytes), LAYOUT));
    store.open(volume).unwrap();
    store.publish();
    store
}

fn blank() -> Option<Vec<u8>> {
    Some(vec![0xff; LAYOUT.size])
}

fn bytes(store: &mut Store) -> Vec<u8> {
    store.flash_mut().unwrap().bytes.clone()
}

/// Flash with a variable that only somebody else could write.
fn with_foreign(vendor: Guid, name: &str, attributes: A, data: &[u8]) -> Vec<u8> {
    let mut volume = Volume::new(Flash::blank(LAYOUT.size), LAYOUT);
    volume.open().unwrap();
    with_key(vendor, name, |key| {
        volume.put(key, attributes, data, false).unwrap();
    });
    volume.into_storage().bytes
}

/// All names, by enumeration with buffers of `size` bytes as Linux has them.
fn list(store: &Store) -> Vec<String> {
    let (mut buffer, mut vendor, mut names) = ([0u8; 512], GLOBAL, vec![]);
    loop {
        let name = Name::from_buffer(&buffer).unwrap();
        match store.next(Phase::Runtime, Key { vendor, name }) {
            Ok(next) => {
                assert!(next.name.len() <= 512);
                let units = next.name.as_chunks::<2>().0.iter().copied();
                let units: Vec<_> = units.map(u16::from_le_bytes).collect();
                names.push(String::from_utf16(&units[..units.len() - 1]).unwrap());
                let (name, next_vendor) = (next.name.to_vec(), next.vendor);
                buffer[..name.len()].copy_from_slice(&name);
                vendor = next_vendor;
            }
            Err(error) => {
                assert_eq!(error, Error::NotFound);
                return names;
            }
        }
    }
}

/// `EFI_VARIABLE_AUTHENTICATION_2` with two bytes of signature, and a value.
fn signed() -> Vec<u8> {
    let mut data = vec![0; 16];
    data[..7].copy_from_slice(&[0xea, 0x07, 1, 2, 3, 4, 5]);
    data.extend([26, 0, 0, 0, 0x00, 0x02, 0xf1, 0x0e]);
    data.extend(guid!("4aafd29d-68df-49ee-8aa9-347d375665a7").to_bytes());
    data.extend([0x30, 0x00]);
    data.extend(b"value");
    data
}

#[test]
fn the_deprecated_attribute_is_unsupported_whatever_else_is_wrong() {
    let mut store = boot(None);
    for others in [0, 1, 2, 4, 5, 6, 7, 0x08, 0x20, 0x27, 0x47, 0xa7] {
        let attributes = A::from_bits_retain(0x10 | others);
        let result = set(&mut store, "V", attributes, &signed());
        assert!(matches!(result, Err(Error::UnsupportedAttributes(_))));
        let info = store.info(Phase::Boot, attributes);
        assert!(matches!(info, Err(Error::UnsupportedAttributes(_))));
    }
}

#[test]
fn error_records_need_three_more_attributes_and_are_unsupported() {
    let mut store = boot(None);
    for others in [0, 1, 2, 3, 6] {
        let attributes = A::from_bits_retain(8 | others);
        let half = Err(Error::HalfErrorRecord);
        assert_eq!(set(&mut store, "HwErrRec0000", attributes, b"x"), half);
        assert_eq!(store.info(Phase::Boot, attributes).map(|_| ()), half);
    }
    let runtime_only = A::from_bits_retain(0x0c);
    let result = set(&mut store, "HwErrRec0000", runtime_only, b"x");
    assert_eq!(result, Err(Error::RuntimeOnly));
    let whole = NV_BS_RT | A::HARDWARE_ERROR_RECORD;
    let unsupported = Err(Error::unsupported(A::HARDWARE_ERROR_RECORD));
    assert_eq!(set(&mut store, "HwErrRec0000", whole, b"x"), unsupported);
}

#[test]
fn signed_data_begin_with_a_descriptor_or_are_a_violation() {
    let mut store = boot(None);
    let mut write = |data: &[u8]| set(&mut store, "V", NV_BS_RT | TIME_BASED, data);
    let whole = signed();
    let unsupported = Err(Error::unsupported(TIME_BASED));
    assert_eq!(write(&whole), unsupported);
    assert_eq!(write(&whole[..42]), unsupported, "an empty value");
    for length in 0..42 {
        assert_eq!(write(&whole[..length]), Err(Error::NoDescriptor));
    }
    // Pad1, Nanosecond, TimeZone, Daylight, Pad2; dwLength, wRevision, type, GUID.
    for at in (7..16).chain([17, 19]).chain(20..40) {
        let mut data = whole.clone();
        data[at] ^= 0x80;
        assert_eq!(write(&data), Err(Error::NoDescriptor), "byte {at}");
    }
    let mut short = whole.clone();
    short[16] = 23;
    assert_eq!(write(&short), Err(Error::NoDescriptor));
    for others in [A::ENHANCED_AUTHENTICATED_ACCESS, A::APPEND_WRITE] {
        let attributes = NV_BS_RT | TIME_BASED | others;
        let result = set(&mut store, "V", attributes, &whole);
        assert!(matches!(result, Err(Error::UnsupportedAttributes(_))));
    }
    assert_eq!(value(&store, "V"), None);
    assert!(matches!(
        store.info(Phase::Boot, NV_BS_RT | TIME_BASED),
        Err(Error::UnsupportedAttributes(_))
    ));
}

#[test]
fn no_data_delete_only_with_the_own_attributes() {
    let mut store = boot(None);
    set(&mut store, "V", NV_BS_RT, b"data").unwrap();
    assert_eq!(
        set(&mut store, "V", BS_RT, b""),
        Err(Error::AttributesDiffer)
    );
    assert_eq!(
        value(&store, "V").unwrap(),
        (NV_BS_RT, b"data".to_vec()),
        "kept"
    );
    // No access attributes delete, whatever else is set.
    for attributes in [0x00, 0x01, 0x40, 0x41].map(A::from_bits_retain) {
        set(&mut store, "V", NV_BS_RT, b"data").unwrap();
        assert_eq!(set(&mut store, "V", attributes, b"ignored"), Ok(()));
        assert_eq!(value(&store, "V"), None);
    }
}

#[test]
fn append_is_ignored_by_info() {
    let store = boot(blank());
    for attributes in [BS_RT, NV_BS_RT] {
        let info = store.info(Phase::Runtime, attributes);
        assert_eq!(
            store.info(Phase::Runtime, attributes | A::APPEND_WRITE),
            info
        );
    }
    let alone = store.info(Phase::Boot, A::APPEND_WRITE);
    assert_eq!(alone, Err(Error::NoAccess));
}

#[test]
fn the_firmwares_variables_are_there_and_read_only() {
    for flash in [None, blank()] {
        let mut store = boot(flash);
        let own = [
            ("SecureBoot", vec![0]),
            ("SetupMode", vec![1]),
            ("OsIndicationsSupported", vec![0; 8]),
            ("PlatformLangCodes", b"en\0".to_vec()),
        ];
        for (name, data) in own {
            assert_eq!(value(&store, name), Some((BS_RT, data.clone())), "{name}");
            for (attributes, new) in [
                (BS_RT, &b"\x01"[..]),
                (BS_RT, b""),
                (A::empty(), b""),
                (NV_BS_RT, b"\x01"),
                (BS_RT | A::APPEND_WRITE, b"\x01"),
            ] {
                for phase in [Phase::Boot, Phase::Runtime] {
                    let result =
                        with_key(GLOBAL, name, |key| store.set(phase, key, attributes, new));
                    assert_eq!(result, Err(Error::ReadOnly));
                }
            }
            assert_eq!(value(&store, name), Some((BS_RT, data)));
            with_key(OTHER, name, |key| {
                store.set(Phase::Boot, key, BS_RT, b"x").unwrap();
            });
        }
        assert_eq!(
            value(&store, "PlatformLang"),
            Some((NV_BS_RT, b"en\0".to_vec()))
        );
        // Another that only the firmware could make, and three that it could not.
        let own = set(&mut store, "BootCurrent", BS_RT, b"\0\0");
        assert_eq!(own, Err(Error::ReadOnly));
        set(&mut store, "Timeout", NV_BS_RT, b"\0\0").unwrap();
        set(&mut store, "Mine", A::BOOTSERVICE_ACCESS, b"x").unwrap();
    }
}

#[test]
fn the_language_is_the_only_one_and_takes_no_room() {
    let french = with_foreign(GLOBAL, "PlatformLang", NV_BS_RT, b"fr\0");
    for flash in [blank(), Some(french)] {
        let mut store = boot(flash);
        store.flash_mut().unwrap().steps.clear();
        let english = Some((NV_BS_RT, b"en\0".to_vec()));
        assert_eq!(value(&store, "PlatformLang"), english);
        assert_eq!(set(&mut store, "PlatformLang", NV_BS_RT, b"en\0"), Ok(()));
        for (attributes, data) in [(NV_BS_RT, &b"fr\0"[..]), (NV_BS_RT, b""), (A::empty(), b"")] {
            let result = set(&mut store, "PlatformLang", attributes, data);
            assert_eq!(result, Err(Error::ReadOnly));
        }
        assert_eq!(value(&store, "PlatformLang"), english);
        assert!(store.flash_mut().unwrap().steps.is_empty());
        let names = list(&store);
        let count = names.iter().filter(|name| *name == "PlatformLang").count();
        assert_eq!(count, 1);
    }
}

#[test]
fn setup_mode_ends_with_a_platform_key() {
    let keys = NV_BS_RT | TIME_BASED;
    for (vendor, attributes, mode) in [
        (GLOBAL, keys, 0),
        // No key: it would need no signature, or has another vendor.
        (GLOBAL, NV_BS_RT, 1),
        (SECURITY, keys, 1),
    ] {
        let store = boot(Some(with_foreign(vendor, "PK", attributes, b"key")));
        assert_eq!(value(&store, "SetupMode").unwrap().1, [mode]);
        assert_eq!(value(&store, "SecureBoot").unwrap().1, [0]);
    }
}

#[test]
fn a_file_cannot_say_what_the_firmware_says() {
    let flash = with_foreign(GLOBAL, "SecureBoot", NV_BS_RT, b"\x01");
    let mut store = boot(Some(flash));
    assert_eq!(value(&store, "SecureBoot"), Some((BS_RT, vec![0])));
    set(&mut store, "Last", NV_BS_RT, b"x").unwrap();
    let names = list(&store);
    let count = names.iter().filter(|name| *name == "SecureBoot").count();
    assert_eq!((count, names.last().unwrap().as_str()), (1, "Last"));
    let store = boot(Some(bytes(&mut store)));
    assert_eq!(list(&store), names);
}

#[test]
fn keys_are_not_created_without_a_signature() {
    let mut store = boot(blank());
    let names = [(GLOBAL, "PK"), (GLOBAL, "KEK")];
    let databases = ["db", "dbx", "dbt", "dbr"].map(|name| (SECURITY, name));
    for (vendor, name) in names.into_iter().chain(databases) {
        with_key(vendor, name, |key| {
            for attributes in [A::BOOTSERVICE_ACCESS, NV_BS_RT, NV_BS_RT | A::APPEND_WRITE] {
                let result = store.set(Phase::Boot, key, attributes, b"key");
                assert_eq!(result, Err(Error::Unsigned));
            }
            // What Linux asks after, and expects to be missing.
            assert_eq!(store.get(Phase::Runtime, key), Err(Error::NotFound));
        });
    }
    assert_eq!(set(&mut store, "db", NV_BS_RT, b"no key"), Ok(()));
}

#[test]
fn linux_deletes_dummy_for_nothing() {
    let mut store = boot(blank());
    store.flash_mut().unwrap().steps.clear();
    for phase in [Phase::Boot, Phase::Runtime] {
        let result = with_key(OTHER, "DUMMY", |key| store.set(phase, key, NV_BS_RT, b""));
        assert_eq!(result, Err(Error::NotFound));
    }
    assert!(store.flash_mut().unwrap().steps.is_empty());
}

/// Linux asks for 1 KiB more than there is so that firmware cleans up, and then
/// wants 5 KiB to stay free.
#[test]
fn linux_is_refused_its_giant_without_a_write() {
    let mut store = boot(blank());
    // Much that is deleted, and could be cleaned up.
    for round in 0..40 {
        set(&mut store, "V", NV_BS_RT, &[round; 1000]).unwrap();
    }
    store.flash_mut().unwrap().steps.clear();
    let before = store.info(Phase::Runtime, NV_BS_RT).unwrap();
    let giant = vec![0; before.remaining + 1024];
    let result = with_key(OTHER, "DUMMY", |key| {
        store.set(Phase::Runtime, key, NV_BS_RT, &giant)
    });
    assert!(matches!(result, Err(Error::Full { .. })));
    assert!(store.flash_mut().unwrap().steps.is_empty());
    assert_eq!(store.info(Phase::Runtime, NV_BS_RT), Ok(before));
    // What is deleted counts as free, so the reserve is there.
    assert!(before.remaining - 1000 >= 5120);
}

#[test]
fn linux_lists_names_of_up_to_512_bytes() {
    let mut store = boot(blank());
    let longest = "N".repeat(255);
    set(&mut store, &longest, NV_BS_RT, b"x").unwrap();
    assert_eq!(list(&store).last(), Some(&longest));
}
