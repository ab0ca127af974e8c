//! The devices a QEMU user would attach work in Linux: each gets its driver, its
//! resources and its interrupts, without a complaint.

use std::fs;

use anyhow::Result;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, Release, Root, System};

const CHECKS: &str = include_str!("device-checks.sh");

/// Drivers of the attached devices.
const MODULES: [&str; 16] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_scsi",
    "virtio_console",
    "sd_mod",
    "nvme",
    "ahci",
    "e1000e",
    "xhci_pci",
    "hid_generic",
    "usbhid",
    "bochs",
    "shpchp",
    "tpm_tis",
];

/// Devices that both machine types take: arguments for QEMU, `DISK` a raw disk.
const DEVICES: [&str; 13] = [
    "-device virtio-blk-pci,drive=d0 -drive if=none,id=d0,format=raw,file=DISK0",
    "-device virtio-net-pci,disable-modern=on,netdev=n0 -netdev user,id=n0,restrict=on",
    "-device virtio-rng-pci",
    "-device virtio-scsi-pci,id=s0",
    "-device scsi-hd,bus=s0.0,drive=d1 -drive if=none,id=d1,format=raw,file=DISK1",
    "-device virtio-serial-pci -device virtconsole,chardev=c0 -chardev null,id=c0",
    "-device nvme,serial=n,drive=d2 -drive if=none,id=d2,format=raw,file=DISK2",
    "-device ich9-ahci,id=a0",
    "-device ide-hd,bus=a0.0,drive=d3 -drive if=none,id=d3,format=raw,file=DISK3",
    "-device e1000e,netdev=n1 -netdev user,id=n1,restrict=on",
    "-device qemu-xhci -device usb-kbd",
    "-device bochs-display",
    "-device pci-bridge,id=b0,chassis_nr=7 -device virtio-rng-pci,bus=b0,addr=1",
];

/// More for q35: PCIe root ports, one taken and one free.
const ROOT_PORTS: [&str; 2] = [
    "-device pcie-root-port,id=p0,chassis=1 -device virtio-net-pci,bus=p0,netdev=n2",
    "-netdev user,id=n2,restrict=on -device pcie-root-port,id=p1,chassis=2",
];

/// What runs on [`machine`].
pub const SYSTEM: System = System {
    release: Release::BookwormGeneric,
    root: Root::Initrd,
    modules: &MODULES,
    programs: None,
};

/// Boots `model` with all devices and checks each from inside.
///
/// # Errors
/// When one does not work, or the kernel complains about it.
pub fn run(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("devices-{model}");
    let files = Files::create(&format!("{name}-disks"))?;
    let machine = machine(bench, model, &files)?;
    bench.succeed(&name, machine, SYSTEM, &format!("MODEL={model}\n{CHECKS}"))?;
    files.remove()
}

/// The machine with all devices; its disks lie in `files`.
///
/// # Errors
/// When a disk cannot be made.
pub fn machine(bench: &Bench, model: &str, files: &Files) -> Result<Machine> {
    let mut arguments = DEVICES.join(" ");
    if model == "q35" {
        arguments = format!("{arguments} {}", ROOT_PORTS.join(" "));
    }
    for number in 0..4 {
        let disk = files.directory().join(format!("disk{number}"));
        fs::File::create(&disk)?.set_len(8 << 20)?;
        arguments = arguments.replace(&format!("DISK{number}"), &disk.to_string_lossy());
    }
    Ok(Machine {
        model: model.into(),
        extra: arguments.split(' ').map(Into::into).collect(),
        ..bench.machine()
    })
}
