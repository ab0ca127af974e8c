//! GetMemoryMap (UEFI 2.11 §7.2.3): the protocol of the call, and what the map
//! says about this machine.

use crate::calls::Guest;
use crate::memory::{self, PAGE};
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, status, success};
use core::mem::size_of;
use core::ptr;
use r_efi::efi::{self, MemoryDescriptor, Status};

pub const AREA: Area = Area {
    name: "7.2.3 GetMemoryMap",
    checks: &[
        ("a size of 0 and no buffer is a question", size_query),
        ("a size of 0 with a buffer is a question", |g| {
            question(g, 0)
        }),
        ("a size of 1 byte is too small", |g| question(g, 1)),
        ("a buffer that lacks a descriptor is too small", too_small),
        ("a buffer that lacks a byte is too small", one_byte_short),
        ("a buffer that is too small stays as it is", untouched),
        ("a buffer of just the size is enough", just_enough),
        ("nothing is written behind the buffer", nothing_behind),
        (
            "the size is that of the map when there is more room",
            too_large,
        ),
        ("MemoryMapSize of NULL", no_size),
        ("MemoryMap of NULL with a size that is enough", no_buffer),
        ("DescriptorSize is that of a descriptor or more", stride),
        ("DescriptorVersion is 1", version),
        ("descriptors are sorted and apart", sorted),
        (
            "descriptors are of whole pages, with no virtual address",
            whole_pages,
        ),
        ("no type is undefined", defined_types),
        ("the key stays while the map does", same_key),
        ("the key changes with AllocatePages", |g| {
            key_changes(g, |g, _| memory::allocate(g, 1))
        }),
        ("the key changes with FreePages", |g| {
            key_changes(g, |g, page| g.free(page))
        }),
        ("an allocation is one descriptor", types),
        ("what is freed is EfiConventionalMemory", freed),
        ("memory is capable of write-back", write_back),
        (
            "runtime types have EFI_MEMORY_RUNTIME, other memory has not",
            runtime_attribute,
        ),
        ("the stack is no free memory", |g| {
            kept(g, (&raw const g.handle).addr())
        }),
        ("the boot services table is no free memory", |g| {
            kept(g, ptr::from_ref(g.boot()).addr())
        }),
        ("the system table is memory of runtime services", |g| {
            runtime_memory(g, g.system_table().addr())
        }),
        ("the runtime services are memory of runtime services", |g| {
            runtime_memory(g, ptr::from_ref(g.runtime()).addr())
        }),
        ("the firmware's vendor is memory of runtime services", |g| {
            runtime_memory(g, g.system().firmware_vendor.addr())
        }),
        (
            "the configuration tables are memory of runtime services",
            |g| runtime_memory(g, g.system().configuration_table.addr()),
        ),
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

    /// Gives the runtime regions their places by number and drops the rest; the
    /// last come first.
    pub fn keep_runtime(&mut self, place: fn(usize) -> u64) {
        let mut kept = 0;
        for i in 0..self.size / self.stride {
            let mut descriptor = self.nth(i);
            if descriptor.attribute & efi::MEMORY_RUNTIME != 0 {
                descriptor.virtual_start = place(kept);
                self.put(kept, descriptor);
                kept += 1;
            }
        }
        self.size = kept * self.stride;
        for i in 0..kept / 2 {
            let (first, last) = (self.nth(i), self.nth(kept - 1 - i));
            self.put(i, last);
            self.put(kept - 1 - i, first);
        }
    }

    fn nth(&self, index: usize) -> MemoryDescriptor {
        self.descriptors().nth(index).unwrap_or(NOWHERE)
    }

    /// Checks that the descriptors are sorted and do not overlap.
    pub fn apart(&self) -> Outcome {
        let mut reached = 0;
        for descriptor in self.descriptors() {
            let start = descriptor.physical_start;
            if start < reached {
                return Err(Failure::new(format_args!(
                    "expected a start of {reached:#x} or more, found {start:#x}"
                )));
            }
            reached = end(&descriptor);
        }
        Ok(())
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

/// The first address behind a region.
pub fn end(descriptor: &MemoryDescriptor) -> u64 {
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

fn fetched(guest: &Guest) -> Result<Map, Failure> {
    let mut map = Map::new();
    map.fetch(guest)?;
    Ok(map)
}

/// Asks with room for too few bytes.
fn question(guest: &Guest, room: usize) -> Outcome {
    let mut map = Map::new();
    gives(Status::BUFFER_TOO_SMALL, map.get(guest, room))?;
    holds("the size that is needed", map.size > room && map.stride > 0)
}

fn too_small(guest: &Guest) -> Outcome {
    let mut map = fetched(guest)?;
    let (needed, room) = (map.size, map.size - map.stride);
    gives(Status::BUFFER_TOO_SMALL, map.get(guest, room))?;
    // EDK2 asks for more than it uses; less than the map would be wrong.
    holds("the size of the map or more", map.size >= needed)
}

fn one_byte_short(guest: &Guest) -> Outcome {
    let mut map = fetched(guest)?;
    let room = map.size - 1;
    gives(Status::BUFFER_TOO_SMALL, map.get(guest, room))
}

fn untouched(guest: &Guest) -> Outcome {
    let mut map = fetched(guest)?;
    let room = map.size - 1;
    map.buffer.fill(FILLING);
    gives(Status::BUFFER_TOO_SMALL, map.get(guest, room))?;
    holds(
        "the buffer as it was",
        map.buffer.iter().all(|&word| word == FILLING),
    )
}

fn just_enough(guest: &Guest) -> Outcome {
    let mut map = fetched(guest)?;
    let room = map.size;
    gives(Status::SUCCESS, map.get(guest, room))?;
    equal("size", map.size, room)
}

const FILLING: u64 = 0xa5a5_a5a5_a5a5_a5a5;

fn nothing_behind(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    gives(Status::BUFFER_TOO_SMALL, map.get(guest, 0))?;
    let room = map.size;
    map.buffer.fill(FILLING);
    gives(Status::SUCCESS, map.get(guest, room))?;
    let behind = &map.buffer[room.div_ceil(8)..];
    holds("what was there", behind.iter().all(|&word| word == FILLING))
}

/// Linux divides the size that comes back by the stride.
fn too_large(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    holds("a size below that of the buffer", map.size < ROOM)?;
    equal("rest of the division", map.size % map.stride, 0)
}

fn no_size(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    let buffer = map.as_mut_ptr();
    let (key, stride, version) = (&mut map.key, &mut map.stride, &mut map.version);
    invalid(guest.get_memory_map(ptr::null_mut(), buffer, key, stride, version))
}

fn no_buffer(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    let (key, stride, version) = (&mut map.key, &mut map.stride, &mut map.version);
    invalid(guest.get_memory_map(&mut { ROOM }, ptr::null_mut(), key, stride, version))
}

fn stride(guest: &Guest) -> Outcome {
    let stride = fetched(guest)?.stride;
    holds("40 bytes or more", stride >= size_of::<MemoryDescriptor>())?;
    equal("rest of a division by 8", stride % 8, 0)
}

fn version(guest: &Guest) -> Outcome {
    let version = fetched(guest)?.version;
    equal("version", version, efi::MEMORY_DESCRIPTOR_VERSION)
}

fn sorted(guest: &Guest) -> Outcome {
    fetched(guest)?.apart()
}

fn whole_pages(guest: &Guest) -> Outcome {
    fetched(guest)?.descriptors().try_for_each(|d| {
        equal("offset in the page", d.physical_start % PAGE, 0)?;
        holds("one page or more", d.number_of_pages > 0)?;
        equal("virtual address", d.virtual_start, 0)
    })
}

fn defined_types(guest: &Guest) -> Outcome {
    fetched(guest)?.descriptors().try_for_each(|d| {
        let defined = matches!(d.r#type, 0..=15 | 0x7000_0000..);
        holds("a type that is defined", defined)
    })
}

fn same_key(guest: &Guest) -> Outcome {
    equal("key", fetched(guest)?.key, fetched(guest)?.key)
}

impl Guest {
    fn free(&self, page: u64) -> Result<u64, Failure> {
        memory::free(self, page, 1).map(|()| page)
    }
}

fn key_changes(guest: &Guest, act: fn(&Guest, u64) -> Result<u64, Failure>) -> Outcome {
    let page = memory::allocate(guest, 1)?;
    let before = fetched(guest)?.key;
    let after = act(guest, page)?;
    let key = fetched(guest)?.key;
    // Whatever is left: what was allocated first, or last, or nothing.
    let _ = guest.free_pages(page, 1);
    if after != page {
        memory::free(guest, after, 1)?;
    }
    holds("another key", key != before)
}

fn types(guest: &Guest) -> Outcome {
    const TYPE: u32 = 0x8000_1234;
    let mut address = 0;
    let found = guest.allocate_pages(efi::ALLOCATE_ANY_PAGES, TYPE, 5, &mut address);
    success("AllocatePages", found)?;
    let ours = fetched(guest)?.at(address).unwrap_or(NOWHERE);
    memory::free(guest, address, 5)?;
    equal("start", ours.physical_start, address)?;
    equal(
        "type and pages",
        (ours.r#type, ours.number_of_pages),
        (TYPE, 5),
    )
}

fn freed(guest: &Guest) -> Outcome {
    let address = memory::allocate(guest, 3)?;
    memory::free(guest, address, 3)?;
    let ty = fetched(guest)?.at(address).map(|d| d.r#type);
    equal("type", ty, Some(efi::CONVENTIONAL_MEMORY))
}

/// The descriptors of what can be allocated.
fn memory_of(map: &Map) -> impl Iterator<Item = MemoryDescriptor> {
    map.descriptors()
        .filter(|d| matches!(d.r#type, efi::LOADER_CODE..=efi::CONVENTIONAL_MEMORY))
}

fn write_back(guest: &Guest) -> Outcome {
    let capable = |d: MemoryDescriptor| d.attribute & efi::MEMORY_WB != 0;
    holds("EFI_MEMORY_WB", memory_of(&fetched(guest)?).all(capable))
}

fn runtime_attribute(guest: &Guest) -> Outcome {
    memory_of(&fetched(guest)?).try_for_each(|d| {
        let types = [efi::RUNTIME_SERVICES_CODE, efi::RUNTIME_SERVICES_DATA];
        let needed_later = d.attribute & efi::MEMORY_RUNTIME != 0;
        equal("attribute", needed_later, types.contains(&d.r#type))
    })
}

fn kept(guest: &Guest, address: usize) -> Outcome {
    let ty = fetched(guest)?.at(address as u64).map(|d| d.r#type);
    let kept = ty.is_some_and(|ty| ty != efi::CONVENTIONAL_MEMORY);
    holds("memory that is in use", kept)
}

fn runtime_memory(guest: &Guest, address: usize) -> Outcome {
    let region = fetched(guest)?.at(address as u64).unwrap_or(NOWHERE);
    holds(
        "EFI_MEMORY_RUNTIME",
        region.attribute & efi::MEMORY_RUNTIME != 0,
    )
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
