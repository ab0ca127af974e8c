//! AllocatePages and FreePages (UEFI 2.11 §7.2.1-7.2.2).

use crate::calls::Guest;
use crate::map::{Map, end};
use crate::report::{
    Area, Failure, Outcome, equal, gives, holds, invalid, one_of, status, success,
};
use core::ptr;
use r_efi::efi::{self, Status};

pub const ALLOCATE: Area = Area {
    name: "7.2.1 AllocatePages",
    checks: &[
        (
            "AllocateAnyPages gives whole pages that do not overlap",
            any,
        ),
        ("pages hold what is written", writable),
        ("AllocateMaxAddress without a limit", unlimited),
        ("AllocateMaxAddress with 4 GiB less a byte", |g| {
            limited(g, 0xffff_ffff)
        }),
        ("AllocateMaxAddress with 3 GiB less a byte", |g| {
            limited(g, 0xbfff_ffff)
        }),
        ("AllocateMaxAddress with an odd limit", |g| {
            limited(g, 0x0200_0123)
        }),
        (
            "AllocateMaxAddress with the last byte of what there is",
            limit_is_inclusive,
        ),
        ("AllocateMaxAddress below the first page", |g| {
            lacks(at_most(g, 1, PAGE - 2))
        }),
        ("AllocateMaxAddress of 0", |g| lacks(at_most(g, 1, 0))),
        ("AllocateMaxAddress below as many bytes", |g| {
            lacks(at_most(g, 257, (1 << 20) - 1))
        }),
        ("AllocateAddress gives that address", exact),
        ("AllocateAddress of what is taken", taken),
        ("AllocateAddress of what is half taken", half_taken),
        ("AllocateAddress of all that is free there", whole_region),
        (
            "AllocateAddress of a page more than is free there",
            more_than_region,
        ),
        ("AllocateAddress of the firmware's own", |g| {
            missing(at(g, 1, own_page(g)))
        }),
        ("AllocateAddress where nothing is", |g| {
            missing(at(g, 1, 1 << 51))
        }),
        ("AllocateAddress of the last page of all", |g| {
            missing(at(g, 1, u64::MAX - PAGE + 1))
        }),
        ("AllocateAddress beyond the last page of all", |g| {
            missing(at(g, 2, u64::MAX - PAGE + 1))
        }),
        ("AllocateAddress within a page", misaligned_address),
        ("more pages than there are", |g| lacks(pages(g, 1 << 40))),
        ("more bytes than there are numbers", |g| {
            lacks(pages(g, 1 << 52))
        }),
        ("as many pages as there are numbers", |g| {
            lacks(pages(g, usize::MAX))
        }),
        ("an AllocateType that is none", |g| {
            invalid(refusal(allocate_as(g, 3, DATA, 1, 0)))
        }),
        ("the largest AllocateType", |g| {
            invalid(refusal(allocate_as(g, u32::MAX, DATA, 1, 0)))
        }),
        ("EfiConventionalMemory", |g| {
            forbidden(g, efi::CONVENTIONAL_MEMORY)
        }),
        ("EfiPersistentMemory", |g| {
            forbidden(g, efi::PERSISTENT_MEMORY)
        }),
        ("the first type that is none", |g| forbidden(g, 16)),
        ("the last type that is none", |g| forbidden(g, 0x6fff_ffff)),
        ("Memory of NULL", |g| {
            invalid(g.allocate_pages(ANY, DATA, 1, ptr::null_mut()))
        }),
    ],
};

/// What UEFI 2.9 and later add.
pub const OURS: Area = Area {
    name: "7.2.1 AllocatePages",
    checks: &[("EfiUnacceptedMemoryType", |g| {
        forbidden(g, efi::UNACCEPTED_MEMORY_TYPE)
    })],
};

pub const TYPES: Area = Area {
    name: "7.2.1 AllocatePages keeps the map consistent",
    checks: &[
        ("EfiReservedMemoryType", |g| {
            consistent(g, efi::RESERVED_MEMORY_TYPE)
        }),
        ("EfiLoaderCode", |g| consistent(g, efi::LOADER_CODE)),
        ("EfiLoaderData", |g| consistent(g, efi::LOADER_DATA)),
        ("EfiBootServicesCode", |g| {
            consistent(g, efi::BOOT_SERVICES_CODE)
        }),
        ("EfiBootServicesData", |g| {
            consistent(g, efi::BOOT_SERVICES_DATA)
        }),
        ("EfiRuntimeServicesCode", |g| {
            consistent(g, efi::RUNTIME_SERVICES_CODE)
        }),
        ("EfiRuntimeServicesData", |g| {
            consistent(g, efi::RUNTIME_SERVICES_DATA)
        }),
        ("EfiUnusableMemory", |g| consistent(g, efi::UNUSABLE_MEMORY)),
        ("EfiACPIReclaimMemory", |g| {
            consistent(g, efi::ACPI_RECLAIM_MEMORY)
        }),
        ("EfiACPIMemoryNVS", |g| consistent(g, efi::ACPI_MEMORY_NVS)),
        ("EfiPalCode", |g| consistent(g, efi::PAL_CODE)),
        ("the first type of an OEM", |g| consistent(g, 0x7000_0000)),
        ("the last type of an OEM", |g| consistent(g, 0x7fff_ffff)),
        ("the first type of an OS loader", |g| {
            consistent(g, 0x8000_0000)
        }),
        ("the last type of an OS loader", |g| {
            consistent(g, 0xffff_ffff)
        }),
    ],
};

