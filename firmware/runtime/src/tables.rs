//! The system table, the runtime services table and what hangs on them
//! (UEFI 2.11 §4.3, §4.5, §4.6).
//!
//! Promises that the runtime services table is complete from the first moment
//! and that both CRCs are valid when [`fill`] or [`relocate`] returns. The
//! system table's boot-time fields are the firmware's to fill, and to seal.
//!
//! Coverage, configuration tables:
//!
//! | `EFI_RT_PROPERTIES_TABLE` | 4.6.2 | the runtime image |

use crate::state::{self, Resident};
use crate::virtual_map::Move;
use crate::{clock, monotonic, reset, unsupported, variables, virtual_map};
use core::ffi::c_void;
use core::slice;
use ovmf_lite_services::crc32;
use ovmf_lite_services::resident::{Clock, Handoff, RtPropertiesTable};
use uefi_raw::table::configuration::ConfigurationTable;
use uefi_raw::table::runtime::RuntimeServices;
use uefi_raw::table::system::SystemTable;
use uefi_raw::table::{Header, Revision};
use uefi_raw::time::Time;
use uefi_raw::{Boolean, Char16, Status};

/// The first revision that lets a firmware leave out services it does not need
/// and say so (UEFI 2.10 §2.6, §4.6).
const REVISION: Revision = Revision::EFI_2_100;

/// Linux maps 200 bytes of the vendor string, however short it is
/// (arch/x86/platform/efi/efi.c).
const VENDOR_UNITS: usize = 100;

const VENDOR_NAME: &[u8; 9] = b"OVMF-lite";

/// Room for every configuration table this firmware knows of, and for as many
/// of a boot loader's.
const CONFIGURATION_TABLES: usize = 32;

/// "RUNTSERV" (UEFI 2.11 §4.5.1).
const RUNTIME_SIGNATURE: u64 = 0x5652_4553_544e_5552;

/// Bits of `RuntimeServicesSupported` (UEFI 2.11 §4.6.2).
mod supported {
    pub const CLOCK: u32 = 0x1 | 0x2;
    pub const VARIABLES: u32 = 0x10 | 0x20 | 0x2000;
    pub const SET_VARIABLE: u32 = 0x40;
    pub const SET_VIRTUAL_ADDRESS_MAP: u32 = 0x80;
    pub const CONVERT_POINTER: u32 = 0x100;
    pub const HIGH_MONOTONIC_COUNT: u32 = 0x200;
    pub const RESET_SYSTEM: u32 = 0x400;
}

static SYSTEM: Resident<SystemTable> = Resident::zeroed();
static RUNTIME: Resident<RuntimeServices> = Resident::zeroed();
static PROPERTIES: Resident<RtPropertiesTable> = Resident::zeroed();
static CONFIGURATION: Resident<[ConfigurationTable; CONFIGURATION_TABLES]> = Resident::zeroed();
static VENDOR: Resident<[Char16; VENDOR_UNITS]> = Resident::zeroed();

/// The runtime services table as SetVirtualAddressMap sees it.
#[repr(C)]
struct Slots {
    header: Header,
    pointers: [*mut c_void; 14],
}

const _: () = assert!(size_of::<Slots>() == size_of::<RuntimeServices>());

/// `EFI_RT_PROPERTIES_TABLE.Length`.
const RT_PROPERTIES_LENGTH: u16 = 8;

const _: () = assert!(size_of::<RtPropertiesTable>() == RT_PROPERTIES_LENGTH as usize);

/// Fills all tables, and `handoff` with their addresses.
///
/// This is code, not the initial value of statics: those would hold addresses.
pub fn fill(handoff: &mut Handoff) {
    fill_vendor();
    fill_system();
    // SAFETY: nobody knows the table yet.
    unsafe { RUNTIME.get().write(runtime_services()) };
    // SAFETY: nobody knows the table yet.
    unsafe { PROPERTIES.get().write(properties(handoff)) };
    seal(&SYSTEM);
    seal(&RUNTIME);
    handoff.system_table = SYSTEM.get();
    handoff.configuration_tables = CONFIGURATION.get().cast();
    handoff.configuration_table_capacity = CONFIGURATION_TABLES;
    handoff.rt_properties = PROPERTIES.get();
    handoff.ready_to_boot = Some(state::ready_to_boot);
    let unsupported: unsafe extern "efiapi" fn(Boolean, *const Time) -> Status =
        unsupported::set_wakeup_time;
    handoff.unsupported = unsupported as *const c_void;
    handoff.exit_boot_services = Some(state::exit_boot_services);
    handoff.next_monotonic_count = Some(monotonic::get_next_monotonic_count);
}

/// Converts every pointer in the two tables (UEFI 2.11 §8.4.1).
pub fn relocate(to: &Move) {
    // SAFETY: SetVirtualAddressMap runs alone.
    let system = unsafe { &mut *SYSTEM.get() };
    system.firmware_vendor = to.convert(system.firmware_vendor.cast_mut());
    system.runtime_services = to.convert(system.runtime_services);
    system.configuration_table = to.convert(system.configuration_table);
    // SAFETY: SetVirtualAddressMap runs alone, and function pointers are pointers.
    let runtime = unsafe { &mut *RUNTIME.get().cast::<Slots>() };
    for pointer in &mut runtime.pointers {
        *pointer = to.convert(*pointer);
    }
    seal(&SYSTEM);
    seal(&RUNTIME);
}

