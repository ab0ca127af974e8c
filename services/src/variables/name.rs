//! Variable names: what `VariableName` may be (UEFI 2.11 §8.2.1).
//!
//! Promises that a [`Name`] ends with its only NUL. Refuses bytes without a
//! terminator; whether the code units are valid UTF-16 is nobody's business.

/// A NUL-terminated UTF-16LE string.
///
/// Held as bytes, terminator included: that is how it is stored and compared,
/// and bytes need no alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Size of the terminator in bytes.
    const NUL: usize = 2;

    /// The string at the start of `buffer`, up to its first NUL; `None` if
    /// there is no NUL within `buffer`.
    pub fn from_buffer(buffer: &'a [u8]) -> Option<Self> {
        let (units, _) = buffer.as_chunks::<2>();
        let length = units.iter().position(|unit| *unit == [0, 0])?;
        units.get(..=length).map(|name| Self(name.as_flattened()))
    }

    /// The string with its terminator; its length is what GetNextVariableName
    /// calls `VariableNameSize`.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is nothing but the terminator.
    pub const fn is_empty(self) -> bool {
        self.0.len() <= Self::NUL
    }
}
