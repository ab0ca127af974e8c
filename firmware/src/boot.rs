//! From the platform to the running kernel, and the one line when that fails.

use crate::arch::{self, image, protection, random, time};
use crate::console::{info, warning};
use crate::phases::{self, Phase};
use crate::platform::fw_cfg::FwCfg;
use crate::platform::payload::{self, Kernel};
use crate::platform::tables::{self, Published};
use crate::platform::{self, Platform};
use crate::resident::{self, MEMORY_ATTRIBUTES_TABLE, Resident};
use crate::xen;
use crate::{console, ports};
use alloc::vec::Vec;
use core::ffi::c_void;
use core::fmt;
use ovmf_lite_services::abi::{self, images::Origin};
use ovmf_lite_services::boot::{Boot, Initrd, Machine};
use ovmf_lite_services::handles::HandleId;
use ovmf_lite_services::images::LoadError;
use ovmf_lite_services::linux::Room;
use ovmf_lite_services::memory::{self, MemoryMap};
use ovmf_lite_services::options;
use ovmf_lite_services::resident::RtPropertiesTable;
use ovmf_lite_services::text;
use uefi_raw::table::configuration::ConfigurationTable;
use uefi_raw::{Guid, Status};

/// `PVPANIC_PANICKED` (QEMU `docs/specs/pvpanic.rst`).
const PVPANIC_PANICKED: u8 = 1;

/// Why no kernel runs.
#[derive(Debug)]
pub enum Failure {
    /// The machine cannot be used.
    Platform(platform::Error),
    /// Memory ran out, or the host's description of it is wrong.
    Memory(memory::Error),
    /// The host's tables are wrong.
    Tables(tables::Error),
    /// The runtime image cannot be placed.
    Resident(resident::Error),
    /// The host gave no kernel.
    NoKernel,
    /// The kernel's bytes cannot be had.
    Payload(payload::Error),
    /// A boot service that the firmware needs itself has failed.
    Services(Status),
    /// The kernel cannot be loaded.
    Kernel(LoadError),
    /// The kernel will not find this piece of memory, which it needs.
    NoRoom(Room),
    /// The kernel was not started.
    Start(Status),
    /// The kernel came back with this, by return or by Exit.
    Returned(Status),
}

impl fmt::Display for Failure {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(error) => error.fmt(f),
            Self::Memory(error) => write!(f, "memory: {error}"),
            Self::Tables(error) => error.fmt(f),
            Self::Resident(error) => error.fmt(f),
            Self::NoKernel => write!(
                f,
                "expected a kernel from the host, found none: give one with QEMU's -kernel or, \
                 to the ELF file, as the PVH loader's initial ramdisk (QEMU's -initrd, xl's \
                 ramdisk=)"
            ),
            Self::Payload(error) => write!(f, "kernel: {error}"),
            Self::Services(status) => write!(f, "boot services: {status}"),
            Self::Kernel(error) => write!(f, "kernel: {error}"),
            Self::NoRoom(room) => write!(
                f,
                "kernel: it needs {} KiB of free memory in one piece at {:#x} or above, found \
                 none: give the guest more",
                room.bytes >> 10,
                room.from
            ),
            Self::Start(status) => write!(f, "kernel: cannot be started: {status}"),
            Self::Returned(status) => write!(f, "kernel: its EFI stub gave up with {status}"),
        }
    }
}

/// `From` for each source of a [`Failure`].
macro_rules! failure_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Failure {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

failure_from! {
    platform::Error => Platform,
    memory::Error => Memory,
    tables::Error => Tables,
    resident::Error => Resident,
    payload::Error => Payload,
    Status => Services,
}

/// Takes the words that are ours out of the kernel's command line and does what
/// they say. A trace counts from our first instruction.
pub fn obey(command_line: &mut Vec<u8>) {
    let options = options::take(command_line);
    if options.trace {
        info!("trace, {} time stamps in a millisecond", time::hz() / 1000);
    }
    if options.denied != 0 || !options.denials.is_empty() {
        warning!("services fail, as asked; for a GUID or with a status until ExitBootServices");
    }
    abi::configure_trace(options, phases::stamp(Phase::Reset));
}

/// Brings the kernel's bytes into memory.
pub fn fetch(platform: &Platform, memory: &mut MemoryMap) -> Result<Kernel, Failure> {
    let payload = platform.kernel.ok_or(Failure::NoKernel)?;
    let kernel = payload.fetch(platform.fw_cfg(), memory)?;
    let initrd = kernel.initrd().map_or(0, |initrd| initrd.size);
    info!(
        "kernel {} bytes, initrd {initrd} bytes",
        kernel.file().len()
    );
    Ok(kernel)
}

/// Opens boot services and publishes everything the kernel may look for.
pub fn open_services(
    memory: MemoryMap,
    initrd: Option<Initrd>,
    resident: Resident,
    tables: [Option<Published>; 2],
) -> Result<(), Failure> {
    let rt_properties = resident.handoff.rt_properties;
    image::open_services(Boot::new(memory, initrd), machine(), resident.handoff);
    abi::console::publish()?;
    abi::initrd::publish()?;
    abi::random::publish()?;
    abi::protection::publish()?;
    let found = tables.into_iter().flatten().map(|table| {
        let address = core::ptr::with_exposed_provenance_mut(table.address);
        configuration_table(table.guid, address)
    });
    let attributes = resident.attributes.as_ptr().cast_mut().cast();
    let own = [
        configuration_table(RtPropertiesTable::GUID, rt_properties.cast_mut().cast()),
        configuration_table(MEMORY_ATTRIBUTES_TABLE, attributes),
    ];
    let tables: Vec<_> = found.chain(own).collect();
    Ok(abi::install_configuration_tables(&tables)?)
}

fn configuration_table(vendor_guid: Guid, vendor_table: *mut c_void) -> ConfigurationTable {
    ConfigurationTable {
        vendor_guid,
        vendor_table,
    }
}

fn machine() -> Machine {
    Machine {
        write_console: console::write_text,
        read_console: console::read_byte,
        stall: time::stall,
        pause: arch::tick::pause,
        now: time::now,
        quiesce,
        interrupts: arch::tick::enable,
        random: random::sources(),
        protection: protection::of,
        protect: protection::change,
        enter_image: image::enter,
        leave_image: image::leave,
    }
}

/// Boot services end: no interrupt comes any more, and every device is given back.
fn quiesce() {
    arch::tick::stop();
    phases::end();
    xen::disk::close();
}

/// Loads the kernel as an image.
pub fn load(kernel: Kernel, command_line: &[u8]) -> Result<HandleId, Failure> {
    let origin = Origin::host(text::load_options(command_line));
    let room = kernel.room();
    let image = kernel.load(origin)?;
    match room {
        Some(room) if !room.is_in(&abi::memory_map()?) => Err(Failure::NoRoom(room)),
        _ => Ok(image),
    }
}

/// Tells the host that this guest has failed, and may be ended: Xen, or the
/// pvpanic device, where there is one.
pub fn report_failure() {
    if let Some(xen) = xen::get() {
        xen.crash();
    }
    if let Ok(Some(fw_cfg)) = FwCfg::open()
        && let Some(port) = fw_cfg.pvpanic_port()
    {
        ports::write(port, PVPANIC_PANICKED);
    }
}
