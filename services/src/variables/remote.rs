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
pub mod uefi_vars;
pub mod varstored;

use super::{Error, Info, Key, Name, Phase, Variable, attributes};
use crate::variables::Failed;
use bytes::{Writer, number};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, Status};

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

/// The language of requests and replies. None is 0, so that nobody has to write one
/// into an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// That of XenServer's and XCP-ng's varstored.
    Varstored = 1,
    /// That of QEMU's uefi-vars devices.
    UefiVars,
}

impl Protocol {
    /// Offset of the status in a reply.
    const fn status(self) -> usize {
        match self {
            Self::Varstored => varstored::STATUS,
            Self::UefiVars => uefi_vars::STATUS,
        }
    }

    /// Offset of the three sizes that QueryVariableInfo returns, and the most
    /// that fits into the buffer as name and data.
    const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Varstored => (varstored::SIZES, varstored::LARGEST),
            Self::UefiVars => (uefi_vars::SIZES, uefi_vars::LARGEST),
        }
    }

    /// Whether `status` says that GetVariable or GetNextVariableName has found
    /// something; of varstored no answer is too large.
    fn has_found(self, status: Status) -> bool {
        status == Status::SUCCESS || (status == Status::BUFFER_TOO_SMALL && self == Self::UefiVars)
    }
}

/// What a variable service asks for.
#[derive(Clone, Copy, Debug)]
enum Request<'a> {
    /// GetVariable, for so many bytes.
    Get(Key<'a>, usize),
    /// GetNextVariableName, for so many bytes.
    Next(Key<'a>, usize),
    /// SetVariable.
    Set(Key<'a>, VariableAttributes, Data<'a>),
    /// QueryVariableInfo.
    Info(VariableAttributes),
    /// An event has come.
    Event(Event),
}

/// The data of SetVariable.
#[derive(Clone, Copy, Debug, Default)]
struct Data<'a> {
    /// So many bytes that GetVariable has left in their place.
    kept: usize,
    /// What comes behind them.
    added: &'a [u8],
}

impl<'a> Data<'a> {
    /// None but `added`.
    const fn new(added: &'a [u8]) -> Self {
        Self { kept: 0, added }
    }
}

/// What a host may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `EFI_EVENT_GROUP_READY_TO_BOOT`.
    ReadyToBoot,
    /// ExitBootServices has succeeded.
    ExitBootServices,
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
        match self.look(phase, key, room) {
            Err(Error::Host(Status::ACCESS_DENIED)) => Err(Error::NotFound),
            place => self.found(place?, room),
        }
    }

    /// The variable after `key`, for GetNextVariableName with a buffer of `room`
    /// bytes.
    pub fn next(mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Found<'b>, Error> {
        let status = self.exchange(phase, Request::Next(key, room))?;
        if !self.protocol.has_found(status) {
            return Err(refusal(status, OF_NEXT));
        }
        let place = match self.protocol {
            Protocol::Varstored => varstored::name(self.buffer),
            Protocol::UefiVars => uefi_vars::name(self.buffer),
        };
        let found = self.found(place.ok_or(Error::Storage)?, room)?;
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
        let request = match self.protocol {
            Protocol::Varstored => Request::Set(key, attributes, Data::new(data)),
            Protocol::UefiVars => {
                match uefi_vars::prepare(&mut self, phase, key, attributes, data)? {
                    Some(request) => request,
                    None => return Ok(()),
                }
            }
        };
        match self.exchange(phase, request)? {
            Status::SUCCESS => Ok(()),
            Status::ACCESS_DENIED => Err(Error::ReadOnly),
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
        let (at, most) = self.protocol.sizes();
        let size = |index: usize| {
            let at = at.saturating_add(index.saturating_mul(8));
            let size = number(self.buffer, at).and_then(|size| usize::try_from(size).ok());
            size.ok_or(Error::Storage)
        };
        Ok(Info {
            storage: size(0)?,
            remaining: size(1)?,
            largest: size(2)?.min(most),
        })
    }

    /// Tells the host that `event` has come, if it wants to hear of it.
    pub fn tell(mut self, event: Event) {
        if self.protocol == Protocol::UefiVars {
            // It has no way to disagree.
            let _ = self.exchange(Phase::Boot, Request::Event(event));
        }
    }

    /// Asks for the variable `key`, with its data if they have at most `room` bytes.
    fn look(&mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Place, Error> {
        match self.exchange(phase, Request::Get(key, room))? {
            status if self.protocol.has_found(status) => {}
            Status::ACCESS_DENIED => return Err(Error::Host(Status::ACCESS_DENIED)),
            status => return Err(refusal(status, OF_GET)),
        }
        let place = match self.protocol {
            Protocol::Varstored => varstored::data(self.buffer),
            Protocol::UefiVars => uefi_vars::data(self.buffer, key),
        };
        place.ok_or(Error::Storage)
    }

    /// Sends `request` and returns the status that the host answers.
    fn exchange(&mut self, phase: Phase, request: Request<'_>) -> Result<Status, Error> {
        let mut out = Writer::new(self.buffer);
        let back = match self.protocol {
            Protocol::Varstored => varstored::encode(&mut out, phase, request),
            Protocol::UefiVars => uefi_vars::encode(&mut out, request),
        };
        let sent = out.size()?;
        self.bell.ring(self.buffer, sent, back)?;
        let status = number(self.buffer, self.protocol.status()).ok_or(Error::Storage)?;
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
