//! A call as a line of text.

use super::ARGUMENTS;
use crate::abi::Alleged;
use crate::catalog::{self, add, put};
use alloc::string::String;
use core::fmt::Write;
use core::ptr;
use uefi_raw::Status;

/// Longest text that is shown, in characters.
const MAX_TEXT: usize = 80;

/// Allocation types, and memory types (UEFI 2.11 §7.2.1), by their numbers, a line
/// each.
static ALLOCATIONS: &str = "\
AnyPages
MaxAddress
Address";
static MEMORY: &str = "\
Reserved
LoaderCode
LoaderData
BootServicesCode
BootServicesData
RuntimeServicesCode
RuntimeServicesData
Conventional
Unusable
ACPIReclaim
ACPIMemoryNVS";

/// A call that is logged.
pub(super) struct Call {
    /// Its number.
    pub number: u32,
    /// What is called.
    pub slot: usize,
    /// Where its return address lies.
    pub frame: usize,
    /// Its return address.
    pub back: usize,
    /// Its arguments, as far as it has any.
    pub arguments: [usize; ARGUMENTS],
    /// From when on times are counted.
    pub start: u64,
    /// When it was made.
    pub entered: u64,
}

/// The time stamp counter.
pub(super) fn now() -> u64 {
    // SAFETY: RDTSC is always available in 64-bit mode at privilege level 0, and
    // in a process of Linux.
    unsafe { core::arch::x86_64::_rdtsc() }
}

impl Call {
    /// How many of the arguments are known.
    pub fn known(&self) -> usize {
        let kinds = catalog::service(self.slot).1.bytes();
        match kinds.clone().any(|kind| kind == b'v') {
            true => ARGUMENTS,
            false => kinds.count(),
        }
    }

    /// Writes the line; without `status` the call does not return.
    #[cold]
    pub fn log(&self, depth: usize, status: Option<Status>) {
        let elapsed = now().wrapping_sub(self.entered);
        let (name, kinds) = catalog::service(self.slot);
        let at = self.entered.wrapping_sub(self.start);
        let mut text = String::new();
        self.write_arguments(&mut text, kinds, status);
        add(&mut text, ") = ");
        match status {
            Some(status) if !kinds.ends_with('-') => result(&mut text, status),
            _ => put(&mut text, b'-'),
        }
        log::info!(
            "trace {} {depth} {name}({text} @{at} +{elapsed}",
            self.number
        );
    }

    /// Appends the arguments, and what the call wrote, if it did.
    pub fn write_arguments(&self, text: &mut String, kinds: &str, status: Option<Status>) {
        let written = status.is_some_and(|s| !s.is_error() || s == Status::BUFFER_TOO_SMALL);
        let mut values = self.arguments.iter();
        for kind in kinds.bytes() {
            match kind {
                b'-' | b'!' => return,
                b'v' => return pairs(text, values.as_slice()),
                _ if !text.is_empty() => add(text, ", "),
                _ => {}
            }
            let value = values.next().copied().unwrap_or_default();
            argument(text, kind, value, written);
        }
    }
}

fn argument(text: &mut String, kind: u8, value: usize, written: bool) {
    let number = match (kind, value) {
        (b'g', 1..) => return guid(text, value),
        (b's', 1..) => return string(text, value),
        (b'e', _) => {
            return result(text, Status(value));
        }
        (b'a', _) => return named(text, ALLOCATIONS, value),
        (b't', _) => return named(text, MEMORY, value),
        (b'n' | b'd', 1..) if written => {
            put(text, b'*');
            let low = u64::from(read::<u32>(value).unwrap_or_default());
            if kind == b'd' {
                low
            } else {
                read::<u64>(value).unwrap_or(low)
            }
        }
        (b'b', _) => low(value) & 0xff,
        (b'w', _) => low(value),
        _ => u64::try_from(value).unwrap_or_default(),
    };
    hex(text, number);
}

#[inline(never)]
#[cold]
fn result(text: &mut String, status: Status) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{status}");
}

fn low(value: usize) -> u64 {
    u64::try_from(value & 0xffff_ffff).unwrap_or_default()
}

#[inline(never)]
#[cold]
fn hex(text: &mut String, value: u64) {
    let _ = write!(text, "{value:#x}");
}

/// The GUIDs of pairs with an interface each.
fn pairs(text: &mut String, values: &[usize]) {
    for protocol in values.iter().step_by(2).take_while(|value| **value != 0) {
        add(text, ", ");
        guid(text, *protocol);
    }
}

#[cold]
fn named(text: &mut String, names: &str, number: usize) {
    match catalog::line(names, number & 0xffff_ffff) {
        "" => hex(text, low(number)),
        name => add(text, name),
    }
}

#[cold]
fn guid(text: &mut String, address: usize) {
    if let Some(guid) = read(address) {
        catalog::write_guid(text, &guid);
    }
}

/// A string in quotes; what is no printable ASCII, and quotes, are points.
fn string(text: &mut String, address: usize) {
    put(text, b'"');
    for index in 0..MAX_TEXT {
        let unit = read::<u16>(address.saturating_add(index.saturating_mul(2)));
        match unit.unwrap_or_default() {
            0 => break,
            0x22 | ..0x20 | 0x7f.. => put(text, b'.'),
            unit => put(text, u8::try_from(unit).unwrap_or_default()),
        }
    }
    put(text, b'"');
}

/// What lies at the address a caller passed.
pub(super) fn read<T: Copy>(address: usize) -> Option<T> {
    // SAFETY: the caller's promise, as for the service itself.
    let alleged = unsafe { Alleged::new(ptr::with_exposed_provenance::<T>(address)) };
    alleged.read().ok()
}
