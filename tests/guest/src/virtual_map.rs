//! SetVirtualAddressMap as an operating system would do it that has no mercy
//! (UEFI 2.11 §8.4.1): every runtime region far from every other, in another
//! order, and nothing left where it was.

use crate::calls::Guest;
use crate::configuration;
use crate::convert::Listener;
use crate::map::{Map, end};
use crate::memory::PAGE;
use crate::paging::PageTables;
use crate::report::{Outcome, Report, equal, gives, holds, works};
use crate::slots::PHYSICAL_ONLY;
use core::mem::size_of;
use core::ptr;
use r_efi::efi::{self, MemoryDescriptor, RuntimeServices, Status, SystemTable, TableHeader};

/// Where this operating system puts the firmware.
const BASE: u64 = 0xffff_9000_0000_0000;
/// Distance of the regions' places.
const APART: u64 = 64 << 30;
/// Number of places, a prime: every multiple of [`STEP`] is another place.
const PLACES: u64 = 31;
const STEP: u64 = 7;

/// The place of the region with this index, never at the same offset in 2 MiB.
fn place(index: usize) -> u64 {
    let index = index as u64;
    BASE + (index * STEP + 3) % PLACES * APART + (index + 1) * PAGE
}

/// Pages for the page tables of any machine these tests run on.
pub const TABLES: usize = 128;

/// Reports a check; whether it passed.
type Note<'a> = dyn FnMut(&'static str, Outcome) -> bool + 'a;

/// What the firmware's tables were before they moved.
struct Before {
    system: SystemTable,
    slots: [u64; SLOTS],
    configuration: u64,
    promised: Option<u32>,
}

const SLOTS: usize = (size_of::<RuntimeServices>() - size_of::<TableHeader>()) / 8;

/// The runtime services as addresses.
fn slots(guest: &Guest) -> [u64; SLOTS] {
    let table = ptr::from_ref(guest.runtime()).wrapping_byte_add(size_of::<TableHeader>());
    // SAFETY: the words behind the header.
    unsafe { table.cast::<[u64; SLOTS]>().read() }
}

/// A run-time system with its regions.
pub struct Os<'m> {
    map: &'m mut Map,
    tables: PageTables,
}

impl<'m> Os<'m> {
    /// With the map of ExitBootServices and [`TABLES`] pages at `tables`.
    pub fn new(map: &'m mut Map, tables: u64) -> Self {
        let tables = PageTables::new(tables, TABLES);
        Self { map, tables }
    }

    /// Moves the firmware; its new self, when everything went well.
    pub fn run(mut self, guest: &Guest, pointers: &Listener, report: &mut Report) -> Option<Guest> {
        const NAME: &str = "8.4.1 SetVirtualAddressMap";
        let top = self.end_of_memory();
        self.map.keep_runtime(place);
        let ours = report.ours;
        let mut note = |name, outcome: Outcome| {
            let passed = outcome.is_ok();
            report.note(NAME, name, outcome);
            passed
        };
        self.refusals(guest, ours, &mut note);
        let before = before(guest);
        let mapped = self.map_all(top);
        if !note("(page tables)", mapped)
            || !note("regions in any order, far apart", self.go(guest))
        {
            return None;
        }
        note("a second time", self.again(guest));
        self.pointers(pointers, &mut note);
        if !note("(the old addresses are unmapped)", self.unmap_all()) {
            return None;
        }
        let moved = self.moved(guest, before.promised);
        self.all_moved(&before, &moved, &mut note);
        Some(moved)
    }

