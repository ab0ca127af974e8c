//! One variable in a store: header, name, data (EDK2
//! `MdeModulePkg/Include/Guid/VariableFormat.h`, `AUTHENTICATED_VARIABLE_HEADER`).
//!
//! A record lives by its state byte, in which each step of its life clears one
//! more bit: a power failure leaves the step done or not done. Promises to parse
//! any bytes as EDK2 does, so that both see the same variables, and to end where
//! EDK2 ends.

use super::layout::{FIRST, put, wide};
use super::storage::ERASED;
use super::{Key, Name, Phase};
use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

/// Length of a record's header.
pub const HEADER: usize = 60;

/// `VARIABLE_DATA`: a record begins here.
const START: [u8; 2] = [0xaa, 0x55];

/// Offset of the state byte.
pub const STATE: usize = 2;
const ATTRIBUTES: usize = 4;
const NAME_SIZE: usize = 36;
const DATA_SIZE: usize = 40;
const VENDOR: usize = 44;

/// The header is complete, so that its sizes are good for finding the next one.
pub const HEADER_VALID: u8 = 0x7f;
/// The variable is there.
pub const ADDED: u8 = 0x3f;
/// The variable is there until another record of it is.
pub const RETIRING: u8 = ADDED & 0xfe;
/// The bit that ends it.
pub const DELETED: u8 = 0xfd;

/// A variable, borrowed from its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// `VendorGuid`.
    pub vendor: Guid,
    /// `Attributes`, never with `APPEND_WRITE`.
    pub attributes: VariableAttributes,
    /// `VariableName` with its terminator, as UTF-16LE.
    pub name: &'a [u8],
    /// `Data`.
    pub data: &'a [u8],
}

impl<'a> Variable<'a> {
    /// What identifies it, if its name is a string.
    pub fn key(&self) -> Option<Key<'a>> {
        let (vendor, name) = (self.vendor, Name::from_buffer(self.name)?);
        Some(Key { vendor, name })
    }

    /// Whether callers in `phase` may know of it.
    pub fn is_visible(&self, phase: Phase) -> bool {
        let runtime = VariableAttributes::RUNTIME_ACCESS;
        phase == Phase::Boot || self.attributes.contains(runtime)
    }

    /// Bytes that it takes in a store.
    pub const fn size(&self) -> usize {
        size(self.name.len(), self.data.len())
    }

    /// Whether `key` identifies this variable.
    pub fn is(&self, key: Key<'_>) -> bool {
        self.vendor == key.vendor && self.name == key.name.bytes()
    }
}

/// Bytes that a record takes, its padding to a multiple of 4 included.
pub const fn size(name: usize, data: usize) -> usize {
    let size = HEADER.wrapping_add(name).wrapping_add(data);
    size.wrapping_add(3) & !3
}

/// The header of a record that is about to be written, in no state yet.
pub fn header(key: Key<'_>, attributes: VariableAttributes, data_size: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    put(&mut header, 0, &START);
    put(&mut header, STATE, &[ERASED]);
    put(&mut header, ATTRIBUTES, &attributes.bits().to_le_bytes());
    put(&mut header, NAME_SIZE, &wide(key.name.bytes().len()));
    put(&mut header, DATA_SIZE, &wide(data_size));
    put(&mut header, VENDOR, &key.vendor.to_bytes());
    header
}

/// A record, in whatever state.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Where it is in its store.
    pub offset: usize,
    /// Its state byte.
    pub state: u8,
    /// What it says.
    pub content: Variable<'a>,
}

