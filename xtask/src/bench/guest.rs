//! What a Linux guest has left of its memory, and when it is there.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::firmware::Firmware;
use super::material::Material;
use crate::accel::Accelerator;
use crate::guest::{Guest, Purpose};
use crate::qemu::{Console, Files, Machine};
use crate::vm::{Echo, Vm};

/// Never `efi=debug`: with it Linux keeps all boot services memory.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 no_timer_check nokaslr";
/// `-m`, in MiB.
pub const MEMORY: &str = "512M";
const LIMIT: Duration = Duration::from_secs(300);
/// How often the guest's output is looked at.
const POLL: Duration = Duration::from_millis(2);

/// What userspace says first: OVMF writes to the port of the report as well.
const HERE: &str = "userspace is here";

const SCRIPT: &str = "\
grep MemTotal /proc/meminfo | tr -dc '0-9\\n'
ls /sys/firmware/efi/runtime-map 2>/dev/null | wc -l
dmesg | sed -n 's/.*BIOS-e820: .mem 0x\\([0-9a-f]*\\)-0x\\([0-9a-f]*\\). usable/\\1 \\2/p'
";

/// Memory of a guest with 512 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `MemTotal` in KiB.
    pub total_kib: u64,
    /// Usable in the map that the kernel started with, in KiB.
    pub usable_kib: u64,
    /// Entries of /sys/firmware/efi/runtime-map.
    pub runtime_regions: u64,
}

/// Boots the kernel to its userspace and asks it.
///
/// # Errors
/// When it does not get there.
pub fn memory(firmware: &Firmware, model: &str, material: &Material) -> Result<Memory> {
    let files = super::files(&format!("bench-memory-{}-{model}", firmware.name))?;
    let machine = machine(firmware, model, material, SCRIPT, &files, Accelerator::Tcg)?;
    let outcome = Vm::start(&machine, &files, Console::File)?.wait(Some(LIMIT), Echo::Nothing)?;
    ensure!(
        outcome.status == Some(0),
        "{} on {model}: the guest did not report: {}",
        firmware.name,
        outcome.last_line()
    );
    files.remove()?;
    parse(&outcome.output)
}

fn parse(output: &str) -> Result<Memory> {
    let (_, report) = output.split_once(HERE).context("no report")?;
    let mut lines = report.lines().map(str::trim).skip(1);
    let mut number =
        || -> Result<u64> { Ok(lines.next().context("the report is too short")?.parse()?) };
    let (total_kib, runtime_regions) = (number()?, number()?);
    let mut usable = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let (start, end) = line.split_once(' ').context("no range")?;
        usable += u64::from_str_radix(end, 16)? + 1 - u64::from_str_radix(start, 16)?;
    }
    Ok(Memory {
        total_kib,
        usable_kib: usable >> 10,
        runtime_regions,
    })
}

fn machine(
    firmware: &Firmware,
    model: &str,
    material: &Material,
    script: &str,
    files: &Files,
    accelerator: Accelerator,
) -> Result<Machine> {
    let purpose = Purpose::Command(format!("echo {HERE}\n{script}"));
    let initrd = files.directory().join("initrd");
    Guest::new(&material.kernel, &[], &purpose)?.write_initramfs(&initrd)?;
    let machine = Machine {
        model: model.into(),
        memory: MEMORY.into(),
        accelerator,
        steady_time: true,
        kernel: Some(material.kernel.image.clone()),
        initrd: Some(initrd),
        command_line: COMMAND_LINE.into(),
        debug_console: false,
        ..Machine::default()
    };
    firmware.put_into(machine, files)
}

/// From the start of QEMU to the first line that the guest's userspace writes.
///
/// # Errors
/// When it does not come.
pub fn time(
    firmware: &Firmware,
    model: &str,
    material: &Material,
    accelerator: Accelerator,
) -> Result<Duration> {
    let files = super::files(&format!("bench-time-{}-{model}", firmware.name))?;
    let machine = machine(firmware, model, material, "", &files, accelerator)?;
    let here = |report: Vec<u8>| String::from_utf8_lossy(&report).contains(HERE);
    let started = Instant::now();
    let vm = Vm::start(&machine, &files, Console::File)?;
    while !fs::read(files.report()).is_ok_and(here) {
        ensure!(
            started.elapsed() < LIMIT,
            "{} on {model}: no userspace",
            firmware.name
        );
        thread::sleep(POLL);
    }
    let elapsed = started.elapsed();
    vm.stop()?;
    files.remove()?;
    Ok(elapsed)
}

/// Times of several runs in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The shortest.
    pub least: f64,
    /// The longest.
    pub most: f64,
}

impl Spread {
    /// Of at least one time.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(times: &[Duration]) -> Result<Spread> {
        let mut times: Vec<_> = times.iter().map(Duration::as_secs_f64).collect();
        times.sort_by(f64::total_cmp);
        Ok(Spread {
            median: *times.get(times.len() / 2).context("no runs")?,
            least: times[0],
            most: times[times.len() - 1],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_memory_is_added_up() {
        let memory =
            parse("BdsDxe\nuserspace is here\r\n481424\n2\n00001000 0009ffff\n00100000 1fffffff\n")
                .unwrap();
        assert_eq!(
            (memory.total_kib, memory.runtime_regions, memory.usable_kib),
            (481_424, 2, 636 + 511 * 1024)
        );
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let times = [5, 1, 3].map(Duration::from_secs);
        let spread = Spread::of(&times).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (3.0, 1.0, 5.0));
    }
}
