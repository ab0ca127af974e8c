//! AllocatePages and FreePages (UEFI 2.11 §7.2.1-7.2.2).

use crate::calls::Guest;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::ptr;
use r_efi::efi::{self, Status};

pub const AREA: Area = Area {
    name: "memory",
    checks: &[
        ("AllocateAnyPages", any),
        ("pages hold what is written", writable),
        ("AllocateMaxAddress without a limit", unlimited),
        ("AllocateMaxAddress keeps to its limit", limited),
        ("AllocateAddress takes that address or none", exact),
        ("custom memory types", custom_types),
        ("forbidden memory types", forbidden_types),
        ("wrong parameters", wrong_parameters),
        ("too many pages", too_many),
        ("FreePages of a part", part),
        ("FreePages twice", twice),
        ("FreePages of what was never allocated", foreign),
        ("FreePages of half a page", misaligned),
    ],
};

/// Size of an EFI page in bytes.
pub const PAGE: u64 = 4096;

fn allocate_as(guest: &Guest, kind: u32, ty: u32, pages: usize, start: u64) -> Result<u64, Status> {
    let mut address = start;
    match guest.allocate_pages(kind, ty, pages, &mut address) {
        Status::SUCCESS => Ok(address),
        status => Err(status),
    }
}

/// Pages of loader data, anywhere.
pub fn allocate(guest: &Guest, pages: usize) -> Result<u64, Failure> {
    allocate_as(guest, efi::ALLOCATE_ANY_PAGES, efi::LOADER_DATA, pages, 0)
        .map_err(|status| Failure::new(format_args!("AllocatePages: {status}")))
}

/// Frees pages that must be there.
pub fn free(guest: &Guest, address: u64, pages: usize) -> Outcome {
    success("FreePages", guest.free_pages(address, pages))
}

fn expect_pages(found: Result<u64, Status>) -> Result<u64, Failure> {
    found.map_err(|status| Failure::new(format_args!("expected pages, found {status}")))
}

fn expect_refusal(found: Result<u64, Status>, expected: Status) -> Outcome {
    status(
        "AllocatePages",
        found.err().unwrap_or(Status::SUCCESS),
        expected,
    )
}

fn any(guest: &Guest) -> Outcome {
    let first = allocate(guest, 3)?;
    let second = allocate(guest, 3)?;
    equal("offset in the page", (first % PAGE, second % PAGE), (0, 0))?;
    holds(
        "ranges that do not overlap",
        first.abs_diff(second) >= 3 * PAGE,
    )?;
    holds("an address other than 0", first != 0 && second != 0)?;
    free(guest, first, 3)?;
    free(guest, second, 3)
}

fn writable(guest: &Guest) -> Outcome {
    let address = allocate(guest, 2)?;
    let words = ptr::with_exposed_provenance_mut::<u64>(address as usize);
    let count = (2 * PAGE / 8) as usize;
    for i in 0..count {
        // SAFETY: inside the two pages just allocated.
        unsafe { words.wrapping_add(i).write_volatile(address ^ i as u64) };
    }
    let kept = (0..count).all(|i| {
        // SAFETY: as above.
        let word = unsafe { words.wrapping_add(i).read_volatile() };
        word == address ^ i as u64
    });
    holds("memory that keeps its contents", kept)?;
    free(guest, address, 2)
}

fn unlimited(guest: &Guest) -> Outcome {
    let found = allocate_as(
        guest,
        efi::ALLOCATE_MAX_ADDRESS,
        efi::LOADER_DATA,
        1,
        u64::MAX,
    );
    free(guest, expect_pages(found)?, 1)
}

