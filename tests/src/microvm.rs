//! QEMU's `microvm`, with and without PCI and ACPI: its part of the matrix, and
//! its devices.
//!
//! It has no flash for firmware, so there are two entries. Without ACPI Linux
//! finds no PCI bus, and can only reset it. It has one processor here: see
//! `xtask::qemu` on its timer.

use std::fs;

use anyhow::Result;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, Release, Root, System};
use crate::linux::{self, CPUS, Case, Entry, MEMORIES, RELEASES};

/// The machine in its variants.
pub const MODELS: [&str; 4] = [
    "microvm",
    "microvm,pcie=on",
    "microvm,acpi=off",
    "microvm,pcie=on,acpi=off",
];
const ENTRIES: [Entry; 2] = [Entry::Bios, Entry::Pvh];

/// All cells, or the representative ones: one for each kernel on each variant.
pub(crate) fn cases(all: bool) -> impl Iterator<Item = Case> {
    let part = coordinates().filter(move |at| all || representative(*at));
    part.map(case)
}

fn coordinates() -> impl Iterator<Item = [usize; 5]> {
    linux::cells([
        MODELS.len(),
        MEMORIES.len(),
        CPUS.len(),
        ENTRIES.len(),
        RELEASES.len(),
    ])
}

/// With machine and kernel given, the other three follow, such that every two
/// values of different coordinates meet.
fn representative([model, memory, cpu, entry, release]: [usize; 5]) -> bool {
    let sum = model + release;
    memory == sum % 3 && cpu == (sum + model) % 3 && entry == sum % 2
}

fn case([model, memory, cpu, entry, release]: [usize; 5]) -> Case {
    Case {
        model: MODELS[model],
        memory_mebibytes: MEMORIES[memory],
        processors: 1,
        release: RELEASES[release],
        root: Root::Initrd,
        cpu: CPUS[cpu].0,
        entry: ENTRIES[entry],
    }
}

const CHECKS: &str = include_str!("microvm-checks.sh");

/// What works without PCI.
const DEVICES: &str = "\
    -device virtio-blk-device,drive=d0 -drive if=none,id=d0,format=raw,file=DISK0 \
    -device virtio-net-device,netdev=n0 -netdev user,id=n0,restrict=on \
    -device virtio-rng-device \
    -device virtio-serial-device -device virtconsole,chardev=c0 -chardev null,id=c0";

/// More with PCI, which has no I/O ports here; the others get the newer register
/// layout of virtio.
const PCI_DEVICES: &str = "-global virtio-mmio.force-legacy=false \
    -device nvme,serial=n,drive=d1 -drive if=none,id=d1,format=raw,file=DISK1 \
    -device virtio-blk-pci,disable-legacy=on,drive=d2 -drive if=none,id=d2,format=raw,file=DISK2 \
    -device virtio-net-pci,disable-legacy=on,netdev=n1 -netdev user,id=n1,restrict=on";

const SYSTEM: System = System {
    release: Release::BookwormGeneric,
    root: Root::Initrd,
    modules: &[
        "virtio_mmio",
        "virtio_pci",
        "virtio_blk",
        "virtio_net",
        "virtio_rng",
        "virtio_console",
        "nvme",
    ],
    programs: None,
};

/// The devices of a microvm do their work in Linux, `pci` with more of them.
///
/// # Errors
/// When one does not, or the kernel complains about it.
pub fn devices(bench: &Bench, pci: bool) -> Result<()> {
    let name = format!("devices-microvm-{}", if pci { "pci" } else { "mmio" });
    let files = Files::create(&format!("{name}-disks"))?;
    let (model, more) = if pci {
        ("microvm,pcie=on", PCI_DEVICES)
    } else {
        ("microvm", "")
    };
    let mut arguments = format!("{DEVICES} {more}");
    for number in 0..3 {
        let disk = files.directory().join(format!("disk{number}"));
        fs::File::create(&disk)?.set_len(8 << 20)?;
        arguments = arguments.replace(&format!("DISK{number}"), &disk.to_string_lossy());
    }
    let machine = Machine {
        model: model.into(),
        extra: arguments.split_whitespace().map(Into::into).collect(),
        ..bench.machine()
    };
    let disks = if pci { "vda vdb nvme0n1" } else { "vda" };
    let networks = if pci { 2 } else { 1 };
    let script = format!("DISKS='{disks}'\nNETWORKS={networks}\n{CHECKS}");
    bench.succeed(&name, machine, SYSTEM, &script)?;
    files.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_values_is_represented() {
        let all: Vec<_> = coordinates().collect();
        let part: Vec<_> = coordinates().filter(|at| representative(*at)).collect();
        assert_eq!(part.len(), MODELS.len() * RELEASES.len());
        linux::assert_pairs_meet(&part, &all);
    }
}
