//! `cargo xtask boot`: a Linux kernel through the firmware, in one command.
//!
//! Without arguments it shows what the kernel found of EFI and offers a shell.
//! With `--exec` it is a filter: the guest's command decides output and status.
//! Every run but the one on a terminal has a time limit.

use std::ffi::OsString;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};

use crate::accel::{self, Wish};
use crate::debian::Suite;
use crate::emulator::Emulator;
use crate::guest::{Guest, Purpose};
use crate::kernel::Kernel;
use crate::qemu::{Console, Files, Machine, Wrapping};
use crate::vm::{Echo, End, Outcome, Vm};
use crate::{build, workspace};

/// Options of `cargo xtask boot`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kernel to boot [default: Debian 12's cloud kernel]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk, or `none` [default: one made here]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Option<String>,
    /// Memory of the guest, as QEMU's -m takes it
    #[arg(long, default_value = "512M")]
    memory: String,
    /// Number of processors
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// QEMU's machine model
    #[arg(long, default_value = "q35", value_parser = ["q35", "pc", "microvm"])]
    machine: String,
    /// How the machine comes to the firmware
    #[arg(long, default_value = "bios", value_parser = ["bios", "pflash", "pvh"])]
    entry: String,
    /// QEMU's processor model [default: the best of the accelerator]
    #[arg(long)]
    cpu: Option<String>,
    /// What executes the guest
    #[arg(long, value_enum, default_value_t)]
    accel: Wish,
    /// Run this shell command in the guest and end with its status
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    exec: Option<String>,
    /// Seconds until the guest is given up [default: 180, none on a terminal]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Another flash image than the one built here, or `none` for QEMU's SeaBIOS
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// More arguments for QEMU
    #[arg(last = true)]
    qemu: Vec<OsString>,
}

const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Boots as `options` say; the status is that of the guest's command, if any.
///
/// # Errors
/// When something cannot be built or fetched, and when the guest dies, hangs or
/// ends without a report: one line says which.
pub fn run(options: &Options) -> Result<ExitCode> {
    check(options)?;
    let files = Files::create("boot")?;
    let machine = machine(options, &files)?;
    let kernel = machine.kernel.clone();
    let vm = Vm::start(&machine.wrapped(&files)?, &files, console(options))?;
    let outcome = vm.wait(limit(options), echo(options))?;
    let logs = workspace::shown(files.directory());
    if let Some(defect) = refused_by_qemu(kernel, &outcome) {
        bail!(
            "QEMU did not take the kernel {defect}{}",
            qemu_said(&outcome)
        );
    }
    let code = verdict(options, &outcome).map_err(|error| anyhow!("{error} (logs: {logs})"))?;
    files.remove()?;
    Ok(code)
}

/// What can be refused before anything is built.
fn check(options: &Options) -> Result<()> {
    for (option, file) in [
        ("--kernel", &options.kernel),
        ("--initrd", &given_initrd(options)),
    ] {
        if let Some(file) = file {
            ensure!(
                file.is_file(),
                "{option} {}: there is no such file",
                file.display()
            );
        }
    }
    if options.exec.is_some() && options.initrd.is_some() {
        bail!("--exec needs the initrd made here: leave --initrd out");
    }
    Ok(())
}

fn machine(options: &Options, files: &Files) -> Result<Machine> {
    let firmware = firmware(options)?;
    let kernel = match &options.kernel {
        Some(file) => Kernel::at(file),
        None => Kernel::fetch(Suite::Bookworm, "linux-image-cloud-amd64")?,
    };
    let initrd = match &options.initrd {
        None => own_initrd(options, &kernel, files)?,
        Some(_) => given_initrd(options),
    };
    Ok(Machine {
        emulator: Emulator::Host,
        model: options.machine.clone(),
        cpu: options.cpu.clone(),
        memory: options.memory.clone(),
        processors: options.smp,
        accelerator: accel::choose(options.accel),
        firmware,
        wrapping: wrapping(options),
        steady_time: true,
        initrd,
        command_line: command_line(options),
        kernel: Some(kernel.image),
        debug_console: true,
        resets: on_terminal(options),
        keyboard: None,
        extra: options.qemu.clone(),
    })
}

