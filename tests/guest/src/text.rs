//! Text without an allocator: messages of bounded length, and UTF-16 literals.

use core::fmt::{self, Write};

/// A message; what does not fit is cut off.
pub struct Text {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl Text {
    const CAPACITY: usize = 112;

    /// The formatted message.
    pub fn format(message: fmt::Arguments<'_>) -> Self {
        let mut text = Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        };
        // Fails only when `message` is cut off, which is the promise.
        let _ = text.write_fmt(message);
        text
    }

    /// The message as a string.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("(not UTF-8)")
    }
}

impl Write for Text {
    fn write_str(&mut self, string: &str) -> fmt::Result {
        for byte in string.bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// An ASCII string as NUL-terminated UTF-16, for variable names.
pub const fn utf16<const N: usize>(ascii: &str) -> [u16; N] {
    let bytes = ascii.as_bytes();
    assert!(bytes.len() < N, "no room for the NUL");
    let mut units = [0; N];
    let mut i = 0;
    while i < bytes.len() {
        units[i] = bytes[i] as u16;
        i += 1;
    }
    units
}
