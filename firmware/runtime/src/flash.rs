//! QEMU's flash, which understands Intel's command set (QEMU
//! `hw/block/pflash_cfi01.c`; JEDEC JESD68.01, JEP137).
//!
//! Promises that the flash is in array mode, so that it can be read, whenever
//! no call is active, and that a call ends whatever the flash says.

use core::ptr;
use core::slice;
use ovmf_lite_services::resident;
use ovmf_lite_services::variables::{Failed, Storage};

/// "Buffered program": how many bytes less one, the bytes, "confirm".
const PROGRAM: u8 = 0xe8;
const ERASE: u8 = 0x20;
const CONFIRM: u8 = 0xd0;
const CLEAR_STATUS: u8 = 0x50;
const READ_STATUS: u8 = 0x70;
const READ_ARRAY: u8 = 0xff;

/// Status bits: ready; the last erasure or programming failed.
const READY: u8 = 0x80;
const ERRORS: u8 = 0x3a;

/// Bytes programmed at once: QEMU's flash takes as many that begin at a multiple
/// of as many.
const PIECE: usize = 128;

/// The flash at an address that this code can use now.
pub struct Flash {
    address: usize,
    size: usize,
}

impl Flash {
    /// The flash that the firmware found, if it did.
    pub fn new(found: resident::Flash) -> Option<Self> {
        let size = usize::try_from(found.size).ok()?;
        let address = usize::try_from(found.address).ok()?;
        (size != 0).then_some(Self { address, size })
    }

    /// SetVirtualAddressMap says where it is from now on.
    pub fn move_to(&mut self, address: u64) {
        if let Ok(address) = usize::try_from(address) {
            self.address = address;
        }
    }

    /// Writes one byte, a command or what belongs to it, at `offset`.
    fn write(&mut self, offset: usize, value: u8) {
        let address = self.address.wrapping_add(offset);
        let byte = ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the firmware found flash there, which is mapped for the runtime
        // services, and callers stay within it. Nobody has a reference into it:
        // `self` is borrowed exclusively.
        unsafe { byte.write_volatile(value) };
    }

    /// How the command at `offset` went. The flash is in array mode afterwards.
    fn finish(&mut self, offset: usize) -> Result<(), Failed> {
        self.write(offset, READ_STATUS);
        let byte = ptr::with_exposed_provenance::<u8>(self.address.wrapping_add(offset));
        // SAFETY: as in `write`.
        let status = unsafe { byte.read_volatile() };
        self.write(offset, CLEAR_STATUS);
        self.write(offset, READ_ARRAY);
        match status & (READY | ERRORS) {
            READY => Ok(()),
            _ => Err(Failed),
        }
    }

    /// Programs bytes that do not cross a multiple of [`PIECE`].
    fn program_piece(&mut self, offset: usize, piece: &[u8]) -> Result<(), Failed> {
        let count = u8::try_from(piece.len().wrapping_sub(1)).map_err(|_| Failed)?;
        self.write(offset, PROGRAM);
        self.write(offset, count);
        for (at, byte) in piece.iter().enumerate() {
            self.write(offset.wrapping_add(at), *byte);
        }
        self.write(offset, CONFIRM);
        self.finish(offset)
    }
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        let start = ptr::with_exposed_provenance::<u8>(self.address);
        // SAFETY: flash in array mode is memory that can be read, and changes
        // only through `self`, exclusively borrowed.
        unsafe { slice::from_raw_parts(start, self.size) }
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        if offset > self.size || bytes.len() > self.size.wrapping_sub(offset) {
            return Err(Failed);
        }
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let room = PIECE.wrapping_sub(at % PIECE);
            let (piece, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            self.program_piece(at, piece)?;
            at = at.wrapping_add(piece.len());
            rest = after;
        }
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        if offset >= self.size {
            return Err(Failed);
        }
        self.write(offset, ERASE);
        self.write(offset, CONFIRM);
        self.finish(offset)
    }
}
