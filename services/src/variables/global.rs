//! The firmware's own variables (UEFI 2.11 §3.3): what operating systems and their
//! tools ask of every firmware and this one can answer.
//!
//! Promises that they are there from the start, that nobody can change or delete
//! them or put others in their place, not even by way of the store's file, and that
//! they take no room in it and no time at boot, however full it is: `PlatformLang`
//! is "non-volatile" in that it is always the same. Writing to it what it is
//! succeeds. Refuses others that have the vendor and the attributes of volatile
//! ones, because §3.3 has none that is not the firmware's, and keys that would
//! not need a signature to be changed: in the eyes of another firmware on the same
//! store they would be keys.
//!
//! None of the rest of §3.3 is made up: a kernel that the host gives is no boot
//! option, so there is no `BootCurrent` (OVMF has none either, then), consoles have
//! no device paths, and no signature type is supported. `BootOrder`, `BootNext`,
//! `Boot####`, `Timeout` and `OsIndications` are the operating system's to write and
//! are kept; this firmware does not act on them.
//!
//! Coverage, global variables:
//!
//! | SecureBoot | 0 | no signature is checked |
//! | SetupMode | 1, or 0 when the store has a `PK` |  |
//! | OsIndicationsSupported | 0 | no setup screen, no capsules |
//! | PlatformLangCodes | `en` |  |
//! | PlatformLang | `en` | the only language: `EFI_WRITE_PROTECTED` for others; not in the store's file, as it never changes |
//! | BootOrder, BootNext, Boot####, Timeout, OsIndications, ConIn, … | as others wrote them | kept, not acted on: what is booted is the host's choice |
//! | BootCurrent | none | a kernel given by the host is no boot option; OVMF has none then, either |
//! | PK, KEK, db, dbx, dbt, dbr | as others enrolled them | `EFI_INVALID_PARAMETER` for those that need no signature |
//! | the rest of §3.3 | none | there is nothing behind them |

use super::storage::Storage;
use super::{Key, Name, Variable, Variables, attributes};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, guid};

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: keys and nothing else.
const SECURITY: Guid = guid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");

const PLATFORM_KEY: &[u8] = b"P\0K\0\0\0";
const KEY_EXCHANGE_KEYS: &[u8] = b"K\0E\0K\0\0\0";

/// What computed variables have (§3.3, table 3.1: "BS, RT").
const VOLATILE: VariableAttributes = attributes::ACCESS;
const LASTING: VariableAttributes = VOLATILE.union(VariableAttributes::NON_VOLATILE);

/// Characters of the longest name, and its terminator.
const LONGEST: usize = 23;

/// A variable of the firmware. Neither name nor value are references: a table of
/// them would hold addresses, and the runtime image holds none.
struct Own {
    /// In ASCII, zeros behind it.
    name: [u8; LONGEST],
    attributes: VariableAttributes,
    value: [u8; 8],
    size: usize,
}

const fn own(name: &[u8], attributes: VariableAttributes, value: [u8; 8], size: usize) -> Own {
    let mut ascii = [0; LONGEST];
    let (start, _) = ascii.split_at_mut(name.len());
    start.copy_from_slice(name);
    Own {
        name: ascii,
        attributes,
        value,
        size,
    }
}

/// All languages there are, and the one that is used.
const LANGUAGE: [u8; 8] = *b"en\0\0\0\0\0\0";
const ONE: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

static OWN: [Own; 5] = [
    own(b"SecureBoot", VOLATILE, [0; 8], 1),
    own(b"SetupMode", VOLATILE, ONE, 1),
    own(b"OsIndicationsSupported", VOLATILE, [0; 8], 8),
    own(b"PlatformLangCodes", VOLATILE, LANGUAGE, 3),
    own(b"PlatformLang", LASTING, LANGUAGE, 3),
];

/// `SetupMode` and `PlatformLang`.
const SETUP_MODE: &[u8] = b"S\0e\0t\0u\0p\0M\0o\0d\0e\0\0\0";
const PLATFORM_LANGUAGE: &[u8] = b"P\0l\0a\0t\0f\0o\0r\0m\0L\0a\0n\0g\0\0\0";

/// Whether only the firmware makes variables like this.
pub fn is_owned(key: Key<'_>, attributes: VariableAttributes) -> bool {
    let language = key.name.bytes() == PLATFORM_LANGUAGE;
    key.vendor == GLOBAL && (attributes == VOLATILE || language)
}

/// Whether `key` holds keys.
pub fn is_for_keys(key: Key<'_>) -> bool {
    let name = key.name.bytes();
    let global = name == PLATFORM_KEY || name == KEY_EXCHANGE_KEYS;
    key.vendor == SECURITY || (key.vendor == GLOBAL && global)
}

impl<F: Storage, const N: usize> Variables<F, N> {
    /// Makes the firmware's own variables, in a store just opened.
    pub fn publish(&mut self) {
        OWN.iter().for_each(|own| self.publish_one(own));
    }

    #[inline(never)]
    fn publish_one(&mut self, own: &Own) {
        let mut wide = [0; 2 * LONGEST];
        for ([low, _], byte) in wide.as_chunks_mut().0.iter_mut().zip(&own.name) {
            *low = *byte;
        }
        let (name, value) = (Name::from_buffer(&wide), own.value.get(..own.size));
        if let (Some(name), Some(value)) = (name, value) {
            let vendor = GLOBAL;
            let key = Key { vendor, name };
            // An empty store has room.
            let _ = self.write(false, key, Some((own.attributes, value, false)));
        }
    }

    /// `found` with the value it has now: of all variables, `SetupMode` depends on
    /// another.
    pub(super) fn current<'a>(&self, found: Variable<'a>) -> Variable<'a> {
        if found.vendor == GLOBAL && found.name == SETUP_MODE && self.is_enrolled() {
            return Variable {
                data: &[0],
                ..found
            };
        }
        found
    }

    /// Whether there is a platform key.
    fn is_enrolled(&self) -> bool {
        let vendor = GLOBAL;
        let name = Name::from_buffer(PLATFORM_KEY);
        let key = name.and_then(|name| self.find(Key { vendor, name }));
        key.is_some_and(|key| attributes::signed(key.attributes))
    }
}