fn limited(guest: &Guest) -> Outcome {
    // Linux asks below 4 GiB, memtest86+ below 3 GiB. An odd limit counts, too.
    for limit in [0xffff_ffff, 0xbfff_ffff, 0x0200_0123] {
        let found = allocate_as(guest, efi::ALLOCATE_MAX_ADDRESS, efi::LOADER_DATA, 2, limit);
        let address = expect_pages(found)?;
        holds(
            "the last byte below the limit",
            address + 2 * PAGE - 1 <= limit,
        )?;
        free(guest, address, 2)?;
    }
    let found = allocate_as(
        guest,
        efi::ALLOCATE_MAX_ADDRESS,
        efi::LOADER_DATA,
        1,
        PAGE - 2,
    );
    expect_refusal(found, Status::OUT_OF_RESOURCES)
}

fn exact(guest: &Guest) -> Outcome {
    let wanted = allocate(guest, 4)?;
    let at = |address| allocate_as(guest, efi::ALLOCATE_ADDRESS, efi::LOADER_CODE, 4, address);
    expect_refusal(at(wanted), Status::NOT_FOUND)?;
    free(guest, wanted, 4)?;
    equal("address", expect_pages(at(wanted))?, wanted)?;
    expect_refusal(at(wanted + 3 * PAGE), Status::NOT_FOUND)?;
    free(guest, wanted, 4)?;
    expect_refusal(at(0xffff_ffff_ffff_f000), Status::NOT_FOUND)
}

fn custom_types(guest: &Guest) -> Outcome {
    for ty in [0x7000_0000, 0x8000_0000, 0xffff_ffff, efi::ACPI_MEMORY_NVS] {
        let found = allocate_as(guest, efi::ALLOCATE_ANY_PAGES, ty, 1, 0);
        free(guest, expect_pages(found)?, 1)?;
    }
    Ok(())
}

fn forbidden_types(guest: &Guest) -> Outcome {
    for ty in [
        efi::CONVENTIONAL_MEMORY,
        efi::PERSISTENT_MEMORY,
        efi::UNACCEPTED_MEMORY_TYPE,
        16,
        0x6fff_ffff,
    ] {
        let found = allocate_as(guest, efi::ALLOCATE_ANY_PAGES, ty, 1, 0);
        expect_refusal(found, Status::INVALID_PARAMETER)?;
    }
    Ok(())
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let found = allocate_as(guest, 3, efi::LOADER_DATA, 1, 0);
    expect_refusal(found, Status::INVALID_PARAMETER)?;
    let any = efi::ALLOCATE_ANY_PAGES;
    let found = guest.allocate_pages(any, efi::LOADER_DATA, 1, ptr::null_mut());
    status("AllocatePages(null)", found, Status::INVALID_PARAMETER)
}

fn too_many(guest: &Guest) -> Outcome {
    for pages in [1 << 40, 1 << 52, usize::MAX] {
        let found = allocate_as(guest, efi::ALLOCATE_ANY_PAGES, efi::LOADER_DATA, pages, 0);
        // EDK2 says OUT_OF_RESOURCES or INVALID_PARAMETER.
        holds("a refusal", found.is_err())?;
    }
    Ok(())
}

fn part(guest: &Guest) -> Outcome {
    let address = allocate(guest, 3)?;
    free(guest, address + PAGE, 1)?;
    let middle = allocate_as(
        guest,
        efi::ALLOCATE_ADDRESS,
        efi::LOADER_DATA,
        1,
        address + PAGE,
    );
    equal("address", expect_pages(middle)?, address + PAGE)?;
    free(guest, address, 3)
}

fn twice(guest: &Guest) -> Outcome {
    let address = allocate(guest, 1)?;
    free(guest, address, 1)?;
    status("FreePages", guest.free_pages(address, 1), Status::NOT_FOUND)
}

fn foreign(guest: &Guest) -> Outcome {
    for address in [0x4000_0000_0000_0000, 0xfee0_0000] {
        status("FreePages", guest.free_pages(address, 1), Status::NOT_FOUND)?;
    }
    Ok(())
}

fn misaligned(guest: &Guest) -> Outcome {
    let address = allocate(guest, 2)?;
    let found = guest.free_pages(address + PAGE / 2, 1);
    status("FreePages", found, Status::INVALID_PARAMETER)?;
    free(guest, address, 2)
}
