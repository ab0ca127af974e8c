//! What the cases share: Debian kernels, a guest's userspace, a verdict.
//!
//! A failed run is explained by what was expected, the end of the console and a
//! command line to try again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use xtask::debian::Suite;
use xtask::guest::{Guest, Purpose};
use xtask::kernel::Kernel;
use xtask::qemu::{Console, Files, Machine};
use xtask::test::Session;
use xtask::vm::{Echo, End, Outcome, Vm};
use xtask::{build, workspace};

/// Generous: a guest takes ten seconds under TCG on an idle machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(180);

/// For every Linux. Without the last word it counts interrupts of the 8254 for
/// some milliseconds and panics when a busy host brings too few ("IO-APIC +
/// timer doesn't work"); under KVM it does not count, either (Linux,
/// Documentation/admin-guide/kernel-parameters.txt).
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 panic=-1 no_timer_check";

const CONSOLE_LINES: usize = 60;
const ROOT_DISK_MEBIBYTES: u32 = 16;

/// Debian releases, for the generations of the EFI stub in their kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 11: Linux 5.10.
    Bullseye,
    /// Debian 12: Linux 6.1.
    Bookworm,
    /// Debian 12, the kernel for all machines, with drivers for their devices.
    BookwormGeneric,
    /// Debian 13: Linux 6.12.
    Trixie,
    /// Debian unstable: whatever is new.
    Sid,
}

impl Release {
    /// The version of its kernel.
    pub fn linux(self) -> &'static str {
        match self {
            Release::Bullseye => "5.10",
            Release::Bookworm => "6.1",
            Release::BookwormGeneric => "6.1-generic",
            Release::Trixie => "6.12",
            Release::Sid => "sid",
        }
    }

    /// Its kernel for virtual machines.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn kernel(self) -> Result<Kernel> {
        let suite = match self {
            Release::Bullseye => Suite::Bullseye,
            Release::Bookworm | Release::BookwormGeneric => Suite::Bookworm,
            Release::Trixie => Suite::Trixie,
            Release::Sid => Suite::Sid,
        };
        let package = match self {
            Release::BookwormGeneric => "linux-image-amd64",
            _ => "linux-image-cloud-amd64",
        };
        Kernel::fetch(suite, package)
    }
}

/// Where a guest's userspace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// An initrd, which the kernel asks the firmware for.
    Initrd,
    /// An NVMe disk, whose driver is built into the kernels: there is no initrd.
    Disk,
}

/// What runs in a guest: a kernel, where its userspace comes from, the modules
/// that are loaded, and programs that busybox does not have.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Whose kernel.
    pub release: Release,
    /// Where userspace comes from.
    pub root: Root,
    /// Modules beyond those that every guest gets.
    pub modules: &'static [&'static str],
    /// Adds the programs.
    pub programs: Option<fn(&mut Guest) -> Result<()>>,
}

impl System {
    /// A system without further modules.
    pub const fn new(release: Release, root: Root) -> System {
        System {
            release,
            root,
            modules: &[],
            programs: None,
        }
    }
}

/// Where cases run.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    session: Session,
}

impl Bench {
    /// The bench of `session`.
    pub fn new(session: Session) -> Bench {
        Bench { session }
    }

    /// A machine with the firmware in its flash and nothing to boot.
    pub fn machine(&self) -> Machine {
        Machine {
            accelerator: self.session.accelerator,
            firmware: Some(build::flash_image()),
            command_line: COMMAND_LINE.into(),
            ..Machine::default()
        }
    }

    /// Boots `machine` into the userspace that runs `script`, and expects that
    /// to succeed and to power the machine off.
    ///
    /// # Errors
    /// When anything else happens.
    pub fn succeed(
        &self,
        name: &str,
        machine: Machine,
        system: System,
        script: &str,
    ) -> Result<Outcome> {
        let files = Files::create(name)?;
        let machine = with_userspace(machine, system, script, files.directory())?;
        finished(&machine, files)
    }

    /// As [`Bench::succeed`], but does `act` to the machine while it runs.
    ///
    /// # Errors
    /// When anything else happens, or `act` fails.
    pub fn succeed_meanwhile(
        &self,
        name: &str,
        machine: Machine,
        (system, script): (System, &str),
        act: impl FnOnce(&mut Vm) -> Result<()>,
    ) -> Result<Outcome> {
        let files = Files::create(name)?;
        let machine = with_userspace(machine, system, script, files.directory())?;
        let vm = acted(&machine, &files, act)?;
        let line = vm.line().to_owned();
        succeeded(vm.wait(Some(TIME_LIMIT), Echo::Nothing)?, &line, files)
    }

    /// Boots `machine` into the userspace that runs `script`, does `act` to it and
    /// ends it.
    ///
    /// # Errors
    /// When `act` fails.
    pub fn observe(
        &self,
        name: &str,
        machine: Machine,
        (system, script): (System, &str),
        act: impl FnOnce(&mut Vm) -> Result<()>,
    ) -> Result<()> {
        let files = Files::create(name)?;
        let machine = with_userspace(machine, system, script, files.directory())?;
        acted(&machine, &files, act)?.stop()?;
        files.remove()
    }

    /// `machine` with the userspace that runs `script`, which lies in `files`.
    ///
    /// # Errors
    /// When a file cannot be had or written.
    pub fn with(
        &self,
        machine: Machine,
        system: System,
        script: &str,
        files: &Files,
    ) -> Result<Machine> {
        with_userspace(machine, system, script, files.directory())
    }

