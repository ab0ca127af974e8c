//! The edge as a program sees it: through the boot services table only.
//!
//! The machine underneath is the test's own memory; entering an image calls a
//! test function instead of foreign code.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod events;
mod image;
mod protocols;

use super::*;
use crate::boot::{Initrd, ProtectError};
use crate::crc32;
use crate::memory::{MemoryMap, PageCount, PhysAddr, Placement};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::media::LoadFile2Protocol;
use uefi_raw::table::boot::{BootServices, MemoryDescriptor, MemoryType};
use uefi_raw::table::configuration::ConfigurationTable;
use uefi_raw::{Boolean, Guid, Handle, guid};

/// There is one edge in the process: one test at a time.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
static WRITTEN: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());
static INTERRUPTS: AtomicBool = AtomicBool::new(true);
static QUIET: std::sync::Mutex<bool> = std::sync::Mutex::new(false);
/// The time, in units of 100 ns; each wait adds to it.
static NOW: AtomicU64 = AtomicU64::new(0);
/// What every image returns.
static RETURNED: std::sync::Mutex<Status> = std::sync::Mutex::new(Status::ABORTED);
const PAGE: usize = 4096;
const MEMORY: usize = 1 << 20;
const TABLES: usize = 4;
const INITRD: &[u8] = b"070701 is how an initial RAM disk begins";
const A: Guid = guid!("00000001-0000-0000-0000-000000000000");

/// An open edge, and the memory it stands on.
struct World {
    services: &'static BootServices,
    table: *mut SystemTable,
    _turn: MutexGuard<'static, ()>,
}

unsafe extern "C" fn enter(
    frame: *mut usize,
    _: u64,
    _: Handle,
    table: *mut SystemTable,
) -> Status {
    assert!(!frame.is_null() && !table.is_null());
    *RETURNED.lock().unwrap()
}

unsafe extern "C" fn leave(_: *const usize, _: Status) -> ! {
    unreachable!("no image of these tests calls Exit");
}

fn read_initrd(buffer: &mut [u8]) -> Result<(), &'static str> {
    buffer.copy_from_slice(INITRD);
    Ok(())
}

fn machine() -> Machine {
    Machine {
        write_console: |text| WRITTEN.lock().unwrap().push_str(text),
        read_console: || None,
        stall: |microseconds| {
            NOW.fetch_add(10 * microseconds, Ordering::Relaxed);
        },
        pause: || {
            NOW.fetch_add(1000, Ordering::Relaxed);
        },
        now: || NOW.load(Ordering::Relaxed),
        random: [
            Some(|buffer| {
                buffer.fill(0x52);
                true
            }),
            None,
        ],
        protection: |_, _| None,
        // As if a table were needed whenever something is taken away.
        protect: |memory, start, _, _, set| match start {
            _ if set.is_empty() => Ok(()),
            0 => Err(ProtectError::Unmapped),
            _ => memory
                .allocate(Placement::Any, MemoryType::BOOT_SERVICES_DATA, PageCount(1))
                .map_err(|_| ProtectError::Full)
                .map(drop),
        },
        quiesce: || *QUIET.lock().unwrap() = true,
        interrupts: |enable| INTERRUPTS.store(enable, Ordering::Relaxed),
        enter_image: enter,
        leave_image: leave,
    }
}

