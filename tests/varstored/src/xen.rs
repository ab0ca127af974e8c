//! An I/O request server of Xen: what emulates some ports of a domain, in a
//! process of dom0.
//!
//! By the kernel's own interface, because libxendevicemodel is not there where
//! this is built: Linux, `include/uapi/xen/{privcmd,evtchn}.h`; Xen,
//! `xen/include/public/hvm/{dm_op,ioreq}.h`.
//!
//! The server stays when the process ends: the domain waits for an answer for as
//! long as it lives.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use std::{ptr, slice};

pub const PAGE: usize = 4096;

/// `_IOC(_IOC_NONE, …)` of the kernel for a structure of `size` bytes.
const fn request(kind: u8, number: u64, size: usize) -> libc::c_ulong {
    (size as u64) << 16 | (kind as u64) << 8 | number
}

const MAP_FRAMES: libc::c_ulong = request(b'P', 4, size_of::<MapFrames>());
const OPERATE: libc::c_ulong = request(b'P', 5, size_of::<Operate>());
const MAP_RESOURCE: libc::c_ulong = request(b'P', 7, size_of::<MapResource>());
const BIND: libc::c_ulong = request(b'E', 1, size_of::<[u32; 2]>());
const NOTIFY: libc::c_ulong = request(b'E', 4, size_of::<u32>());

/// `XEN_DMOP_*_ioreq_server`.
const CREATE: u32 = 1;
const INFORMATION: u32 = 2;
const MAP_RANGE: u32 = 3;
const SET_STATE: u32 = 5;
/// `XEN_DMOP_no_gfns`.
const NO_FRAMES: u16 = 1;
/// `XENMEM_resource_ioreq_server`, and `_frame_ioreq(0)` in it.
const REQUESTS: u32 = 0;
const FIRST_PAGE: u32 = 1;

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
struct MapFrames {
    count: u32,
    domain: u16,
    address: *mut u8,
    frames: *const u64,
    errors: *mut i32,
}

/// `struct privcmd_dm_op`, and its `privcmd_dm_op_buf`.
#[repr(C)]
struct Operate {
    domain: u16,
    count: u16,
    buffers: *const Buffer,
}

#[repr(C)]
struct Buffer {
    start: *mut Operation,
    size: usize,
}

/// `struct xen_dm_op`, as large as the operations that are used here.
#[repr(C)]
struct Operation {
    operation: u32,
    padding: u32,
    arguments: Arguments,
}

type Arguments = [u8; 24];

/// `struct privcmd_mmap_resource`.
#[repr(C)]
struct MapResource {
    domain: u16,
    kind: u32,
    id: u32,
    index: u32,
    count: u64,
    address: *mut u8,
}

/// `struct ioreq`: one of a page of them, by the number of the processor. Xen
/// writes into it, too, hence the atomics.
#[repr(C)]
struct Slot {
    address: AtomicU64,
    data: AtomicU64,
    count: AtomicU32,
    size: AtomicU32,
    /// Xen's event channel.
    channel: AtomicU32,
    padding: AtomicU16,
    /// State in bits 0 to 3; bit 4: `data` is an address; bit 5: a read.
    flags: AtomicU8,
    kind: AtomicU8,
}

const STATE: u8 = 0xf;
const READY: u8 = 1;
const IN_PROCESS: u8 = 2;
const ANSWERED: u8 = 3;
const INDIRECT: u8 = 1 << 4;
const READ: u8 = 1 << 5;
const PORT: u8 = 0;

/// An access of the guest to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read { port: u64 },
    Write { port: u64, size: u32, value: u64 },
}

/// Pages of another domain, or of Xen.
struct Mapping {
    start: *mut u8,
    size: usize,
}

/// The server.
pub struct Server {
    domain: u16,
    id: u16,
    control: File,
    events: File,
    page: Mapping,
    /// Our event channel of each processor.
    channels: Vec<u32>,
}

