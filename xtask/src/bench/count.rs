//! Instructions from reset to the program, exactly.
//!
//! With `-icount shift=S,sleep=off` the time stamp counter counts virtual
//! nanoseconds from reset, 2^S of them an instruction; timers fire in that time,
//! too. What a firmware does and what it waits for are told apart by two runs:
//! `tsc(S) = C · 2^S + D`, with C instructions and D nanoseconds of waiting, if
//! its way does not depend on the shift.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::firmware::Firmware;
use crate::qemu::{Console, Machine};
use crate::vm::{Echo, Vm};

/// The two shifts.
const SHIFTS: [u32; 2] = [3, 6];
/// OVMF needs half a minute on an idle host.
const LIMIT: Duration = Duration::from_secs(600);
const PAGE_KIB: u64 = 4;
/// EFI memory types.
const RUNTIME: [usize; 2] = [5, 6];
const RECLAIM: usize = 9;
const NVS: usize = 10;

/// What a probe said.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Everything on the console.
    pub console: String,
    lines: Vec<(String, Vec<u64>)>,
}

impl Probe {
    fn parse(console: &str) -> Probe {
        let lines = console.lines().filter_map(|line| {
            let line = line.trim_end_matches('\r');
            let (name, rest) = line.strip_prefix("probe: ")?.split_once(' ')?;
            let radix = if name == "tsc" { 16 } else { 10 };
            let rest = rest.trim_start_matches("0x ");
            let numbers = rest.split(' ').map(|word| u64::from_str_radix(word, radix));
            Some((name.to_owned(), numbers.collect::<Result<_, _>>().ok()?))
        });
        Probe {
            console: console.to_owned(),
            lines: lines.collect(),
        }
    }

    /// The numbers of the first line `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn line(&self, name: &str) -> Result<&[u64]> {
        let line = self.lines.iter().find(|(found, _)| found == name);
        line.map(|(_, numbers)| numbers.as_slice())
            .with_context(|| format!("the probe said nothing about `{name}`"))
    }

    /// Time stamp at the program's first instruction.
    fn entered(&self) -> Result<u64> {
        let line = self.line("entered").or_else(|_| self.line("tsc"))?;
        Ok(*line.first().context("no time stamp")?)
    }

    /// Time in the firmware from reset to the end of boot services, in total;
    /// before the kernel if none was watched.
    ///
    /// # Errors
    /// When the probe did not say it.
    pub fn in_firmware(&self) -> Result<u64> {
        let services = self.lines.iter().filter(|(name, _)| name == "service");
        let times = services.filter_map(|(_, numbers)| numbers.get(2));
        Ok(self.entered()? + times.sum::<u64>())
    }

    /// What the memory map says.
    ///
    /// # Errors
    /// When the probe did not say it.
    pub fn map(&self) -> Result<Map> {
        let pages = self.line("pages")?;
        let kib = |types: &[usize]| {
            let pages = types.iter().filter_map(|ty| pages.get(*ty));
            pages.sum::<u64>() * PAGE_KIB
        };
        Ok(Map {
            descriptors: *self.line("descriptors")?.first().unwrap_or(&0),
            runtime_kib: kib(&RUNTIME),
            tables_kib: kib(&[RECLAIM, NVS]),
        })
    }
}

/// What a probe saw in the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Descriptors of GetMemoryMap at the program's entry.
    pub descriptors: u64,
    /// Runtime code and data in KiB.
    pub runtime_kib: u64,
    /// ACPI memory of both kinds in KiB.
    pub tables_kib: u64,
}

/// Instructions, and waiting in virtual nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Instructions.
    pub instructions: u64,
    /// Nanoseconds waited, which may come out slightly negative where the way
    /// depends on the shift.
    pub waited_ns: i64,
}

impl Work {
    fn of([fast, slow]: [u64; 2]) -> Work {
        let [small, large] = SHIFTS.map(|shift| 1i64 << shift);
        let (fast, slow) = (fast.cast_signed(), slow.cast_signed());
        let instructions = (slow - fast) / (large - small);
        Work {
            instructions: instructions.cast_unsigned(),
            waited_ns: fast - instructions * small,
        }
    }

