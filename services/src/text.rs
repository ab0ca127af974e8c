//! Text between the two worlds: UCS-2 as EFI programs speak it, UTF-8 as
//! consoles and command lines do (UEFI 2.11 §2.3.1, §12.4).

use alloc::string::String;
use alloc::vec::Vec;

/// What stands for bytes that are no character.
const REPLACEMENT: u16 = 0xfffd;

/// Appends `character`.
#[inline(never)]
pub fn push(text: &mut String, character: char) {
    text.push(character);
}

/// Decodes UTF-16; a lone surrogate becomes U+FFFD.
#[must_use]
pub fn decode(units: &[u16]) -> String {
    let mut text = String::new();
    for unit in char::decode_utf16(units.iter().copied()) {
        push(&mut text, unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    text
}

/// Encodes a command line as load options: UTF-16 with a final NUL, as programs
/// expect it in `LoadOptions`.
///
/// Bytes that are not UTF-8 become U+FFFD; everything from the first NUL on is
/// dropped.
#[must_use]
pub fn load_options(command_line: &[u8]) -> Vec<u16> {
    let text = command_line.split(|byte| *byte == 0).next();
    let mut units = Vec::new();
    for chunk in text.unwrap_or_default().utf8_chunks() {
        for character in chunk.valid().chars() {
            units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
        }
        if !chunk.invalid().is_empty() {
            units.push(REPLACEMENT);
        }
    }
    units.push(0);
    units
}

/// Text from a host. Where it is no UTF-8, each byte is a character of Latin-1, so
/// that nothing is lost.
#[inline(never)]
#[cold]
pub fn of_bytes(bytes: &[u8]) -> String {
    let each = || bytes.iter().map(|byte| char::from(*byte)).collect();
    core::str::from_utf8(bytes).map_or_else(|_| each(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_replaced() {
        assert_eq!(decode(&[0x41, 0xd800, 0x42]), "A\u{fffd}B");
        assert_eq!(decode(&[0xd83d, 0xde00]), "\u{1f600}");
    }

    #[test]
    fn bytes_are_text_whatever_they_are() {
        assert_eq!(of_bytes("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(of_bytes(b"gr\xfcn"), "gr\u{fc}n");
    }

    #[test]
    fn load_options_end_in_one_nul() {
        assert_eq!(load_options(b"a b\0junk"), [0x61, 0x20, 0x62, 0]);
        assert_eq!(load_options(b""), [0]);
        assert_eq!(load_options(b"\xff"), [0xfffd, 0]);
    }
}
