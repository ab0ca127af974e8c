//! The shipped runtime image, run in this process.
//!
//! Promises that the very file the firmware places is closed, keeps the rules of
//! UEFI 2.11 §8, and survives what an operating system does to it: two mappings,
//! SetVirtualAddressMap, and the first mapping gone. GetTime and SetTime on a
//! real clock and ResetSystem need I/O ports, which a process has not: virtual
//! machines test them.

#[path = "runtime_image/address_map.rs"]
mod address_map;
#[path = "runtime_image/build.rs"]
mod build;
#[path = "runtime_image/checks.rs"]
mod checks;
#[path = "runtime_image/device.rs"]
mod device;
#[path = "runtime_image/machine.rs"]
mod machine;
#[path = "runtime_image/on_disk.rs"]
mod on_disk;
#[path = "runtime_image/remote.rs"]
mod remote;
#[path = "runtime_image/views.rs"]
mod views;

use build::image;
use checks::{BS, BS_RT, NV_BS_RT, POINTERS, check_header, check_unsupported, pointers_into};
use machine::{Machine, VENDOR, utf16};
use ovmf_lite_loader::pe;
use ovmf_lite_services::resident::{Clock, HANDOFF_VERSION};
use r_efi::efi::{self, Status};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn the_file_is_closed() {
    let file = image();
    let parsed = pe::Image::parse(file).expect("the image is a PE file");
    println!(
        "runtime image: {} bytes of file, {} KiB of memory",
        file.len(),
        parsed.size() / 1024
    );
    for section in parsed.sections() {
        println!(
            "  {} at {:#x}, {} bytes",
            section.name, section.rva, section.virtual_size
        );
        assert!(
            !(section.writable() && section.executable()),
            "{} is W+X",
            section.name
        );
        assert_eq!(
            section.rva % 4096,
            0,
            "{} is not on a page of its own",
            section.name
        );
    }
    assert!(!parsed.has_relocations(), "there is an absolute address");
    assert!(!parsed.imports(), "there is an import");
    assert!(parsed.size() <= 128 * 1024, "larger than its budget");
}

#[test]
fn another_version_is_refused() {
    let size = pe::Image::parse(image()).expect("a PE file").size();
    let mut handoff = machine::handoff(Clock::NONE, size);
    handoff.version = HANDOFF_VERSION + 1;
    let status = machine::enter(image(), &views::Views::new(size), &mut handoff);
    assert_eq!(status, Status::INCOMPATIBLE_VERSION.as_usize());
    assert!(handoff.system_table.is_null());
}

#[test]
fn the_tables_are_complete() {
    let machine = Machine::boot(image(), Clock::NONE);
    let system = machine.system();
    check_header(
        &system.hdr,
        efi::SYSTEM_TABLE_SIGNATURE,
        size_of::<efi::SystemTable>(),
    );
    let services = &machine.services().hdr;
    check_header(
        services,
        efi::RUNTIME_SERVICES_SIGNATURE,
        size_of::<efi::RuntimeServices>(),
    );
    assert!(system.boot_services.is_null() && system.number_of_table_entries == 0);
    assert_eq!(
        system.configuration_table.addr(),
        machine.handoff.configuration_tables.addr()
    );
    assert_eq!(machine.handoff.configuration_table_capacity, 32);
    // SAFETY: Linux reads 200 bytes there, whatever the length of the string.
    let vendor = unsafe { std::slice::from_raw_parts(system.firmware_vendor, 100) };
    assert_eq!(vendor[..10], utf16("OVMF-lite"));
    assert_eq!(pointers_into(&machine, machine.views.first), POINTERS);
}

#[test]
fn the_properties_tell_the_truth() {
    for (clock, expected) in [(Clock::NONE, 0x27f0), (Clock::CMOS, 0x27f3)] {
        let machine = Machine::boot(image(), clock);
        // SAFETY: the table is in the image, which is mapped.
        let properties = unsafe { &*machine.handoff.rt_properties };
        assert_eq!((properties.version, properties.length), (1, 8));
        assert_eq!(properties.runtime_services_supported, expected);
    }
    check_unsupported(&Machine::boot(image(), Clock::NONE));
}