/// Opens the edge over fresh memory and an empty system table.
fn open(initrd: bool) -> World {
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    WRITTEN.lock().unwrap().clear();
    *QUIET.lock().unwrap() = false;
    let layout = std::alloc::Layout::from_size_align(MEMORY, PAGE).unwrap();
    // SAFETY: the layout is not empty. The memory is never freed.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    let mut map = MemoryMap::new();
    let start = PhysAddr(memory.expose_provenance() as u64);
    map.describe(start, MEMORY as u64, MemoryType::CONVENTIONAL)
        .unwrap();
    let table = system_table();
    let tables = (0..TABLES).map(|_| ConfigurationTable {
        vendor_guid: Guid::ZERO,
        vendor_table: null_mut(),
    });
    let handoff = Handoff {
        version: crate::resident::HANDOFF_VERSION,
        disk: crate::resident::Disk::default(),
        out_of_room: 0,
        crowded: false,
        image_size: 0,
        machine: Default::default(),
        system_table: table,
        configuration_tables: tables.collect::<Vec<_>>().leak().as_mut_ptr(),
        configuration_table_capacity: TABLES,
        rt_properties: null(),
        store: crate::resident::Store::MEMORY,
        ready_to_boot: None,
        unsupported: null(),
        exit_boot_services: None,
        next_monotonic_count: None,
    };
    let initrd = initrd.then_some(Initrd {
        size: INITRD.len(),
        read: read_initrd,
    });
    // SAFETY: the tables are leaked, and only this edge writes to them.
    unsafe { start_edge(Boot::new(map, initrd), handoff) };
    console::publish().unwrap();
    initrd::publish().unwrap();
    // SAFETY: leaked, and not written to while this reference lives.
    let services = unsafe { (*table).boot_services };
    // SAFETY: the edge has just pointed the table to its services.
    let services = unsafe { &*services };
    World {
        services,
        table,
        _turn: turn,
    }
}

/// An empty system table, as the runtime image makes one: field by field over
/// zeroed memory, so that the CRC finds its padding defined.
fn system_table() -> *mut SystemTable {
    let layout = std::alloc::Layout::new::<SystemTable>();
    // SAFETY: the layout is not empty. The memory is never freed.
    let table = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<SystemTable>();
    // SAFETY: all zeros are a table: integers and raw pointers.
    let fields = unsafe { &mut *table };
    fields.header = SystemTable::default().header;
    table
}

unsafe fn start_edge(boot: Boot, handoff: Handoff) {
    // SAFETY: the caller's promise.
    unsafe { start(boot, machine(), handoff) };
}

impl World {
    fn map_size(&self) -> (Status, usize, usize, u32) {
        let (mut size, mut distance, mut version) = (0, 0, 0);
        let (map, key) = (null_mut(), null_mut());
        // SAFETY: all pointers are null or lead to the variables above.
        let status = unsafe {
            (self.services.get_memory_map)(&mut size, map, key, &mut distance, &mut version)
        };
        (status, size, distance, version)
    }

    fn map(&self) -> (Vec<MemoryDescriptor>, usize) {
        let (_, needed, distance, _) = self.map_size();
        let mut buffer = vec![0u64; (needed + 8 * distance) / 8];
        let mut size = buffer.len() * 8;
        let (mut key, mut version) = (0, 0);
        let map = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has `size` bytes.
        let status = unsafe {
            (self.services.get_memory_map)(&mut size, map, &mut key, &mut 0, &mut version)
        };
        assert_eq!((status, size), (Status::SUCCESS, needed));
        let descriptors = buffer.chunks_exact(distance / 8).take(size / distance);
        let read = |chunk: &[u64]| {
            // SAFETY: the service wrote a descriptor there.
            unsafe { chunk.as_ptr().cast::<MemoryDescriptor>().read() }
        };
        (descriptors.map(read).collect(), key)
    }

    fn pool(&self, size: usize) -> *mut u8 {
        let mut buffer = null_mut();
        // SAFETY: room for one pointer.
        let status =
            unsafe { (self.services.allocate_pool)(MemoryType::LOADER_DATA, size, &mut buffer) };
        assert_eq!(status, Status::SUCCESS);
        buffer
    }

    fn exit_boot_services(&self, key: usize) -> Status {
        // SAFETY: no pointers.
        unsafe { (self.services.exit_boot_services)(null_mut(), key) }
    }

