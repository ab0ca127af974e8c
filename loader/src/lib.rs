//! From bytes to bytes: PE/COFF images as the firmware places them.
//!
//! Promises: no hardware, no global state, no `unsafe`; bytes from outside end
//! in a value or in an error that names the offending field, never in a panic.
//! Refuses: everything an x86-64 UEFI firmware does not execute.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

extern crate alloc;

pub mod pe;

use core::fmt::{self, Write};

/// Bytes from outside in a message, with nothing in them that a console would take
/// for a command: what is no printable ASCII is shown as `\xNN`.
pub struct Printed<'a>(pub &'a [u8]);

impl fmt::Display for Printed<'_> {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b' '..=b'~' => f.write_char(char::from(*byte)),
            _ => write!(f, "\\x{byte:02x}"),
        })
    }
}

// A `u32` from a header is used as an index, and `SizeOfImage` is rounded up.
const _: () = assert!(usize::BITS >= 64, "offsets and sizes need a 64-bit usize");