#[test]
fn the_time_stamp_counter_is_a_clock_until_exit_boot_services() {
    let machine = Machine::boot(image(), Clock::TSC);
    let first = machine.time().expect("a clock");
    // A nanosecond before the end of the year, and time has passed since.
    assert_eq!((first.year, first.month, first.day), (2032, 1, 1));
    std::thread::sleep(Duration::from_millis(2));
    let second = machine.time().expect("a clock");
    let of_day = |time: &efi::Time| (time.hour, time.minute, time.second, time.nanosecond);
    assert!(of_day(&second) > of_day(&first));
    machine.exit_boot_services();
    check_unsupported(&machine);
}

#[test]
fn variables_are_created_read_extended_listed_and_deleted() {
    let machine = Machine::boot(image(), Clock::NONE);
    assert_eq!(machine.set("One", NV_BS_RT, b"1"), Status::SUCCESS);
    assert_eq!(machine.set("Two", BS, b"22"), Status::SUCCESS);
    assert_eq!(
        machine.set("One", NV_BS_RT | efi::VARIABLE_APPEND_WRITE, b"+1"),
        Status::SUCCESS
    );
    assert_eq!(machine.get("One"), Ok((NV_BS_RT, b"1+1".to_vec())));
    assert_eq!(machine.list(), ["One", "Two"]);
    assert_eq!(
        machine.set("One", BS, b"other attributes"),
        Status::INVALID_PARAMETER
    );
    assert_eq!(
        machine.set("One", NV_BS_RT | 0x20, b"not signed"),
        Status::SECURITY_VIOLATION
    );
    assert_eq!(machine.set("One", 0, b""), Status::SUCCESS);
    assert_eq!(machine.get("One"), Err(Status::NOT_FOUND));
    assert_eq!(machine.list(), ["Two"]);
    assert_eq!(machine.set("", BS, b"x"), Status::INVALID_PARAMETER);
}

#[test]
fn get_variable_tells_sizes() {
    let machine = Machine::boot(image(), Clock::NONE);
    assert_eq!(machine.get_into("V", 0, None).0, Status::NOT_FOUND);
    assert_eq!(machine.set("V", NV_BS_RT, b"data"), Status::SUCCESS);
    let too_small = |result: (Status, u32, usize, Vec<u8>)| {
        assert_eq!(
            (result.0, result.1, result.2),
            (Status::BUFFER_TOO_SMALL, NV_BS_RT, 4)
        );
        assert!(
            result.3.iter().all(|byte| *byte == 0xa5),
            "the buffer was written to"
        );
    };
    too_small(machine.get_into("V", 0, None));
    too_small(machine.get_into("V", 3, Some(3)));
    assert_eq!(machine.get_into("V", 4, None).0, Status::INVALID_PARAMETER);
    let (status, _, size, data) = machine.get_into("V", 6, Some(6));
    assert_eq!(
        (status, size, data.as_slice()),
        (Status::SUCCESS, 4, b"data\xa5\xa5".as_slice())
    );
}

#[test]
fn get_next_variable_name_stays_within_its_buffer() {
    let machine = Machine::boot(image(), Clock::NONE);
    assert_eq!(machine.set("Name", BS, b"x"), Status::SUCCESS);
    let mut vendor = VENDOR;
    // What Linux does at boot: two bytes that are not initialised.
    assert_eq!(
        machine.next(&mut 2, &mut [0xdead], &mut vendor),
        Status::INVALID_PARAMETER
    );
    assert_eq!(
        machine.next(&mut 0, &mut [0], &mut vendor),
        Status::INVALID_PARAMETER
    );
    assert_eq!(
        machine.next(&mut 1, &mut [0], &mut vendor),
        Status::INVALID_PARAMETER
    );
    let (mut size, mut buffer) = (8, [0, 7, 7, 7, 7]);
    assert_eq!(
        machine.next(&mut size, &mut buffer, &mut vendor),
        Status::BUFFER_TOO_SMALL
    );
    // The firmware's own come first.
    let first = 2 * utf16("SecureBoot").len();
    assert_eq!((size, buffer, vendor), (first, [0, 7, 7, 7, 7], VENDOR));
    assert_eq!(machine.set("N", BS, b"x"), Status::SUCCESS);
    let mut buffer = utf16("Name");
    // As small as the names are, odd, and larger than any memory.
    for mut size in [10, 11, usize::MAX] {
        buffer.copy_from_slice(&utf16("Name"));
        assert_eq!(
            machine.next(&mut size, &mut buffer, &mut vendor),
            Status::SUCCESS
        );
        assert_eq!((size, &buffer[..2], vendor), (4, &utf16("N")[..], VENDOR));
        // At the end of the list the size is as it was.
        assert_eq!(
            machine.next(&mut size, &mut buffer, &mut vendor),
            Status::NOT_FOUND
        );
        assert_eq!((size, &buffer[..2]), (4, &utf16("N")[..]));
    }
    let unknown = &mut utf16("None")[..];
    assert_eq!(
        machine.next(&mut 10, unknown, &mut vendor),
        Status::INVALID_PARAMETER
    );
}