    fn table_is_sealed(&self) -> bool {
        // SAFETY: a whole system table lies there.
        let bytes = unsafe {
            core::slice::from_raw_parts(self.table.cast::<u8>(), size_of::<SystemTable>())
        };
        // SAFETY: as above.
        crc32::of_table(bytes) == unsafe { (*self.table).header.crc }
    }

    fn locate_initrd(&self, path: &mut *const DevicePathProtocol) -> (Status, Handle) {
        let mut handle = null_mut();
        let guid = LoadFile2Protocol::GUID;
        // SAFETY: the path is a whole device path.
        let status = unsafe { (self.services.locate_device_path)(&guid, path, &mut handle) };
        (status, handle)
    }
}

static INITRD_PATH: [u8; 24] = [
    4, 3, 0x14, 0, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55, 0x52,
    0x31, 0xcc, 0x68, 0x7f, 0xff, 4, 0,
];

#[test]
fn the_memory_map_is_sized_first_and_fetched_then() {
    let world = open(false);
    let (status, size, distance, version) = world.map_size();
    assert_eq!(status, Status::BUFFER_TOO_SMALL);
    assert!(size >= distance && distance >= size_of::<MemoryDescriptor>());
    assert_eq!(version, MemoryDescriptor::VERSION);
    let (before, first) = world.map();
    world.pool(PAGE);
    let (after, second) = world.map();
    assert_ne!(first, second, "an allocation changes the key");
    let pages = |map: &[MemoryDescriptor]| map.iter().map(|entry| entry.page_count).sum::<u64>();
    assert_eq!(pages(&before), pages(&after));
    assert!(
        after
            .iter()
            .any(|entry| entry.ty == MemoryType::LOADER_DATA)
    );
}

#[test]
fn boot_services_end_with_the_right_key_only() {
    let world = open(false);
    let (_, stale) = world.map();
    world.pool(PAGE);
    assert_eq!(world.exit_boot_services(stale), Status::INVALID_PARAMETER);
    assert!(!*QUIET.lock().unwrap());
    let (_, key) = world.map();
    assert_eq!(world.exit_boot_services(key), Status::SUCCESS);
    assert!(*QUIET.lock().unwrap());
    // SAFETY: the table outlives the edge.
    let table = unsafe { &*world.table };
    assert!(table.boot_services.is_null() && table.stdout.is_null() && table.stdin.is_null());
    assert!(world.table_is_sealed());
    assert_eq!(world.map_size().0, Status::UNSUPPORTED);
}

#[test]
fn without_an_initrd_its_path_is_not_found() {
    let world = open(false);
    let mut path = INITRD_PATH.as_ptr().cast();
    assert_eq!(world.locate_initrd(&mut path).0, Status::NOT_FOUND);
    assert_eq!(path.cast(), INITRD_PATH.as_ptr());
}

#[test]
fn the_initrd_is_found_sized_and_read() {
    let world = open(true);
    let mut path = INITRD_PATH.as_ptr().cast();
    let (status, handle) = world.locate_initrd(&mut path);
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(path.cast(), INITRD_PATH[20..].as_ptr());
    let mut interface: *mut c_void = null_mut();
    let guid = LoadFile2Protocol::GUID;
    // SAFETY: room for one pointer.
    let status = unsafe { (world.services.handle_protocol)(handle, &guid, &mut interface) };
    assert_eq!(status, Status::SUCCESS);
    let protocol = interface.cast::<LoadFile2Protocol>();
    let mut buffer = [0u8; 64];
    let load = |policy, size: &mut usize, buffer: *mut u8| {
        // SAFETY: the protocol was found.
        let load_file = unsafe { (*protocol).load_file };
        // SAFETY: the buffer has as many bytes as said.
        unsafe { load_file(protocol, path, policy, size, buffer.cast()) }
    };
    // Linux 5.10 asks with a size it never set.
    let mut size = 0x3e2e_4f98;
    let probe = load(Boolean::FALSE, &mut size, null_mut());
    assert_eq!((probe, size), (Status::BUFFER_TOO_SMALL, INITRD.len()));
    size -= 1;
    let short = load(Boolean::FALSE, &mut size, buffer.as_mut_ptr());
    assert_eq!((short, size), (Status::BUFFER_TOO_SMALL, INITRD.len()));
    let policy = load(Boolean::TRUE, &mut size, buffer.as_mut_ptr());
    assert_eq!(policy, Status::UNSUPPORTED);
    size = buffer.len();
    let read = load(Boolean::FALSE, &mut size, buffer.as_mut_ptr());
    assert_eq!((read, size), (Status::SUCCESS, INITRD.len()));
    assert_eq!(&buffer[..size], INITRD);
}

