//! What holds for the image at every address.

use super::machine::Machine;
use ovmf_lite_services::crc32;
use r_efi::efi::{self, Status, TableHeader};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr;

/// Attributes of a variable that is gone after ExitBootServices.
pub const BS: u32 = efi::VARIABLE_BOOTSERVICE_ACCESS;
/// Attributes of a variable that is read-only after ExitBootServices.
pub const BS_RT: u32 = BS | efi::VARIABLE_RUNTIME_ACCESS;
/// Attributes of a variable that an operating system works with.
pub const NV_BS_RT: u32 = BS_RT | efi::VARIABLE_NON_VOLATILE;

/// Pointers to itself that the image holds: three in the system table, the
/// fourteen services.
pub const POINTERS: usize = 3 + 14;

/// Checks the header of a table of `size` bytes.
pub fn check_header(header: &TableHeader, signature: u64, size: usize) {
    assert_eq!(header.signature, signature);
    assert_eq!(header.revision, 2 << 16 | 100);
    assert_eq!(header.header_size as usize, size);
    assert_eq!(header.reserved, 0);
    // SAFETY: the table is as long as its header says, which was just checked.
    let table = unsafe { std::slice::from_raw_parts(ptr::from_ref(header).cast::<u8>(), size) };
    assert_eq!(header.crc32, crc32::of_table(table), "CRC");
}

/// How many words of the image are addresses within `view` of it.
pub fn pointers_into(machine: &Machine, view: *mut u8) -> usize {
    let view = view.addr()..view.addr() + machine.views.size;
    machine
        .words()
        .iter()
        .filter(|word| view.contains(word))
        .count()
}

/// Checks what [`Machine`] offers after SetVirtualAddressMap, given a variable
/// `Before` with the data `b`.
pub fn check_everything_works(machine: &Machine) {
    let (system, services) = (machine.system(), machine.services());
    check_header(
        &system.hdr,
        efi::SYSTEM_TABLE_SIGNATURE,
        size_of::<efi::SystemTable>(),
    );
    check_header(
        &services.hdr,
        efi::RUNTIME_SERVICES_SIGNATURE,
        size_of::<efi::RuntimeServices>(),
    );
    // SAFETY: the vendor string has a code unit.
    assert_eq!(unsafe { system.firmware_vendor.read() }, u16::from(b'O'));
    assert_eq!(machine.get("Before"), Ok((NV_BS_RT, b"b".to_vec())));
    assert_eq!(machine.set("After", NV_BS_RT, b"after"), Status::SUCCESS);
    assert_eq!(
        machine.set("Before", NV_BS_RT | efi::VARIABLE_APPEND_WRITE, b"!"),
        Status::SUCCESS
    );
    assert_eq!(machine.get("Before"), Ok((NV_BS_RT, b"b!".to_vec())));
    assert_eq!(machine.list(), ["Before", "After"]);
    assert_eq!(machine.set("Before", 0, b""), Status::SUCCESS);
    assert_eq!(machine.list(), ["After"]);
    assert!(machine.query(NV_BS_RT).is_ok());
    assert_eq!(machine.next_high(), Ok(1));
    assert_eq!(machine.list(), ["After", "MTC"]);
    check_unsupported(machine);
}

/// The services that the properties table denies.
pub fn check_unsupported(machine: &Machine) {
    let services = machine.services();
    let null = ptr::null_mut::<c_void>();
    let statuses = [
        // SAFETY: a service that is not supported does not look at its arguments.
        unsafe { (services.get_time)(null.cast(), null.cast()) },
        // SAFETY: as above.
        unsafe { (services.set_time)(null.cast()) },
        // SAFETY: as above.
        unsafe { (services.get_wakeup_time)(null.cast(), null.cast(), null.cast()) },
        // SAFETY: as above.
        unsafe { (services.set_wakeup_time)(efi::Boolean::FALSE, null.cast()) },
        // SAFETY: as above; there is no SetVirtualAddressMap at work.
        unsafe { (services.convert_pointer)(0, null.cast()) },
        // SAFETY: as above.
        unsafe { (services.update_capsule)(null.cast(), 0, 0) },
        // SAFETY: as above.
        unsafe {
            (services.query_capsule_capabilities)(null.cast(), 0, null.cast(), null.cast::<u32>())
        },
    ];
    let found: BTreeSet<usize> = statuses.iter().map(Status::as_usize).collect();
    assert_eq!(found, BTreeSet::from([Status::UNSUPPORTED.as_usize()]));
}
