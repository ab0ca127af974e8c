//! A paravirtual disk, seen from the front end (Xen `xen/include/public/io/blkif.h`,
//! `xenbus.h`, `ring.h`).
//!
//! One request at a time, on a ring of one page, with [`PAGES`] pages for data
//! behind it; finished requests are found by looking. Promises that data go
//! through those pages only, that no answer is believed that does not fit the
//! request, that a disk that has failed once is not asked again, and that after
//! [`release`] the next front end can connect. Refuses disks whose sectors are not
//! of 512 bytes.

use super::Link;
use super::xenstore::{self, Store};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of a sector, always (`blkif.h`).
pub const SECTOR: usize = 512;
/// Pages for data: as many as a request has segments.
pub const PAGES: usize = 11;
const PAGE: usize = 4096;
/// Bytes that one request reads or writes at most.
const MOST: usize = PAGES * PAGE;

/// Fields of the ring.
const REQUESTS: usize = 0;
const REQUEST_EVENT: usize = 4;
const ANSWERS: usize = 8;
const ANSWER_EVENT: usize = 12;
const SLOTS: usize = 64;
const SLOT: usize = 112;
/// As many slots as fit, rounded down to a power of two.
const SLOT_COUNT: u32 = 32;
/// Where the segments of a request begin, and their length.
const SEGMENTS: usize = 24;
const SEGMENT: usize = 8;

// `BLKIF_OP_…`.
const READ: u8 = 0;
const WRITE: u8 = 1;
const BARRIER: u8 = 2;
const FLUSH: u8 = 3;

// `enum xenbus_state`.
const INITIALISING: u32 = 1;
const WAITING: u32 = 2;
const INITIALISED: u32 = 3;
const CONNECTED: u32 = 4;
const CLOSING: u32 = 5;
const CLOSED: u32 = 6;

/// Why a disk cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Xenstore does not do what it should.
    Store(xenstore::Error),
    /// The back end's state is not the one it should reach: expected, found.
    State(u32, u32),
    /// Its sectors have another size.
    SectorSize(u32),
    /// It does not answer.
    Silent,
    /// Its answer belongs to no request: the ring's index, the request's number.
    Answer(u32, u64),
    /// It has refused a request: operation, status.
    Refused(u8, i16),
    /// It has failed before, or the request is not within it.
    Unusable,
}

impl fmt::Display for Error {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::State(expected, found) => write!(
                f,
                "expected its back end in state {expected} in time, found {found}"
            ),
            Self::SectorSize(found) => {
                write!(f, "expected sectors of {SECTOR} bytes, found {found}")
            }
            Self::Silent => f.write_str("expected an answer, found none in time"),
            Self::Answer(index, id) => write!(
                f,
                "expected the answer to the last request, found {index:#x} for {id:#x}"
            ),
            Self::Refused(operation, status) => write!(
                f,
                "its back end answered operation {operation} with {status}"
            ),
            Self::Unusable => f.write_str("it cannot be used any more"),
        }
    }
}

impl From<xenstore::Error> for Error {
    fn from(error: xenstore::Error) -> Self {
        Self::Store(error)
    }
}

/// A disk that the toolstack has given to this domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Our directory in xenstore.
    node: String,
    /// The back end's.
    backend: String,
    /// The domain in which that is.
    pub domain: u16,
    /// What the configuration calls it, such as `xvdz`.
    pub name: String,
}

/// All disks, CD-ROM drives left out.
///
/// # Errors
/// When xenstore does not answer as it should.
pub fn all(store: &Store<impl Link>) -> Result<Vec<Found>, xenstore::Error> {
    let mut disks = Vec::new();
    for id in store.list("device/vbd")? {
        let node = format!("device/vbd/{id}");
        let read = |name| store.read(&node, name);
        let Some(backend) = read("backend")? else {
            continue;
        };
        let domain = read("backend-id")?.and_then(|text| text.parse().ok());
        let drive = read("device-type")?.is_some_and(|ty| ty == "cdrom");
        if let (Some(domain), false) = (domain, drive) {
            disks.push(Found {
                name: store.read(&backend, "dev")?.unwrap_or(id),
                node,
                backend,
                domain,
            });
        }
    }
    Ok(disks)
}

/// What the back end is given to reach us.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// The event channel, unbound.
    pub port: u32,
    /// The grant of the ring's page. The data pages' follow it.
    pub grant: u32,
}

