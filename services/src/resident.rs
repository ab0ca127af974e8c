//! The contract between the firmware and its runtime image.
//!
//! The runtime image (`firmware/runtime`) is a separate PE image that owns the
//! system table, the runtime services table, the configuration-table array and
//! the variable store from the first boot service on. Its entry point receives
//! one [`Handoff`], reads the machine's facts from it and writes back where its
//! tables are. Everything here is plain data with a fixed layout: the two sides
//! are compiled for different targets and share nothing else.

use core::ffi::c_void;
use uefi_raw::table::boot::EventNotifyFn;
use uefi_raw::table::configuration::ConfigurationTable;
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Status, guid};

/// Layout version of [`Handoff`]; the runtime image refuses any other.
pub const HANDOFF_VERSION: u32 = 7;

/// Signature of the runtime image's entry point.
///
/// Returns `SUCCESS`, or `INCOMPATIBLE_VERSION` when [`Handoff::version`] is
/// not [`HANDOFF_VERSION`].
///
/// # Safety
/// `handoff` points to an aligned, exclusively owned [`Handoff`] whose input
/// fields are filled in; the entry point is called once per placed image.
pub type Entry = unsafe extern "efiapi" fn(handoff: *mut Handoff) -> Status;

/// What the firmware tells the runtime image, and what it is told back.
#[repr(C)]
#[derive(Debug)]
pub struct Handoff {
    /// In: [`HANDOFF_VERSION`].
    pub version: u32,
    /// In: `SizeOfImage` of the placed image in bytes, a multiple of 4 KiB. The
    /// whole range is one `EfiRuntimeServicesCode` region.
    pub image_size: u64,
    /// In: what the services work on.
    pub machine: Machine,

    /// Out: the system table, inside the image. Boot-time fields are null.
    pub system_table: *mut SystemTable,
    /// Out: the configuration-table array, inside the image, zeroed.
    pub configuration_tables: *mut ConfigurationTable,
    /// Out: number of elements `configuration_tables` has room for.
    pub configuration_table_capacity: usize,
    /// Out: the RT_PROPERTIES table, inside the image.
    pub rt_properties: *const RtPropertiesTable,
    /// In: the disk with the store for variables, where there is no flash.
    pub disk: Disk,
    /// Out: what the store for variables is.
    pub store: Store,
    /// Out: to be called before an operating system is started: the host may want
    /// to hear of it.
    pub ready_to_boot: Option<unsafe extern "efiapi" fn()>,
    /// Out: how many non-volatile variables have no room in memory after
    /// ExitBootServices, when the disk is gone.
    pub out_of_room: usize,
    /// Out: whether the store has so many records that looking for a variable takes a
    /// noticeable part of a start.
    pub crowded: bool,
    /// Out: a function of the image that returns `UNSUPPORTED` whatever it is
    /// called with, for services that are to fail.
    pub unsupported: *const c_void,
    /// Out: to be called once ExitBootServices has succeeded: from then on
    /// variables without `RUNTIME_ACCESS` are invisible. Its arguments are those who
    /// want to know of SetVirtualAddressMap, and their number.
    pub exit_boot_services: Option<unsafe extern "efiapi" fn(*const Listener, usize)>,
    /// Out: GetNextMonotonicCount, which shares its counter with
    /// GetNextHighMonotonicCount.
    pub next_monotonic_count: Option<unsafe extern "efiapi" fn(*mut u64) -> Status>,
}

/// Most [`Listener`]s.
pub const MAX_LISTENERS: usize = 16;

/// Who wants to know of SetVirtualAddressMap: an event's notification function,
/// which lies in runtime services code, and its arguments. All zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// The function, called at the address it has until then.
    pub function: Option<EventNotifyFn>,
    /// The event, a number.
    pub event: usize,
    /// The context that the event was created with.
    pub context: usize,
}

/// What runtime services have to know of the machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Where GetTime and SetTime find their clock.
    pub clock: Clock,
    /// How Xen is called; under Xen it resets and powers off.
    pub hypercall: Hypercall,
    /// How ResetSystem resets and powers off this machine.
    pub reset: Reset,
    /// Where [`Clock::TSC`] counts from; unused by other clocks.
    pub moment: Moment,
    /// Where non-volatile variables are kept.
    pub flash: Flash,
    /// Who keeps all variables, in place of [`Machine::flash`] and memory.
    pub host: Host,
}

/// A host that keeps the variables and is asked for each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// How it is asked.
    pub protocol: Protocol,
    /// Its I/O port; or the physical address of its registers, the page of which
    /// is listed and converted as flash is.
    pub address: u64,
}

/// How a host that keeps variables is asked for them.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocol(pub u32);

impl Protocol {
    /// There is no such host.
    pub const NONE: Self = Self(0);
    /// XenServer's and XCP-ng's varstored.
    pub const VARSTORED: Self = Self(1);
    /// QEMU's uefi-vars devices.
    pub const UEFI_VARS: Self = Self(2);
}

