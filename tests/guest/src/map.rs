//! GetMemoryMap (UEFI 2.11 §7.2.3): the protocol of the call, and what the map
//! says about this machine.

use crate::calls::Guest;
use crate::memory::{self, PAGE};
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::mem::size_of;
use core::ptr;
use r_efi::efi::{self, MemoryDescriptor, Status};

pub const AREA: Area = Area {
    name: "map",
    checks: &[
        ("size query without a buffer", size_query),
        ("a buffer that is too small", too_small),
        ("a buffer that is too large", too_large),
        ("wrong parameters", wrong_parameters),
        ("descriptors are sorted and apart", sorted),
        ("the key changes with the map", key),
        ("allocations appear with their type", types),
        ("attributes", attributes),
        ("0xA0000 is no memory", legacy_hole),
        ("all free memory is there", free_memory),
    ],
};

/// Room for the map of any machine these tests run on.
const ROOM: usize = 16 << 10;

/// A copy of the memory map.
pub struct Map {
    buffer: [u64; ROOM / 8],
    /// Size of the map in bytes.
    pub size: usize,
    /// For ExitBootServices.
    pub key: usize,
    /// Distance of descriptors in bytes.
    pub stride: usize,
    /// Version of the descriptors.
    pub version: u32,
}

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self {
            buffer: [0; ROOM / 8],
            size: 0,
            key: 0,
            stride: 0,
            version: 0,
        }
    }

    /// Asks for the map with room for `size` bytes.
    fn get(&mut self, guest: &Guest, size: usize) -> Status {
        self.size = size;
        let buffer = self.buffer.as_mut_ptr().cast();
        guest.get_memory_map(
            &mut self.size,
            buffer,
            &mut self.key,
            &mut self.stride,
            &mut self.version,
        )
    }

    /// Gets the map as it is now.
    pub fn fetch(&mut self, guest: &Guest) -> Outcome {
        success("GetMemoryMap", self.get(guest, ROOM))
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = MemoryDescriptor> {
        let bytes = self.buffer.as_ptr().cast::<u8>();
        (0..self.size / self.stride).map(move |i| {
            let descriptor = bytes.wrapping_add(i * self.stride);
            // SAFETY: inside the part of the buffer that was filled in; may be
            // at any address when the firmware's stride is odd.
            unsafe { descriptor.cast::<MemoryDescriptor>().read_unaligned() }
        })
    }

    /// Gives the runtime regions the addresses that they have, drops the rest.
    pub fn keep_runtime_identity(&mut self) {
        let mut kept = 0;
        for i in 0..self.size / self.stride {
            let mut descriptor = self.descriptors().nth(i).unwrap_or(NOWHERE);
            if descriptor.attribute & efi::MEMORY_RUNTIME != 0 {
                descriptor.virtual_start = descriptor.physical_start;
                self.put(kept, descriptor);
                kept += 1;
            }
        }
        self.size = kept * self.stride;
    }

    fn put(&mut self, index: usize, descriptor: MemoryDescriptor) {
        let bytes = self.buffer.as_mut_ptr().cast::<u8>();
        let place = bytes.wrapping_add(index * self.stride);
        // SAFETY: inside the buffer: not beyond the descriptor it is made from.
        unsafe { place.cast::<MemoryDescriptor>().write_unaligned(descriptor) };
    }

    /// The descriptors, for SetVirtualAddressMap.
    pub fn as_mut_ptr(&mut self) -> *mut MemoryDescriptor {
        self.buffer.as_mut_ptr().cast()
    }

    /// What the map says about an address.
    pub fn at(&self, address: u64) -> Option<MemoryDescriptor> {
        self.descriptors()
            .find(|d| d.physical_start <= address && address < end(d))
    }
}

const NOWHERE: MemoryDescriptor = MemoryDescriptor {
    r#type: efi::RESERVED_MEMORY_TYPE,
    physical_start: 0,
    virtual_start: 0,
    number_of_pages: 0,
    attribute: 0,
};

fn end(descriptor: &MemoryDescriptor) -> u64 {
    descriptor.physical_start + descriptor.number_of_pages * PAGE
}

fn size_query(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    let null = ptr::null_mut();
    let found = guest.get_memory_map(
        &mut map.size,
        null,
        &mut map.key,
        &mut map.stride,
        &mut map.version,
    );
    status("GetMemoryMap", found, Status::BUFFER_TOO_SMALL)?;
    holds(
        "a stride of a descriptor or more",
        map.stride >= size_of::<MemoryDescriptor>(),
    )?;
    equal("stride in words", map.stride % 8, 0)?;
    equal("version", map.version, efi::MEMORY_DESCRIPTOR_VERSION)?;
    holds(
        "a size of whole descriptors",
        map.size > 0 && map.size.is_multiple_of(map.stride),
    )
}