/// A connected disk.
#[derive(Debug)]
pub struct Disk<L> {
    /// The ring's page, and behind it those for data.
    link: L,
    grant: u32,
    /// Its size in sectors.
    pub sectors: u64,
    /// What makes writes durable, if anything does.
    flush: Option<u8>,
    /// Something was written after the last flush.
    written: bool,
    /// Number of the next request, and its index on the ring: the one that lies
    /// there is anybody's to change.
    next: u32,
    /// A request has not been answered, or wrongly: the pages are not ours.
    failed: bool,
}

impl<L: Link> Disk<L> {
    /// Connects to `found`. To be released, whatever comes of it.
    ///
    /// # Errors
    /// When the back end does not connect, or the disk is none for us.
    pub fn connect(
        store: &Store<impl Link>,
        found: &Found,
        link: L,
        channel: Channel,
    ) -> Result<Self, Error> {
        reaches(store, found, WAITING, WAITING)?;
        for field in [REQUESTS, ANSWERS] {
            link.store(field, 0);
        }
        for field in [REQUEST_EVENT, ANSWER_EVENT] {
            link.store(field, 1);
        }
        let Channel { port, grant } = channel;
        write(store, found, "ring-ref", grant)?;
        write(store, found, "event-channel", port)?;
        store.write(&found.node, "protocol", "x86_64-abi")?;
        write(store, found, "state", INITIALISED)?;
        reaches(store, found, CONNECTED, CONNECTED)?;
        let number = |name| store.number(&found.backend, name);
        let size = number("sector-size")?;
        if size != 0 && size as usize != SECTOR {
            return Err(Error::SectorSize(size));
        }
        let flushes = [("feature-flush-cache", FLUSH), ("feature-barrier", BARRIER)];
        let mut flush = None;
        for (name, operation) in flushes {
            if flush.is_none() && number(name)? == 1 {
                flush = Some(operation);
            }
        }
        let sectors = u64::from(number("sectors")?);
        write(store, found, "state", CONNECTED)?;
        Ok(Self::new(link, grant, sectors, flush))
    }

    /// A disk of `sectors` sectors whose back end has connected to `link`, and does
    /// `flush` to make writes durable.
    pub const fn new(link: L, grant: u32, sectors: u64, flush: Option<u8>) -> Self {
        Self {
            link,
            grant,
            sectors,
            flush,
            written: false,
            next: 0,
            failed: false,
        }
    }

    /// Fills `buffer`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// When it is not within the disk, or cannot be read.
    #[cold]
    pub fn read(&mut self, mut sector: u64, buffer: &mut [u8]) -> Result<(), Error> {
        for piece in buffer.chunks_mut(MOST) {
            self.request(READ, sector, piece.len())?;
            self.link.read(PAGE, piece);
            sector = sector.saturating_add((piece.len() / SECTOR) as u64);
        }
        Ok(())
    }

    /// Writes `bytes`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// When they are not within the disk, or cannot be written.
    #[cold]
    pub fn write(&mut self, mut sector: u64, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(MOST) {
            self.written = true;
            self.link.write(PAGE, piece);
            self.request(WRITE, sector, piece.len())?;
            sector = sector.saturating_add((piece.len() / SECTOR) as u64);
        }
        Ok(())
    }

    /// Makes durable what was written, if the back end can do that.
    ///
    /// # Errors
    /// When it was not done.
    pub fn flush(&mut self) -> Result<(), Error> {
        if let (Some(operation), true) = (self.flush, self.written) {
            self.request(operation, 0, 0)?;
        }
        self.written = false;
        Ok(())
    }

    #[cold]
    fn request(&mut self, operation: u8, sector: u64, bytes: usize) -> Result<(), Error> {
        let end = sector.checked_add((bytes / SECTOR) as u64);
        if self.failed || end.is_none_or(|end| end > self.sectors) {
            return Err(Error::Unusable);
        }
        let answer = self.exchange(operation, sector, bytes);
        self.failed = matches!(answer, Err(Error::Silent | Error::Answer(..)));
        answer
    }

    fn exchange(&mut self, operation: u8, sector: u64, bytes: usize) -> Result<(), Error> {
        let before = self.next;
        let (id, after) = (u64::from(before), before.wrapping_add(1));
        self.next = after;
        let slot = (before % SLOT_COUNT) as usize;
        let slot = SLOTS.saturating_add(SLOT.saturating_mul(slot));
        let request = self.written_out(operation, id, sector, bytes);
        self.link.write(slot, &request);
        self.link.store(REQUESTS, after);
        self.link.notify();
        let answered = || self.link.load(ANSWERS) != before;
        if !self.link.wait(&answered) {
            return Err(Error::Silent);
        }
        let mut answer = [0; 12];
        self.link.read(slot, &mut answer);
        let [a, b, c, d, e, f, g, h, answered, _, low, high] = answer;
        let (found, index) = (
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            self.link.load(ANSWERS),
        );
        if index != after || found != id || answered != operation {
            return Err(Error::Answer(index, found));
        }
        match i16::from_le_bytes([low, high]) {
            0 => Ok(()),
            status => Err(Error::Refused(operation, status)),
        }
    }