impl<'a> Record<'a> {
    /// The record at `offset` of `variables`, if there is one.
    fn at(variables: &'a [u8], offset: usize) -> Option<Self> {
        let (header, body) = variables.get(offset..)?.split_first_chunk::<HEADER>()?;
        let number = |at: usize| field(header, at).map(u32::from_le_bytes);
        let state = *header.get(STATE)?;
        let attributes = number(ATTRIBUTES)?;
        let (name, data) = (number(NAME_SIZE)?, number(DATA_SIZE)?);
        if !header.starts_with(&START) {
            return None;
        }
        // EDK2's rule for a header that was not completed.
        let unfinished = state == ERASED || [attributes, name, data].contains(&u32::MAX);
        let (name, data) = if unfinished { (0, 0) } else { (name, data) };
        let (name, body) = body.split_at_checked(usize::try_from(name).ok()?)?;
        let (data, _) = body.split_at_checked(usize::try_from(data).ok()?)?;
        let content = Variable {
            vendor: Guid::from_bytes(field(header, VENDOR)?),
            attributes: VariableAttributes::from_bits_retain(attributes),
            name,
            data,
        };
        Some(Self {
            offset,
            state,
            content,
        })
    }

    /// Bytes it takes.
    pub const fn size(&self) -> usize {
        self.content.size()
    }

    /// Bytes it takes but for the padding.
    pub const fn length(&self) -> usize {
        HEADER
            .wrapping_add(self.content.name.len())
            .wrapping_add(self.content.data.len())
    }

    /// Where its data are in the store.
    pub const fn data(&self) -> usize {
        self.offset
            .wrapping_add(HEADER)
            .wrapping_add(self.content.name.len())
    }

    /// Whether it is a variable now. One whose name is no string has never been.
    pub fn is_live(&self) -> bool {
        let whole = |name: Name<'_>| !name.is_empty() && name.bytes() == self.content.name;
        matches!(self.state, ADDED | RETIRING)
            && Name::from_buffer(self.content.name).is_some_and(whole)
    }

    /// Whether it is the variable `key` now.
    pub fn is(&self, key: Key<'_>) -> bool {
        self.content.is(key) && self.is_live()
    }
}

/// The variable `key` in `variables`: its first complete record, or else the last
/// of those whose replacement was not completed, as EDK2 has it.
#[inline(never)]
pub fn find<'a>(variables: &'a [u8], key: Key<'_>) -> Option<Record<'a>> {
    let mut retiring = None;
    for record in Records::new(variables).filter(|record| record.is(key)) {
        if record.state == ADDED {
            return Some(record);
        }
        retiring = Some(record);
    }
    retiring
}

/// The first variable behind `key`, or of all, that is visible in `phase`.
#[inline(never)]
pub fn after<'a>(variables: &'a [u8], key: Option<Key<'_>>, phase: Phase) -> Option<Variable<'a>> {
    let mut records = Records::new(variables);
    if let Some(key) = key {
        let record = find(variables, key)?;
        records.at = record.offset.wrapping_add(record.size());
    }
    // A damaged store may have two records of a variable.
    let current = |record: &Record<'_>| {
        let key = record.content.key().filter(|_| record.is_live());
        let current = key.and_then(|key| find(variables, key));
        current.is_some_and(|current| current.offset == record.offset)
    };
    let next = records.find(|record| record.content.is_visible(phase) && current(record));
    next.map(|record| record.content)
}

/// Bytes that those variables in `variables` take that are visible in `phase`.
#[inline(never)]
pub fn taken(variables: &[u8], phase: Phase) -> usize {
    let live = Records::new(variables).filter(Record::is_live);
    let live = live.filter(|record| record.content.is_visible(phase));
    live.fold(0, |sum, record| record.size().wrapping_add(sum))
}

fn field<const N: usize>(header: &[u8], at: usize) -> Option<[u8; N]> {
    header.get(at..)?.first_chunk().copied()
}

/// Iterates over the records of a store.
#[derive(Clone)]
pub struct Records<'a> {
    variables: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// The records in `variables`, a store up to where its variables end.
    pub const fn new(variables: &'a [u8]) -> Self {
        Self::from(variables, FIRST)
    }

    /// As [`Self::new`], from the record at `offset` on.
    pub const fn from(variables: &'a [u8], offset: usize) -> Self {
        Self {
            variables,
            at: offset,
        }
    }

    /// Where the records end.
    pub fn end(mut self) -> usize {
        while self.next().is_some() {}
        self.at
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Record<'a>> {
        let record = Record::at(self.variables, self.at)?;
        self.at = self.at.wrapping_add(record.size());
        Some(record)
    }
}
