//! A host that keeps variables, as the hardware in front of it looks to the image:
//! an I/O port, or a page of registers.
//!
//! A process has neither. Its access to the port, and to the page, which is mapped
//! without any right, is a SIGSEGV, on which the port's instruction is skipped and
//! the one that touches a register is executed alone, on memory that holds the
//! register's value. The host is the model that `services` is tested with.

#[path = "../../../services/src/variables/remote/host.rs"]
mod host;

use host::Host;
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use ovmf_lite_services::resident::{self, Protocol};
use ovmf_lite_services::variables::remote::uefi_vars::{DONE, MAGIC, USE_PIO, command, register};
use ovmf_lite_services::variables::remote::{BUFFER, varstored};
use std::cell::RefCell;
use std::ptr;
use std::sync::Once;

const PAGE: usize = 4096;
/// `out dx, eax`.
const OUT: u8 = 0xef;
/// In the error code of a page fault: it was a write.
const WRITE: i64 = 2;
/// In the flags: stop after one instruction.
const TRAP: i64 = 0x100;

/// What is plugged into the machine of a test, which is one thread.
pub struct Device {
    host: Host,
    /// Whether it answers at all.
    silent: bool,
    /// Where the registers are mapped now, NULL for a port.
    page: *mut u8,
    flags: u32,
    status: u16,
    size: u32,
    address: [u32; 2],
    /// The device's own buffer, and where the next transfer goes.
    own: Vec<u8>,
    at: usize,
    /// The register that an instruction is about to write.
    written: Option<usize>,
    /// Where the image was, and how far it has moved.
    moved: (usize, usize),
}

thread_local! {
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// Plugs in a host that speaks `protocol`; one that does not read memory by
/// itself, or one that does not answer.
pub fn plug(protocol: Protocol, reads_memory: bool, silent: bool) -> resident::Host {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        handle(libc::SIGSEGV, fault);
        handle(libc::SIGTRAP, trap);
    });
    let page = match protocol {
        Protocol::UEFI_VARS => unmapped(),
        _ => ptr::null_mut(),
    };
    let device = Device {
        host: Host::default(),
        silent,
        page,
        flags: if reads_memory { 0 } else { USE_PIO },
        status: DONE,
        size: 0,
        address: [0; 2],
        own: vec![0; BUFFER],
        at: 0,
        written: None,
        moved: (0, 0),
    };
    DEVICE.set(Some(device));
    let address = match protocol {
        Protocol::UEFI_VARS => page.addr() as u64,
        _ => varstored::PORT.into(),
    };
    resident::Host { protocol, address }
}

/// The operating system has moved the image by `distance` from `first`, and the
/// registers, to the address returned.
pub fn moves(first: usize, distance: usize) -> u64 {
    with(|device| {
        device.moved = (first, distance);
        if !device.page.is_null() {
            device.page = unmapped();
        }
        device.page.addr() as u64
    })
}

/// How many variables the host has, and what events it has seen.
pub fn kept() -> (usize, Vec<u64>) {
    with(|device| (device.host.variables.len(), device.host.events.clone()))
}

fn with<R>(act: impl FnOnce(&mut Device) -> R) -> R {
    DEVICE.with_borrow_mut(|device| act(device.as_mut().expect("a device")))
}

/// A page without any right.
fn unmapped() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: nothing existing is replaced.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

