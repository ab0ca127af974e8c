//! The variable services (UEFI 2.11 §8.2) by a host that keeps the variables:
//! each call is a request and a reply in one buffer, which both sides see.
//!
//! The host says which caller may write what, signatures included. Promises that
//! a caller hears the statuses of §8.2 only, whatever the host answers, and that
//! no answer is read beyond its buffer. Refuses what does not fit into it.
//!
//! No allocation and no reachable panic: this is part of the runtime image.

mod bytes;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a model for tests"
)]
mod host;
#[cfg(test)]
mod tests;
mod varstored;

use super::{Error, Info, Key, Name, Phase, Variable, attributes};
use crate::variables::Failed;
use bytes::{Writer, number};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, Status};
pub use varstored::PORT as VARSTORED_PORT;

/// Size of the buffer in bytes. It begins on a page of 4 KiB and is contiguous
/// in the host's eyes.
pub const BUFFER: usize = 64 * 1024;

/// How the host is told that a request waits in the buffer.
pub trait Doorbell {
    /// Shows the host the first `sent` bytes of `buffer`, and returns when the
    /// reply, `back` bytes at most, is in its place.
    ///
    /// # Errors
    /// When the host does not say that it has done it.
    fn ring(&mut self, buffer: &mut [u8], sent: usize, back: usize) -> Result<(), Failed>;
}

/// The language of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// That of XenServer's and XCP-ng's varstored.
    Varstored,
}

/// What a variable service asks for.
#[derive(Clone, Copy, Debug)]
enum Request<'a> {
    /// GetVariable.
    Get(Key<'a>),
    /// GetNextVariableName.
    Next(Key<'a>),
    /// SetVariable.
    Set(Key<'a>, VariableAttributes, &'a [u8]),
    /// QueryVariableInfo.
    Info(VariableAttributes),
}

/// How much of the buffer the host has to see, and may have written after.
#[derive(Clone, Copy, Debug)]
struct Extent {
    sent: usize,
    back: usize,
}

/// Where in a reply something of variable size lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    vendor: Guid,
    attributes: u32,
    at: usize,
    size: u64,
}

/// What GetVariable and GetNextVariableName have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// `VendorGuid`.
    pub vendor: Guid,
    /// `Attributes`; of a name that is listed, none.
    pub attributes: VariableAttributes,
    /// How many bytes the caller has to have room for.
    pub size: usize,
    /// The data, or the name with its terminator: `size` bytes if that is no more
    /// than the caller's room, else none.
    pub bytes: &'a [u8],
}

impl<'a> From<Variable<'a>> for Found<'a> {
    fn from(variable: Variable<'a>) -> Self {
        Self {
            vendor: variable.vendor,
            attributes: variable.attributes,
            size: variable.data.len(),
            bytes: variable.data,
        }
    }
}

/// The host's variables, for one call.
pub struct Remote<'b, D> {
    /// How the host is spoken to.
    pub protocol: Protocol,
    /// [`BUFFER`] bytes that the host sees.
    pub buffer: &'b mut [u8],
    /// How it is told to look.
    pub bell: D,
}

impl<'b, D: Doorbell> Remote<'b, D> {
    /// The variable `key`, for GetVariable with a buffer of `room` bytes.
    pub fn get(mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Found<'b>, Error> {
        match self.exchange(phase, Request::Get(key))? {
            Status::SUCCESS => {}
            status => return Err(refusal(status, OF_GET)),
        }
        let place = varstored::data(self.buffer).ok_or(Error::Storage)?;
        self.found(place, room)
    }

    /// The variable after `key`, for GetNextVariableName with a buffer of `room`
    /// bytes.
    pub fn next(mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Found<'b>, Error> {
        match self.exchange(phase, Request::Next(key))? {
            Status::SUCCESS => {}
            status => return Err(refusal(status, OF_NEXT)),
        }
        let place = varstored::name(self.buffer).ok_or(Error::Storage)?;
        let found = self.found(place, room)?;
        let whole = |name: Name<'_>| name.bytes().len() == found.size && !name.is_empty();
        let fits = found.size <= room;
        match Name::from_buffer(found.bytes) {
            Some(name) if fits && whole(name) => Ok(found),
            None if !fits => Ok(found),
            _ => Err(Error::Storage),
        }
    }

