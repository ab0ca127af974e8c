//! The same guest under this firmware and under Debian's OVMF: what its kernel
//! says about the machine, and what it made of it.
//!
//! A complaint that OVMF does not cause fails the case; all other differences
//! are printed, for `docs/PLATFORMS.md` explains them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use xtask::debian::{self, Suite};
use xtask::guest::Guest;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, System};
use crate::{devices, packages};

/// Words that make a line of the kernel's log a complaint.
const COMPLAINTS: [&str; 13] = [
    "can't",
    "cannot",
    "fail",
    "bug",
    "warn",
    "not reserved",
    "no compatible",
    "conflict",
    "inconsistent",
    "blank",
    "unable",
    "invalid",
    "error",
];

/// lspci, and the libraries it is linked to.
const PACKAGES: [&str; 9] = [
    "pciutils", "libpci3", "libkmod2", "libc6", "liblzma5", "libssl3", "libudev1", "libzstd1",
    "zlib1g",
];
const LIBRARIES: [&str; 9] = [
    "libc.so",
    "libcrypto.so",
    "libkmod.so",
    "liblzma.so",
    "libpci.so",
    "libresolv.so",
    "libudev.so",
    "libz.so",
    "libzstd.so",
];

/// What the guest prints: its log without times, how devices are laid out, also
/// by lspci, and how interrupts arrive.
const SCRIPT: &str = include_str!("compare.sh");

/// Boots machine `model` with all devices under both firmwares.
///
/// # Errors
/// When one of them does not boot it, or ours causes a complaint of its own.
pub fn run(bench: &Bench, model: &str) -> Result<()> {
    let ovmf = debian::fetch(Suite::Bookworm, "ovmf")?.join("usr/share/ovmf/OVMF.fd");
    let ours = report(bench, model, None)?;
    let theirs = report(bench, model, Some(ovmf))?;
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, sign: char| {
        let lines = one.difference(other);
        lines.fold(String::new(), |text, line| format!("{text}{sign} {line}\n"))
    };
    println!(
        "--- {model}: OVMF (-) and OVMF-lite (+)\n{}{}",
        only(&theirs, &ours, '-'),
        only(&ours, &theirs, '+')
    );
    let new: Vec<_> = ours
        .difference(&theirs)
        .filter(|line| is_complaint(line))
        .collect();
    ensure!(new.is_empty(), "OVMF does not cause these: {new:#?}");
    Ok(())
}

fn is_complaint(line: &str) -> bool {
    let line = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    line.starts_with("log: ") && has(&COMPLAINTS)
        || line.starts_with("lspci: ") && has(&["unassigned", "ignored"])
}

/// The lines that the guest prints under a firmware, ours unless told.
fn report(
    bench: &Bench,
    model: &str,
    firmware: Option<std::path::PathBuf>,
) -> Result<BTreeSet<String>> {
    let side = if firmware.is_some() { "ovmf" } else { "lite" };
    let name = format!("compare-{model}-{side}");
    let files = Files::create(&format!("{name}-disks"))?;
    let machine = devices::machine(bench, model, &files)?;
    let machine = Machine {
        firmware: firmware.or(machine.firmware.clone()),
        ..machine
    };
    let system = System {
        programs: Some(add_lspci),
        ..devices::SYSTEM
    };
    let outcome = bench.succeed(&name, machine, system, SCRIPT)?;
    files.remove()?;
    Ok(outcome.output.lines().map(str::to_owned).collect())
}

fn add_lspci(guest: &mut Guest) -> Result<()> {
    packages::add(guest, "usr/bin/lspci", &PACKAGES, &LIBRARIES)
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn complaints_are_told_from_facts() {
        assert!(is_complaint(
            "log: pci 0000:00:03.0: BAR 4: can't assign mem"
        ));
        assert!(is_complaint("log: PCI: MMCONFIG at X not reserved"));
        assert!(!is_complaint("log: PCI: Using ACPI for IRQ routing"));
        assert!(!is_complaint("iomem: Error record"));
        let region = "lspci: 00:03.0 Region 0: Memory at";
        assert!(is_complaint(&format!("{region} <unassigned> (32-bit)")));
        assert!(!is_complaint(&format!("{region} c0000000 (32-bit)")));
    }
}