    /// This without `other`.
    pub fn beyond(self, other: Work) -> Work {
        Work {
            instructions: self.instructions.saturating_sub(other.instructions),
            waited_ns: self.waited_ns - other.waited_ns,
        }
    }
}

/// Measures the way of `firmware` on machine `model` to `program`, and what a
/// kernel asks of it, if the probe is in one.
///
/// # Errors
/// When the probe does not come to its end.
pub fn work(firmware: &Firmware, model: &str, program: &Program<'_>) -> Result<(Work, Probe)> {
    let [fast, slow] = SHIFTS.map(|shift| run(firmware, model, program, shift));
    let (fast, slow) = (fast?, slow?);
    let work = Work::of([fast.in_firmware()?, slow.in_firmware()?]);
    Ok((work, fast))
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Program<'p> {
    /// `-kernel`.
    pub kernel: &'p Path,
    /// `-initrd`.
    pub initrd: Option<&'p Path>,
    /// What QEMU is given besides.
    pub extra: &'p [&'p str],
}

impl Program<'_> {
    /// Bytes of the kernel and of the initrd.
    ///
    /// # Errors
    /// When a file is not there.
    pub fn bytes(&self) -> Result<[u64; 2]> {
        let initrd = self.initrd.map_or(Ok(0), size)?;
        Ok([size(self.kernel)?, initrd])
    }
}

fn size(file: &Path) -> Result<u64> {
    let found = fs::metadata(file).with_context(|| file.display().to_string())?;
    Ok(found.len())
}

/// One run with 2^`shift` nanoseconds an instruction.
///
/// # Errors
/// As [`work`].
pub fn run(firmware: &Firmware, model: &str, program: &Program<'_>, shift: u32) -> Result<Probe> {
    let name = format!("bench-{}-{model}-{shift}", firmware.name);
    let files = super::files(&name)?;
    let icount = format!("shift={shift},sleep=off");
    let options = [
        ["-icount", &icount],
        ["-rtc", "base=2026-01-01,clock=vm"],
        ["-seed", "1"],
        ["-device", "isa-debug-exit,iobase=0xf4"],
    ];
    let extra = options.iter().flatten().chain(program.extra);
    let machine = Machine {
        model: model.into(),
        cpu: Some("qemu64".into()),
        kernel: Some(program.kernel.to_owned()),
        initrd: program.initrd.map(Path::to_owned),
        extra: extra.map(Into::into).collect(),
        debug_console: false,
        ..Machine::default()
    };
    let machine = firmware.put_into(machine, &files)?;
    let vm = Vm::start(&machine, &files, Console::File)?;
    let line = vm.line().to_owned();
    let outcome = vm.wait(Some(LIMIT), Echo::Nothing)?;
    let console = String::from_utf8_lossy(&fs::read(files.console())?).into_owned();
    let probe = Probe::parse(&console);
    if probe.entered().is_err() || probe.line("failed").is_ok() {
        bail!(
            "{name}: the probe did not run to its end: {:?}; last on the console: {}; to try again: {line}",
            outcome.end,
            outcome.last_line()
        );
    }
    files.remove()?;
    Ok(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_waiting_are_told_apart() {
        let work = Work::of([8 * 1000 + 77, 64 * 1000 + 77]);
        assert_eq!((work.instructions, work.waited_ns), (1000, 77));
    }

    #[test]
    fn lines_are_found_among_others() {
        let text = "ovmf-lite: x\r\n\r\nprobe: entered 80\r\nprobe: kernel 90 200\nprobe: service 4 5 6\n\
                    probe: service 58 2 10\nprobe: pages 0 1 2 3 4 5 6 7 8 9 10 11\nprobe: descriptors 7\n";
        let probe = Probe::parse(text);
        assert_eq!(probe.in_firmware().unwrap(), 96);
        let map = probe.map().unwrap();
        assert_eq!(
            (map.descriptors, map.runtime_kib, map.tables_kib),
            (7, 44, 76)
        );
        let floor = Probe::parse("probe: tsc 0x 00000000000000ff\n");
        assert_eq!(floor.in_firmware().unwrap(), 255);
    }
}