    /// A request, as it lies on the ring.
    fn written_out(&self, operation: u8, id: u64, sector: u64, bytes: usize) -> [u8; SLOT] {
        let mut request = [0; SLOT];
        let segments = (self.grant..).zip((0..bytes).step_by(PAGE));
        let mut count = 0;
        for ((grant, start), room) in segments.zip(request.chunks_exact_mut(SEGMENT).skip(3)) {
            let sectors = bytes.saturating_sub(start).min(PAGE) / SECTOR;
            let last = u8::try_from(sectors.saturating_sub(1)).unwrap_or(0);
            let [a, b, c, d] = grant.wrapping_add(1).to_le_bytes();
            room.copy_from_slice(&[a, b, c, d, 0, last, 0, 0]);
            count = u8::wrapping_add(count, 1);
        }
        let head = [u64::from(operation) | u64::from(count) << 8, id, sector];
        for (room, value) in request.chunks_exact_mut(8).zip(head) {
            room.copy_from_slice(&value.to_le_bytes());
        }
        request
    }
}

const _: () = assert!(SEGMENTS == 3 * SEGMENT && SEGMENTS + PAGES * SEGMENT == SLOT);

/// Gives `found` back, such that another front end can connect to it: the back
/// end has let go of all pages when this succeeds, and waits again.
///
/// # Errors
/// When the back end does not follow. It may go on using the pages.
pub fn release(store: &Store<impl Link>, found: &Found) -> Result<(), Error> {
    write(store, found, "state", CLOSING)?;
    reaches(store, found, CLOSING, CLOSED)?;
    write(store, found, "state", CLOSED)?;
    // It unmaps the pages before it says so. QEMU's used to go on at once.
    reaches(store, found, CLOSED, WAITING)?;
    write(store, found, "state", INITIALISING)?;
    reaches(store, found, WAITING, WAITING)?;
    for name in ["ring-ref", "event-channel", "protocol"] {
        store.remove(&found.node, name)?;
    }
    Ok(())
}

fn write(
    store: &Store<impl Link>,
    found: &Found,
    name: &str,
    value: u32,
) -> Result<(), xenstore::Error> {
    store.write(&found.node, name, &format!("{value}"))
}

/// Waits for one of two states of the back end.
#[cold]
fn reaches(store: &Store<impl Link>, found: &Found, state: u32, or: u32) -> Result<(), Error> {
    let wanted = |found| found == state || found == or;
    // One that does not exist any more, or does not want to connect.
    let given_up = |found| found == 0 || state == CONNECTED && found > CONNECTED;
    let enough = |found| wanted(found) || given_up(found);
    let last = store.watch(&found.backend, "state", &enough)?;
    match wanted(last) {
        true => Ok(()),
        false => Err(Error::State(state, last)),
    }
}

/// Which sectors of an image in memory are not on its disk yet.
#[derive(Debug)]
pub struct Changes(Vec<bool>);

impl Changes {
    /// None of an image of `bytes` bytes.
    #[must_use]
    #[cold]
    pub fn none(bytes: usize) -> Self {
        Self(alloc::vec![false; bytes / SECTOR])
    }

    /// `length` bytes at `offset` have changed.
    pub fn add(&mut self, offset: usize, length: usize) {
        let end = offset.saturating_add(length).div_ceil(SECTOR);
        let first = offset / SECTOR;
        let sectors = self.0.iter_mut().take(end).skip(first);
        sectors.for_each(|sector| *sector = true);
    }

    /// Writes what has changed of `image` to the start of `disk`, in ascending
    /// order, and makes it durable. What fails has still changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store<L: Link>(&mut self, disk: &mut Disk<L>, image: &[u8]) -> Result<(), Error> {
        while let Some(first) = self.0.iter().position(|changed| *changed) {
            let run = self.0.iter().skip(first).take(MOST / SECTOR);
            let run = run.take_while(|changed| **changed);
            let start = first.saturating_mul(SECTOR);
            let end = run.count().saturating_mul(SECTOR).saturating_add(start);
            let bytes = image.get(start..end).ok_or(Error::Unusable)?;
            disk.write(first as u64, bytes)?;
            let run = self.0.iter_mut().skip(first).take(bytes.len() / SECTOR);
            run.for_each(|changed| *changed = false);
        }
        disk.flush()
    }
}

#[cfg(test)]
mod tests;