    /// Where memory ends: not what a host reserves far above.
    fn end_of_memory(&self) -> u64 {
        let memory =
            |d: &MemoryDescriptor| matches!(d.r#type, efi::LOADER_CODE..=efi::CONVENTIONAL_MEMORY);
        let memory = self.map.descriptors().filter(memory);
        memory.map(|d| end(&d)).fold(4 << 30, u64::max)
    }

    fn refusals(&mut self, guest: &Guest, ours: bool, note: &mut Note<'_>) {
        note(
            "a DescriptorVersion that is unknown",
            self.bad_version(guest),
        );
        note(
            "a DescriptorSize below that of a descriptor",
            self.bad_size(guest),
        );
        if ours {
            note(
                "a runtime region without an address",
                self.incomplete(guest),
            );
        }
    }

    fn pointers(&self, pointers: &Listener, note: &mut Note<'_>) {
        let address = |address| self.virtual_address(address);
        note("8.4.2 ConvertPointer", pointers.converted(address));
        note(
            "8.4.2 ConvertPointer of what is not in the map",
            pointers.not_in_map(),
        );
        note("8.4.2 ConvertPointer of NULL", pointers.null());
        note(
            "8.4.2 ConvertPointer of NULL that may be",
            pointers.optional(),
        );
    }

    fn all_moved(&self, before: &Before, moved: &Guest, note: &mut Note<'_>) {
        note(
            "RuntimeServices moves",
            self.services_pointer(before, moved),
        );
        note(
            "FirmwareVendor moves, and its text with it",
            self.vendor(before, moved),
        );
        note(
            "ConfigurationTable moves",
            self.configuration(before, moved),
        );
        note(
            "every runtime service moves",
            self.every_slot(before, moved),
        );
        note(
            "what the configuration tables point to stays",
            entries(before, moved),
        );
    }

    fn call(&mut self, guest: &Guest, size: usize, stride: usize, version: u32) -> Status {
        let map = self.map.as_mut_ptr();
        guest.set_virtual_address_map(size, stride, version, map)
    }

    fn bad_version(&mut self, guest: &Guest) -> Outcome {
        let (size, stride, version) = (self.map.size, self.map.stride, self.map.version);
        let found = self.call(guest, size, stride, version.wrapping_add(7));
        gives(Status::INVALID_PARAMETER, found)
    }

    fn bad_size(&mut self, guest: &Guest) -> Outcome {
        let (size, version) = (self.map.size, self.map.version);
        let found = self.call(guest, size, size_of::<MemoryDescriptor>() - 8, version);
        gives(Status::INVALID_PARAMETER, found)
    }

    fn incomplete(&mut self, guest: &Guest) -> Outcome {
        let (stride, version) = (self.map.stride, self.map.version);
        gives(Status::NO_MAPPING, self.call(guest, 0, stride, version))
    }

    fn go(&mut self, guest: &Guest) -> Outcome {
        holds("a runtime region", self.map.size > 0)?;
        let (size, stride, version) = (self.map.size, self.map.stride, self.map.version);
        works(self.call(guest, size, stride, version))
    }

    fn again(&mut self, guest: &Guest) -> Outcome {
        let (size, stride, version) = (self.map.size, self.map.stride, self.map.version);
        // Nothing but the functions of the old table is needed for this.
        gives(Status::UNSUPPORTED, self.call(guest, size, stride, version))
    }

    /// Maps memory to itself and the runtime regions to their places.
    fn map_all(&mut self, top: u64) -> Outcome {
        let regions = self.map.descriptors();
        holds(
            "as many regions as there are places",
            regions.count() <= PLACES as usize,
        )?;
        self.tables.map_identity(top)?;
        for region in self.map.descriptors() {
            for offset in (0..region.number_of_pages).map(|page| page * PAGE) {
                let (from, to) = (region.virtual_start, region.physical_start);
                self.tables.map(from + offset, to + offset)?;
            }
        }
        self.tables.load();
        Ok(())
    }

    fn unmap_all(&mut self) -> Outcome {
        for region in self.map.descriptors() {
            for offset in (0..region.number_of_pages).map(|page| page * PAGE) {
                self.tables.unmap(region.physical_start + offset)?;
            }
        }
        self.tables.load();
        Ok(())
    }

    /// Where the firmware has to expect what was at an address.
    fn virtual_address(&self, address: u64) -> u64 {
        let region = self.map.at(address);
        region.map_or(address, |region| {
            address - region.physical_start + region.virtual_start
        })
    }

    /// The firmware where it is now.
    fn moved(&self, guest: &Guest, promised: Option<u32>) -> Guest {
        let address = self.virtual_address(guest.system_table().addr() as u64);
        let table = ptr::with_exposed_provenance_mut(address as usize);
        Guest::at(guest.handle, table, promised)
    }

    fn services_pointer(&self, before: &Before, moved: &Guest) -> Outcome {
        let expected = self.virtual_address(before.system.runtime_services.addr() as u64);
        equal(
            "address",
            moved.system().runtime_services.addr() as u64,
            expected,
        )
    }

    fn vendor(&self, before: &Before, moved: &Guest) -> Outcome {
        let found = moved.system().firmware_vendor;
        let expected = self.virtual_address(before.system.firmware_vendor.addr() as u64);
        equal("address", found.addr() as u64, expected)?;
        // SAFETY: the vendor's name, one character or more.
        holds("a character", unsafe { found.read() } != 0)
    }

    fn configuration(&self, before: &Before, moved: &Guest) -> Outcome {
        let found = moved.system().configuration_table.addr() as u64;
        equal(
            "address",
            found,
            self.virtual_address(before.system.configuration_table.addr() as u64),
        )
    }

    /// But for the two that nobody may call any more.
    fn every_slot(&self, before: &Before, moved: &Guest) -> Outcome {
        let header = size_of::<TableHeader>();
        let expected = before.slots.map(|slot| self.virtual_address(slot));
        let pairs = slots(moved).into_iter().zip(expected).enumerate();
        let mut needed = pairs.filter(|(i, _)| !PHYSICAL_ONLY[1..].contains(&(header + i * 8)));
        needed.try_for_each(|(_, (found, expected))| equal("slot", found, expected))
    }
}

fn before(guest: &Guest) -> Before {
    Before {
        // SAFETY: the firmware's table.
        system: unsafe { guest.system_table().read() },
        slots: slots(guest),
        configuration: sum(guest),
        // Out of reach later: the table itself is named by its old address.
        promised: configuration::runtime_services(guest).ok(),
    }
}

/// All entries of the configuration table at once.
fn sum(guest: &Guest) -> u64 {
    configuration::entries(guest).fold(0, |sum, entry| {
        let address = entry.vendor_table.addr() as u64;
        sum.rotate_left(9) ^ address
    })
}

fn entries(before: &Before, moved: &Guest) -> Outcome {
    let count = moved.system().number_of_table_entries;
    equal("number", count, before.system.number_of_table_entries)?;
    equal(
        "checksum of the addresses",
        sum(moved),
        before.configuration,
    )
}