    /// Starts `machine`, which brings a userspace of its own, and expects its
    /// script to succeed and to power the machine off.
    ///
    /// # Errors
    /// When anything else happens.
    pub fn report(&self, name: &str, machine: &Machine) -> Result<Outcome> {
        finished(machine, Files::create(name)?)
    }

    /// Starts `machine` as it is and expects it to end with `end` and `words` on
    /// the console.
    ///
    /// # Errors
    /// When anything else happens.
    pub fn expect(&self, name: &str, machine: &Machine, end: End, words: &str) -> Result<Outcome> {
        let files = Files::create(name)?;
        let (outcome, line) = run(machine, &files)?;
        if outcome.end != end || !outcome.console.contains(words) {
            let expected = format!("expected `{words}` on the console and the end {end:?}");
            return Err(explain(&expected, &outcome, &line, &files));
        }
        files.remove()?;
        Ok(outcome)
    }

    /// Boots `machine` into the userspace that runs `script` and expects that
    /// the console satisfies `seen` some time.
    ///
    /// # Errors
    /// When it does not within [`TIME_LIMIT`].
    pub fn see(
        &self,
        name: &str,
        machine: Machine,
        system: System,
        script: &str,
        seen: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let files = Files::create(name)?;
        let machine = with_userspace(machine, system, script, files.directory())?;
        watch(&machine, files, seen)
    }

    /// Starts `machine` as it is and expects that the console satisfies `seen`
    /// some time.
    ///
    /// # Errors
    /// When it does not within [`TIME_LIMIT`].
    pub fn watch(&self, name: &str, machine: &Machine, seen: impl Fn(&str) -> bool) -> Result<()> {
        watch(machine, Files::create(name)?, seen)
    }
}

fn watch(machine: &Machine, files: Files, seen: impl Fn(&str) -> bool) -> Result<()> {
    let mut vm = Vm::start(machine, &files, Console::File)?;
    let line = vm.line().to_owned();
    let result = vm.wait_for(TIME_LIMIT, seen);
    let outcome = vm.stop()?;
    result.map_err(|error| explain(&error.to_string(), &outcome, &line, &files))?;
    files.remove()
}

/// A started machine to which `act` has been done.
fn acted(machine: &Machine, files: &Files, act: impl FnOnce(&mut Vm) -> Result<()>) -> Result<Vm> {
    let mut vm = Vm::start(machine, files, Console::File)?;
    match act(&mut vm) {
        Ok(()) => Ok(vm),
        Err(error) => {
            let line = vm.line().to_owned();
            Err(explain(&format!("{error:#}"), &vm.stop()?, &line, files))
        }
    }
}

fn finished(machine: &Machine, files: Files) -> Result<Outcome> {
    let (outcome, line) = run(machine, &files)?;
    succeeded(outcome, &line, files)
}

fn succeeded(outcome: Outcome, line: &str, files: Files) -> Result<Outcome> {
    if (outcome.end, outcome.status) != (End::Exited(0), Some(0)) {
        let expected = "expected the guest's script to succeed and the guest to power off";
        return Err(explain(expected, &outcome, line, &files));
    }
    files.remove()?;
    Ok(outcome)
}

fn run(machine: &Machine, files: &Files) -> Result<(Outcome, String)> {
    let vm = Vm::start(&machine.wrapped(files)?, files, Console::File)?;
    let line = vm.line().to_owned();
    Ok((vm.wait(Some(TIME_LIMIT), Echo::Nothing)?, line))
}

fn with_userspace(
    mut machine: Machine,
    system: System,
    script: &str,
    directory: &Path,
) -> Result<Machine> {
    let kernel = system.release.kernel()?;
    let purpose = Purpose::Command(script.to_owned());
    let mut guest = Guest::new(&kernel, system.modules, &purpose)?;
    if let Some(add) = system.programs {
        add(&mut guest)?;
    }
    match system.root {
        Root::Initrd => {
            let initrd = directory.join("initrd.cpio");
            guest.write_initramfs(&initrd)?;
            machine.initrd = Some(initrd);
        }
        Root::Disk => {
            let disk = directory.join("root.ext4");
            guest.root_disk(&disk, ROOT_DISK_MEBIBYTES)?;
            let drive = format!("file={},format=raw,if=none,id=root", disk.display());
            let nvme = "nvme,drive=root,serial=root";
            machine
                .extra
                .extend(["-drive", &drive, "-device", nvme].map(Into::into));
            machine.command_line += " root=/dev/nvme0n1 rw rootwait init=/init";
        }
    }
    machine.kernel = Some(kernel.image);
    machine.steady_time = true;
    Ok(machine)
}

fn explain(expected: &str, outcome: &Outcome, line: &str, files: &Files) -> anyhow::Error {
    let console: Vec<&str> = outcome.console.lines().collect();
    let tail = console[console.len().saturating_sub(CONSOLE_LINES)..].join("\n");
    anyhow!(
        "{expected}\nended: {:?} after {:.1} s, status of the script: {:?}\n\
         --- printed by the script\n{}\n--- said by QEMU\n{}\n\
         --- end of the console\n{tail}\n--- logs: {}\n--- to try again:\n{line}\n",
        outcome.end,
        outcome.elapsed.as_secs_f32(),
        outcome.status,
        outcome.output.trim_end(),
        outcome.messages.trim_end(),
        workspace::shown(files.directory()),
    )
}
