//! `cargo xtask trace`: what a kernel asks of the firmware, call by call.
//!
//! Boots once with `ovmf-lite.trace`, prints a table and writes a timeline. The
//! lines are those of `services/src/abi/trace.rs`:
//! `trace NUMBER DEPTH SERVICE(ARGUMENTS) = STATUS @START +DURATION`.

pub mod svg;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ovmf_lite_services::catalog;

use crate::accel::{self, Wish};
use crate::debian::Suite;
use crate::guest::{Guest, Purpose};
use crate::kernel::Kernel;
use crate::qemu::{Console, Files, Machine};
use crate::vm::{Echo, Vm};
use crate::{build, workspace};

/// Options of `cargo xtask trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kernel, or other EFI application [default: Debian 12's cloud kernel]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk [default: one made here, for a kernel given none]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// More words for the command line
    #[arg(
        long,
        value_name = "WORDS",
        allow_hyphen_values = true,
        default_value = ""
    )]
    append: String,
    /// What executes the guest
    #[arg(long, value_enum, default_value_t)]
    accel: Wish,
    /// Where the timeline goes [default: trace.svg in the target directory]
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Seconds until the guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

/// One call of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number, in the order in which calls began.
    pub number: u32,
    /// How many others were active.
    pub depth: usize,
    /// The service.
    pub service: String,
    /// Its arguments, as the firmware wrote them.
    pub arguments: String,
    /// What it returned: the name of a status, or `-`.
    pub status: String,
    /// When it began, in time stamps since the firmware's start.
    pub start: u64,
    /// How long it took, in time stamps.
    pub duration: u64,
}

/// All calls of a boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In the order in which they began.
    pub calls: Vec<Call>,
    /// Time stamps in a millisecond.
    pub khz: u64,
}

impl Trace {
    /// The trace in what a guest and the firmware have written to a console.
    pub fn read(console: &str) -> Trace {
        let lines = || {
            let lines = console.lines();
            lines.filter_map(|line| line.split_once("ovmf-lite: trace"))
        };
        let mut calls: Vec<Call> = lines().filter_map(|(_, rest)| call(rest.trim())).collect();
        calls.sort_by_key(|call| call.number);
        let khz = lines().find_map(|(_, rest)| {
            let (khz, _) = rest.strip_prefix(", ")?.split_once(" time stamps")?;
            khz.parse().ok()
        });
        Trace {
            calls,
            khz: khz.unwrap_or(1).max(1),
        }
    }

    /// Time stamps as milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn milliseconds(&self, stamps: u64) -> f64 {
        stamps as f64 / self.khz as f64
    }

    /// The calls as a table of text.
    pub fn table(&self) -> String {
        let mut text = format!("{:>4} {:>10} {:>9}  call\n", "", "start/ms", "took/ms");
        for call in &self.calls {
            text += &format!(
                "{:>4} {:>10.3} {:>9.3}  {}{}\n",
                call.number,
                self.milliseconds(call.start),
                self.milliseconds(call.duration),
                "  ".repeat(call.depth),
                call.text(),
            );
        }
        text
    }
}

/// How the firmware shows a null pointer.
const NULL: &str = "0x0";

impl Call {
    /// Service, arguments and status.
    pub fn text(&self) -> String {
        format!("{}({}) = {}", self.service, self.arguments, self.status)
    }

    /// The protocol, table or vendor it is about, if the service takes one and was
    /// given one.
    pub fn guid(&self) -> Option<&str> {
        let index = catalog::guid_argument(catalog::slot(&self.service)?)?;
        let guid = split(&self.arguments).get(index).copied();
        guid.filter(|guid| *guid != NULL)
    }
}

fn call(line: &str) -> Option<Call> {
    let (number, rest) = line.split_once(' ')?;
    let (depth, rest) = rest.split_once(' ')?;
    let (service, rest) = rest.split_once('(')?;
    let (arguments, rest) = rest.rsplit_once(") = ")?;
    let (status, rest) = rest.split_once(" @")?;
    let (start, duration) = rest.split_once(" +")?;
    Some(Call {
        number: number.parse().ok()?,
        depth: depth.parse().ok()?,
        service: service.to_owned(),
        arguments: arguments.to_owned(),
        status: status.to_owned(),
        start: start.parse().ok()?,
        duration: duration.parse().ok()?,
    })
}

