//! Xenstore: the tree in which the toolstack tells a domain about itself (Xen
//! `docs/misc/xenstore.txt`, `xen/include/public/io/xs_wire.h`).
//!
//! Paths are relative to the domain's own directory, `/local/domain/N`, unless
//! they start with a slash. Promises that every answer is taken off the ring
//! before a call returns, so that the operating system finds it empty, and that
//! a store which does not answer is given up. Watches are never set: an event
//! of one is nobody's, and dropped.

use super::Link;
use super::ring::{Corrupt, Ring};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

const REQUESTS: Ring = Ring {
    data: 0,
    size: 1024,
    consumer: 0x800,
    producer: 0x804,
};
const ANSWERS: Ring = Ring {
    data: 0x400,
    size: 1024,
    consumer: 0x808,
    producer: 0x80c,
};
/// Not 0 while the store has not connected to the ring (yet).
const CONNECTION: usize = 0x814;

/// Length of a message's header: type, request, transaction, length.
const HEADER: usize = 16;
/// `XENSTORE_PAYLOAD_MAX`.
const PAYLOAD_MAX: usize = 4096;
/// All requests of a [`Transaction::read_all`] have to fit into the ring at once: a
/// store that waits for room for its answers reads no more of them.
const BATCH_MAX: usize = REQUESTS.size as usize;

// `enum xsd_sockmsg_type`.
const DIRECTORY: u32 = 1;
const READ: u32 = 2;
const TRANSACTION_START: u32 = 6;
const TRANSACTION_END: u32 = 7;
const WRITE: u32 = 11;
const REMOVE: u32 = 13;
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;

/// How often a transaction is tried that others keep from being committed.
const TRIES: u32 = 8;

/// Why the store did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It does not answer.
    Silent,
    /// The ring's indices make no sense.
    Ring(Corrupt),
    /// The request, or all those sent at once, are longer than this many bytes.
    TooLong(usize),
    /// It answered with this error, such as `EACCES`.
    Refused(Code),
    /// It answered something else than what was asked: type, length.
    Answer(u32, usize),
    /// Others kept changing what the transaction had read.
    Again,
}

/// The name of an error, as the store writes it; the end of a longer one is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code([u8; 16]);

impl Code {
    const NONE: Self = Self(*b"ENOENT\0\0\0\0\0\0\0\0\0\0");
    const AGAIN: Self = Self(*b"EAGAIN\0\0\0\0\0\0\0\0\0\0");

    fn of(bytes: &[u8]) -> Self {
        let mut code = [0; 16];
        for (to, from) in code.iter_mut().zip(without_nul(bytes)) {
            *to = *from;
        }
        Self(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(without_nul(&self.0)).unwrap_or("nonsense"))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "xenstore: ")?;
        match self {
            Self::Silent => write!(f, "expected an answer, found none in time"),
            Self::Ring(Corrupt(consumer, producer)) => write!(
                f,
                "expected indices at most {} apart, found {consumer:#x} and {producer:#x}",
                REQUESTS.size
            ),
            Self::TooLong(limit) => write!(f, "expected requests of at most {limit} bytes"),
            Self::Refused(error) => write!(f, "it answered {error}"),
            Self::Answer(ty, length) => write!(
                f,
                "expected the answer to a request, found type {ty} with {length} bytes"
            ),
            Self::Again => write!(f, "a transaction was disturbed {TRIES} times"),
        }
    }
}

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Ring(corrupt)
    }
}

/// The store, seen from one domain.
#[derive(Debug)]
pub struct Store<L> {
    link: L,
    /// What distinguishes the next request from others.
    next: Cell<u32>,
}

/// A consistent view of the store, as it was when the transaction started.
pub struct Transaction<'s, L> {
    store: &'s Store<L>,
    id: u32,
}

impl<L: Link> Store<L> {
    /// The store behind `link`.
    pub const fn new(link: L) -> Self {
        Self {
            link,
            next: Cell::new(1),
        }
    }

