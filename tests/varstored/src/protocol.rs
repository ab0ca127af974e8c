//! varstored's messages: a request in sixteen pages of the guest, and the answer
//! in its place. Numbers are little-endian and nothing is padded
//! (xapi-project/varstored, `include/serialize.h` and `handler.c`).
//!
//! Bytes of a request may be anything: what varstored would read beyond the end
//! of the pages is a `DEVICE_ERROR` here, and what it does not know is left
//! without an answer, as there.

use crate::file;
use crate::store::{
    ACCESS_DENIED, DATA_LIMIT, DEVICE_ERROR, INVALID_PARAMETER, Key, NAME_LIMIT, NOT_FOUND,
    OUT_OF_RESOURCES, Refusal, SUCCESS, Status, Store,
};

/// Size of the message, in bytes.
pub const SIZE: usize = 16 * 4096;

const VERSION: u32 = 1;

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Get,
    Set,
    Next,
    Space,
    /// An image was refused by secure boot. The host is told once.
    Notify,
}

/// What a message asked and got.
#[derive(Debug)]
pub struct Handled {
    pub command: Option<Command>,
    /// The room the guest has for the answer, where it says one.
    pub room: u64,
    /// For the log, one line.
    pub line: String,
}

/// varstored's side.
#[derive(Debug)]
pub struct Service {
    pub store: Store,
    notified: bool,
}

impl Service {
    /// A service of `store`.
    pub fn new(store: Store) -> Service {
        Service {
            store,
            notified: false,
        }
    }

    /// Answers the request in `message`.
    pub fn handle(&mut self, message: &mut [u8; SIZE]) -> Handled {
        let request = *message;
        let mut request = Reader(&request);
        let mut handled = Handled {
            command: request.command(),
            room: 0,
            line: String::new(),
        };
        let mut answer = Writer { message, at: 0 };
        let Some(command) = handled.command else {
            handled.line = "unknown: no answer".into();
            return handled;
        };
        let result = match command {
            Command::Get => self.get(&mut request, &mut answer, &mut handled),
            Command::Set => self.set(&mut request, &mut handled),
            Command::Next => self.next(&mut request, &mut answer, &mut handled),
            Command::Space => self.space(&mut request, &mut answer, &mut handled),
            Command::Notify => self.notify(&mut handled),
        };
        let status = match result {
            Ok(()) => SUCCESS,
            Err(Refusal::Status(status)) => status,
            Err(Refusal::TooSmall(size)) => {
                answer.at = 8;
                answer.u64(size);
                crate::store::BUFFER_TOO_SMALL
            }
        };
        answer.at = 0;
        answer.u64(status);
        handled.line += &format!(": {status:#x}");
        handled
    }

    fn get(
        &self,
        request: &mut Reader<'_>,
        answer: &mut Writer<'_>,
        handled: &mut Handled,
    ) -> Result<(), Refusal> {
        handled.line = "get".into();
        let name = request.bytes(NAME_LIMIT, DEVICE_ERROR)?;
        if name.is_empty() {
            return Err(Refusal::Status(NOT_FOUND));
        }
        let key = request.key(name)?;
        handled.room = request.u64()?;
        let at_runtime = request.at_runtime()?;
        handled.line = line("get", &key, at_runtime);
        let found = self.store.get(&key, handled.room, at_runtime)?;
        answer.at = 8;
        answer.put(&found.attributes.to_le_bytes());
        answer.u64(found.data.len() as u64);
        answer.put(&found.data);
        Ok(())
    }

    fn set(&mut self, request: &mut Reader<'_>, handled: &mut Handled) -> Result<(), Refusal> {
        handled.line = "set".into();
        let name = request.bytes(NAME_LIMIT, DEVICE_ERROR)?;
        if name.is_empty() {
            return Err(Refusal::Status(INVALID_PARAMETER));
        }
        let key = request.key(name)?;
        let data = request.bytes(DATA_LIMIT, OUT_OF_RESOURCES)?;
        let attributes = request.u32()?;
        let at_runtime = request.at_runtime()?;
        handled.line = line("set", &key, at_runtime);
        handled.line += &format!(" attributes={attributes:#x} size={}", data.len());
        let result = self.store.set(&key, data, attributes, at_runtime);
        result.map_err(Refusal::Status)
    }

    fn next(
        &self,
        request: &mut Reader<'_>,
        answer: &mut Writer<'_>,
        handled: &mut Handled,
    ) -> Result<(), Refusal> {
        handled.line = "next".into();
        handled.room = request.u64()?;
        let name = request.bytes(NAME_LIMIT, DEVICE_ERROR)?;
        let key = request.key(name)?;
        let at_runtime = request.at_runtime()?;
        handled.line = line("next", &key, at_runtime);
        let found = self.store.next(&key, handled.room, at_runtime)?;
        answer.at = 8;
        answer.u64(found.key.name.len() as u64);
        answer.put(&found.key.name);
        answer.put(&found.key.vendor);
        Ok(())
    }

    fn space(
        &self,
        request: &mut Reader<'_>,
        answer: &mut Writer<'_>,
        handled: &mut Handled,
    ) -> Result<(), Refusal> {
        handled.line = "space".into();
        let attributes = request.u32()?;
        handled.line += &format!(" attributes={attributes:#x}");
        let numbers = self.store.space(attributes)?;
        answer.at = 8;
        numbers.into_iter().for_each(|number| answer.u64(number));
        Ok(())
    }

    fn notify(&mut self, handled: &mut Handled) -> Result<(), Refusal> {
        handled.line = "notify".into();
        if self.notified {
            return Err(Refusal::Status(ACCESS_DENIED));
        }
        self.notified = true;
        Ok(())
    }
}

fn line(command: &str, key: &Key, at_runtime: bool) -> String {
    let at_runtime = u8::from(at_runtime);
    format!("{command} {} at_runtime={at_runtime}", file::shown(key))
}

/// What is left of a request.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn command(&mut self) -> Option<Command> {
        let (version, command) = (self.u32().ok()?, self.u32().ok()?);
        let known = match command {
            0 => Command::Get,
            1 => Command::Set,
            2 => Command::Next,
            3 => Command::Space,
            4 => Command::Notify,
            _ => return None,
        };
        (version == VERSION).then_some(known)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let split = self.0.split_first_chunk();
        let (array, rest) = split.ok_or(Refusal::Status(DEVICE_ERROR))?;
        self.0 = rest;
        Ok(*array)
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_le_bytes)
    }

    fn at_runtime(&mut self) -> Result<bool, Refusal> {
        self.array().map(|[byte]| byte != 0)
    }

    /// A length and so many bytes; a length beyond `limit` is refused with `status`.
    fn bytes(&mut self, limit: u64, status: Status) -> Result<&'a [u8], Refusal> {
        let length = self.u64()?;
        let length = usize::try_from(length).ok();
        let length = length.filter(|length| *length as u64 <= limit);
        let length = length.ok_or(Refusal::Status(status))?;
        let split = self.0.split_at_checked(length);
        let (bytes, rest) = split.ok_or(Refusal::Status(DEVICE_ERROR))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The vendor, which follows the name.
    fn key(&mut self, name: &[u8]) -> Result<Key, Refusal> {
        Ok(Key {
            name: name.to_vec(),
            vendor: self.array()?,
        })
    }
}

/// Writes an answer. Nothing that the limits allow is larger than the message.
pub struct Writer<'a> {
    pub message: &'a mut [u8; SIZE],
    pub at: usize,
}

impl Writer<'_> {
    pub fn put(&mut self, bytes: &[u8]) {
        self.message[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub fn u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