fn fill_vendor() {
    // SAFETY: nobody knows the string yet, and any bytes are code units.
    let vendor = unsafe { &mut *VENDOR.get() };
    for (to, from) in vendor.iter_mut().zip(VENDOR_NAME) {
        *to = (*from).into();
    }
}

/// Field by field, so that the padding between them stays zero: the CRC covers
/// it.
fn fill_system() {
    // SAFETY: nobody knows the table yet, and zeros are a system table.
    let system = unsafe { &mut *SYSTEM.get() };
    system.header = header::<SystemTable>(SystemTable::SIGNATURE);
    system.firmware_vendor = VENDOR.get().cast();
    system.firmware_revision = const { firmware_revision() };
    system.runtime_services = RUNTIME.get();
    system.configuration_table = CONFIGURATION.get().cast();
}

fn runtime_services() -> RuntimeServices {
    RuntimeServices {
        header: header::<RuntimeServices>(RUNTIME_SIGNATURE),
        // §8.3.1: CMOS clock, resolution 1 s; time zone and daylight as SetTime left them. In Xen
        // PVH domains Xen's wall clock, until ExitBootServices
        get_time: clock::get_time,
        // §8.3.2: `EFI_UNSUPPORTED` in Xen PVH domains
        set_time: clock::set_time,
        // §8.3.3
        get_wakeup_time: unsupported::get_wakeup_time,
        // §8.3.4
        set_wakeup_time: unsupported::set_wakeup_time,
        // §8.4.1
        set_virtual_address_map: virtual_map::set_virtual_address_map,
        // §8.4.2: `EFI_UNSUPPORTED` but during SetVirtualAddressMap's notifications
        convert_pointer: virtual_map::convert_pointer,
        // §8.2.1
        get_variable: variables::get_variable,
        // §8.2.2
        get_next_variable_name: variables::get_next_variable_name,
        // §8.2.3: kept by the host, in flash or on a Xen disk where there is one, else in memory
        // until reset; with a Xen disk `EFI_UNSUPPORTED` after ExitBootServices; signed writes and
        // hardware-error records are the host's to judge, else `EFI_UNSUPPORTED`, signed writes
        // without descriptor `EFI_SECURITY_VIOLATION`; how the text is read says
        // `services/src/variables.rs`
        set_variable: variables::set_variable,
        // §8.5.2: as GetNextMonotonicCount; with a Xen disk `EFI_UNSUPPORTED` after
        // ExitBootServices
        get_next_high_monotonic_count: monotonic::get_next_high_monotonic_count,
        // §8.5.1: under Xen `SCHEDOP_shutdown`; else FADT registers in I/O or memory space, then
        // 0xCF9, keyboard controller, triple fault
        reset_system: reset::reset_system,
        // §8.5.3
        update_capsule: unsupported::update_capsule,
        // §8.5.3
        query_capsule_capabilities: unsupported::query_capsule_capabilities,
        // §8.2.4
        query_variable_info: variables::query_variable_info,
    }
}

fn properties(handoff: &Handoff) -> RtPropertiesTable {
    let clock = if handoff.machine.clock == Clock::CMOS {
        supported::CLOCK
    } else {
        0
    };
    let set_variable = match handoff.disk.size {
        0 => supported::SET_VARIABLE | supported::HIGH_MONOTONIC_COUNT,
        _ => 0,
    };
    RtPropertiesTable {
        version: 1,
        length: RT_PROPERTIES_LENGTH,
        runtime_services_supported: clock
            | set_variable
            | supported::VARIABLES
            | supported::SET_VIRTUAL_ADDRESS_MAP
            | supported::CONVERT_POINTER
            | supported::RESET_SYSTEM,
    }
}

fn header<T>(signature: u64) -> Header {
    Header {
        signature,
        revision: REVISION,
        size: u32::try_from(size_of::<T>()).unwrap_or(u32::MAX),
        ..Header::default()
    }
}

/// `FirmwareRevision`: the version of this package, one byte per number.
const fn firmware_revision() -> u32 {
    const fn number(text: &str) -> u8 {
        match u8::from_str_radix(text, 10) {
            Ok(number) => number,
            Err(_) => u8::MAX,
        }
    }
    u32::from_be_bytes([
        0,
        number(env!("CARGO_PKG_VERSION_MAJOR")),
        number(env!("CARGO_PKG_VERSION_MINOR")),
        number(env!("CARGO_PKG_VERSION_PATCH")),
    ])
}

/// Makes the CRC in the header of `table`, one of the two UEFI tables, valid.
fn seal<T>(table: &Resident<T>) {
    let start = table.get().cast::<u8>();
    // SAFETY: the table is there, it is initialised, and its padding is zero.
    let crc = crc32::of_table(unsafe { slice::from_raw_parts(start, size_of::<T>()) });
    // SAFETY: both tables start with a header, and nobody else is using them.
    let header = unsafe { &mut *table.get().cast::<Header>() };
    header.crc = crc;
}
