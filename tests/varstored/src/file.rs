//! The file that variables are kept in: one a line, `NAME GUID ATTRIBUTES DATA`,
//! to be read by people and `grep`. Attributes and data are hexadecimal.
//!
//! varstored itself keeps them in XAPI's database.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::store::{Guid, Key, Store, Variable};

/// Reads the variables in `file`, of which there may be none yet.
///
/// # Errors
/// When it cannot be read, or with the line that is no variable.
pub fn read(file: &Path) -> io::Result<Vec<Variable>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let wrong = |line| io::Error::new(ErrorKind::InvalidData, format!("no variable: {line}"));
    let lines = text.lines();
    lines
        .map(|line| parse(line).ok_or_else(|| wrong(line)))
        .collect()
}

/// Writes what `store` has to keep.
///
/// # Errors
/// When that fails.
pub fn write(file: &Path, store: &Store) -> io::Result<()> {
    let lines = store.kept().map(|v| {
        let data = hexadecimal(&v.data);
        format!("{} {:x} {data}\n", shown(&v.key), v.attributes)
    });
    fs::write(file, lines.collect::<String>())
}

/// `NAME GUID`. ASCII stays, every other byte of a name is `%` and two digits.
pub fn shown(key: &Key) -> String {
    let mut name = String::new();
    for unit in key.name.chunks(2) {
        match unit {
            [byte, 0] if byte.is_ascii_graphic() && *byte != b'%' => name.push(char::from(*byte)),
            bytes => name.extend(bytes.iter().map(|byte| format!("%{byte:02x}"))),
        }
    }
    let v = &key.vendor;
    let field = |range| hexadecimal(&v[range]);
    let swapped = |range: std::ops::Range<usize>| {
        let bytes: Vec<u8> = v[range].iter().rev().copied().collect();
        hexadecimal(&bytes)
    };
    let (first, second, third) = (swapped(0..4), swapped(4..6), swapped(6..8));
    format!(
        "{name} {first}-{second}-{third}-{}-{}",
        field(8..10),
        field(10..16)
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(line: &str) -> Option<Variable> {
    let mut fields = line.split(' ');
    let name = parse_name(fields.next()?)?;
    let vendor = parse_guid(fields.next()?)?;
    let attributes = u32::from_str_radix(fields.next()?, 16).ok()?;
    let data = bytes(fields.next()?)?;
    let key = Key { name, vendor };
    fields.next().is_none().then_some(Variable {
        key,
        attributes,
        data,
    })
}

fn parse_name(text: &str) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first == '%' {
            name.extend(bytes(rest.get(..2)?)?);
            rest = &rest[2..];
        } else {
            name.extend([u8::try_from(first).ok()?, 0]);
        }
    }
    Some(name)
}

fn parse_guid(text: &str) -> Option<Guid> {
    let mut guid: Guid = bytes(&text.replace('-', ""))?.try_into().ok()?;
    for field in [0..4, 4..6, 6..8] {
        guid[field].reverse();
    }
    Some(guid)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BOOT, NON_VOLATILE};

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = std::env::temp_dir().join(format!("varstored-{}", std::process::id()));
        assert_eq!(read(&directory).unwrap(), []);
        let vendor = 0x1234_5678_9abc_def0_u128.to_be_bytes();
        let mut store = Store::new(Vec::new());
        for name in ["Boot0001", "a b%", "\u{e9}\u{20ac}"] {
            let key = Key::new(name, vendor);
            let set = store.set(&key, name.as_bytes(), BOOT | NON_VOLATILE, false);
            set.unwrap();
        }
        store
            .set(&Key::new("gone", vendor), b"x", BOOT, false)
            .unwrap();
        write(&directory, &store).unwrap();
        let kept = read(&directory).unwrap();
        fs::remove_file(&directory).unwrap();
        assert_eq!(kept.len(), 3);
        assert!(kept.iter().eq(store.kept()));
    }

    #[test]
    fn a_variable_is_one_line() {
        let vendor = parse_guid("8be4df61-93ca-11d2-aa0d-00e098032b8c").unwrap();
        assert_eq!(vendor[..5], [0x61, 0xdf, 0xe4, 0x8b, 0xca]);
        let key = Key::new("a %", vendor);
        assert_eq!(
            shown(&key),
            "a%20%00%25%00 8be4df61-93ca-11d2-aa0d-00e098032b8c"
        );
        assert!(parse("a 8be4df61-93ca-11d2-aa0d-00e098032b8c 7").is_none());
        assert!(parse("a 8be4df61 7 00").is_none());
    }
}
