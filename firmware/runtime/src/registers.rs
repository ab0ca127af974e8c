//! The registers of QEMU's uefi-vars devices (QEMU `hw/uefi/var-service-core.c`).
//!
//! Promises that the device is told of one buffer, by its physical address or
//! piece by piece where it does not read memory, and that a command ends however
//! long the device says it is busy.

use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};
use ovmf_lite_services::variables::Failed;
use ovmf_lite_services::variables::remote::BUFFER;
use ovmf_lite_services::variables::remote::uefi_vars::{
    BUSY, DONE, MAGIC, USE_PIO, command, register,
};

/// QEMU has finished before the write returns. A read takes at least 0.2 µs.
const POLLS: u32 = 1_000_000;
/// From the number of a page to its address.
const PAGE_SHIFT: u32 = 12;
/// What the device is told of the buffer's size.
const SIZE: u32 = 64 * 1024;
const _: () = assert!(SIZE as usize == BUFFER);
/// Bytes transferred at once.
const WORD: usize = 4;

/// The registers, by the address at which they are now.
#[derive(Clone, Copy)]
pub struct Registers(pub usize);

impl Registers {
    /// Tells the device, if it is one, where the buffer is: its first page.
    pub fn open(self, page: u32) -> Result<(), Failed> {
        if self.read::<u16>(register::MAGIC) != MAGIC {
            return Err(Failed);
        }
        self.command(command::RESET)?;
        self.write(register::BUFFER_SIZE, SIZE);
        self.write(register::BUFFER_LOW, page << PAGE_SHIFT);
        self.write(register::BUFFER_HIGH, page >> (32 - PAGE_SHIFT));
        Ok(())
    }

    /// Has the device answer the first `sent` bytes of `buffer` by at most `back`.
    pub fn exchange(self, buffer: &mut [u8], sent: usize, back: usize) -> Result<(), Failed> {
        if self.read::<u32>(register::FLAGS) & USE_PIO == 0 {
            // The device reads and writes what the compiler does not see it does.
            compiler_fence(Ordering::SeqCst);
            let done = self.command(command::DMA);
            compiler_fence(Ordering::SeqCst);
            return done;
        }
        let (words, _) = buffer.as_chunks_mut::<WORD>();
        self.command(command::REWIND)?;
        for word in words.iter().take(sent.div_ceil(WORD)) {
            self.write(register::TRANSFER, u32::from_le_bytes(*word));
        }
        self.command(command::PIO)?;
        self.command(command::REWIND)?;
        for word in words.iter_mut().take(back.div_ceil(WORD)) {
            *word = self.read::<u32>(register::TRANSFER).to_le_bytes();
        }
        Ok(())
    }

    fn command(self, command: u16) -> Result<(), Failed> {
        self.write(register::COMMAND, command);
        for _ in 0..POLLS {
            match self.read::<u16>(register::COMMAND) {
                DONE => return Ok(()),
                BUSY => spin_loop(),
                _ => return Err(Failed),
            }
        }
        Err(Failed)
    }

    fn read<T: Copy>(self, offset: usize) -> T {
        let register = ptr::with_exposed_provenance::<T>(self.0.wrapping_add(offset));
        // SAFETY: the firmware found registers there, on a page that is mapped for
        // the runtime services and no RAM.
        unsafe { register.read_volatile() }
    }

    fn write<T: Copy>(self, offset: usize, value: T) {
        let register = ptr::with_exposed_provenance_mut::<T>(self.0.wrapping_add(offset));
        // SAFETY: as in `read`. What the device then does to memory it does to the
        // buffer, which its caller has borrowed.
        unsafe { register.write_volatile(value) };
    }
}
