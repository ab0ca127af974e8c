//! What the firmware costs: memory, and time from unpausing the domain to the
//! kernel's first line, next to a guest without it and to Debian's OVMF.
//!
//! Xen puts its time in front of what guests print on port 0xE9: the firmware's
//! lines and, with `earlyprintk=xen`, the kernel's. A key of Xen's console marks
//! the moment before the domain is unpaused.

use anyhow::{Context, Result};
use xtask::qemu::Files;
use xtask::xen::domain::{Boot, Domain};
use xtask::xen::report::{Report, guest_output};

use super::stage::Stage;
use super::{Case, Form};
use crate::bench::Release;

const FUNCTIONS: &str = "
timed() {
    start $1 -p
    xl debug-keys n
    xl unpause $1
    finish $1 $2
}
";
/// What the key makes Xen print: the head of its table of NMIs.
const MARK: &str = "CPU\tNMI";
const KERNEL: &str = "Linux version ";
/// hvmloader's last line, whatever firmware it is.
const HVMLOADER: &str = "Invoking OVMF";
const SCRIPT: &str = "awk '/MemTotal/ { print $2 }' /proc/meminfo\n";
const MEMORY: u64 = 512;
/// Said by QEMU 7.2 when an interrupt handler of OVMF writes CR8 at the wrong
/// moment: no fault of a guest, and not under our control.
const ABORT: &str = "tcg_handle_interrupt: assertion failed";
const ATTEMPTS: u32 = 4;

/// The firmware next to nothing.
///
/// # Errors
/// When a guest does not come up or says nothing.
pub fn pvh(case: &Case) -> Result<()> {
    let mut stage = stage(case)?;
    for form in [Form::Direct, Form::Firmware] {
        add(&mut stage, form)?;
    }
    let report = stage.run()?;
    show(case, &report, &["direct", "firmware"])
}

/// The firmware next to nothing and to Debian's OVMF in an HVM guest.
///
/// # Errors
/// When a guest does not come up or says nothing.
pub fn ovmf(case: &Case) -> Result<()> {
    for attempt in 1..ATTEMPTS {
        match compare(case) {
            Err(error) if error.to_string().contains(ABORT) => {
                eprintln!("{}: QEMU aborted in attempt {attempt}", case.name());
                // What it left behind is in the way of the next.
                Files::create(&case.name())?.remove()?;
            }
            result => return result,
        }
    }
    compare(case)
}

fn compare(case: &Case) -> Result<()> {
    let mut stage = stage(case)?;
    // First, because it may have to be tried again.
    let kernel = stage.userspace(Release::Bookworm, "ovmf", SCRIPT)?;
    stage.domain(&Domain {
        boot: Boot::Hvm {
            firmware: None,
            kernel: Some(kernel),
            ramdisk: Some("ovmf.initrd".into()),
        },
        ..guest("ovmf")
    });
    stage.check("ovmf", "timed ovmf 500");
    stage.more_time(6);
    for form in [Form::Direct, Form::Firmware, Form::Hvm] {
        add(&mut stage, form)?;
    }
    let report = stage.run()?;
    show(case, &report, &["ovmf", "direct", "firmware", "hvm"])?;
    show_hvm(case, &report.outcome.console, &["ovmf", "hvm"]);
    Ok(())
}

/// What remains when hvmloader is left out, and what of that is the transfer of
/// the kernel by the device model, which only our own firmware's lines tell.
fn show_hvm(case: &Case, console: &str, guests: &[&str]) {
    let name = case.name();
    for (guest, seconds) in guests.iter().zip(times(console, HVMLOADER, KERNEL)) {
        eprintln!(
            "{name}: {guest}: {seconds:.1} s from hvmloader's last line to the kernel's first"
        );
    }
    let hvm = console.rsplit(HVMLOADER).next().unwrap_or_default();
    for seconds in times(hvm, "ovmf-lite: version", "ovmf-lite: kernel") {
        eprintln!("{name}: hvm: {seconds:.1} s of it the device model handing the kernel over");
    }
}

fn stage(case: &Case) -> Result<Stage> {
    let mut stage = Stage::new(case, MEMORY)?;
    stage.functions(FUNCTIONS);
    Ok(stage)
}

fn guest(name: &str) -> Domain {
    let mut domain = Domain {
        name: name.into(),
        memory: MEMORY,
        ..Domain::default()
    };
    domain.command_line += " earlyprintk=xen";
    domain
}

fn add(stage: &mut Stage, form: Form) -> Result<()> {
    let name = form.name();
    stage.guest_as(form, Release::Bookworm, SCRIPT, guest(name))?;
    stage.check(name, &format!("timed {name} {}", form.patience()));
    Ok(())
}

fn show(case: &Case, report: &Report, guests: &[&str]) -> Result<()> {
    let times = times(&report.outcome.console, MARK, KERNEL);
    let memory = |name: &str| -> Result<u64> {
        let output = guest_output(report.console(name));
        output.parse().with_context(|| format!("{name}: {output}"))
    };
    let direct = memory("direct")?;
    for (name, seconds) in guests.iter().zip(times) {
        let kib = memory(name)?;
        eprintln!(
            "{}: {name}: {seconds:.1} s from unpausing to the kernel's first line; \
             MemTotal {kib} KiB, {} KiB less than direct",
            case.name(),
            direct.saturating_sub(kib)
        );
    }
    Ok(())
}

/// Seconds from each line with the words `from` to the first one with `to` that
/// is behind it.
fn times(console: &str, from: &str, to: &str) -> Vec<f64> {
    let mut times = Vec::new();
    let mut began = None;
    for line in console.lines() {
        if line.contains(from) {
            began = time(line);
        } else if line.contains(to) {
            let passed = began.take().zip(time(line));
            times.extend(passed.map(|(began, now)| now - began));
        }
    }
    times
}

/// Xen's time in front of a line: `(d1) [   12.345678] …`.
fn time(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once(") [")?;
    rest.split_once(']')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_from_the_mark_to_the_kernel() {
        let console = "(XEN) [   10.500000] CPU\tNMI\n(d1) [   11.0] ovmf-lite: version\n\
                       (d1) [   12.750000] [    0.000000] Linux version 6.1\n\
                       (d1) [   13.0] [    0.000000] Linux version again\n";
        assert_eq!(times(console, MARK, KERNEL), [2.25]);
    }
}
