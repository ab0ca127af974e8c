//! The fw_cfg transport: bytes of a selected item, by DMA where the host offers
//! it, else through the data port (QEMU `docs/specs/fw_cfg.rst`).
//!
//! What the items mean is [`crate::platform::fw_cfg`]'s business.

use super::{read, read_string, write};
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const DMA_HIGH: u16 = 0x514;
const DMA_LOW: u16 = 0x518;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
/// Bit in [`ID`]: the DMA interface exists.
const ID_DMA: u8 = 1 << 1;

const CONTROL_ERROR: u32 = 1 << 0;
const CONTROL_READ: u32 = 1 << 1;
const CONTROL_SKIP: u32 = 1 << 2;
const CONTROL_SELECT: u32 = 1 << 3;
const CONTROL_WRITE: u32 = 1 << 4;

/// Most bytes in one DMA transfer; the length field has 32 bits.
const MAX_TRANSFER: usize = 1 << 30;
/// How often a pending transfer is looked at. QEMU finishes before the port
/// write returns; a host that has not finished by then never will.
const MAX_POLLS: u32 = 100_000_000;

static FETCHED: AtomicU64 = AtomicU64::new(0);

/// Bytes that the host has moved into our memory since the start.
pub fn fetched() -> u64 {
    FETCHED.load(Ordering::Relaxed)
}

/// What a DMA transfer tells the device; big-endian, read while we wait.
#[repr(C, align(16))]
struct Access {
    control: AtomicU32,
    length: u32,
    address: u64,
}

/// A transfer the host refused or did not finish.
#[derive(Clone, Copy, Debug)]
pub struct TransferFailed;

/// The fw_cfg device of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    dma: bool,
}

impl Device {
    /// Finds the device by its signature.
    pub fn probe() -> Option<Self> {
        let ports = Self { dma: false };
        let mut signature = [0; 4];
        ports.read_ports(SIGNATURE, 0, &mut signature);
        if signature != *b"QEMU" {
            return None;
        }
        let mut id = [0];
        ports.read_ports(ID, 0, &mut id);
        Some(Self {
            dma: id[0] & ID_DMA != 0,
        })
    }

    /// Whether transfers go by DMA.
    pub fn has_dma(self) -> bool {
        self.dma
    }

    /// Fills `buffer` from byte `offset` of an item. Bytes behind the item's
    /// end read as 0.
    pub fn read(self, item: u16, offset: u32, buffer: &mut [u8]) -> Result<(), TransferFailed> {
        FETCHED.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if !self.dma {
            self.read_ports(item, offset, buffer);
            return Ok(());
        }
        select_and_skip(item, offset)?;
        for chunk in buffer.chunks_mut(MAX_TRANSFER) {
            transfer(CONTROL_READ, chunk.len() as u32, chunk.as_mut_ptr())?;
        }
        Ok(())
    }

    /// Writes `bytes` to byte `offset` of an item; needs DMA.
    pub fn write(self, item: u16, offset: u32, bytes: &mut [u8]) -> Result<(), TransferFailed> {
        if !self.dma || bytes.len() > MAX_TRANSFER {
            return Err(TransferFailed);
        }
        select_and_skip(item, offset)?;
        transfer(CONTROL_WRITE, bytes.len() as u32, bytes.as_mut_ptr())
    }

    fn read_ports(self, item: u16, offset: u32, buffer: &mut [u8]) {
        write(SELECTOR, item);
        for _ in 0..offset {
            let _: u8 = read(DATA);
        }
        read_string(DATA, buffer);
    }
}

fn select_and_skip(item: u16, offset: u32) -> Result<(), TransferFailed> {
    let control = CONTROL_SELECT | CONTROL_SKIP | u32::from(item) << 16;
    transfer(control, offset, core::ptr::null_mut())
}

/// One transfer between the selected item and `length` bytes at `address`.
fn transfer(control: u32, length: u32, address: *mut u8) -> Result<(), TransferFailed> {
    let access = Access {
        control: AtomicU32::new(control.to_be()),
        length: length.to_be(),
        address: (address.expose_provenance() as u64).to_be(),
    };
    let at = (&raw const access).expose_provenance() as u64;
    write(DMA_HIGH, ((at >> 32) as u32).to_be());
    // The write that starts the transfer: the device reads `access`, and reads
    // or writes the caller's buffer, both borrowed until we return.
    write(DMA_LOW, (at as u32).to_be());
    for _ in 0..MAX_POLLS {
        match u32::from_be(access.control.load(Ordering::SeqCst)) {
            0 => return Ok(()),
            pending if pending & CONTROL_ERROR != 0 => return Err(TransferFailed),
            _ => spin_loop(),
        }
    }
    Err(TransferFailed)
}
