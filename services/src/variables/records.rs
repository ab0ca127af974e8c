//! Variables as records, packed one after the other without gaps.
//!
//! A record is [`HEADER`] bytes, then the name, then the data. Promises that
//! `bytes[..used]` is a sequence of whole records at any time, that a record
//! keeps its place when its data change, and that there is no garbage to
//! collect: what is deleted is free at once. Refuses what does not fit.

use super::{Error, Key};
use core::ops::Range;
use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

/// Bytes a record takes beyond its name and data: vendor, attributes, size of
/// the name, size of the data.
pub const HEADER: usize = 16 + 4 + SIZE + SIZE;

const SIZE: usize = size_of::<usize>();

/// A variable, borrowed from the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// `VendorGuid`.
    pub vendor: Guid,
    /// `Attributes`, never with `APPEND_WRITE`.
    pub attributes: VariableAttributes,
    /// `VariableName` with its terminator, as UTF-16LE.
    pub name: &'a [u8],
    /// `Data`, never empty.
    pub data: &'a [u8],
}

impl Variable<'_> {
    /// Whether `key` identifies this variable.
    pub fn is(&self, key: Key<'_>) -> bool {
        self.vendor == key.vendor && self.name == key.name.bytes()
    }

    const fn size(&self) -> usize {
        HEADER
            .saturating_add(self.name.len())
            .saturating_add(self.data.len())
    }
}

/// The storage.
pub struct Records<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Records<N> {
    /// No records.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            used: 0,
        }
    }

    /// All variables in the order of their creation.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.bytes.get(..self.used).unwrap_or_default())
    }

    /// The variable `key`, if there is one.
    pub fn find(&self, key: Key<'_>) -> Option<Variable<'_>> {
        self.iter().find(|variable| variable.is(key))
    }

    /// Free bytes.
    pub const fn remaining(&self) -> usize {
        N.saturating_sub(self.used)
    }

    /// Adds a variable that does not exist yet.
    pub fn insert(
        &mut self,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        let name = key.name.bytes();
        let new = Variable {
            vendor: key.vendor,
            attributes,
            name,
            data,
        };
        let room = self.resize(self.used..self.used, new.size())?;
        let vendor = key.vendor.to_bytes();
        let attributes = attributes.bits().to_le_bytes();
        let (name_size, data_size) = (name.len().to_le_bytes(), data.len().to_le_bytes());
        let header = vendor
            .iter()
            .chain(&attributes)
            .chain(&name_size)
            .chain(&data_size);
        fill(room, header.chain(name).chain(data));
        Ok(())
    }

    /// Removes a variable.
    pub fn remove(&mut self, key: Key<'_>) -> Result<(), Error> {
        let place = self.locate(key)?;
        self.resize(place.start..place.end, 0).map(|_| ())
    }

    /// Gives a variable other data.
    pub fn replace(&mut self, key: Key<'_>, data: &[u8]) -> Result<(), Error> {
        let place = self.locate(key)?;
        fill(self.resize(place.data..place.end, data.len())?, data);
        self.set_data_size(&place, data.len());
        Ok(())
    }

    /// Adds to the data of a variable.
    pub fn append(&mut self, key: Key<'_>, data: &[u8]) -> Result<(), Error> {
        let place = self.locate(key)?;
        fill(self.resize(place.end..place.end, data.len())?, data);
        self.set_data_size(
            &place,
            place.end.wrapping_sub(place.data).wrapping_add(data.len()),
        );
        Ok(())
    }

    fn locate(&self, key: Key<'_>) -> Result<Place, Error> {
        let mut end = 0usize;
        for variable in self.iter() {
            let start = end;
            end = start.saturating_add(variable.size());
            if variable.is(key) {
                return Ok(Place {
                    start,
                    data: end.saturating_sub(variable.data.len()),
                    end,
                });
            }
        }
        Err(Error::NotFound)
    }

    /// Makes `range` of the records `length` bytes long by moving all that
    /// follows; returns these bytes, whose content is arbitrary.
    fn resize(&mut self, range: Range<usize>, length: usize) -> Result<&mut [u8], Error> {
        let needed = length.saturating_sub(range.len());
        let full = Error::Full {
            needed,
            free: self.remaining(),
        };
        if needed > self.remaining() {
            return Err(full);
        }
        let end = range.start.saturating_add(length);
        self.shift(range.end, end);
        self.bytes.get_mut(range.start..end).ok_or(full)
    }

    /// Moves what lies from `from` on to `to`.
    fn shift(&mut self, from: usize, to: usize) {
        let length = self.used.saturating_sub(from);
        let fits = |start: usize| start <= N && length <= N.saturating_sub(start);
        // Always so. Spelled out because only then the compiler sees that
        // `copy_within` cannot panic.
        if fits(from) && fits(to) {
            self.bytes
                .copy_within(from..from.saturating_add(length), to);
            self.used = to.saturating_add(length);
        }
    }

    fn set_data_size(&mut self, place: &Place, size: usize) {
        let end = place.start.saturating_add(HEADER);
        let field = self
            .bytes
            .get_mut(end.saturating_sub(SIZE)..end)
            .unwrap_or_default();
        fill(field, &size.to_le_bytes());
    }
}

/// Where a record lies, as offsets into the storage.
struct Place {
    start: usize,
    data: usize,
    end: usize,
}

/// Iterates over records.
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = Variable<'a>;

    fn next(&mut self) -> Option<Variable<'a>> {
        let (vendor, rest) = self.0.split_first_chunk()?;
        let (attributes, rest) = rest.split_first_chunk()?;
        let (name_size, rest) = rest.split_first_chunk()?;
        let (data_size, rest) = rest.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from_le_bytes(*name_size))?;
        let (data, rest) = rest.split_at_checked(usize::from_le_bytes(*data_size))?;
        self.0 = rest;
        let attributes = VariableAttributes::from_bits_retain(u32::from_le_bytes(*attributes));
        Some(Variable {
            vendor: Guid::from_bytes(*vendor),
            attributes,
            name,
            data,
        })
    }
}

/// `copy_from_slice` that cannot panic.
fn fill<'a>(room: &mut [u8], bytes: impl IntoIterator<Item = &'a u8>) {
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
}