    /// Does `work` in a transaction, again from the start when somebody else has
    /// changed meanwhile what it depends on.
    ///
    /// # Errors
    /// What `work` returns, and [`Error::Again`].
    pub fn transaction<T>(
        &self,
        work: impl Fn(&Transaction<'_, L>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.link.wait(&|| self.link.load(CONNECTION) == 0) {
            return Err(Error::Silent);
        }
        for _ in 0..TRIES {
            let transaction = self.start()?;
            let done = work(&transaction);
            if let Err(Error::Silent | Error::Ring(_)) = done {
                return done;
            }
            match transaction.end() {
                Err(Error::Refused(Code::AGAIN)) => {}
                ended => return done.and_then(|result| ended.map(|()| result)),
            }
        }
        Err(Error::Again)
    }

    /// The names below `path`; none where there is no such node.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let names = if_any(self.request(DIRECTORY, &[path.as_bytes(), b"\0"]))?;
        let names = names.unwrap_or_default();
        let names = names.split(|byte| *byte == 0);
        Ok(names.filter(|name| !name.is_empty()).map(text).collect())
    }

    /// The value of `name` in `directory`, if there is one.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    #[cold]
    pub fn read(&self, directory: &str, name: &str) -> Result<Option<String>, Error> {
        let value = if_any(self.request_at(READ, directory, name, ""))?;
        Ok(value.as_deref().map(text))
    }

    /// Reads a number as [`Self::number`] does until `enough` says yes to it, or as
    /// long as a living back end may take. Returns the last one.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    pub fn watch(
        &self,
        directory: &str,
        name: &str,
        enough: &dyn Fn(u32) -> bool,
    ) -> Result<u32, Error> {
        let last = Cell::new(Ok(0));
        self.link.wait(&|| {
            let number = self.number(directory, name);
            let done = number.as_ref().map_or(true, |number| enough(*number));
            last.set(number);
            done
        });
        last.into_inner()
    }

    /// The number that is the value of `name` in `directory`, 0 where there is none.
    ///
    /// # Errors
    /// When the store does not answer as it should.
    #[cold]
    pub fn number(&self, directory: &str, name: &str) -> Result<u32, Error> {
        let value = if_any(self.request_at(READ, directory, name, ""))?;
        Ok(value.as_deref().and_then(decimal).unwrap_or(0))
    }

    /// Makes `value` the value of `name` in `directory`.
    ///
    /// # Errors
    /// When the store does not take it.
    #[cold]
    pub fn write(&self, directory: &str, name: &str, value: &str) -> Result<(), Error> {
        self.request_at(WRITE, directory, name, value).map(drop)
    }

    /// Removes `name` from `directory`, if it is there.
    ///
    /// # Errors
    /// When the store does not do it.
    pub fn remove(&self, directory: &str, name: &str) -> Result<(), Error> {
        if_any(self.request_at(REMOVE, directory, name, "")).map(drop)
    }

    #[cold]
    fn request_at(
        &self,
        ty: u32,
        directory: &str,
        name: &str,
        value: &str,
    ) -> Result<Vec<u8>, Error> {
        let parts = [directory, "/", name, "\0", value];
        self.request(ty, &parts.map(str::as_bytes))
    }

    /// A request outside of transactions.
    #[cold]
    fn request(&self, ty: u32, payload: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let request = self.send(ty, 0, payload)?;
        self.receive(ty, request)
    }

    fn start(&self) -> Result<Transaction<'_, L>, Error> {
        // The empty string: even that has a NUL.
        let request = self.send(TRANSACTION_START, 0, &[b"\0"])?;
        let answer = self.receive(TRANSACTION_START, request)?;
        let id = decimal(&answer).ok_or(Error::Answer(TRANSACTION_START, answer.len()))?;
        Ok(Transaction { store: self, id })
    }

    /// Sends a request; returns its number.
    #[cold]
    fn send(&self, ty: u32, transaction: u32, payload: &[&[u8]]) -> Result<u32, Error> {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        if length > PAYLOAD_MAX {
            return Err(Error::TooLong(PAYLOAD_MAX));
        }
        let request = self.next.get();
        self.next.set(request.wrapping_add(1));
        let words = [ty, request, transaction, u32::try_from(length).unwrap_or(0)];
        self.push(words.map(u32::to_le_bytes).as_flattened())?;
        for part in payload {
            self.push(part)?;
        }
        self.link.notify();
        Ok(request)
    }

    #[cold]
    fn push(&self, mut bytes: &[u8]) -> Result<(), Error> {
        loop {
            let pushed = REQUESTS.push(&self.link, bytes)?;
            bytes = bytes.get(pushed..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.link.notify();
            let room = || REQUESTS.used(&self.link).is_ok_and(|n| n < REQUESTS.size);
            if !self.link.wait(&room) {
                return Err(Error::Silent);
            }
        }
    }

    /// The payload of the answer to `request`.
    #[cold]
    fn receive(&self, ty: u32, request: u32) -> Result<Vec<u8>, Error> {
        loop {
            let mut header = [[0; 4]; HEADER / 4];
            self.pull(header.as_flattened_mut())?;
            let [found, answered, _, length] = header.map(u32::from_le_bytes);
            let length = length as usize;
            if length > PAYLOAD_MAX {
                return Err(Error::Answer(found, length));
            }
            let mut payload = vec![0; length];
            self.pull(&mut payload)?;
            match found {
                WATCH_EVENT => {}
                // To something that was given up before.
                _ if answered != request => {}
                ERROR => return Err(Error::Refused(Code::of(&payload))),
                _ if found == ty => return Ok(payload),
                _ => return Err(Error::Answer(found, length)),
            }
        }
    }

    #[cold]
    fn pull(&self, mut buffer: &mut [u8]) -> Result<(), Error> {
        loop {
            let pulled = ANSWERS.pull(&self.link, buffer)?;
            buffer = buffer.get_mut(pulled..).unwrap_or_default();
            if pulled > 0 {
                // It may wait for the room.
                self.link.notify();
            }
            if buffer.is_empty() {
                return Ok(());
            }
            let more = || ANSWERS.used(&self.link).is_ok_and(|n| n > 0);
            if !self.link.wait(&more) {
                return Err(Error::Silent);
            }
        }
    }
}