fn firmware(options: &Options) -> Result<Option<PathBuf>> {
    match &options.firmware {
        None => Ok(Some(build::firmware()?.flash)),
        Some(file) if is_none(file) => Ok(None),
        Some(file) => Ok(Some(file.clone())),
    }
}

fn wrapping(options: &Options) -> Wrapping {
    match options.entry.as_str() {
        "pflash" => Wrapping::Pflash,
        "pvh" => Wrapping::Pvh(build::elf()),
        _ => Wrapping::Bios,
    }
}

/// The initrd made here, unless QEMU would refuse it: then the firmware gets
/// the kernel alone and says what it is.
fn own_initrd(options: &Options, kernel: &Kernel, files: &Files) -> Result<Option<PathBuf>> {
    if !kernel.takes_initrd()? {
        return Ok(None);
    }
    let purpose = match &options.exec {
        Some(command) => Purpose::Command(command.clone()),
        None if on_terminal(options) => Purpose::Shell,
        None => Purpose::Show,
    };
    let file = files.directory().join("initrd.cpio");
    Guest::new(kernel, &[], &purpose)?.write_initramfs(&file)?;
    Ok(Some(file))
}

fn given_initrd(options: &Options) -> Option<PathBuf> {
    options.initrd.clone().filter(|file| !is_none(file))
}

fn is_none(file: &Path) -> bool {
    file.as_os_str() == "none"
}

fn command_line(options: &Options) -> String {
    let mut words = vec!["console=ttyS0"];
    if options.exec.is_none() {
        // The kernel then prints the memory map it was given.
        words.push("efi=debug");
    }
    if !on_terminal(options) {
        // Nobody is there to look at a kernel that has stopped.
        words.push("panic=-1");
    }
    words.extend(options.append.as_deref());
    words.join(" ")
}

fn on_terminal(options: &Options) -> bool {
    options.exec.is_none() && stdin().is_terminal() && stdout().is_terminal()
}

fn console(options: &Options) -> Console {
    if on_terminal(options) {
        eprintln!("xtask: the console is here; QEMU ends with Ctrl-A x");
        return Console::Terminal;
    }
    Console::File
}

fn echo(options: &Options) -> Echo {
    match &options.exec {
        Some(_) => Echo::Command,
        None if on_terminal(options) => Echo::Nothing,
        None => Echo::Console,
    }
}

fn limit(options: &Options) -> Option<Duration> {
    let given = options.timeout.map(Duration::from_secs);
    given.or_else(|| (!on_terminal(options)).then_some(TIME_LIMIT))
}

/// What is wrong with a kernel that QEMU refused before anything could run; its
/// own messages do not always tell.
fn refused_by_qemu(kernel: Option<PathBuf>, outcome: &Outcome) -> Option<String> {
    let refused = outcome.console.is_empty() && !outcome.messages.is_empty();
    kernel
        .filter(|_| refused)
        .and_then(|file| Kernel::at(&file).defect())
}

fn verdict(options: &Options, outcome: &Outcome) -> Result<ExitCode> {
    let seconds = outcome.elapsed.as_secs_f32();
    match (outcome.end, outcome.status) {
        (End::Exited(0), Some(status)) => Ok(ExitCode::from(status)),
        (End::Exited(0), None) if options.exec.is_none() => Ok(ExitCode::SUCCESS),
        (End::Exited(0), None) => {
            bail!("the guest ended after {seconds:.0} s before its command reported a status")
        }
        (End::TimedOut, Some(_)) => {
            bail!("the guest ran its command, but had not powered off after {seconds:.0} s")
        }
        (End::TimedOut, None) => bail!(
            "the guest hung: not finished after {seconds:.0} s; last on its console: {}",
            outcome.last_line()
        ),
        (End::Exited(status), _) => bail!(
            "the guest died: QEMU ended with status {status}; last on its console: {}{}",
            outcome.last_line(),
            qemu_said(outcome)
        ),
        (End::Signal(signal), _) => {
            bail!("QEMU was ended by signal {signal}{}", qemu_said(outcome))
        }
    }
}

fn qemu_said(outcome: &Outcome) -> String {
    match outcome.messages.trim() {
        "" => String::new(),
        messages => format!("; QEMU said: {}", messages.replace('\n', "; ")),
    }
}
