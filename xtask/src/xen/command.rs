//! `cargo xtask xen`: a Linux kernel in a guest of a real Xen, in one command.
//!
//! Shows the guest's console and what it told Xen; with `--exec` it is a filter:
//! the guest's command decides output and status. `--keep` ends in a shell of
//! dom0. Every run but that has a time limit.

use std::fs;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::bed::Bed;
use super::domain::{Boot, Domain};
use super::hypervisor::Version;
use super::report::{Report, guest_output, guest_status};
use super::scenario::Scenario;
use crate::debian::Suite;
use crate::guest::{Guest, Purpose};
use crate::kernel::Kernel;
use crate::qemu::Files;
use crate::vm::{End, show};
use crate::{build, workspace};

/// Options of `cargo xtask xen`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Version of Xen and its toolstack
    #[arg(long, value_enum, default_value_t)]
    xen: Version,
    /// Type of the guest
    #[arg(long = "type", default_value = "pvh", value_parser = ["pvh", "hvm"])]
    kind: String,
    /// Kernel to boot [default: Debian 12's cloud kernel]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk, or `none` [default: one made here]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Option<String>,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    memory: u64,
    /// Number of the guest's processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Run this shell command in the guest and end with its status
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    exec: Option<String>,
    /// Without our firmware: the kernel by itself (PVH), or Debian's OVMF (HVM)
    #[arg(long)]
    direct: bool,
    /// This xl.cfg(5) instead; `kernel`, `initrd`, `module` (both in one file),
    /// `ovmf-lite.elf`, `ovmf-lite.fd` and what --file names are in /bed/in
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One more file for dom0's /bed/in; may be repeated
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Run this shell script in dom0 instead of starting the guest; the functions
    /// of xtask/src/xen/helpers.sh are at hand
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Offer a shell of dom0 on the terminal
    #[arg(long)]
    keep: bool,
    /// Copy all logs into this directory
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Seconds until everything is given up; none with --keep
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    timeout: u64,
}

/// What Xen and dom0 may take of the time limit.
const BEFORE_THE_GUEST: u64 = 60;
/// Drivers for what a guest of Xen has.
pub const MODULES: [&str; 2] = ["xen_blkfront", "xen_netfront"];

/// Boots as `options` say; the status is that of the guest's command, if any.
///
/// # Errors
/// When something cannot be built or fetched, and when the guest dies, hangs or
/// ends without a report: one line says which.
pub fn run(options: &Options) -> Result<ExitCode> {
    check(options)?;
    let files = Files::create("xen")?;
    let scenario = scenario(options, files.directory())?;
    let bed = Bed {
        version: options.xen,
        memory: options.memory + options.memory / 8 + 256,
        limit: Duration::from_secs(options.timeout),
        keep: options.keep,
    };
    let report = watch(&bed, &scenario, &files, options)?;
    if let Some(directory) = &options.logs {
        copy_logs(&files.directory().join("share/out"), directory)?;
    }
    let logs = workspace::shown(files.directory());
    let code = verdict(options, &report).map_err(|error| anyhow!("{error} (logs: {logs})"))?;
    files.remove()?;
    Ok(code)
}

/// What can be refused before anything is built.
fn check(options: &Options) -> Result<()> {
    let given = [
        ("--kernel", &options.kernel),
        ("--initrd", &given_initrd(options)),
        ("--config", &options.config),
        ("--scenario", &options.scenario),
    ];
    let files = options.file.iter().map(|file| ("--file", file));
    let given = given
        .into_iter()
        .filter_map(|(o, file)| Some((o, file.as_ref()?)));
    for (option, file) in given.chain(files) {
        let shown = file.display();
        ensure!(file.is_file(), "{option} {shown}: there is no such file");
    }
    if options.exec.is_some() && options.initrd.is_some() {
        bail!("--exec needs the initrd made here: leave --initrd out");
    }
    if options.keep {
        let terminal = stdin().is_terminal() && stdout().is_terminal();
        ensure!(terminal, "--keep needs a terminal for the shell of dom0");
    }
    Ok(())
}

fn given_initrd(options: &Options) -> Option<PathBuf> {
    let given = options.initrd.clone();
    given.filter(|file| file.as_os_str() != "none")
}

fn scenario(options: &Options, directory: &Path) -> Result<Scenario> {
    let script = match &options.scenario {
        Some(file) => fs::read_to_string(file)?,
        None if options.keep => "start guest\n".into(),
        None => default_script(options.timeout),
    };
    let mut scenario = Scenario::new(&script);
    add_payload(&mut scenario, options, directory)?;
    match &options.config {
        Some(file) => scenario.add_file("guest.cfg", file),
        None => scenario.add_domain(&domain(options)),
    }
    for file in &options.file {
        let name = file
            .file_name()
            .context("--file needs the name of a file")?;
        scenario.add_file(&name.to_string_lossy(), file);
    }
    scenario.add_bytes("greeting", GREETING);
    Ok(scenario)
}

const GREETING: &str = "
A shell in dom0. The guest: xl list; xl console guest (leave with Ctrl-]);
xl create guest.cfg after its end. Leave the shell with exit or Ctrl-D, QEMU
with Ctrl-A x.
";

/// Starts the guest and sees to it that it ends.
fn default_script(timeout: u64) -> String {
    let limit = timeout.saturating_sub(BEFORE_THE_GUEST).max(10);
    format!(
        "boot() {{\n\
             start guest\n\
             eventually {limit} ended guest ||\n\
                 fail \"the guest hung: not finished after {limit} s; last on its console: $(last_line guest)\"\n\
             ! crashed guest || fail \"the guest died; last on its console: $(last_line guest)\"\n\
         }}\n\
         check boot boot\n"
    )
}

