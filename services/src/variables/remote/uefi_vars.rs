//! What QEMU's uefi-vars devices understand (QEMU `hw/uefi/var-service-vars.c`,
//! `include/hw/uefi/var-service-edk2.h`): the messages in which EDK2 asks its
//! variable driver in system-management mode.
//!
//! QEMU leaves to its client what §8.2 wants beyond signatures and storage;
//! [`prepare`] has these rules.

use super::bytes::{Writer, guid, int, number};
use super::{BUFFER, Data, Doorbell, Event, Place, Remote, Request};
use crate::variables::{Error, Key, Phase, attributes};
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::{Guid, Status, guid};

/// The registers of the device (QEMU `include/hw/uefi/var-service-api.h`).
pub mod register {
    /// 16 bits: [`super::MAGIC`].
    pub const MAGIC: usize = 0x00;
    /// 16 bits: takes a command, and returns what came of it.
    pub const COMMAND: usize = 0x02;
    /// 32 bits: size of the buffer.
    pub const BUFFER_SIZE: usize = 0x04;
    /// 32 bits: physical address of the buffer, the lower half.
    pub const BUFFER_LOW: usize = 0x08;
    /// 32 bits: the upper half.
    pub const BUFFER_HIGH: usize = 0x0c;
    /// 32 bits of the device's own buffer, the next ones with each access.
    pub const TRANSFER: usize = 0x10;
    /// 32 bits: [`super::USE_PIO`].
    pub const FLAGS: usize = 0x1c;
}

/// What tells the device from others.
pub const MAGIC: u16 = 0xef1;
/// Flag: the buffer goes through [`register::TRANSFER`]; the device does not read
/// memory.
pub const USE_PIO: u32 = 1;

/// Commands.
pub mod command {
    /// Forgets what it knows of the buffer.
    pub const RESET: u16 = 1;
    /// Answers what is in the buffer.
    pub const DMA: u16 = 2;
    /// Answers what has been transferred.
    pub const PIO: u16 = 3;
    /// Transfers from the start on.
    pub const REWIND: u16 = 4;
}

/// The command is done.
pub const DONE: u16 = 0;
/// The command is not done yet.
pub const BUSY: u16 = 1;

/// `EfiSmmVariableProtocolGuid`.
const MESSAGE: Guid = guid!("ed32d533-99e6-4209-9cc0-2d72cdd998a7");

const GET_VARIABLE: usize = 1;
const GET_NEXT_VARIABLE_NAME: usize = 2;
const SET_VARIABLE: usize = 3;
const QUERY_VARIABLE_INFO: usize = 4;
const READY_TO_BOOT: usize = 5;
const EXIT_BOOT_SERVICES: usize = 6;

/// A message: whom it is for, length of what follows; function, status.
const LENGTH: usize = 16;
const BODY: usize = 24;
/// Offset of the status in a reply.
pub const STATUS: usize = 32;
const PAYLOAD: usize = 40;

/// GetVariable, SetVariable: GUID, size of the data, size of the name,
/// attributes, name, data.
const DATA_SIZE: usize = 56;
const ATTRIBUTES: usize = 72;
const ACCESSED: usize = 76;
/// GetNextVariableName: GUID, size of the name, name.
const NAME_SIZE: usize = 56;
const NAME: usize = 64;
/// Offset of the three sizes of QueryVariableInfo.
pub const SIZES: usize = PAYLOAD;

/// What fits into the buffer as name and data.
pub const LARGEST: usize = BUFFER - ACCESSED;

/// `HardwareInfoQemuUefiVars`, whose information is the address of the registers.
const UEFI_VARS: u64 = 2;

/// The address of the device's registers, if QEMU's list of such things has it
/// (QEMU `hw/uefi/hardware-info.c`): type and length, 64 bits each, information.
pub fn find(mut list: &[u8]) -> Option<u64> {
    loop {
        let (kind, length) = (number(list, 0)?, number(list, 8)?);
        let (information, rest) = list
            .get(16..)?
            .split_at_checked(usize::try_from(length).ok()?)?;
        if kind == UEFI_VARS {
            return number(information, 0);
        }
        list = rest;
    }
}

