//! Firmware and operating system, as far as the runtime image can tell.
//!
//! Calls go through the tables as an operating system finds them, in the types
//! of r-efi: the image is built with another binding, so an ABI mistake in one
//! of them shows.

use super::views::Views;
use ovmf_lite_loader::pe;
use ovmf_lite_services::resident::{
    Clock, Disk, Entry, HANDOFF_VERSION, Handoff, Listener, Machine as Facts, Moment, Store,
};
use r_efi::efi::{Guid, MemoryDescriptor, RuntimeServices, Status, SystemTable, Time};
use std::ffi::c_void;
use std::ptr;

/// A vendor for the variables of these tests.
pub const VENDOR: Guid = Guid::from_fields(0x1234_5678, 0x9abc, 0xdef0, 1, 2, &[3, 4, 5, 6, 7, 8]);

/// The vendor of the variables that the specification names (UEFI 2.11 §3.3).
const EFI_GLOBAL_VARIABLE: Guid = Guid::from_fields(
    0x8be4_df61,
    0x93ca,
    0x11d2,
    0xaa,
    0x0d,
    &[0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);

/// The image, placed and entered.
pub struct Machine {
    /// The memory it is in.
    pub views: Views,
    /// What it handed back.
    pub handoff: Handoff,
    /// The system table, in the view the operating system uses now.
    pub system: *mut SystemTable,
}

/// A string as UEFI wants it.
pub fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The firmware's half of the contract, without any hardware.
pub fn handoff(clock: Clock, image_size: usize) -> Handoff {
    Handoff {
        version: HANDOFF_VERSION,
        disk: Disk::default(),
        out_of_room: 0,
        crowded: false,
        image_size: image_size as u64,
        machine: Facts {
            clock,
            moment: moment(),
            ..Facts::default()
        },
        system_table: ptr::null_mut(),
        configuration_tables: ptr::null_mut(),
        configuration_table_capacity: 0,
        rt_properties: ptr::null(),
        store: Store(u32::MAX),
        ready_to_boot: None,
        unsupported: ptr::null(),
        exit_boot_services: None,
        next_monotonic_count: None,
    }
}

/// The last second of 2031, on a processor of 1 GHz.
fn moment() -> Moment {
    Moment {
        seconds: 1_956_527_999,
        nanoseconds: 999_999_999,
        tsc_khz: 1_000_000,
        // SAFETY: reading the time stamp counter has no effect.
        tsc: unsafe { std::arch::x86_64::_rdtsc() },
    }
}

/// Places the image in `views` and calls its entry point.
pub fn enter(file: &[u8], views: &Views, handoff: &mut Handoff) -> usize {
    let image = pe::Image::parse(file).expect("the image is a PE file");
    // SAFETY: the view is mapped, and nobody else knows of it.
    let memory = unsafe { std::slice::from_raw_parts_mut(views.first, views.size) };
    image
        .place(memory, views.first.addr() as u64)
        .expect("the image fits");
    let entry = views.first.wrapping_add(image.entry() as usize);
    // SAFETY: the entry point of the runtime image is an `Entry`.
    let entry = unsafe { std::mem::transmute::<*mut u8, Entry>(entry) };
    // SAFETY: called once, with a handoff of our own.
    unsafe { entry(handoff) }.0
}

impl Machine {
    /// A machine at boot.
    pub fn boot(file: &[u8], clock: Clock) -> Self {
        Self::with(file, |facts| facts.clock = clock)
    }

    /// A machine at boot of which the firmware tells what `adjust` makes of it.
    pub fn with(file: &[u8], adjust: impl FnOnce(&mut Facts)) -> Self {
        Self::given(file, |handoff| adjust(&mut handoff.machine))
    }

    /// The same for all that the firmware tells.
    pub fn given(file: &[u8], adjust: impl FnOnce(&mut Handoff)) -> Self {
        let size = pe::Image::parse(file)
            .expect("the image is a PE file")
            .size();
        let views = Views::new(size);
        let mut handoff = handoff(Clock::NONE, size);
        adjust(&mut handoff);
        assert_eq!(enter(file, &views, &mut handoff), 0, "entry point");
        let system = handoff.system_table.cast();
        Self {
            views,
            handoff,
            system,
        }
    }

    /// A machine after ExitBootServices.
    pub fn exited(file: &[u8]) -> Self {
        let machine = Self::boot(file, Clock::NONE);
        machine.exit_boot_services();
        machine
    }

    /// Tells the image that an operating system is about to be started.
    pub fn ready_to_boot(&self) {
        let callback = self.handoff.ready_to_boot.expect("a callback");
        // SAFETY: the callback is in the image, which is still mapped there.
        unsafe { callback() }
    }

    /// Tells the image that boot services are gone.
    pub fn exit_boot_services(&self) {
        let callback = self.handoff.exit_boot_services.expect("a callback");
        // SAFETY: the callback is in the image, which is still mapped there.
        unsafe { callback(ptr::null(), 0) }
    }

    /// The same, with those who want to know of SetVirtualAddressMap.
    pub fn exit_boot_services_with(&self, listeners: &[Listener]) {
        let callback = self.handoff.exit_boot_services.expect("a callback");
        // SAFETY: as above; as many listeners as said.
        unsafe { callback(listeners.as_ptr(), listeners.len()) }
    }

    /// The system table.
    pub fn system(&self) -> &SystemTable {
        // SAFETY: the table is in a mapped view, and no service is running.
        unsafe { &*self.system }
    }

    /// The runtime services table, found through the system table.
    pub fn services(&self) -> &RuntimeServices {
        // SAFETY: the table is in a mapped view, and no service is running.
        unsafe { &*self.system().runtime_services }
    }

    /// The whole image, in the view the operating system uses now, as words.
    pub fn words(&self) -> Vec<usize> {
        let in_first = (self.views.first.addr()..self.views.first.addr() + self.views.size)
            .contains(&self.system.addr());
        let view = if in_first {
            self.views.first
        } else {
            self.views.second
        };
        // SAFETY: the view is mapped and aligned, and no service is running.
        unsafe { std::slice::from_raw_parts(view.cast::<usize>(), self.views.size / 8) }.to_vec()
    }

    /// GetTime.
    pub fn time(&self) -> Result<Time, Status> {
        let mut time = Time::default();
        // SAFETY: the pointer is to a live local; capabilities are optional.
        match unsafe { (self.services().get_time)(&mut time, ptr::null_mut()) } {
            Status::SUCCESS => Ok(time),
            status => Err(status),
        }
    }

    /// SetVariable.
    pub fn set(&self, name: &str, attributes: u32, data: &[u8]) -> Status {
        let mut name = utf16(name);
        let (mut vendor, data_pointer) = (VENDOR, data.as_ptr().cast_mut().cast());
        // SAFETY: all pointers are to live locals.
        unsafe {
            (self.services().set_variable)(
                name.as_mut_ptr(),
                &mut vendor,
                attributes,
                data.len(),
                data_pointer,
            )
        }
    }

    /// GetVariable into a buffer of `room` bytes, or NULL if that is `None`:
    /// status, attributes, size and data.
    pub fn get_into(
        &self,
        name: &str,
        size: usize,
        room: Option<usize>,
    ) -> (Status, u32, usize, Vec<u8>) {
        let (mut name, mut vendor) = (utf16(name), VENDOR);
        let (mut attributes, mut size) = (u32::MAX, size);
        let mut data = vec![0xa5u8; room.unwrap_or(0)];
        let pointer = room.map_or(ptr::null_mut(), |_| data.as_mut_ptr().cast::<c_void>());
        // SAFETY: all pointers are to live locals, or NULL where that is allowed.
        let status = unsafe {
            (self.services().get_variable)(
                name.as_mut_ptr(),
                &mut vendor,
                &mut attributes,
                &mut size,
                pointer,
            )
        };
        (status, attributes, size, data)
    }

    /// GetVariable as everybody uses it.
    pub fn get(&self, name: &str) -> Result<(u32, Vec<u8>), Status> {
        match self.get_into(name, 256, Some(256)) {
            (Status::SUCCESS, attributes, size, mut data) => {
                data.truncate(size);
                Ok((attributes, data))
            }
            (status, ..) => Err(status),
        }
    }

    /// GetNextVariableName, with `size` as the size of `name`.
    pub fn next(&self, size: &mut usize, name: &mut [u16], vendor: &mut Guid) -> Status {
        // SAFETY: all pointers are to live buffers; `name` has at least `size` bytes, or a NUL.
        unsafe { (self.services().get_next_variable_name)(size, name.as_mut_ptr(), vendor) }
    }

    /// All variable names but the firmware's own, in order.
    pub fn list(&self) -> Vec<String> {
        let (mut name, mut vendor, mut names) = ([0u16; 64], VENDOR, vec![]);
        loop {
            let mut size = size_of_val(&name);
            match self.next(&mut size, &mut name, &mut vendor) {
                Status::SUCCESS if vendor == EFI_GLOBAL_VARIABLE => {}
                Status::SUCCESS => names.push(String::from_utf16_lossy(&name[..size / 2 - 1])),
                status => {
                    assert_eq!(status, Status::NOT_FOUND);
                    return names;
                }
            }
        }
    }

    /// QueryVariableInfo: storage, remaining, largest.
    pub fn query(&self, attributes: u32) -> Result<[u64; 3], Status> {
        let [mut storage, mut remaining, mut largest] = [0; 3];
        // SAFETY: all pointers are to live locals.
        let status = unsafe {
            (self.services().query_variable_info)(
                attributes,
                &mut storage,
                &mut remaining,
                &mut largest,
            )
        };
        if status.is_error() {
            Err(status)
        } else {
            Ok([storage, remaining, largest])
        }
    }

    /// GetNextHighMonotonicCount.
    pub fn next_high(&self) -> Result<u32, Status> {
        let mut high = 0;
        // SAFETY: the pointer is to a live local.
        match unsafe { (self.services().get_next_high_mono_count)(&mut high) } {
            Status::SUCCESS => Ok(high),
            status => Err(status),
        }
    }

    /// GetNextMonotonicCount, which the firmware calls for a boot service.
    pub fn next_count(&self) -> u64 {
        let next = self.handoff.next_monotonic_count.expect("a service");
        let mut count = 0;
        // SAFETY: the pointer is to a live local.
        assert_eq!(unsafe { next(&mut count) }.0, 0);
        count
    }

    /// SetVirtualAddressMap with `map`, whose descriptors take `stride` bytes.
    pub fn set_virtual_address_map(&self, map: &[MemoryDescriptor], stride: usize) -> Status {
        let mut bytes = vec![0xa5u8; map.len() * stride];
        for (descriptor, to) in map.iter().zip(bytes.chunks_exact_mut(stride)) {
            // SAFETY: the chunk has room for a descriptor.
            unsafe {
                to.as_mut_ptr()
                    .cast::<MemoryDescriptor>()
                    .write_unaligned(*descriptor)
            };
        }
        self.raw_set_virtual_address_map(bytes.len(), stride, 1, bytes.as_mut_ptr().cast())
    }

    /// SetVirtualAddressMap as it is; `map` is NULL or has `size` bytes.
    pub fn raw_set_virtual_address_map(
        &self,
        size: usize,
        stride: usize,
        version: u32,
        map: *mut MemoryDescriptor,
    ) -> Status {
        let service = self.services().set_virtual_address_map;
        // SAFETY: the map is as large as it claims.
        unsafe { service(size, stride, version, map) }
    }
}