/// Kernel, initrd and firmware, under the names that `Options::config` promises.
fn add_payload(scenario: &mut Scenario, options: &Options, directory: &Path) -> Result<()> {
    let kernel = match &options.kernel {
        Some(file) => Kernel::at(file),
        None => Kernel::fetch(Suite::Bookworm, "linux-image-cloud-amd64")?,
    };
    scenario.add_file("kernel", &kernel.image);
    let mut module = fs::read(&kernel.image)?;
    if let Some(initrd) = initrd(options, &kernel, directory)? {
        scenario.add_file("initrd", &initrd);
        module.extend(fs::read(initrd)?);
    }
    if !options.direct {
        let firmware = build::firmware()?;
        scenario.add_bytes("module", module);
        scenario.add_file("ovmf-lite.elf", &firmware.elf);
        scenario.add_file("ovmf-lite.fd", &firmware.flash);
    }
    Ok(())
}

fn initrd(options: &Options, kernel: &Kernel, directory: &Path) -> Result<Option<PathBuf>> {
    if options.initrd.is_some() {
        return Ok(given_initrd(options));
    }
    let purpose = match &options.exec {
        Some(command) => Purpose::Command(command.clone()),
        None if options.keep => Purpose::Shell,
        None => Purpose::Show,
    };
    let file = directory.join("initrd.cpio");
    Guest::new(kernel, &MODULES, &purpose)?.write_initramfs(&file)?;
    Ok(Some(file))
}

fn domain(options: &Options) -> Domain {
    let mut words = vec!["console=hvc0"];
    if !options.keep {
        // Nobody is there to look at a kernel that has stopped.
        words.push("panic=-1");
    }
    words.extend(options.append.as_deref());
    Domain {
        boot: boot(options),
        command_line: words.join(" "),
        memory: options.memory,
        processors: options.vcpus,
        ..Domain::default()
    }
}

fn boot(options: &Options) -> Boot {
    let has_initrd = options.initrd.is_none() || given_initrd(options).is_some();
    let initrd = has_initrd.then(|| "initrd".to_owned());
    match (&*options.kind, options.direct) {
        ("hvm", direct) => Boot::Hvm {
            firmware: (!direct).then(|| "ovmf-lite.fd".into()),
            kernel: Some("kernel".into()),
            ramdisk: initrd,
        },
        (_, true) => Boot::Pvh {
            kernel: "kernel".into(),
            ramdisk: initrd,
        },
        (_, false) => Boot::Pvh {
            kernel: "ovmf-lite.elf".into(),
            ramdisk: Some("module".into()),
        },
    }
}

/// Runs the scenario and shows the guest's console while it goes on.
fn watch(bed: &Bed, scenario: &Scenario, files: &Files, options: &Options) -> Result<Report> {
    if options.keep {
        eprintln!("xtask: the console of Xen and dom0 is here; QEMU ends with Ctrl-A x");
    }
    let running = bed.start(scenario, files)?;
    let console = running.guest_console("guest");
    let mut shown = 0;
    running.wait(|| {
        // dom0's share: the file is there once the guest has printed something.
        let bytes = fs::read(&console).unwrap_or_default();
        match &options.exec {
            _ if options.keep => Ok(()),
            Some(_) => show(&bytes, &mut shown, &mut stderr()),
            None => show(&bytes, &mut shown, &mut stdout()),
        }
    })
}

fn verdict(options: &Options, report: &Report) -> Result<ExitCode> {
    if options.keep {
        return Ok(ExitCode::SUCCESS);
    }
    print_messages(report);
    let seconds = report.outcome.elapsed.as_secs();
    let failures = report.verdicts.iter().filter_map(|v| v.failure.as_deref());
    let failures: Vec<_> = failures.collect();
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    let last = report.outcome.last_line();
    match (report.outcome.end, report.status) {
        (End::Exited(0), Some(status)) if options.scenario.is_some() => Ok(ExitCode::from(status)),
        (End::Exited(0), Some(_)) => guest_verdict(options, report),
        (End::TimedOut, _) => {
            bail!("Xen hung: not finished after {seconds} s; last on its console: {last}")
        }
        (end, _) => bail!(
            "dom0 ended before the scenario did ({end:?} after {seconds} s); last on its \
             console: {last}; QEMU said: {}",
            report.outcome.messages.trim()
        ),
    }
}

/// What the guest told Xen on port 0xE9, and what the scenario printed.
fn print_messages(report: &Report) {
    for line in report.hypervisor.lines() {
        if line.starts_with("(d") && !line.starts_with("(d0)") {
            eprintln!("{line}");
        }
    }
    if !report.messages.is_empty() {
        eprintln!("{}", report.messages.trim_end());
    }
    for verdict in &report.verdicts {
        let result = verdict.failure.as_deref().unwrap_or("ok");
        eprintln!(
            "xtask: {}: {result} ({} ms)",
            verdict.name,
            verdict.elapsed.as_millis()
        );
    }
    for (name, value) in &report.figures {
        eprintln!("xtask: {name}: {value}");
    }
}

fn guest_verdict(options: &Options, report: &Report) -> Result<ExitCode> {
    let console = report.console("guest");
    let status = guest_status(console);
    if options.exec.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", guest_output(console));
    let status = status.context("the guest ended before its command reported a status")?;
    Ok(ExitCode::from(status))
}

fn copy_logs(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_logs(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