pub const FREE: Area = Area {
    name: "7.2.2 FreePages",
    checks: &[
        ("the first of three pages", |g| part(g, 0, 1)),
        ("the middle of three pages", |g| part(g, 1, 1)),
        ("the last of three pages", |g| part(g, 2, 1)),
        ("two allocations at once", neighbours),
        ("a second time", twice),
        ("what is free already", |g| {
            not_found(g.free_pages(free_page(g)?, 1))
        }),
        ("where nothing is", |g| not_found(g.free_pages(1 << 50, 1))),
        ("where a device is", |g| {
            not_found(g.free_pages(0xfee0_0000, 1))
        }),
        ("more than was allocated", too_many),
        ("an address within a page", misaligned),
        ("no pages", |g| wrong_count(g, 0)),
        ("as many pages as there are numbers", |g| {
            wrong_count(g, usize::MAX)
        }),
        ("more bytes than there are numbers", |g| {
            wrong_count(g, 1 << 52)
        }),
    ],
};

/// Size of an EFI page in bytes.
pub const PAGE: u64 = 4096;

const ANY: u32 = efi::ALLOCATE_ANY_PAGES;
const DATA: u32 = efi::LOADER_DATA;

fn allocate_as(guest: &Guest, kind: u32, ty: u32, pages: usize, start: u64) -> Result<u64, Status> {
    let mut address = start;
    match guest.allocate_pages(kind, ty, pages, &mut address) {
        Status::SUCCESS => Ok(address),
        status => Err(status),
    }
}

fn pages(guest: &Guest, pages: usize) -> Result<u64, Status> {
    allocate_as(guest, ANY, DATA, pages, 0)
}

fn at(guest: &Guest, pages: usize, address: u64) -> Result<u64, Status> {
    allocate_as(guest, efi::ALLOCATE_ADDRESS, DATA, pages, address)
}

fn at_most(guest: &Guest, pages: usize, limit: u64) -> Result<u64, Status> {
    allocate_as(guest, efi::ALLOCATE_MAX_ADDRESS, DATA, pages, limit)
}

/// Pages of loader data, anywhere.
pub fn allocate(guest: &Guest, count: usize) -> Result<u64, Failure> {
    expect_pages(pages(guest, count))
}

/// Frees pages that must be there.
pub fn free(guest: &Guest, address: u64, pages: usize) -> Outcome {
    success("FreePages", guest.free_pages(address, pages))
}

fn expect_pages(found: Result<u64, Status>) -> Result<u64, Failure> {
    found.map_err(|status| Failure::new(format_args!("expected pages, found {status}")))
}

fn refusal(found: Result<u64, Status>) -> Status {
    found.err().unwrap_or(Status::SUCCESS)
}

/// There is no such memory.
fn missing(found: Result<u64, Status>) -> Outcome {
    gives(Status::NOT_FOUND, refusal(found))
}

/// There is not enough memory, of which two statuses speak.
fn lacks(found: Result<u64, Status>) -> Outcome {
    let right = [Status::OUT_OF_RESOURCES, Status::NOT_FOUND];
    one_of(right, refusal(found))
}

fn not_found(found: Status) -> Outcome {
    gives(Status::NOT_FOUND, found)
}

fn forbidden(guest: &Guest, ty: u32) -> Outcome {
    invalid(refusal(allocate_as(guest, ANY, ty, 1, 0)))
}

fn current_map(guest: &Guest) -> Result<Map, Failure> {
    let mut map = Map::new();
    map.fetch(guest)?;
    Ok(map)
}