/// Arguments one by one; a comma in a string does not end one.
fn split(arguments: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in arguments.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(arguments[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(arguments[from..].trim());
    parts
}

/// Boots once and shows the calls.
///
/// # Errors
/// When something cannot be built, fetched or written, or nothing was called.
pub fn run(options: &Options) -> Result<()> {
    let files = Files::create("trace")?;
    let console = boot(options, &files)?;
    let trace = Trace::read(&console);
    let logs = workspace::shown(files.directory());
    ensure!(
        !trace.calls.is_empty(),
        "expected calls of services, found none (logs: {logs})"
    );
    print!("{}", trace.table());
    let svg = options.svg.clone();
    let svg = svg.unwrap_or_else(|| workspace::target().join("trace.svg"));
    fs::write(&svg, svg::timeline(&trace))
        .with_context(|| format!("cannot write {}", svg.display()))?;
    eprintln!("xtask: timeline in {}", workspace::shown(&svg));
    files.remove()
}

fn boot(options: &Options, files: &Files) -> Result<String> {
    let kernel = match &options.kernel {
        Some(file) => Kernel::at(file),
        None => Kernel::fetch(Suite::Bookworm, "linux-image-cloud-amd64")?,
    };
    let mut initrd = options.initrd.clone();
    if initrd.is_none() && kernel.takes_initrd()? {
        let file = files.directory().join("initrd.cpio");
        let purpose = Purpose::Command("exit 0\n".into());
        Guest::new(&kernel, &[], &purpose)?.write_initramfs(&file)?;
        initrd = Some(file);
    }
    let machine = Machine {
        firmware: Some(build::firmware()?.flash),
        accelerator: accel::choose(options.accel),
        kernel: Some(kernel.image),
        initrd,
        command_line: format!(
            "console=ttyS0 panic=-1 no_timer_check ovmf-lite.trace {}",
            options.append
        ),
        ..Machine::default()
    };
    let vm = Vm::start(&machine, files, Console::File)?;
    let limit = Duration::from_secs(options.timeout);
    Ok(vm.wait(Some(limit), Echo::Nothing)?.console)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "ovmf-lite: trace, 2000 time stamps in a millisecond\r\n\
        textovmf-lite: trace 2 1 AllocatePool(LoaderData, 0x10, *0x20) = SUCCESS @3000 +500\r\n\
        ovmf-lite: trace 1 0 GetVariable(\"a, b\", GlobalVariable, 0x0, *0x1, 0x0) = NOT_FOUND \
        @2000 +4000\r\novmf-lite: trace 3 0 Cut(0x1\r\n\
        ovmf-lite: trace 4 0 Rng.GetRNG(0x1, 0x0, 0x10, 0x2) = SUCCESS @9000 +5\r\n";

    #[test]
    fn calls_are_read_in_the_order_of_their_beginnings() {
        let trace = Trace::read(CONSOLE);
        let services: Vec<_> = trace.calls.iter().map(|call| &*call.service).collect();
        assert_eq!(services, ["GetVariable", "AllocatePool", "Rng.GetRNG"]);
        assert_eq!(trace.khz, 2000);
        assert_eq!(trace.calls[0].status, "NOT_FOUND");
        assert_eq!(trace.calls[0].guid(), Some("GlobalVariable"));
        assert_eq!(trace.calls[1].guid(), None);
        assert_eq!(trace.calls[2].guid(), None);
        assert_eq!(trace.calls[1].depth, 1);
        assert_eq!(trace.milliseconds(trace.calls[0].duration), 2.0);
        assert_eq!(trace.table().lines().count(), 4);
    }

    #[test]
    fn a_console_without_trace_has_no_calls() {
        assert!(
            Trace::read("ovmf-lite: version 1\nLinux version\n")
                .calls
                .is_empty()
        );
    }
}