#[test]
fn the_store_is_as_large_as_it_says() {
    let machine = Machine::boot(image(), Clock::NONE);
    let [storage, remaining, largest] = machine.query(NV_BS_RT).expect("valid attributes");
    assert!(storage > remaining && remaining >= 64 * 1024 && largest < remaining);
    let name_size = 2 * utf16("V").len();
    let data = vec![1; usize::try_from(largest).expect("a size") - name_size + 1];
    assert_eq!(machine.set("V", NV_BS_RT, &data), Status::OUT_OF_RESOURCES);
    assert_eq!(machine.set("V", NV_BS_RT, &data[1..]), Status::SUCCESS);
    assert_eq!(machine.query(NV_BS_RT), Ok([storage, 0, 0]));
    assert_eq!(machine.query(0), Err(Status::INVALID_PARAMETER));
    assert_eq!(machine.query(0xf), Err(Status::UNSUPPORTED));
}

#[test]
fn absurd_sizes_are_refused_unread() {
    let machine = Machine::boot(image(), Clock::NONE);
    let (mut name, mut vendor) = (utf16("V"), VENDOR);
    let set = machine.services().set_variable;
    for size in [1 << 20, usize::MAX] {
        let nowhere = ptr::without_provenance_mut(1);
        // SAFETY: more than the store could hold is refused without being read.
        let status = unsafe { set(name.as_mut_ptr(), &mut vendor, NV_BS_RT, size, nowhere) };
        assert_eq!(status, Status::OUT_OF_RESOURCES);
    }
    let mut endless = vec![u16::from(b'A'); 64 * 1024];
    // SAFETY: the name has no terminator within anything the store could hold.
    let status = unsafe {
        set(
            endless.as_mut_ptr(),
            &mut vendor,
            NV_BS_RT,
            0,
            ptr::null_mut(),
        )
    };
    assert_eq!(status, Status::OUT_OF_RESOURCES);
}

#[test]
fn null_is_refused() {
    let machine = Machine::boot(image(), Clock::NONE);
    let services = machine.services();
    let (mut name, mut vendor, mut size, mut number) = (utf16("V"), VENDOR, 4, 0);
    let (name, vendor, null) = (
        name.as_mut_ptr(),
        &raw mut vendor,
        ptr::null_mut::<c_void>(),
    );
    let refused = |status| assert_eq!(status, Status::INVALID_PARAMETER);
    // SAFETY: NULL is what the services are to check for; all else is alive.
    refused(unsafe { (services.set_variable)(null.cast(), vendor, BS, 1, name.cast()) });
    // SAFETY: as above.
    refused(unsafe { (services.set_variable)(name, null.cast(), BS, 1, name.cast()) });
    // SAFETY: as above.
    refused(unsafe { (services.set_variable)(name, vendor, BS, 1, null.cast()) });
    // SAFETY: as above.
    refused(unsafe { (services.get_variable)(null.cast(), vendor, null.cast(), &mut size, null) });
    // SAFETY: as above.
    refused(unsafe { (services.get_variable)(name, null.cast(), null.cast(), &mut size, null) });
    // SAFETY: as above.
    refused(unsafe { (services.get_variable)(name, vendor, null.cast(), null.cast(), null) });
    // SAFETY: as above.
    refused(unsafe { (services.get_next_variable_name)(null.cast(), name, vendor) });
    // SAFETY: as above.
    refused(unsafe { (services.get_next_variable_name)(&mut size, null.cast(), vendor) });
    // SAFETY: as above.
    refused(unsafe { (services.get_next_variable_name)(&mut size, name, null.cast()) });
    // SAFETY: as above.
    refused(unsafe { (services.query_variable_info)(BS, &mut number, null.cast(), null.cast()) });
}