/// The largest free region: its first address and the one behind it.
fn largest_region(guest: &Guest) -> Result<(u64, u64), Failure> {
    let map = current_map(guest)?;
    let free = map
        .descriptors()
        .filter(|d| d.r#type == efi::CONVENTIONAL_MEMORY);
    let largest = free.max_by_key(|d| d.number_of_pages);
    let region = largest.map(|d| (d.physical_start, end(&d)));
    region.ok_or_else(|| Failure::new(format_args!("expected free memory, found none")))
}

fn free_page(guest: &Guest) -> Result<u64, Failure> {
    largest_region(guest).map(|(start, _)| start + PAGE)
}

/// The page of the runtime services table.
fn own_page(guest: &Guest) -> u64 {
    let table = guest.system().runtime_services.addr() as u64;
    table - table % PAGE
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

fn limited(guest: &Guest, limit: u64) -> Outcome {
    let address = expect_pages(at_most(guest, 2, limit))?;
    let last = address + 2 * PAGE - 1;
    free(guest, address, 2)?;
    holds("the last byte not above the limit", last <= limit)
}

/// All pages of the region are wanted: not one may be missing at its end.
fn limit_is_inclusive(guest: &Guest) -> Outcome {
    let (start, end) = largest_region(guest)?;
    let count = ((end - start) / PAGE) as usize;
    let address = expect_pages(at_most(guest, count, end - 1))?;
    free(guest, address, count)?;
    equal("address", address, start)
}

fn exact(guest: &Guest) -> Outcome {
    let wanted = free_page(guest)?;
    let address = expect_pages(at(guest, 4, wanted))?;
    free(guest, address, 4)?;
    equal("address", address, wanted)
}

fn taken(guest: &Guest) -> Outcome {
    let address = allocate(guest, 4)?;
    missing(at(guest, 4, address))?;
    free(guest, address, 4)
}

fn half_taken(guest: &Guest) -> Outcome {
    let address = expect_pages(at(guest, 4, free_page(guest)?))?;
    missing(at(guest, 4, address + 3 * PAGE))?;
    free(guest, address, 4)
}

fn whole_region(guest: &Guest) -> Outcome {
    let (start, end) = largest_region(guest)?;
    let count = ((end - start) / PAGE) as usize;
    free(guest, expect_pages(at(guest, count, start))?, count)
}

fn more_than_region(guest: &Guest) -> Outcome {
    let (start, end) = largest_region(guest)?;
    missing(at(guest, ((end - start) / PAGE) as usize + 1, start))
}

/// Not said in so many words: there are no pages at such an address.
fn misaligned_address(guest: &Guest) -> Outcome {
    let found = refusal(at(guest, 1, free_page(guest)? + 8));
    let right = [Status::NOT_FOUND, Status::INVALID_PARAMETER];
    one_of(right, found)
}

/// The number of pages that the map describes, and whether none is there twice.
fn total(guest: &Guest) -> Result<u64, Failure> {
    let map = current_map(guest)?;
    map.apart()?;
    Ok(map.descriptors().map(|d| d.number_of_pages).sum())
}

/// The map with an allocation of a type, and without it again.
fn consistent(guest: &Guest, ty: u32) -> Outcome {
    let (pages, before) = (total(guest)?, current_map(guest)?.key);
    let address = expect_pages(allocate_as(guest, ANY, ty, 5, 0))?;
    equal("pages in the map", total(guest)?, pages)?;
    let map = current_map(guest)?;
    holds("another key", map.key != before)?;
    for page in 0..5 {
        let found = map.at(address + page * PAGE).map(|d| d.r#type);
        equal("type", found, Some(ty))?;
    }
    free(guest, address, 5)?;
    equal("pages in the map, at the end", total(guest)?, pages)?;
    holds(
        "another key, at the end",
        current_map(guest)?.key != map.key,
    )
}

/// Frees some of three pages; they can be had again, and all be freed together.
fn part(guest: &Guest, first: u64, count: usize) -> Outcome {
    let address = allocate(guest, 3)?;
    let piece = address + first * PAGE;
    free(guest, piece, count)?;
    let again = expect_pages(at(guest, count, piece))?;
    equal("address", again, piece)?;
    free(guest, address, 3)
}

fn neighbours(guest: &Guest) -> Outcome {
    let start = free_page(guest)?;
    expect_pages(at(guest, 2, start))?;
    expect_pages(at(guest, 2, start + 2 * PAGE))?;
    free(guest, start, 4)
}

fn twice(guest: &Guest) -> Outcome {
    let address = allocate(guest, 1)?;
    free(guest, address, 1)?;
    not_found(guest.free_pages(address, 1))
}

fn too_many(guest: &Guest) -> Outcome {
    let start = expect_pages(at(guest, 2, free_page(guest)?))?;
    let found = guest.free_pages(start, 3);
    free(guest, start, 2)?;
    status("FreePages", found, Status::NOT_FOUND)
}

fn misaligned(guest: &Guest) -> Outcome {
    let address = allocate(guest, 2)?;
    let found = guest.free_pages(address + PAGE / 2, 1);
    free(guest, address, 2)?;
    invalid(found)
}

/// A count that no allocation has: nothing may be freed.
fn wrong_count(guest: &Guest, count: usize) -> Outcome {
    let address = allocate(guest, 2)?;
    let found = guest.free_pages(address, count);
    free(guest, address, 2)?;
    let right = [Status::NOT_FOUND, Status::INVALID_PARAMETER];
    one_of(right, found)
}