impl Server {
    /// Becomes the server of these ports of `domain`, which must not run yet.
    ///
    /// # Errors
    /// When Xen refuses something.
    pub fn register(domain: u16, ports: [u64; 2]) -> io::Result<Server> {
        let open = |path| OpenOptions::new().read(true).write(true).open(path);
        let control = open("/dev/xen/privcmd")?;
        // Without a ring for buffered requests. The number comes back at 4.
        let created = operate(&control, domain, CREATE, Arguments::default())?;
        let id = u16::from_le_bytes([created[4], created[5]]);
        let page = Mapping::of(&control, PAGE)?;
        page.put_requests(&control, domain, id)?;
        let mut server = Server {
            domain,
            id,
            control,
            events: open("/dev/xen/evtchn")?,
            page,
            channels: Vec::new(),
        };
        server.operate(MAP_RANGE, &range(ports))?;
        let enabled = [1];
        server.operate(SET_STATE, &enabled)?;
        server.bind()?;
        Ok(server)
    }

    /// An operation on this server; `arguments` follow its number.
    fn operate(&self, operation: u32, arguments: &[u8]) -> io::Result<()> {
        let mut all = Arguments::default();
        all[..2].copy_from_slice(&self.id.to_le_bytes());
        all[2..][..arguments.len()].copy_from_slice(arguments);
        operate(&self.control, self.domain, operation, all).map(drop)
    }

    /// Takes the channel of each processor that the domain has.
    fn bind(&mut self) -> io::Result<()> {
        for slot in self.page.slots() {
            let theirs = slot.channel.load(Ordering::Acquire);
            if theirs == 0 {
                break;
            }
            let mut pair = [u32::from(self.domain), theirs];
            let ours = control(&self.events, BIND, &mut pair)?;
            self.channels.push(ours.cast_unsigned());
        }
        Ok(())
    }

    /// Whether the domain is still there.
    pub fn has_domain(&self) -> bool {
        let arguments = NO_FRAMES.to_le_bytes();
        self.operate(INFORMATION, &arguments).is_ok()
    }

    /// Waits for an access, at most for `patience`, and answers it: a read with
    /// the value that `answer` returns.
    ///
    /// # Errors
    /// When the devices of the kernel do.
    pub fn serve(
        &mut self,
        patience: Duration,
        answer: &mut dyn FnMut(&Server, Access) -> u64,
    ) -> io::Result<()> {
        if !readable(&self.events, patience)? {
            return Ok(());
        }
        let mut channel = [0; 4];
        self.events.read_exact(&mut channel)?;
        // Unmasks it: what comes from here on is told again.
        self.events.write_all(&channel)?;
        let mut channel = u32::from_ne_bytes(channel);
        let Some(index) = self.channels.iter().position(|ours| *ours == channel) else {
            return Ok(());
        };
        if self.process(index, answer) {
            control(&self.events, NOTIFY, &mut channel)?;
        }
        Ok(())
    }

    /// Answers what a processor asks, if anything.
    fn process(&self, index: usize, answer: &mut dyn FnMut(&Server, Access) -> u64) -> bool {
        let Some(slot) = self.page.slots().get(index) else {
            return false;
        };
        let flags = slot.flags.load(Ordering::Acquire);
        if flags & STATE != READY {
            return false;
        }
        let become_state = |state| slot.flags.store(flags & !STATE | state, Ordering::Release);
        become_state(IN_PROCESS);
        if let Some(access) = slot.access(flags) {
            let value = answer(self, access);
            if matches!(access, Access::Read { .. }) {
                slot.data.store(value, Ordering::Relaxed);
            }
        }
        become_state(ANSWERED);
        true
    }

    /// Calls `action` with a copy of guest pages that begin at frame `first`, and
    /// writes back what it made of them.
    ///
    /// # Errors
    /// When a page is not there.
    pub fn with_frames<const SIZE: usize>(
        &self,
        first: u64,
        action: impl FnOnce(&mut [u8; SIZE]),
    ) -> io::Result<()> {
        let mapping = Mapping::of(&self.control, SIZE)?;
        mapping.put_frames(&self.control, self.domain, first)?;
        let mut bytes = [0; SIZE];
        // SAFETY: the mapping is that large; the guest waits for our answer.
        unsafe { ptr::copy_nonoverlapping(mapping.start, bytes.as_mut_ptr(), SIZE) };
        action(&mut bytes);
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), mapping.start, SIZE) };
        Ok(())
    }
}

/// `struct xen_dm_op_ioreq_server_range` behind the number: padding, ports, from
/// and to.
fn range(ports: [u64; 2]) -> [u8; 22] {
    let mut range = [0; 22];
    range[6..14].copy_from_slice(&ports[0].to_le_bytes());
    range[14..].copy_from_slice(&ports[1].to_le_bytes());
    range
}