fn too_small(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let (needed, room) = (map.size, map.size - map.stride);
    status(
        "GetMemoryMap",
        map.get(guest, room),
        Status::BUFFER_TOO_SMALL,
    )?;
    // EDK2 asks for more than it uses; less than the map would be wrong.
    holds("the size of the map or more", map.size >= needed)
}

/// Linux divides the size that comes back by the stride.
fn too_large(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    holds("a size below that of the buffer", map.size < ROOM)?;
    equal("rest of the division", map.size % map.stride, 0)
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    let size = ptr::null_mut();
    let buffer = map.as_mut_ptr();
    let found = guest.get_memory_map(
        size,
        buffer,
        &mut map.key,
        &mut map.stride,
        &mut map.version,
    );
    status("GetMemoryMap(no size)", found, Status::INVALID_PARAMETER)?;
    map.size = ROOM;
    let buffer = ptr::null_mut();
    let found = guest.get_memory_map(
        &mut map.size,
        buffer,
        &mut map.key,
        &mut map.stride,
        &mut map.version,
    );
    status("GetMemoryMap(no buffer)", found, Status::INVALID_PARAMETER)
}

fn sorted(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let mut reached = 0;
    for descriptor in map.descriptors() {
        let start = descriptor.physical_start;
        equal("offset in the page", start % PAGE, 0)?;
        holds("one page or more", descriptor.number_of_pages > 0)?;
        equal("virtual address", descriptor.virtual_start, 0)?;
        if start < reached {
            return Err(Failure::new(format_args!(
                "expected a start of {reached:#x} or more, found {start:#x}"
            )));
        }
        reached = end(&descriptor);
    }
    Ok(())
}

fn key(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let first = map.key;
    map.fetch(guest)?;
    equal("key of the same map", map.key, first)?;
    let address = memory::allocate(guest, 1)?;
    map.fetch(guest)?;
    let second = map.key;
    holds("another key after AllocatePages", second != first)?;
    memory::free(guest, address, 1)?;
    map.fetch(guest)?;
    holds(
        "another key after FreePages",
        map.key != first && map.key != second,
    )
}

fn types(guest: &Guest) -> Outcome {
    const TYPE: u32 = 0x8000_1234;
    let mut address = 0;
    let found = guest.allocate_pages(efi::ALLOCATE_ANY_PAGES, TYPE, 5, &mut address);
    success("AllocatePages", found)?;
    let mut map = Map::new();
    map.fetch(guest)?;
    let ours = map.at(address).unwrap_or(NOWHERE);
    equal("start", ours.physical_start, address)?;
    equal(
        "type and pages",
        (ours.r#type, ours.number_of_pages),
        (TYPE, 5),
    )?;
    memory::free(guest, address, 5)?;
    map.fetch(guest)?;
    let freed = map.at(address).unwrap_or(NOWHERE);
    equal("type once freed", freed.r#type, efi::CONVENTIONAL_MEMORY)
}

fn attributes(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    for descriptor in map.descriptors() {
        let runtime = matches!(
            descriptor.r#type,
            efi::RUNTIME_SERVICES_CODE | efi::RUNTIME_SERVICES_DATA
        );
        let memory = matches!(
            descriptor.r#type,
            efi::LOADER_CODE..=efi::CONVENTIONAL_MEMORY
        );
        if memory {
            holds(
                "memory to be capable of WB",
                descriptor.attribute & efi::MEMORY_WB != 0,
            )?;
            let needed_later = descriptor.attribute & efi::MEMORY_RUNTIME != 0;
            equal("RUNTIME attribute", needed_later, runtime)?;
        }
    }
    Ok(())
}

/// Linux decides by this whether there is a VGA console.
fn legacy_hole(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let ty = map.at(0xa_0000).map(|d| d.r#type);
    holds("no free memory", ty != Some(efi::CONVENTIONAL_MEMORY))
}

fn free_memory(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let free = |d: &MemoryDescriptor| d.r#type == efi::CONVENTIONAL_MEMORY;
    for descriptor in map.descriptors().filter(free) {
        // Address 0 is null to Rust: not to be written through a pointer.
        for address in [descriptor.physical_start.max(8), end(&descriptor) - 8] {
            if !keeps_a_word(address) {
                return Err(Failure::new(format_args!(
                    "expected memory at {address:#x}, found none"
                )));
            }
        }
    }
    Ok(())
}

/// Writes a word of free memory, reads it again and restores it.
fn keeps_a_word(address: u64) -> bool {
    let word = ptr::with_exposed_provenance_mut::<u64>(address as usize);
    // SAFETY: free memory, in use by nobody; aligned as pages are.
    let before = unsafe { word.read_volatile() };
    // SAFETY: as above.
    unsafe { word.write_volatile(!before) };
    // SAFETY: as above.
    let found = unsafe { word.read_volatile() };
    // SAFETY: as above.
    unsafe { word.write_volatile(before) };
    found == !before
}
