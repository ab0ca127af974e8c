//! AllocatePool and FreePool (UEFI 2.11 §7.2.4-7.2.5).

use crate::calls::Guest;
use crate::map::Map;
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, success};
use core::ptr;
use r_efi::efi::{self, Status};

pub const ALLOCATE: Area = Area {
    name: "7.2.4 AllocatePool",
    checks: &[
        ("buffers are aligned to 8 bytes and apart", apart),
        ("a buffer of no bytes", nothing),
        ("a buffer of a page less a byte", |g| sized(g, 4095)),
        ("a buffer of a page", |g| sized(g, 4096)),
        ("a buffer of a page and a byte", |g| sized(g, 4097)),
        ("a buffer of 8 MiB", |g| sized(g, 8 << 20)),
        ("a thousand buffers", many),
        ("EfiReservedMemoryType", |g| {
            typed(g, efi::RESERVED_MEMORY_TYPE)
        }),
        ("EfiLoaderCode", |g| typed(g, efi::LOADER_CODE)),
        ("EfiLoaderData", |g| typed(g, efi::LOADER_DATA)),
        ("EfiBootServicesCode", |g| typed(g, efi::BOOT_SERVICES_CODE)),
        ("EfiBootServicesData", |g| typed(g, efi::BOOT_SERVICES_DATA)),
        ("EfiRuntimeServicesCode", |g| {
            typed(g, efi::RUNTIME_SERVICES_CODE)
        }),
        ("EfiRuntimeServicesData", |g| {
            typed(g, efi::RUNTIME_SERVICES_DATA)
        }),
        ("EfiACPIReclaimMemory", |g| {
            typed(g, efi::ACPI_RECLAIM_MEMORY)
        }),
        ("EfiACPIMemoryNVS", |g| typed(g, efi::ACPI_MEMORY_NVS)),
        ("the first type of an OEM", |g| typed(g, 0x7000_0000)),
        ("the last type of an OS loader", |g| typed(g, u32::MAX)),
        ("EfiConventionalMemory", |g| {
            forbidden(g, efi::CONVENTIONAL_MEMORY)
        }),
        ("EfiPersistentMemory", |g| {
            forbidden(g, efi::PERSISTENT_MEMORY)
        }),
        ("the first type that is none", |g| forbidden(g, 16)),
        ("the last type that is none", |g| forbidden(g, 0x6fff_ffff)),
        ("Buffer of NULL", |g| {
            invalid(g.allocate_pool(efi::LOADER_DATA, 8, ptr::null_mut()))
        }),
        ("more bytes than there are", |g| too_much(g, 1 << 52)),
        ("as many bytes as there are numbers", |g| {
            too_much(g, usize::MAX)
        }),
    ],
};

pub const FREE: Area = Area {
    name: "7.2.5 FreePool",
    checks: &[
        ("Buffer of NULL", |g| invalid(g.free_pool(ptr::null_mut()))),
        ("what is on the stack", free_stack),
        ("the inside of a buffer", free_inside),
        ("a second time", free_twice),
        ("its pages are free again", gives_back),
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

/// A buffer whose first and last byte can be written.
fn sized(guest: &Guest, size: usize) -> Outcome {
    let buffer = allocate(guest, size)?;
    for offset in [0, size - 1] {
        // SAFETY: a byte of the buffer.
        unsafe { buffer.wrapping_add(offset).write_volatile(1) };
    }
    free(guest, buffer)
}

/// Buffers of a type lie in memory of that type.
fn typed(guest: &Guest, ty: u32) -> Outcome {
    let mut buffer = ptr::null_mut();
    success("AllocatePool", guest.allocate_pool(ty, 5000, &mut buffer))?;
    let mut map = Map::new();
    map.fetch(guest)?;
    let region = map.at(buffer.addr() as u64);
    free(guest, buffer)?;
    equal("type in the map", region.map(|d| d.r#type), Some(ty))
}

fn forbidden(guest: &Guest, ty: u32) -> Outcome {
    invalid(guest.allocate_pool(ty, 8, &mut ptr::null_mut()))
}

fn too_much(guest: &Guest, size: usize) -> Outcome {
    let found = guest.allocate_pool(efi::LOADER_DATA, size, &mut ptr::null_mut());
    gives(Status::OUT_OF_RESOURCES, found)
}

/// Memtest86+ does this.
fn free_stack(guest: &Guest) -> Outcome {
    let on_stack = [0_u64; 16];
    invalid(guest.free_pool(on_stack.as_ptr().wrapping_add(12).cast_mut().cast()))
}

fn free_inside(guest: &Guest) -> Outcome {
    let buffer = allocate(guest, 200)?;
    // SAFETY: the whole buffer.
    unsafe { buffer.write_bytes(0, 200) };
    let found = guest.free_pool(buffer.wrapping_add(64).cast());
    free(guest, buffer)?;
    invalid(found)
}

/// Something else lies around it, so that the memory is still there.
fn free_twice(guest: &Guest) -> Outcome {
    let around = [(); 3].map(|()| allocate(guest, 64));
    let [first, middle, last] = around;
    let (first, middle, last) = (first?, middle?, last?);
    free(guest, middle)?;
    let found = guest.free_pool(middle.cast());
    free(guest, first)?;
    free(guest, last)?;
    invalid(found)
}

fn gives_back(guest: &Guest) -> Outcome {
    let free_pages = || {
        let mut map = Map::new();
        map.fetch(guest)?;
        let free = map
            .descriptors()
            .filter(|d| d.r#type == efi::CONVENTIONAL_MEMORY);
        Ok::<u64, Failure>(free.map(|d| d.number_of_pages).sum())
    };
    let before = free_pages()?;
    let buffer = allocate(guest, 1 << 20)?;
    holds("fewer free pages", free_pages()? < before)?;
    free(guest, buffer)?;
    equal("free pages", free_pages()?, before)
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