/// Flash for variables, of the kind QEMU has. `size` 0 means "there is none", and
/// all variables are kept in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flash {
    /// Its physical address. The firmware lists its pages as `EfiMemoryMappedIO`
    /// that runtime services use, and SetVirtualAddressMap converts it.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The image of a store on a disk that only the firmware can write to. `size` 0 means
/// "there is none". All of it is valid until ExitBootServices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk {
    /// Where it is in memory.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// To be called with offset and length of what has been changed in memory; with
    /// length 0, to write all of that to the disk before anything that is changed
    /// later. Whether that worked.
    pub keep: Option<Keep>,
}

/// [`Disk::keep`].
pub type Keep = unsafe extern "efiapi" fn(offset: usize, length: usize) -> bool;

/// What the store for variables is, and was found to be.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Store(pub u32);

impl Store {
    /// In memory.
    pub const MEMORY: Self = Self(0);
    /// In flash or on a disk, in good order.
    pub const KEPT: Self = Self(1);
    /// The same, where it had been left half rewritten.
    pub const RESUMED: Self = Self(2);
    /// The same, where there was none, or a damaged one.
    pub const FORMATTED: Self = Self(3);
    /// In memory, for the flash has a size that no store has.
    pub const UNKNOWN_SIZE: Self = Self(4);
    /// The same, as far as it can be read: it takes no writes.
    pub const READ_ONLY: Self = Self(5);
    /// With the host.
    pub const HOST: Self = Self(6);
    /// In memory, for the host that should keep them does not answer.
    pub const SILENT_HOST: Self = Self(7);
}

/// Which real-time clock the machine has.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock(pub u32);

impl Clock {
    /// No clock: GetTime and SetTime return `UNSUPPORTED`.
    pub const NONE: Self = Self(0);
    /// The MC146818-compatible CMOS clock at I/O ports 0x70 and 0x71.
    pub const CMOS: Self = Self(1);
    /// The time stamp counter, from [`Machine::moment`] on. It is good until
    /// ExitBootServices: nobody tells the runtime image when the machine has
    /// been saved and restored, so GetTime then returns `UNSUPPORTED`. SetTime
    /// always does.
    pub const TSC: Self = Self(2);
}

/// A time, and the time stamp at which it was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970 began, UTC.
    pub seconds: u64,
    /// Nanoseconds into the next second, below 10^9.
    pub nanoseconds: u32,
    /// Frequency of the time stamp counter in kHz.
    pub tsc_khz: u32,
    /// The time stamp.
    pub tsc: u64,
}

/// The instruction that calls Xen: a direct one, never the hypercall page, which
/// would be one more page to keep and tells Xen things about its caller (Xen
/// `xen/include/public/arch-x86/cpuid.h`).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hypercall(pub u32);

impl Hypercall {
    /// There is no Xen.
    pub const NONE: Self = Self(0);
    /// `vmcall`: Intel's, and what Centaur and Zhaoxin build.
    pub const VMCALL: Self = Self(1);
    /// `vmmcall`: AMD's, and what Hygon builds.
    pub const VMMCALL: Self = Self(2);
}

/// The register writes that reset and power off the machine. They come from the
/// FADT (ACPI 6.5 §4.8.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// Powers the machine off: the S5 sleep type with `SLP_EN` to PM1a_CNT or,
    /// on hardware-reduced machines, to SLEEP_CONTROL_REG.
    pub shutdown: Write,
    /// Resets the machine: the FADT's RESET_REG. The runtime image falls back
    /// to the PC's 0xCF9 and 0x64 ports.
    pub reset: Write,
}

/// One write to a register. `width` 0 means "there is none".
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Port number or, in memory, physical address. For the latter the firmware
    /// lists the page as `EfiMemoryMappedIO` that runtime services use, and
    /// SetVirtualAddressMap converts it.
    pub address: u64,
    /// What kind of address that is.
    pub space: Space,
    /// Value to write, the low byte only when `width` is 1.
    pub value: u16,
    /// Width of the access in bytes: 1 or 2; 0 for no write at all.
    pub width: u16,
}

/// The address space of a register, numbered as in ACPI's generic address
/// structure (ACPI 6.5 §5.2.3.2).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space(pub u32);

impl Space {
    /// System memory.
    pub const MEMORY: Self = Self(0);
    /// I/O ports.
    pub const IO: Self = Self(1);
}

/// `EFI_RT_PROPERTIES_TABLE` (UEFI 2.11 §4.6).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtPropertiesTable {
    /// `EFI_RT_PROPERTIES_TABLE_VERSION`: 1.
    pub version: u16,
    /// Size of this table in bytes: 8.
    pub length: u16,
    /// Bit set of the services that work after ExitBootServices.
    pub runtime_services_supported: u32,
}

impl RtPropertiesTable {
    /// `EFI_RT_PROPERTIES_TABLE_GUID`.
    pub const GUID: Guid = guid!("eb66918a-7eef-402a-842e-931d21c38ae9");
}
