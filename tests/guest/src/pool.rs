//! AllocatePool and FreePool (UEFI 2.11 §7.2.4-7.2.5).

use crate::calls::Guest;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::ffi::c_void;
use core::ptr;
use r_efi::efi::{self, Status};

pub const AREA: Area = Area {
    name: "pool",
    checks: &[
        ("buffers are aligned and apart", apart),
        ("a buffer of no bytes", nothing),
        ("a large buffer", large),
        ("wrong parameters", wrong_parameters),
        ("FreePool of null", free_null),
        ("FreePool of what was never allocated", free_junk),
        ("many buffers", many),
    ],
};

/// A buffer of loader data.
pub fn allocate(guest: &Guest, size: usize) -> Result<*mut u8, Failure> {
    let mut buffer = ptr::null_mut();
    success(
        "AllocatePool",
        guest.allocate_pool(efi::LOADER_DATA, size, &mut buffer),
    )?;
    holds("a buffer", !buffer.is_null())?;
    Ok(buffer.cast())
}

/// Frees a buffer that must be there.
pub fn free<T>(guest: &Guest, buffer: *mut T) -> Outcome {
    success("FreePool", guest.free_pool(buffer.cast()))
}

fn apart(guest: &Guest) -> Outcome {
    const SIZES: [usize; 6] = [1, 8, 33, 100, 4096, 5000];
    let mut buffers = [ptr::null_mut(); SIZES.len()];
    for (i, size) in SIZES.into_iter().enumerate() {
        buffers[i] = allocate(guest, size)?;
        equal("offset from 8 bytes", buffers[i].addr() % 8, 0)?;
        // SAFETY: the buffer has this many bytes.
        unsafe { buffers[i].write_bytes(i as u8 + 1, size) };
    }
    for (i, size) in SIZES.into_iter().enumerate() {
        let kept = (0..size).all(|offset| {
            // SAFETY: inside the buffer.
            let byte = unsafe { buffers[i].wrapping_add(offset).read() };
            byte == i as u8 + 1
        });
        holds("each buffer to keep its own contents", kept)?;
    }
    buffers
        .into_iter()
        .try_for_each(|buffer| free(guest, buffer))
}

fn nothing(guest: &Guest) -> Outcome {
    let buffer = allocate(guest, 0)?;
    free(guest, buffer)
}

fn large(guest: &Guest) -> Outcome {
    const SIZE: usize = 8 << 20;
    let buffer = allocate(guest, SIZE)?;
    // SAFETY: the last byte of the buffer.
    unsafe { buffer.wrapping_add(SIZE - 1).write_volatile(1) };
    free(guest, buffer)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let null = ptr::null_mut();
    let found = guest.allocate_pool(efi::LOADER_DATA, 8, null);
    status("AllocatePool(null)", found, Status::INVALID_PARAMETER)?;
    let mut buffer = ptr::null_mut();
    for ty in [
        efi::CONVENTIONAL_MEMORY,
        efi::PERSISTENT_MEMORY,
        0x6fff_ffff,
    ] {
        let found = guest.allocate_pool(ty, 8, &mut buffer);
        status("AllocatePool", found, Status::INVALID_PARAMETER)?;
    }
    let found = guest.allocate_pool(efi::LOADER_DATA, usize::MAX, &mut buffer);
    status("AllocatePool(too much)", found, Status::OUT_OF_RESOURCES)
}

/// Linux up to 6.12 does this when it finds no PCI devices.
fn free_null(guest: &Guest) -> Outcome {
    let found = guest.free_pool(ptr::null_mut());
    status("FreePool", found, Status::INVALID_PARAMETER)
}

/// Memtest86+ does this.
fn free_junk(guest: &Guest) -> Outcome {
    let buffer = allocate(guest, 64)?;
    let on_stack = [0u64; 8];
    let inside = buffer.wrapping_add(16).cast::<c_void>();
    for junk in [inside, on_stack.as_ptr().wrapping_add(4).cast_mut().cast()] {
        let found = guest.free_pool(junk);
        status("FreePool", found, Status::INVALID_PARAMETER)?;
    }
    free(guest, buffer)
}

fn many(guest: &Guest) -> Outcome {
    const COUNT: usize = 1000;
    let mut buffers = [ptr::null_mut(); COUNT];
    for buffer in &mut buffers {
        *buffer = allocate(guest, 40)?;
    }
    buffers
        .into_iter()
        .try_for_each(|buffer| free(guest, buffer))
}
