//! KVM or TCG: which one runs guests on this host, and why.
//!
//! That `/dev/kvm` opens proves nothing: nested and filtered KVMs exist that
//! accept a guest and never let it get anywhere. So one guest is started, and
//! the verdict is kept until the host is booted again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::debian::Suite;
use crate::kernel::Kernel;
use crate::qemu::{Console, Files, Machine};
use crate::vm::Vm;
use crate::workspace;

/// Long enough for any host with a working KVM, which takes about a second.
const PROBE: Duration = Duration::from_secs(8);

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through Linux.
    Kvm,
    /// QEMU's translator: slow, and always there.
    Tcg,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Wish {
    /// KVM where it works, else TCG
    #[default]
    Auto,
    /// KVM, untried
    Kvm,
    /// TCG
    Tcg,
}

impl Accelerator {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    /// The processor model with everything the accelerator has to offer.
    pub fn best_cpu(self) -> &'static str {
        match self {
            Accelerator::Kvm => "host",
            Accelerator::Tcg => "max",
        }
    }
}

/// Chooses an accelerator and says on one line which one, and why.
pub fn choose(wish: Wish) -> Accelerator {
    let (chosen, why) = match wish {
        Wish::Kvm => (Accelerator::Kvm, "as asked".to_owned()),
        Wish::Tcg => (Accelerator::Tcg, "as asked".to_owned()),
        Wish::Auto => best(),
    };
    eprintln!("xtask: running on {}: {why}", chosen.name().to_uppercase());
    chosen
}

fn best() -> (Accelerator, String) {
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return (Accelerator::Tcg, format!("/dev/kvm: {error}"));
    }
    match known_verdict().map_or_else(try_and_remember, Ok) {
        Ok(true) => (Accelerator::Kvm, "a guest started on KVM".to_owned()),
        Ok(false) => {
            let limit = PROBE.as_secs();
            (
                Accelerator::Tcg,
                format!("/dev/kvm is there, but no guest started on it in {limit} s"),
            )
        }
        Err(error) => (
            Accelerator::Tcg,
            format!("KVM could not be tried: {error:#}"),
        ),
    }
}

fn verdict_file() -> PathBuf {
    workspace::target().join("kvm-verdict")
}

fn known_verdict() -> Option<bool> {
    let known = fs::read_to_string(verdict_file()).ok()?;
    let (boot, verdict) = known.trim().split_once(' ')?;
    (boot == host_boot()).then(|| verdict.parse().ok())?
}

fn try_and_remember() -> Result<bool> {
    let works = kernel_starts()?;
    fs::write(verdict_file(), format!("{} {works}\n", host_boot()))?;
    Ok(works)
}

fn host_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Whether Linux gets as far as its first line, through QEMU's own firmware: the
/// verdict is about KVM, not about us.
fn kernel_starts() -> Result<bool> {
    let machine = Machine {
        accelerator: Accelerator::Kvm,
        kernel: Some(Kernel::fetch(Suite::Bookworm, "linux-image-cloud-amd64")?.image),
        command_line: "console=ttyS0 earlyprintk=ttyS0".into(),
        ..Machine::default()
    };
    let files = Files::create("kvm-probe")?;
    let mut vm = Vm::start(&machine, &files, Console::File)?;
    let works = vm
        .wait_for(PROBE, |console| console.contains("Linux version"))
        .is_ok();
    vm.stop()?;
    files.remove()?;
    Ok(works)
}
