//! Placing the runtime image: the part of us that the kernel keeps.
//!
//! One region, one descriptor, type `EfiRuntimeServicesCode`: an OS may map two
//! descriptors at different distances, and code that reaches its data relative
//! to the instruction pointer would break. What inside it may be written and
//! what may be executed the Memory Attributes Table says (UEFI 2.11 §4.6.4).
//!
//! Coverage, configuration tables:
//!
//! | `EFI_MEMORY_ATTRIBUTES_TABLE` | 4.6.4 | the runtime image's sections |

use crate::arch::{self, image, ram};
use crate::console::{self, warning};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use log::Level;
use ovmf_lite_loader::pe;
use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, PhysAddr, Placement};
use ovmf_lite_services::resident::{
    Disk, Flash, HANDOFF_VERSION, Handoff, Machine, Protocol, Reset, Space, Store, Write,
};
use uefi_raw::table::boot::{MemoryAttribute, MemoryDescriptor, MemoryType};
use uefi_raw::{Guid, Status, guid};

/// The runtime image, built before the firmware.
static IMAGE: &[u8] = include_bytes!(env!("OVMF_LITE_RUNTIME_IMAGE"));

/// `EFI_MEMORY_ATTRIBUTES_TABLE_GUID`.
pub const MEMORY_ATTRIBUTES_TABLE: Guid = guid!("dcfa911d-26eb-469f-a220-38b7dc461220");
/// Table version 1: without the flags of UEFI 2.10, of which none would be set,
/// and which Linux before 6.5 refuses.
const TABLE_VERSION: u32 = 1;
/// Length of the table's header: version, entries, descriptor size, reserved.
const TABLE_HEADER: usize = 16;

/// The placed runtime image.
pub struct Resident {
    /// What its entry point told us.
    pub handoff: Handoff,
    /// The Memory Attributes Table.
    pub attributes: &'static [u8],
}