fn protect(page: *mut u8, access: c_int) {
    // SAFETY: a page of ours, which only the image touches.
    let result = unsafe { libc::mprotect(page.cast(), PAGE, access) };
    assert_eq!(result, 0);
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler) {
    // SAFETY: zeros are a valid action.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    let result = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

fn register_of(context: &mut ucontext_t, register: c_int) -> &mut i64 {
    &mut context.uc_mcontext.gregs[usize::try_from(register).expect("an index")]
}

/// The port, or a register, is touched. Whatever else it was is not ours: the
/// process ends.
extern "C" fn fault(signal: c_int, information: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's, for the time of this call.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    // SAFETY: the kernel's, for the time of this call.
    let information = unsafe { &*information };
    // SAFETY: a SIGSEGV has an address.
    let address = unsafe { information.si_addr() }.addr();
    let known = DEVICE.with_borrow_mut(|device| match device {
        Some(device) if device.page.is_null() => device.port(context),
        Some(device) => device.register(address, context),
        None => false,
    });
    if !known {
        // SAFETY: the default is to end the process, at the instruction again.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The instruction that touches a register is done.
extern "C" fn trap(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's, for the time of this call.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    *register_of(context, libc::REG_EFL) &= !TRAP;
    with(Device::done);
}

impl Device {
    /// An instruction that may be about varstored's port.
    fn port(&mut self, context: &mut ucontext_t) -> bool {
        let at = *register_of(context, libc::REG_RIP) as usize;
        // SAFETY: an instruction that was about to be executed can be read.
        let instruction = unsafe { ptr::with_exposed_provenance::<u8>(at).read() };
        let port = *register_of(context, libc::REG_RDX) as u16;
        if (instruction, port) != (OUT, varstored::PORT) {
            return false;
        }
        let page = *register_of(context, libc::REG_RAX) as u32;
        if !self.silent {
            let buffer = self.buffer(page as usize * PAGE);
            // SAFETY: the image shows these pages, and is in the middle of a call.
            let pages = unsafe { &mut *ptr::slice_from_raw_parts_mut(buffer, BUFFER) };
            self.host.varstored(pages);
        }
        *register_of(context, libc::REG_RIP) += 1;
        true
    }

    /// Where the buffer is that the image calls `address`.
    fn buffer(&self, address: usize) -> *mut u8 {
        assert_eq!(address % PAGE, 0, "the buffer begins on a page");
        let (first, distance) = self.moved;
        assert!(address > first, "within the image");
        ptr::with_exposed_provenance_mut(address.wrapping_add(distance))
    }

    /// An access to `address`, perhaps of a register: it gets memory to work on.
    fn register(&mut self, address: usize, context: &mut ucontext_t) -> bool {
        let offset = address.wrapping_sub(self.page.addr());
        if offset >= PAGE {
            return false;
        }
        let write = *register_of(context, libc::REG_ERR) & WRITE != 0;
        self.written = write.then_some(offset);
        protect(self.page, libc::PROT_READ | libc::PROT_WRITE);
        if !write {
            let value = self.read(offset);
            let at = self.page.wrapping_add(offset).cast::<u32>();
            // SAFETY: within the page, which can be written now.
            unsafe { at.write_unaligned(value) };
        }
        *register_of(context, libc::REG_EFL) |= TRAP;
        true
    }

    fn done(&mut self) {
        if let Some(offset) = self.written.take() {
            let at = self.page.wrapping_add(offset).cast::<u32>();
            // SAFETY: within the page, which can be read now.
            let value = unsafe { at.read_unaligned() };
            self.write(offset, value);
        }
        protect(self.page, libc::PROT_NONE);
    }

    fn read(&mut self, offset: usize) -> u32 {
        match offset {
            register::MAGIC if self.silent => 0,
            register::MAGIC => MAGIC.into(),
            register::COMMAND => self.status.into(),
            register::FLAGS => self.flags,
            register::TRANSFER => {
                let word = self.own[self.at..]
                    .first_chunk()
                    .expect("within the buffer");
                self.at += 4;
                u32::from_le_bytes(*word)
            }
            other => panic!("nobody reads register {other:#x}"),
        }
    }

    fn write(&mut self, offset: usize, value: u32) {
        match offset {
            register::BUFFER_SIZE => self.size = value,
            register::BUFFER_LOW => self.address[0] = value,
            register::BUFFER_HIGH => self.address[1] = value,
            register::TRANSFER => {
                self.own[self.at..][..4].copy_from_slice(&value.to_le_bytes());
                self.at += 4;
            }
            register::COMMAND => self.status = self.command(value as u16),
            other => panic!("nobody writes register {other:#x}"),
        }
    }

    fn command(&mut self, command: u16) -> u16 {
        match command {
            command::RESET => {
                (self.size, self.address) = (0, [0; 2]);
                DONE
            }
            command::REWIND => {
                self.at = 0;
                DONE
            }
            command::DMA => {
                assert_eq!((self.flags, self.size as usize), (0, BUFFER));
                let [low, high] = self.address.map(|half| half as usize);
                let buffer = self.buffer(low | high << 32);
                // SAFETY: the image shows it, and is in the middle of a call.
                let buffer = unsafe { &mut *ptr::slice_from_raw_parts_mut(buffer, BUFFER) };
                self.host.uefi_vars(buffer)
            }
            command::PIO => {
                assert_eq!((self.flags, self.size as usize), (USE_PIO, BUFFER));
                self.host.uefi_vars(&mut self.own)
            }
            other => panic!("{other} is no command"),
        }
    }
}
