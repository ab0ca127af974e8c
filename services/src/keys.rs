//! Keys out of the bytes that a terminal sends (UEFI 2.11 §12.3, appendix B).
//!
//! Promises: one byte is one key, but for the escape sequences of VT100 and its
//! kind, which are read to their end when they arrive in one go. A sequence that
//! is not known is dropped; an escape alone is the key of that name.

use uefi_raw::protocol::console::InputKey;

const ESCAPE: u8 = 0x1b;
const SCAN_ESC: u16 = 0x17;
/// What DEL, which terminals send for the backspace key, becomes.
const BACKSPACE: u16 = 0x08;

/// Last bytes of `ESC [` and `ESC O` sequences, and their scan codes: arrows, home,
/// end, F1 to F4.
const LETTERS: [(u8, u16); 10] = [
    (b'A', 1),
    (b'B', 2),
    (b'C', 3),
    (b'D', 4),
    (b'H', 5),
    (b'F', 6),
    (b'P', 0x0b),
    (b'Q', 0x0c),
    (b'R', 0x0d),
    (b'S', 0x0e),
];

/// Numbers of `ESC [ number ~`, and their scan codes: home, insert, delete, end,
/// page up, page down, F5 to F10, and F11, F12.
const NUMBERS: [(u16, u16); 14] = [
    (1, 5),
    (2, 7),
    (3, 8),
    (4, 6),
    (5, 9),
    (6, 10),
    (15, 0x0f),
    (17, 0x10),
    (18, 0x11),
    (19, 0x12),
    (20, 0x13),
    (21, 0x14),
    (23, 0x15),
    (24, 0x16),
];

const fn special(scan_code: u16) -> InputKey {
    InputKey {
        scan_code,
        unicode_char: 0,
    }
}

/// The next key of what `next` has; `more` waits a moment for what may follow an
/// escape.
pub fn read(
    mut next: impl FnMut() -> Option<u8>,
    mut more: impl FnMut() -> Option<u8>,
) -> Option<InputKey> {
    read_from(&mut next, &mut more)
}

fn read_from(
    next: &mut dyn FnMut() -> Option<u8>,
    more: &mut dyn FnMut() -> Option<u8>,
) -> Option<InputKey> {
    loop {
        match next()? {
            ESCAPE => match more() {
                None => return Some(special(SCAN_ESC)),
                Some(b'[' | b'O') => {
                    if let Some(scan_code) = sequence(more) {
                        return Some(special(scan_code));
                    }
                }
                Some(_) => {}
            },
            0x7f => return Some(key(BACKSPACE)),
            byte => return Some(key(u16::from(byte))),
        }
    }
}

const fn key(unicode_char: u16) -> InputKey {
    InputKey {
        scan_code: 0,
        unicode_char,
    }
}

/// The scan code of the rest of a sequence.
fn sequence(more: &mut dyn FnMut() -> Option<u8>) -> Option<u16> {
    let mut number = 0_u16;
    // No terminal sends a longer one.
    for _ in 0..8 {
        match more()? {
            digit @ b'0'..=b'9' => {
                let digit = u16::from(digit.saturating_sub(b'0'));
                number = number.saturating_mul(10).saturating_add(digit);
            }
            b'~' => return find(&NUMBERS, number),
            // Shift and such, which nobody asks for, come behind it.
            b';' => {}
            // One was cut off, and another one begins.
            ESCAPE | b'[' => number = 0,
            letter => return find(&LETTERS, letter),
        }
    }
    None
}

fn find<K: PartialEq + Copy>(table: &[(K, u16)], wanted: K) -> Option<u16> {
    let mut table = table.iter();
    let found = table.find(|(key, _)| *key == wanted);
    found.map(|(_, scan_code)| *scan_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of `bytes`, as scan code and character.
    fn keys(bytes: &[u8]) -> Vec<(u16, u16)> {
        let bytes = core::cell::RefCell::new(bytes.iter().copied());
        let next = || bytes.borrow_mut().next();
        let keys = core::iter::from_fn(|| read(next, next));
        keys.map(|key| (key.scan_code, key.unicode_char)).collect()
    }

    #[test]
    fn a_byte_is_a_key() {
        assert_eq!(keys(b"a\r\x7f"), [(0, 0x61), (0, 0x0d), (0, 8)]);
    }

    #[test]
    fn sequences_are_keys_without_a_character() {
        let arrows = keys(b"\x1b[A\x1b[B\x1b[C\x1bODx");
        assert_eq!(arrows, [(1, 0), (2, 0), (3, 0), (4, 0), (0, 0x78)]);
        assert_eq!(keys(b"\x1b[3~\x1b[15~\x1bOP"), [(8, 0), (15, 0), (11, 0)]);
    }

    #[test]
    fn an_escape_alone_is_one_and_unknown_sequences_are_none() {
        assert_eq!(keys(b"\x1b"), [(0x17, 0)]);
        assert_eq!(keys(b"\x1b[99~\x1b[Z\x1bx"), []);
        // None is so long: what follows is taken for keys.
        assert_eq!(keys(b"\x1b[1;2;3;4;5"), [(0, 0x35)]);
    }
}