#[test]
fn pointers_need_no_alignment() {
    let machine = Machine::boot(image(), Clock::NONE);
    let mut buffer = [0u64; 16];
    let start = buffer.as_mut_ptr().cast::<u8>();
    let odd = |offset: usize| start.wrapping_add(offset);
    let (name, vendor, size, data) = (odd(1).cast::<u16>(), odd(33), odd(65), odd(81));
    // SAFETY: within the buffer.
    unsafe { name.write_unaligned(u16::from(b'V')) };
    // SAFETY: within the buffer.
    unsafe { size.cast::<usize>().write_unaligned(8) };
    let services = machine.services();
    // SAFETY: all pointers are into the buffer.
    let status = unsafe { (services.set_variable)(name, vendor.cast(), BS, 8, data.cast()) };
    assert_eq!(status, Status::SUCCESS);
    // SAFETY: all pointers are into the buffer.
    let status = unsafe {
        (services.get_variable)(
            name,
            vendor.cast(),
            odd(99).cast(),
            size.cast(),
            data.cast(),
        )
    };
    assert_eq!(status, Status::SUCCESS);
}

#[test]
fn exit_boot_services_changes_the_rules() {
    let machine = Machine::boot(image(), Clock::NONE);
    for (name, attributes) in [("Boot", BS), ("Volatile", BS_RT), ("Kept", NV_BS_RT)] {
        assert_eq!(machine.set(name, attributes, b"x"), Status::SUCCESS);
    }
    machine.exit_boot_services();
    assert_eq!(machine.list(), ["Volatile", "Kept"]);
    assert_eq!(machine.get("Boot"), Err(Status::NOT_FOUND));
    assert_eq!(machine.set("Boot", 0, b""), Status::WRITE_PROTECTED);
    assert_eq!(
        machine.set("Volatile", BS_RT, b"y"),
        Status::WRITE_PROTECTED
    );
    assert_eq!(machine.set("New", BS, b"y"), Status::INVALID_PARAMETER);
    assert_eq!(machine.set("DUMMY", NV_BS_RT, b""), Status::NOT_FOUND);
    assert_eq!(machine.set("Kept", NV_BS_RT, b"y"), Status::SUCCESS);
    assert_eq!(machine.query(BS), Err(Status::INVALID_PARAMETER));
}

#[test]
fn the_monotonic_counter_grows_and_keeps_its_high_half() {
    let machine = Machine::boot(image(), Clock::NONE);
    assert_eq!(machine.list(), [""; 0]);
    assert_eq!(machine.next_count(), 1 << 32);
    assert_eq!(machine.next_count(), 1 << 32 | 1);
    assert_eq!(machine.next_high(), Ok(2));
    assert_eq!(machine.next_count(), 2 << 32);
    assert_eq!(machine.list(), ["MTC"]);
    machine.exit_boot_services();
    assert_eq!(machine.next_high(), Ok(3));
    // SAFETY: null is what is to be refused.
    let none = unsafe { (machine.services().get_next_high_mono_count)(ptr::null_mut()) };
    assert_eq!(none, Status::INVALID_PARAMETER);
}

#[test]
fn a_call_never_waits_for_another() {
    let machine = Machine::exited(image());
    let (stop, services) = (AtomicBool::new(false), machine.services());
    let (set, get) = (services.set_variable, services.get_variable);
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut name, mut vendor, mut data) = (utf16("V"), VENDOR, vec![1u8; 60_000]);
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: all pointers are to live locals.
                let status = unsafe {
                    set(
                        name.as_mut_ptr(),
                        &mut vendor,
                        NV_BS_RT,
                        data.len(),
                        data.as_mut_ptr().cast(),
                    )
                };
                assert!(matches!(status, Status::SUCCESS | Status::DEVICE_ERROR));
            }
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut refused = false;
        while !refused && Instant::now() < deadline {
            let (mut name, mut vendor, mut size) = (utf16("W"), VENDOR, 0);
            // SAFETY: all pointers are to live locals.
            let status = unsafe {
                get(
                    name.as_mut_ptr(),
                    &mut vendor,
                    ptr::null_mut(),
                    &mut size,
                    ptr::null_mut(),
                )
            };
            refused = status == Status::DEVICE_ERROR;
        }
        stop.store(true, Ordering::Relaxed);
        refused
    });
    assert!(refused, "two calls at once, and none was refused");
}
