//! Boots that follow each other: resets, and ten starts in a row.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use xtask::qemu::Machine;

use crate::bench::{Bench, Release, Root, System};

const LINUX: System = System::new(Release::Bookworm, Root::Initrd);
const LINUX_STARTS: &str = "] Linux version ";

/// A guest that resets the machine by `method`, a value of the kernel's
/// `reboot=`, comes up a second time.
///
/// # Errors
/// When it does not.
pub fn reset(bench: &Bench, method: &str) -> Result<()> {
    let mut machine = Machine {
        resets: true,
        ..bench.machine()
    };
    machine.command_line += &format!(" reboot={method}");
    bench.see(
        &format!("reset-{method}"),
        machine,
        LINUX,
        "reboot -f",
        |console| console.matches(LINUX_STARTS).count() >= 2,
    )
}

/// Ten boots in a row succeed, although the kernel puts itself somewhere else
/// each time.
///
/// # Errors
/// When one fails, or all ended up at the same address.
pub fn ten_boots(bench: &Bench) -> Result<()> {
    let mut addresses = BTreeSet::new();
    for round in 1..=10 {
        let script = "grep ' _text$' /proc/kallsyms && grep 'Kernel code' /proc/iomem";
        let outcome = bench
            .succeed("ten-boots", bench.machine(), LINUX, script)
            .with_context(|| format!("boot {round} of 10"))?;
        addresses.insert(outcome.output);
    }
    ensure!(
        addresses.len() > 1,
        "the kernel was at the same address ten times: {addresses:?}"
    );
    Ok(())
}

/// Without the DMA interface of fw_cfg everything comes through its ports.
///
/// # Errors
/// When the firmware says otherwise or Linux does not come up with its initrd.
pub fn by_port(bench: &Bench) -> Result<()> {
    let mut machine = bench.machine();
    let off = ["-global", "fw_cfg_io.dma_enabled=off"];
    machine.extra.extend(off.map(Into::into));
    let outcome = bench.succeed("fw-cfg-by-port", machine, LINUX, "exit 0")?;
    ensure!(
        outcome.console.contains("fw_cfg by port"),
        "DMA was not off:\n{}",
        outcome.console
    );
    Ok(())
}
