//! OVMF-lite: a firmware that starts a guest kernel through its EFI entry point.
//!
//! [`walk`] is the whole story, one call a line. What it promises to the kernel
//! is in `services`; what it knows of the machine is in [`platform`]. It either
//! ends in the kernel or in one line that says why not.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod boot;
mod console;
mod entry;
mod phases;
mod platform;
mod ports;
mod resident;
mod xen;

use crate::console::{error, info};
use boot::Failure;
use core::mem::ManuallyDrop;
use core::panic::PanicInfo;
use ovmf_lite_services::abi;
use phases::Phase;
use platform::Platform;
use uefi_raw::Status;

/// From the first 64-bit instruction to the kernel's entry point. `start_info`
/// is what a PVH loader left in `ebx`, 0 from the reset vector; `entered` is the
/// time stamp of our first instruction.
extern "C" fn main(start_info: u64, entered: u64) -> ! {
    phases::set(Phase::Reset, entered);
    phases::mark(Phase::LongMode);
    arch::init();
    console::init();
    if let Err(failure) = walk(start_info) {
        error!("{failure}");
        stop();
    }
    info!("the kernel has ended with success, and with it this machine");
    let _ = abi::power_off();
    stop()
}

fn walk(start_info: u64) -> Result<(), Failure> {
    // For good: nobody comes back here but to stop.
    let mut platform = ManuallyDrop::new(platform::discover(start_info)?);
    phases::mark(Phase::Platform);
    announce(&platform);
    boot::obey(&mut platform.command_line);
    let mut memory = platform.memory_map(entry::occupied())?;
    arch::paging::map_ram(&mut memory)?;
    let acpi = platform::tables::acpi(&platform, &mut memory)?;
    let smbios = platform::tables::smbios(&platform, &mut memory)?;
    let reset = acpi.map(|acpi| acpi.reset).unwrap_or_default();
    let machine = platform.facts(reset);
    let disk = platform.disk(&machine, &mut memory);
    let resident = resident::place(&mut memory, machine, disk)?;
    let crowded = resident.handoff.crowded;
    memory.keep_allocations();
    phases::mark(Phase::Tables);
    let kernel = boot::fetch(&platform, &mut memory)?;
    let tables = [acpi.map(|acpi| acpi.rsdp), smbios];
    boot::open_services(memory, kernel.initrd(), resident, tables)?;
    let image = boot::load(kernel, &platform.command_line)?;
    phases::mark(Phase::Placed);
    phases::started(!crowded);
    abi::ready_to_boot();
    arch::tick::start();
    match abi::images::start(image).map_err(Failure::Start)? {
        Status::SUCCESS => Ok(()),
        status => Err(Failure::Returned(status)),
    }
}

fn announce(platform: &Platform) {
    info!(
        "version {}, {}{}, {} MiB",
        env!("CARGO_PKG_VERSION"),
        platform.host,
        platform.under(),
        platform.ram_bytes() >> 20,
    );
}

/// Tells the host that the guest has failed, if it listens, and stops.
#[cold]
fn stop() -> ! {
    boot::report_failure();
    arch::stop()
}

#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    error!("internal error, please report it: {panic}");
    stop()
}