/// Why the runtime image cannot be placed. The first two are bugs in the build.
#[derive(Debug)]
pub enum Error {
    /// It is no PE image.
    Format(pe::Error),
    /// It does not fit where it was put.
    Place(pe::PlaceError),
    /// Its entry point refused.
    Entry(Status),
    /// No memory for it.
    Memory(memory::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runtime image: ")?;
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::Entry(status) => write!(f, "its entry point returned {status}"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Self {
        Self::Memory(error)
    }
}

/// Places the runtime image, which works on `machine` and the store on `disk`, if
/// there is one of that name, and lets it fill its tables.
pub fn place(
    memory: &mut MemoryMap,
    mut machine: Machine,
    disk: Option<(Disk, String)>,
) -> Result<Resident, Error> {
    machine.reset = Reset {
        shutdown: reachable(memory, machine.reset.shutdown)?,
        reset: reachable(memory, machine.reset.reset)?,
    };
    let Flash { address, size } = machine.flash;
    memory.describe(PhysAddr(address), size, MemoryType::MMIO)?;
    if machine.host.protocol == Protocol::UEFI_VARS {
        let registers = PhysAddr(machine.host.address);
        memory.describe(registers, PAGE_SIZE, MemoryType::MMIO)?;
    }
    let image = pe::Image::parse(IMAGE).map_err(Error::Format)?;
    let bytes = ram::allocate(
        memory,
        Placement::Any,
        MemoryType::RUNTIME_SERVICES_CODE,
        image.size(),
    )?;
    let base = bytes.as_ptr().addr() as u64;
    image.place(bytes, base).map_err(Error::Place)?;
    let (disk, name) = disk.unwrap_or_default();
    let mut handoff = handoff(image.size() as u64, machine, disk);
    let status = image::enter_resident(bytes, image.entry(), &mut handoff);
    if status != Status::SUCCESS {
        return Err(Error::Entry(status));
    }
    announce(&handoff, &place_of(&machine, disk, &name));
    Ok(Resident {
        handoff,
        attributes: attributes(memory, &image, base)?,
    })
}

/// Where variables are to be kept, `name` being that of the disk.
fn place_of(machine: &Machine, disk: Disk, name: &str) -> String {
    match machine.host.protocol {
        Protocol::UEFI_VARS => "in QEMU's uefi-vars device".into(),
        Protocol::VARSTORED => "in varstored".into(),
        _ if !name.is_empty() => format!("on Xen disk {name}, {} KiB", disk.size >> 10),
        _ => format!("in {} KiB of flash", machine.flash.size >> 10),
    }
}

/// Says where variables are kept: `place`, or else in memory.
fn announce(handoff: &Handoff, place: &str) {
    let (level, before, place, behind) = match handoff.store {
        Store::KEPT | Store::HOST => (Level::Info, "", place, ""),
        Store::RESUMED => (Level::Info, "", place, ", rewritten"),
        // No variable was read that could be out of room.
        Store::SILENT_HOST => {
            return warning!(
                "variables in memory: expected {} at {:#x} to answer, found it does not",
                place.strip_prefix("in ").unwrap_or(place),
                handoff.machine.host.address
            );
        }
        Store::FORMATTED => (
            Level::Warn,
            "",
            place,
            ": expected a store, found none or a damaged one; it is empty now",
        ),
        Store::READ_ONLY => (
            Level::Warn,
            "",
            place,
            ": expected to be able to write, found it fails",
        ),
        Store::UNKNOWN_SIZE => (
            Level::Warn,
            "in memory, not ",
            place,
            ": expected 128 or 528; use a copy of OVMF_VARS.fd",
        ),
        _ => (Level::Info, "in memory", "", ""),
    };
    console::say(level, format_args!("variables {before}{place}{behind}"));
    if handoff.out_of_room > 0 {
        warning!(
            "{} variables will not be visible to the kernel: it gets no more than there is memory for",
            handoff.out_of_room
        );
    }
}

/// `write`, its register listed such that the operating system maps it for the
/// runtime services. None where the host's table names RAM: no register is there.
fn reachable(memory: &mut MemoryMap, write: Write) -> Result<Write, memory::Error> {
    if write.width == 0 || write.space != Space::MEMORY {
        return Ok(write);
    }
    let page = write.address / PAGE_SIZE * PAGE_SIZE;
    if page >= arch::MAPPED_AT_ENTRY || memory.ram().any(|ram| ram.contains(&PhysAddr(page))) {
        return Ok(Write::default());
    }
    memory.describe(PhysAddr(page), PAGE_SIZE, MemoryType::MMIO)?;
    Ok(write)
}

fn handoff(image_size: u64, machine: Machine, disk: Disk) -> Handoff {
    Handoff {
        version: HANDOFF_VERSION,
        image_size,
        machine,
        system_table: core::ptr::null_mut(),
        configuration_tables: core::ptr::null_mut(),
        configuration_table_capacity: 0,
        rt_properties: core::ptr::null(),
        disk,
        store: Store::MEMORY,
        ready_to_boot: None,
        out_of_room: 0,
        crowded: false,
        unsupported: core::ptr::null(),
        exit_boot_services: None,
        next_monotonic_count: None,
    }
}

/// Writes the Memory Attributes Table for the image at `base`.
fn attributes(
    memory: &mut MemoryMap,
    image: &pe::Image<'_>,
    base: u64,
) -> Result<&'static [u8], Error> {
    let ranges = ranges(image);
    let size = size_of::<MemoryDescriptor>();
    // Not BootServicesData: Linux, finding a reserved range in such a region,
    // keeps all of the region for ever (arch/x86/platform/efi/quirks.c).
    let table = ram::allocate(
        memory,
        Placement::Any,
        MemoryType::ACPI_RECLAIM,
        TABLE_HEADER + ranges.len() * size,
    )?;
    table.fill(0);
    let header = [TABLE_VERSION, ranges.len() as u32, size as u32, 0];
    for (target, value) in table.chunks_exact_mut(4).zip(header) {
        target.copy_from_slice(&value.to_le_bytes());
    }
    for (target, range) in table[TABLE_HEADER..].chunks_exact_mut(size).zip(ranges) {
        range.write(target, base);
    }
    Ok(table)
}

/// Pages of the image with equal attributes.
struct Range {
    start: u64,
    end: u64,
    attributes: MemoryAttribute,
}

impl Range {
    /// Writes this range as an `EFI_MEMORY_DESCRIPTOR`.
    fn write(&self, target: &mut [u8], base: u64) {
        let fields = [
            u64::from(MemoryType::RUNTIME_SERVICES_CODE.0),
            base + self.start,
            0,
            (self.end - self.start) / PAGE_SIZE,
            self.attributes.bits(),
        ];
        for (target, value) in target.chunks_exact_mut(8).zip(fields) {
            target.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Divides the image into ranges of equal attributes, without a gap: headers
/// are data, and so is whatever lies between sections.
fn ranges(image: &pe::Image<'_>) -> Vec<Range> {
    let data = MemoryAttribute::RUNTIME | MemoryAttribute::EXECUTE_PROTECT;
    let mut ranges = Vec::from([Range {
        start: 0,
        end: PAGE_SIZE,
        attributes: data | MemoryAttribute::READ_ONLY,
    }]);
    for section in image.sections() {
        let mut attributes = MemoryAttribute::RUNTIME;
        attributes.set(MemoryAttribute::EXECUTE_PROTECT, !section.executable());
        attributes.set(MemoryAttribute::READ_ONLY, !section.writable());
        let start = u64::from(section.rva);
        let end = start + u64::from(section.virtual_size);
        push(
            &mut ranges,
            start,
            end.next_multiple_of(PAGE_SIZE),
            attributes,
        );
    }
    ranges
}

fn push(ranges: &mut Vec<Range>, start: u64, end: u64, attributes: MemoryAttribute) {
    if let Some(last) = ranges.last_mut() {
        // A gap belongs to what lies before it.
        last.end = start;
        if last.attributes == attributes {
            last.end = end;
            return;
        }
    }
    ranges.push(Range {
        start,
        end,
        attributes,
    });
}
