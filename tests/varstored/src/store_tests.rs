//! What varstored's `handler.c` says of each case.

use super::*;

const VENDOR: Guid = *b"sixteen bytes...";
const ALWAYS: u32 = NON_VOLATILE | BOOT | RUNTIME;
const KEYS: u32 = ALWAYS | BY_TIME;

fn key(name: &str) -> Key {
    Key::new(name, VENDOR)
}

/// A store with `boot`, `volatile` and `kept`, and what is always there.
fn store() -> Store {
    let mut store = Store::new(Vec::new());
    for (name, attributes) in [
        ("boot", BOOT),
        ("volatile", BOOT | RUNTIME),
        ("kept", ALWAYS),
    ] {
        assert_eq!(store.set(&key(name), b"value", attributes, false), Ok(()));
    }
    store
}

fn value(store: &Store, name: &str) -> Vec<u8> {
    let found = store.get(&key(name), DATA_LIMIT, false);
    found.map_or(Vec::new(), |found| found.data.clone())
}

/// Data with the header that authenticates by time, and a signature.
fn authenticated(data: &[u8]) -> Vec<u8> {
    let mut all = vec![0; 16];
    all.extend(27_u32.to_le_bytes());
    all.extend([0, 2, 0xf1, 0x0e]);
    all.extend(PKCS7);
    all.extend(b"sig");
    all.extend(data);
    all
}

#[test]
fn values_are_read_where_there_is_room() {
    let store = store();
    let get = |name, room, at_runtime| store.get(&key(name), room, at_runtime).map(|v| &*v.data);
    assert_eq!(get("boot", 5, false), Ok(&b"value"[..]));
    assert_eq!(get("boot", 4, false), Err(Refusal::TooSmall(5)));
    let missing = Err(Refusal::Status(NOT_FOUND));
    assert_eq!(get("boot", 5, true), missing);
    assert_eq!(get("volatile", 5, true), Ok(&b"value"[..]));
    assert_eq!(get("other", 5, false), missing);
    let other = Key::new("boot", GLOBAL);
    assert_eq!(store.get(&other, 5, false).map(|v| &*v.data), missing);
}

#[test]
fn names_are_listed_once_the_newest_first() {
    let store = store();
    let mut at = Key::new("", VENDOR);
    for name in ["kept", "volatile", "boot"] {
        at = store.next(&at, 100, false).unwrap().key.clone();
        assert_eq!(at, key(name));
    }
    for (name, _) in MODE.iter().rev() {
        at = store.next(&at, 100, false).unwrap().key.clone();
        assert_eq!(at, Key::new(name, GLOBAL));
    }
    let end = store.next(&at, 100, false);
    assert_eq!(end.unwrap_err(), Refusal::Status(NOT_FOUND));
    let next = |name, room, at_runtime| store.next(&key(name), room, at_runtime);
    assert_eq!(next("kept", 17, false).unwrap_err(), Refusal::TooSmall(18));
    assert_eq!(next("kept", 18, false).unwrap().key, key("volatile"));
    let first_of_all = next("volatile", 100, true).unwrap();
    assert_eq!(first_of_all.key.vendor, GLOBAL);
    let wrong = Refusal::Status(INVALID_PARAMETER);
    assert_eq!(next("boot", 100, true).unwrap_err(), wrong);
    assert_eq!(next("other", 100, false).unwrap_err(), wrong);
}

#[test]
fn attributes_are_checked() {
    let mut store = store();
    for (attributes, expected) in [
        (ALWAYS | HARDWARE_ERROR, INVALID_PARAMETER),
        (ALWAYS | BY_COUNT, UNSUPPORTED),
        (ALWAYS | BY_TIME | ENHANCED, INVALID_PARAMETER),
        (ALWAYS | ENHANCED, UNSUPPORTED),
        (NON_VOLATILE | RUNTIME, INVALID_PARAMETER),
        (NON_VOLATILE, NOT_FOUND),
        (0, NOT_FOUND),
    ] {
        let found = store.set(&key("new"), b"x", attributes, false);
        assert_eq!(found, Err(expected), "{attributes:#x}");
    }
    let other = store.set(&key("kept"), b"x", BOOT, false);
    assert_eq!(other, Err(INVALID_PARAMETER));
    assert_eq!(value(&store, "kept"), b"value");
}

#[test]
fn values_change() {
    let mut store = store();
    assert_eq!(store.set(&key("kept"), b"new", ALWAYS, false), Ok(()));
    assert_eq!(value(&store, "kept"), b"new");
    let append = ALWAYS | APPEND;
    assert_eq!(store.set(&key("kept"), b"er", append, true), Ok(()));
    assert_eq!(store.set(&key("kept"), b"", append, true), Ok(()));
    assert_eq!(value(&store, "kept"), b"newer");
    assert_eq!(store.set(&key("made"), b"x", append, false), Ok(()));
    assert_eq!(
        store.get(&key("made"), 1, false).unwrap().attributes,
        ALWAYS
    );
}