impl<L: Link> Transaction<'_, L> {
    /// The values at `paths`, none where there is none. All are asked for at
    /// once: each answer would cost a turn of another domain.
    ///
    /// # Errors
    /// When the store does not answer as it should; [`Error::TooLong`] for too
    /// many paths.
    pub fn read_all<const N: usize>(
        &self,
        paths: [&str; N],
    ) -> Result<[Option<Vec<u8>>; N], Error> {
        let length: usize = paths
            .iter()
            .map(|path| path.len().saturating_add(HEADER).saturating_add(1))
            .sum();
        if length > BATCH_MAX {
            return Err(Error::TooLong(BATCH_MAX));
        }
        let mut requests = [0; N];
        for (request, path) in requests.iter_mut().zip(paths) {
            *request = self.store.send(READ, self.id, &[path.as_bytes(), b"\0"])?;
        }
        let mut values = [const { None }; N];
        for (value, request) in values.iter_mut().zip(requests) {
            *value = if_any(self.store.receive(READ, request))?;
        }
        Ok(values)
    }

    /// Commits, which a transaction that has only read needs, too, to know that
    /// what it read belonged together.
    fn end(&self) -> Result<(), Error> {
        let request = self.store.send(TRANSACTION_END, self.id, &[b"T\0"])?;
        self.store.receive(TRANSACTION_END, request).map(drop)
    }
}

/// What there is none of is no error.
#[cold]
fn if_any(answer: Result<Vec<u8>, Error>) -> Result<Option<Vec<u8>>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::Refused(Code::NONE)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn without_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The decimal number that `text` is.
#[cold]
fn decimal(text: &[u8]) -> Option<u32> {
    let digits = without_nul(text).trim_ascii();
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|_| !digits.is_empty())
}

fn text(bytes: &[u8]) -> String {
    crate::text::of_bytes(without_nul(bytes))
}

#[cfg(test)]
pub(in crate::xen) mod tests;