    /// SetVariable.
    pub fn set(
        mut self,
        phase: Phase,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        if key.name.is_empty() {
            return Err(Error::EmptyName);
        }
        attributes::plausible(attributes)?;
        match self.exchange(phase, Request::Set(key, attributes, data))? {
            Status::SUCCESS => Ok(()),
            status => Err(refusal(status, OF_SET)),
        }
    }

    /// Sizes for variables with `attributes`, for QueryVariableInfo.
    pub fn info(mut self, phase: Phase, attributes: VariableAttributes) -> Result<Info, Error> {
        attributes::plausible(attributes)?;
        attributes::queried(phase, attributes)?;
        match self.exchange(phase, Request::Info(attributes))? {
            Status::SUCCESS => {}
            status => return Err(refusal(status, OF_INFO)),
        }
        let size = |index: usize| {
            let at = varstored::SIZES.checked_add(index.checked_mul(8)?)?;
            usize::try_from(number(self.buffer, at)?).ok()
        };
        let [storage, remaining, largest] = [size(0), size(1), size(2)];
        Ok(Info {
            storage: storage.ok_or(Error::Storage)?,
            remaining: remaining.ok_or(Error::Storage)?,
            largest: largest.ok_or(Error::Storage)?.min(varstored::LARGEST),
        })
    }

    /// Sends `request` and returns the status that the host answers.
    fn exchange(&mut self, phase: Phase, request: Request<'_>) -> Result<Status, Error> {
        let mut out = Writer::new(self.buffer);
        let Extent { sent, back } = varstored::encode(&mut out, phase, request)?;
        self.bell.ring(self.buffer, sent, back)?;
        let status = number(self.buffer, varstored::STATUS).ok_or(Error::Storage)?;
        usize::try_from(status)
            .map(Status)
            .map_err(|_| Error::Storage)
    }

    fn found(self, place: Place, room: usize) -> Result<Found<'b>, Error> {
        let size = usize::try_from(place.size).map_err(|_| Error::Storage)?;
        let bytes = self.buffer.get(place.at..).unwrap_or_default();
        let bytes = bytes.get(..size).ok_or(Error::Storage)?;
        Ok(Found {
            vendor: place.vendor,
            attributes: VariableAttributes::from_bits_retain(place.attributes),
            size,
            bytes: if size <= room { bytes } else { &[] },
        })
    }
}

/// Sets of statuses: bit N stands for error code N (UEFI 2.11 appendix D).
const fn set_of<const N: usize>(statuses: [Status; N]) -> u64 {
    let (mut set, mut rest): (u64, &[Status]) = (0, &statuses);
    while let [status, after @ ..] = rest {
        set |= 1 << (status.0 & 63);
        rest = after;
    }
    set
}

/// What the specification lists for GetVariable, but what has to do with sizes.
const OF_GET: u64 = OF_NEXT | set_of([Status::SECURITY_VIOLATION]);
/// For GetNextVariableName.
const OF_NEXT: u64 = OF_INFO | set_of([Status::NOT_FOUND]);
/// For SetVariable.
const OF_SET: u64 = OF_GET | set_of([Status::OUT_OF_RESOURCES, Status::WRITE_PROTECTED]);
/// For QueryVariableInfo.
const OF_INFO: u64 = set_of([Status::UNSUPPORTED, Status::INVALID_PARAMETER]);

/// A refusal, in words that the specification has for the service.
fn refusal(status: Status, listed: u64) -> Error {
    let code = status.0 & !Status::ERROR_BIT;
    let known = status.is_error() && code < 64 && listed & (1 << code) != 0;
    if known {
        Error::Host(status)
    } else {
        Error::Storage
    }
}