#[test]
fn variables_are_deleted() {
    for (data, attributes) in [
        (&b""[..], ALWAYS),
        (b"", 0),
        (b"x", 0),
        (b"x", NON_VOLATILE),
    ] {
        let mut store = store();
        assert_eq!(store.set(&key("kept"), data, attributes, true), Ok(()));
        let again = store.set(&key("kept"), data, attributes, true);
        assert_eq!(again, Err(NOT_FOUND));
        assert_eq!(store.kept().count(), 0);
    }
    assert_eq!(store().kept().count(), 1);
}

#[test]
fn at_run_time_only_what_lasts_changes() {
    let mut store = store();
    let mut set = |name, attributes| store.set(&key(name), b"x", attributes, true);
    assert_eq!(set("boot", BOOT), Err(INVALID_PARAMETER));
    assert_eq!(set("volatile", BOOT | RUNTIME), Err(WRITE_PROTECTED));
    assert_eq!(set("kept", ALWAYS), Ok(()));
    assert_eq!(set("new", BOOT | RUNTIME), Err(INVALID_PARAMETER));
    assert_eq!(set("new", BOOT | NON_VOLATILE), Err(INVALID_PARAMETER));
    assert_eq!(set("new", ALWAYS), Ok(()));
}

#[test]
fn there_is_room_for_128_kib() {
    let mut store = Store::new(Vec::new());
    let half = vec![0; 57344];
    let mut set = |name, size: usize, extra| {
        let set = store.set(&key(name), &half[..size], ALWAYS | extra, false);
        set.map(|()| store.space(ALWAYS).unwrap()[1])
    };
    let left = set("a", 57344, 0).unwrap();
    assert!(left > 57344 + 130);
    let left = usize::try_from(set("b", 57344, 0).unwrap()).unwrap();
    let full = Err(OUT_OF_RESOURCES);
    assert_eq!(set("c", left - 129, 0), full);
    assert_eq!(set("c", left - 130, 0), Ok(0));
    assert_eq!(set("c", 1, APPEND), full);
    assert_eq!(set("c", left - 129, 0), full);
    assert_eq!(set("c", left - 131, 0), Ok(1));
    assert_eq!(set("c", 1, APPEND), Ok(0));
    let query = store.space(HARDWARE_ERROR);
    assert_eq!(query, Err(Refusal::Status(UNSUPPORTED)));
}

#[test]
fn the_mode_of_secure_boot_is_not_for_the_guest() {
    let mut store = store();
    let setup = Key::new("SetupMode", GLOBAL);
    assert_eq!(store.get(&setup, 1, true).unwrap().data, [1]);
    let set = store.set(&setup, &[0], BOOT | RUNTIME, false);
    assert_eq!(set, Err(WRITE_PROTECTED));
    assert_eq!(store.set(&setup, &[], 0, false), Err(WRITE_PROTECTED));
}

#[test]
fn keys_need_a_header_while_there_is_no_platform_key() {
    let mut store = store();
    let db = Key::new("db", DATABASE);
    let plain = store.set(&db, b"keys", ALWAYS, false);
    assert_eq!(plain, Err(INVALID_PARAMETER));
    let refused = Err(SECURITY_VIOLATION);
    assert_eq!(store.set(&db, b"keys", KEYS, false), refused);
    let right = authenticated(b"keys");
    for (at, byte) in [(7, 1), (15, 1), (16, 23), (16, 32), (22, 0), (24, 0)] {
        let mut wrong = right.clone();
        wrong[at] = byte;
        assert_eq!(store.set(&db, &wrong, KEYS, false), refused, "{at}");
    }
    assert_eq!(store.set(&db, &right, KEYS, false), Ok(()));
    assert_eq!(store.get(&db, 10, true).unwrap().data, b"keys");
    assert_eq!(store.set(&db, &right, KEYS | APPEND, true), Ok(()));
    assert_eq!(store.get(&db, 10, true).unwrap().data, b"keyskeys");
    assert_eq!(store.set(&db, b"", 0, false), Err(INVALID_PARAMETER));
    let nothing = authenticated(b"");
    assert_eq!(store.set(&db, &nothing, KEYS, false), Ok(()));
    assert_eq!(store.set(&db, &nothing, KEYS, false), Err(NOT_FOUND));
}

#[test]
fn what_needs_a_key_is_refused() {
    let mut store = store();
    for key in [Key::new("PK", GLOBAL), key("own")] {
        let set = store.set(&key, &authenticated(b"x"), KEYS, false);
        assert_eq!(set, Err(SECURITY_VIOLATION));
    }
}

#[test]
fn guids_are_those_of_the_specification() {
    let shown = [GLOBAL, DATABASE, PKCS7].map(|guid| crate::file::shown(&Key::new("", guid)));
    let expected = [
        " 8be4df61-93ca-11d2-aa0d-00e098032b8c",
        " d719b2cb-3d3a-4596-a3bc-dad00e67656f",
        " 4aafd29d-68df-49ee-8aa9-347d375665a7",
    ];
    assert_eq!(shown, expected);
}
