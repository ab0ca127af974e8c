//! `EFI_MEMORY_ATTRIBUTES_TABLE` (UEFI 2.11 §4.6.4).

use crate::calls::Guest;
use crate::configuration;
use crate::images;
use crate::map::{Map, end};
use crate::memory::PAGE;
use crate::report::{Area, Failure, Outcome, equal, holds};
use r_efi::efi::{self, MemoryDescriptor};

pub const AREA: Area = Area {
    name: "4.6.4 EFI_MEMORY_ATTRIBUTES_TABLE",
    checks: &[
        ("its version is 1 or 2", version),
        ("its entries are large enough, their number is not 0", shape),
        ("its entries are of runtime services code or data", types),
        ("its entries are of whole pages, sorted and apart", sorted),
        (
            "its entries lie in runtime regions of the memory map",
            inside,
        ),
        (
            "its entries are not writable and executable at once",
            protected,
        ),
        ("the runtime services are executable and not writable", code),
        ("the system table is writable and not executable", data),
    ],
};

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: u32,
    entries: u32,
    stride: u32,
    flags: u32,
}

struct Table {
    header: Header,
    start: *const u8,
}

impl Table {
    fn find(guest: &Guest) -> Result<Self, Failure> {
        let Some(table) = configuration::find(guest, &efi::MEMORY_ATTRIBUTES_TABLE_GUID) else {
            return Err(Failure::new(format_args!("expected the table, found none")));
        };
        // SAFETY: the firmware's table begins so.
        let header = unsafe { table.cast::<Header>().read() };
        let start = table.cast::<u8>().wrapping_add(size_of::<Header>());
        Ok(Self { header, start })
    }

    fn entries(&self) -> impl Iterator<Item = MemoryDescriptor> {
        let (start, stride) = (self.start, self.header.stride as usize);
        (0..self.header.entries as usize).map(move |i| {
            let entry = start.wrapping_add(i * stride);
            // SAFETY: the table has that many entries, of a descriptor or more.
            unsafe { entry.cast::<MemoryDescriptor>().read_unaligned() }
        })
    }

    /// The attributes of the page at an address.
    fn at(&self, address: usize) -> Result<u64, Failure> {
        let address = address as u64;
        let mut entries = self.entries();
        let entry = entries.find(|e| e.physical_start <= address && address < end(e));
        let attributes = entry.map(|entry| entry.attribute & (efi::MEMORY_RO | efi::MEMORY_XP));
        attributes.ok_or_else(|| Failure::new(format_args!("expected an entry, found none")))
    }
}

fn version(guest: &Guest) -> Outcome {
    let version = Table::find(guest)?.header.version;
    holds("version 1 or 2", matches!(version, 1 | 2))
}

fn shape(guest: &Guest) -> Outcome {
    let header = Table::find(guest)?.header;
    holds(
        "a descriptor or more",
        header.stride as usize >= size_of::<MemoryDescriptor>(),
    )?;
    holds("entries", header.entries > 0)
}

fn types(guest: &Guest) -> Outcome {
    Table::find(guest)?.entries().try_for_each(|entry| {
        let types = [efi::RUNTIME_SERVICES_CODE, efi::RUNTIME_SERVICES_DATA];
        holds("a type of runtime services", types.contains(&entry.r#type))
    })
}

fn sorted(guest: &Guest) -> Outcome {
    let mut reached = 0;
    Table::find(guest)?.entries().try_for_each(|entry| {
        holds(
            "whole pages",
            entry.physical_start % PAGE == 0 && entry.number_of_pages > 0,
        )?;
        holds(
            "a start behind the entry before",
            entry.physical_start >= reached,
        )?;
        reached = end(&entry);
        Ok(())
    })
}

fn inside(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    Table::find(guest)?.entries().try_for_each(|entry| {
        let region = map.at(entry.physical_start);
        let holds_it = region.is_some_and(|region| {
            region.attribute & efi::MEMORY_RUNTIME != 0 && end(&entry) <= end(&region)
        });
        holds("a runtime region around it", holds_it)
    })
}

fn protected(guest: &Guest) -> Outcome {
    Table::find(guest)?.entries().try_for_each(|entry| {
        let kept = entry.attribute & (efi::MEMORY_RO | efi::MEMORY_XP);
        holds("EFI_MEMORY_RO or EFI_MEMORY_XP", kept != 0)
    })
}

fn code(guest: &Guest) -> Outcome {
    // The table holds the trace's functions then, which are the firmware's.
    if images::has_option(guest, "traced") {
        return Ok(());
    }
    let service = guest.runtime().get_variable as usize;
    equal(
        "attributes",
        Table::find(guest)?.at(service)?,
        efi::MEMORY_RO,
    )
}

fn data(guest: &Guest) -> Outcome {
    let table = guest.system_table().addr();
    equal("attributes", Table::find(guest)?.at(table)?, efi::MEMORY_XP)
}