#[test]
fn the_console_speaks_and_is_found() {
    let world = open(false);
    let text: Vec<u16> = "EFI stub: \u{e9}\r\n\0".encode_utf16().collect();
    // SAFETY: the console outlives the edge.
    let table = unsafe { &*world.table };
    // SAFETY: the console outlives the edge.
    let output_string = unsafe { (*table.stdout).output_string };
    // SAFETY: the string ends in NUL.
    let status = unsafe { output_string(table.stdout, text.as_ptr()) };
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(*WRITTEN.lock().unwrap(), "EFI stub: \u{e9}\r\n");
    let guid = uefi_raw::protocol::console::SimpleTextOutputProtocol::GUID;
    let (mut count, mut handles) = (0, null_mut());
    // SAFETY: room for a count and a pointer.
    let status = unsafe {
        (world.services.locate_handle_buffer)(2, &guid, null(), &mut count, &mut handles)
    };
    assert_eq!((status, count), (Status::SUCCESS, 1));
    // SAFETY: the service allocated one handle there.
    assert_eq!(unsafe { *handles }, table.stdout_handle);
    // SAFETY: the service allocated it from the pool.
    let freed = unsafe { (world.services.free_pool)(handles.cast()) };
    assert_eq!(freed, Status::SUCCESS);
}

#[test]
fn unknown_protocols_leave_a_null_behind() {
    let world = open(false);
    let mut interface: *mut c_void = core::ptr::dangling_mut();
    // SAFETY: room for one pointer.
    let status = unsafe { (world.services.locate_protocol)(&A, null(), &mut interface) };
    assert_eq!((status, interface), (Status::NOT_FOUND, null_mut()));
    let mut size = 0;
    // SAFETY: no buffer, no room.
    let status = unsafe { (world.services.locate_handle)(2, &A, null(), &mut size, null_mut()) };
    assert_eq!(status, Status::NOT_FOUND);
}

#[test]
fn freeing_what_is_not_from_the_pool_is_refused() {
    let world = open(false);
    for junk in [0usize, 1, 0x1000, usize::MAX] {
        // SAFETY: never dereferenced.
        let status = unsafe { (world.services.free_pool)(core::ptr::without_provenance_mut(junk)) };
        assert_eq!(status, Status::INVALID_PARAMETER);
    }
}

#[test]
fn configuration_tables_are_installed_and_sealed() {
    let world = open(false);
    assert!(world.table_is_sealed());
    // SAFETY: the address is only stored.
    let status = unsafe { (world.services.install_configuration_table)(&A, world.table.cast()) };
    assert_eq!(status, Status::SUCCESS);
    // SAFETY: the table outlives the edge.
    let count = unsafe { (*world.table).number_of_configuration_table_entries };
    assert_eq!(count, 1);
    assert!(world.table_is_sealed());
    // SAFETY: no table: removes the entry.
    let status = unsafe { (world.services.install_configuration_table)(&A, null()) };
    assert_eq!(status, Status::SUCCESS);
    // SAFETY: no table.
    let status = unsafe { (world.services.install_configuration_table)(&A, null()) };
    assert_eq!(status, Status::NOT_FOUND);
}