impl Slot {
    /// What the guest does; `None` for what is no access to a port as they are
    /// made one by one.
    fn access(&self, flags: u8) -> Option<Access> {
        if self.kind.load(Ordering::Relaxed) != PORT || flags & INDIRECT != 0 {
            return None;
        }
        let port = self.address.load(Ordering::Relaxed);
        if flags & READ != 0 {
            return Some(Access::Read { port });
        }
        Some(Access::Write {
            port,
            size: self.size.load(Ordering::Relaxed),
            value: self.data.load(Ordering::Relaxed),
        })
    }
}

impl Mapping {
    /// Addresses for `size` bytes, with nothing there yet.
    fn of(control: &File, size: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (null, fd) = (ptr::null_mut(), control.as_raw_fd());
        // SAFETY: new addresses of the kernel's choice.
        let start = unsafe { libc::mmap(null, size, protection, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            size,
        })
    }

    /// Puts the page of requests there.
    fn put_requests(&self, file: &File, domain: u16, id: u16) -> io::Result<()> {
        let mut resource = MapResource {
            domain,
            kind: REQUESTS,
            id: id.into(),
            index: FIRST_PAGE,
            count: 1,
            address: self.start,
        };
        control(file, MAP_RESOURCE, &mut resource).map(drop)
    }

    /// Puts pages of the domain's memory there.
    fn put_frames(&self, file: &File, domain: u16, first: u64) -> io::Result<()> {
        let count = self.size / PAGE;
        let frames: Vec<u64> = (first..).take(count).collect();
        let mut errors = vec![0; count];
        let mut map = MapFrames {
            count: u32::try_from(count).unwrap_or(0),
            domain,
            address: self.start,
            frames: frames.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        control(file, MAP_FRAMES, &mut map)?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(io::Error::from_raw_os_error(error.abs())),
            None => Ok(()),
        }
    }

    /// The page of requests, by the number of the processor.
    fn slots(&self) -> &[Slot] {
        let start = self.start.cast::<Slot>();
        // SAFETY: the mapping's own memory, page-aligned, for as long as it is
        // there; everyone accesses it atomically.
        unsafe { slice::from_raw_parts(start, self.size / size_of::<Slot>()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours alone, and nothing points there any more.
        unsafe { libc::munmap(self.start.cast(), self.size) };
    }
}

/// A device model operation; returns its arguments as Xen left them.
fn operate(
    file: &File,
    domain: u16,
    operation: u32,
    arguments: Arguments,
) -> io::Result<Arguments> {
    let mut structure = Operation {
        operation,
        padding: 0,
        arguments,
    };
    let buffer = Buffer {
        start: &raw mut structure,
        size: size_of::<Operation>(),
    };
    let mut operate = Operate {
        domain,
        count: 1,
        buffers: &raw const buffer,
    };
    control(file, OPERATE, &mut operate)?;
    Ok(structure.arguments)
}

/// ioctl(2) with the structure that `request` is for.
fn control<T>(file: &File, request: libc::c_ulong, structure: &mut T) -> io::Result<i32> {
    // SAFETY: each request is used with its own structure, whose pointers lead to
    // what outlives the call; what they map is the caller's own mapping.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut *structure) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// poll(2) for something to read.
fn readable(file: &File, patience: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one structure.
    let ready = unsafe { libc::poll(&raw mut poll, 1, patience) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_laid_out_as_in_the_headers() {
        assert_eq!(size_of::<Slot>(), 32);
        assert_eq!(std::mem::offset_of!(Slot, flags), 30);
        let sizes = [
            size_of::<MapFrames>(),
            size_of::<Operate>(),
            size_of::<MapResource>(),
        ];
        assert_eq!(sizes, [32, 16, 32]);
        assert_eq!(std::mem::offset_of!(MapFrames, address), 8);
        // `_IOC(_IOC_NONE, 'P', 5, 16)`.
        assert_eq!(OPERATE, 0x0010_5005);
    }

    #[test]
    fn a_range_is_of_ports() {
        let range = range([0x100, 0x10b]);
        assert_eq!(range[..6], [0; 6]);
        assert_eq!(range[6..8], [0, 1]);
        assert_eq!(range[14..16], [0xb, 1]);
    }
}
