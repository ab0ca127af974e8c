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
mod platform;
mod ports;
mod resident;

use boot::Failure;
use core::convert::Infallible;
use core::panic::PanicInfo;
use log::{error, info};
use ovmf_lite_services::abi;
use platform::Platform;

/// From the first 64-bit instruction to the kernel's entry point.
extern "C" fn main() -> ! {
    arch::init();
    console::init();
    let Err(failure) = walk();
    error!("{failure}");
    stop();
}

fn walk() -> Result<Infallible, Failure> {
    let platform = platform::discover()?;
    announce(&platform);
    let mut memory = platform.memory_map(entry::occupied())?;
    arch::paging::map_ram(&mut memory)?;
    let acpi = platform::tables::acpi(&platform.fw_cfg, &mut memory)?;
    let smbios = platform::tables::smbios(&platform.fw_cfg, &mut memory)?;
    let resident = resident::place(&mut memory, acpi.map(|(_, reset)| reset))?;
    memory.keep_allocations();
    let kernel = boot::fetch(&platform, &mut memory)?;
    boot::open_services(memory, platform.initrd, resident, acpi, smbios)?;
    let image = boot::load(kernel, &platform.command_line)?;
    let status = abi::images::start(image).map_err(Failure::Start)?;
    Err(Failure::Returned(status))
}

fn announce(platform: &Platform) {
    info!(
        "version {}, {} with {} MiB, {}",
        env!("CARGO_PKG_VERSION"),
        platform.chipset,
        platform.ram_bytes() >> 20,
        platform.fw_cfg.transport()
    );
    let kernel = platform.kernel.as_ref().map_or(0, |kernel| kernel.size());
    let initrd = platform.initrd.map_or(0, |initrd| initrd.size);
    info!("kernel {kernel} bytes, initrd {initrd} bytes");
}

/// Tells the host that the guest has failed, if it listens, and stops.
fn stop() -> ! {
    boot::report_panic();
    arch::stop()
}

#[panic_handler]
fn panic(panic: &PanicInfo<'_>) -> ! {
    error!("internal error, please report it: {panic}");
    stop()
}