/// Writes `request`, and returns where the reply ends at the latest.
#[inline(never)]
pub(super) fn encode(out: &mut Writer<'_>, request: Request<'_>) -> usize {
    let (function, room) = match request {
        Request::Get(_, room) => (GET_VARIABLE, room),
        Request::Next(key, room) => {
            let more = room.saturating_sub(key.name.bytes().len());
            (GET_NEXT_VARIABLE_NAME, more)
        }
        Request::Set(..) => (SET_VARIABLE, 0),
        Request::Info(_) => (QUERY_VARIABLE_INFO, 0),
        Request::Event(Event::ReadyToBoot) => (READY_TO_BOOT, 0),
        Request::Event(Event::ExitBootServices) => (EXIT_BOOT_SERVICES, 0),
    };
    out.guid(MESSAGE);
    out.long(0);
    out.long(function);
    // Until the host has answered.
    out.long(Status::DEVICE_ERROR.0);
    match request {
        Request::Get(key, room) => {
            let most = LARGEST.saturating_sub(key.name.bytes().len());
            access(out, key, room.min(most), VariableAttributes::empty());
        }
        Request::Next(key, _) => {
            out.guid(key.vendor);
            out.long(key.name.bytes().len());
            out.bytes(key.name.bytes());
        }
        Request::Set(key, attributes, Data { kept, added }) => {
            access(out, key, kept.saturating_add(added.len()), attributes);
            out.skip(kept);
            out.bytes(added);
        }
        Request::Info(attributes) => {
            out.bytes(&[0; 24]);
            out.int(attributes.bits());
        }
        Request::Event(_) => {}
    }
    let back = out.at().saturating_add(room).min(BUFFER);
    out.patch(LENGTH, back.saturating_sub(BODY));
    back
}

/// What GetVariable and SetVariable have in common.
fn access(out: &mut Writer<'_>, key: Key<'_>, data_size: usize, attributes: VariableAttributes) {
    out.guid(key.vendor);
    out.long(data_size);
    out.long(key.name.bytes().len());
    out.int(attributes.bits());
    out.bytes(key.name.bytes());
}

/// What GetVariable has found of `key`.
pub(super) fn data(reply: &[u8], key: Key<'_>) -> Option<Place> {
    Some(Place {
        vendor: key.vendor,
        attributes: int(reply, ATTRIBUTES)?,
        at: ACCESSED.checked_add(key.name.bytes().len())?,
        size: number(reply, DATA_SIZE)?,
    })
}

/// What GetNextVariableName has found.
pub(super) fn name(reply: &[u8]) -> Option<Place> {
    Some(Place {
        vendor: guid(reply, PAYLOAD)?,
        attributes: 0,
        at: NAME,
        size: number(reply, NAME_SIZE)?,
    })
}

/// What to ask of QEMU for SetVariable; none when nothing is to be done.
///
/// QEMU deletes what is not there with success and signed variables without a
/// signature, takes an appended write for lists of keys only, and writes
/// volatile variables at run time.
pub(super) fn prepare<'a, D: Doorbell>(
    remote: &mut Remote<'_, D>,
    phase: Phase,
    key: Key<'a>,
    attributes: VariableAttributes,
    data: &'a [u8],
) -> Result<Option<Request<'a>>, Error> {
    let request = Request::Set(key, attributes, Data::new(data));
    let append = attributes.contains(VariableAttributes::APPEND_WRITE);
    let deletes = attributes::deletes(attributes, data);
    let signed = attributes::signed(attributes) && !data.is_empty();
    if signed || (phase == Phase::Boot && !append && !deletes) {
        return Ok(Some(request));
    }
    let plain = attributes.difference(VariableAttributes::APPEND_WRITE);
    let lasting = |found: VariableAttributes| {
        phase == Phase::Boot || found.contains(attributes::NEEDED_AT_RUNTIME)
    };
    let room = if append && !deletes { BUFFER } else { 0 };
    let old = match remote.look(phase, key, room) {
        Ok(old) => old,
        Err(Error::Host(Status::NOT_FOUND)) => {
            return match () {
                () if deletes => Err(Error::NotFound),
                () if data.is_empty() => Ok(None),
                () if !lasting(plain) => Err(Error::NotForRuntime),
                () => Ok(Some(request)),
            };
        }
        Err(Error::Host(Status::ACCESS_DENIED)) => return Err(Error::ReadOnly),
        Err(error) => return Err(error),
    };
    let found = VariableAttributes::from_bits_retain(old.attributes);
    match () {
        () if attributes::signed(found) => Err(Error::Signed),
        () if !lasting(found) => Err(Error::ReadOnly),
        // Without access attributes nobody asks for any.
        () if plain != found && !attributes::without_access(plain) => Err(Error::AttributesDiffer),
        () if deletes => Ok(Some(Request::Set(key, attributes, Data::default()))),
        () if !append => Ok(Some(request)),
        () => {
            let kept = usize::try_from(old.size).map_err(|_| Error::Storage)?;
            let data = Data { kept, added: data };
            Ok(Some(Request::Set(key, plain, data)))
        }
    }
}
