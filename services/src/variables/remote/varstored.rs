//! What XenServer's and XCP-ng's varstored understands (xapi-project/varstored
//! `handler.c`, `include/serialize.h`): packed fields, names without a terminator.
//!
//! The reply takes the place of the request. Each request asks for all the room
//! there is, so that no reply says that it is too small.

use super::bytes::{Writer, guid, int, number};
use super::{BUFFER, Place, Request};
use crate::variables::Phase;
use uefi_raw::Guid;

/// The I/O port that takes the number of the buffer's first page.
pub const PORT: u16 = 0x100;

const VERSION: u32 = 1;
const GET_VARIABLE: u32 = 0;
const SET_VARIABLE: u32 = 1;
const GET_NEXT_VARIABLE: u32 = 2;
const QUERY_VARIABLE_INFO: u32 = 3;

/// Offset of the status in a reply.
pub const STATUS: usize = 0;
/// Offset of the three sizes of QueryVariableInfo.
pub const SIZES: usize = 8;
/// GetVariable: attributes, size, data.
const ATTRIBUTES: usize = 8;
const DATA_SIZE: usize = 12;
const DATA: usize = 20;
/// GetNextVariableName: size, name, GUID.
const NAME_SIZE: usize = 8;
const NAME: usize = 16;

/// `DATA_LIMIT`: the data of the largest variable.
pub const LARGEST: usize = 57344;
const NUL: usize = 2;
const GUID: usize = 16;

/// Writes `request`. Any part of the buffer may be changed by the reply.
#[inline(never)]
pub(super) fn encode(out: &mut Writer<'_>, phase: Phase, request: Request<'_>) -> usize {
    out.int(VERSION);
    match request {
        Request::Get(key, _) => {
            out.int(GET_VARIABLE);
            name_of(out, key.name.bytes());
            out.guid(key.vendor);
            out.long(BUFFER.saturating_sub(DATA));
        }
        Request::Next(key, _) => {
            out.int(GET_NEXT_VARIABLE);
            out.long(BUFFER.saturating_sub(NAME).saturating_sub(GUID));
            name_of(out, key.name.bytes());
            out.guid(key.vendor);
        }
        Request::Set(key, attributes, data) => {
            out.int(SET_VARIABLE);
            name_of(out, key.name.bytes());
            out.guid(key.vendor);
            out.long(data.added.len());
            out.bytes(data.added);
            out.int(attributes.bits());
        }
        Request::Info(attributes) => {
            out.int(QUERY_VARIABLE_INFO);
            out.int(attributes.bits());
        }
        Request::Event(_) => {}
    }
    out.bytes(&[u8::from(phase == Phase::Runtime)]);
    BUFFER
}

/// A name and its size, without the terminator.
fn name_of(out: &mut Writer<'_>, name: &[u8]) {
    let size = name.len().saturating_sub(NUL);
    out.long(size);
    out.bytes(name.get(..size).unwrap_or_default());
}

/// What GetVariable has found.
pub(super) fn data(reply: &[u8]) -> Option<Place> {
    Some(Place {
        vendor: Guid::default(),
        attributes: int(reply, ATTRIBUTES)?,
        at: DATA,
        size: number(reply, DATA_SIZE)?,
    })
}

/// What GetNextVariableName has found: the name, to which a terminator is added.
pub(super) fn name(reply: &mut [u8]) -> Option<Place> {
    let size = usize::try_from(number(reply, NAME_SIZE)?).ok()?;
    let end = NAME.checked_add(size)?;
    let vendor = guid(reply, end)?;
    let terminator = reply.get_mut(end..)?.first_chunk_mut()?;
    *terminator = [0; NUL];
    Some(Place {
        vendor,
        attributes: 0,
        at: NAME,
        size: size.checked_add(NUL)? as u64,
    })
}
