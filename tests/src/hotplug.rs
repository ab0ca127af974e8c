//! Devices that come and go while the guest runs: behind PCIe root ports on q35,
//! on the root bus and behind a bridge on pc.
//!
//! They need room that the firmware left: bus numbers, and windows of each kind.
//! QEMU's monitor plugs them in, and the guest checks from inside.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xtask::qemu::{Files, Machine};
use xtask::vm::Vm;

use crate::bench::{Bench, Release, Root, System, TIME_LIMIT};
use crate::monitor::{self, Monitor};

const CHECKS: &str = include_str!("hotplug-checks.sh");

/// What the guest says when it waits for devices to come, and to go.
const READY: &str = "hot-plug: ready";
const USED: &str = "hot-plug: used";

const SYSTEM: System = System {
    release: Release::BookwormGeneric,
    root: Root::Initrd,
    modules: &["virtio_pci", "virtio_blk", "virtio_net"],
    programs: None,
};

/// What is there from the start: the other halves of the devices, `DIRECTORY`
/// for their files.
const HALVES: &str = "-drive if=none,id=d0,format=raw,file=DIRECTORY/disk \
    -netdev user,id=n0,restrict=on \
    -object memory-backend-ram,id=m0,share=on,size=16M";

/// Machine, where devices can be put into it, and the buses they are put on: a
/// disk, a network interface, 16 MiB of prefetchable memory.
type Place = (&'static str, &'static str, [&'static str; 3]);

const PLACES: [Place; 2] = [
    (
        "q35",
        "-device pcie-root-port,id=b0,chassis=1 -device pcie-root-port,id=b1,chassis=2 \
         -device pcie-root-port,id=b2,chassis=3",
        ["b0", "b1", "b2"],
    ),
    (
        "pc",
        "-device pci-bridge,id=b0,chassis_nr=1",
        ["pci.0", "b0", "pci.0"],
    ),
];

/// Plugs devices into machine `model` while Linux runs, and takes the disk out.
///
/// # Errors
/// When one does not get its driver and resources, or the disk stays.
pub fn run(bench: &Bench, model: &str) -> Result<()> {
    let place = PLACES.iter().find(|(name, ..)| *name == model);
    let (_, ports, buses) = place.context("no such machine")?;
    let name = format!("hotplug-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let directory = files.directory();
    fs::File::create(directory.join("disk"))?.set_len(8 << 20)?;
    let arguments = format!("{HALVES} {ports}");
    let arguments = arguments.replace("DIRECTORY", &directory.to_string_lossy());
    let socket = monitor::socket(directory);
    let arguments = arguments.split_whitespace().map(Into::into);
    let machine = Machine {
        model: model.into(),
        extra: arguments
            .chain(monitor::arguments(&socket).map(Into::into))
            .collect(),
        ..bench.machine()
    };
    bench.succeed_meanwhile(&name, machine, (SYSTEM, CHECKS), |vm| {
        plug(vm, &socket, buses)
    })?;
    files.remove()
}

fn plug(vm: &mut Vm, socket: &Path, [disk, network, memory]: &[&str; 3]) -> Result<()> {
    vm.wait_for(TIME_LIMIT, |console| console.contains(READY))?;
    let mut monitor = Monitor::connect(socket)?;
    let commands = [
        format!("device_add virtio-blk-pci,id=disk,drive=d0,bus={disk}"),
        format!("device_add virtio-net-pci,id=network,netdev=n0,bus={network}"),
        format!("device_add ivshmem-plain,id=memory,memdev=m0,bus={memory}"),
    ];
    for command in commands {
        monitor.run(&command)?;
    }
    vm.wait_for(TIME_LIMIT, |console| console.contains(USED))?;
    monitor.run("device_del disk")
}
