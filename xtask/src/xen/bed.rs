//! Xen and dom0 in QEMU, started for one scenario.
//!
//! Bounded by a time limit, and nothing is left behind but, after a failure, the
//! directory with what happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::dom0;
use super::hypervisor::{self, Version};
use super::report::Report;
use super::scenario::Scenario;
use crate::accel::Accelerator;
use crate::debian::Suite;
use crate::kernel::Kernel;
use crate::qemu::{Console, Files, Machine};
use crate::vm::{Outcome, Vm};

/// Memory of dom0 in MiB: its files are in it, the scenario's too.
const DOM0: u64 = 768;
/// What Xen itself takes, in MiB.
const XEN: u64 = 192;

/// Everything TCG can do but what does not go with Xen. SMAP: an IRET of a PV
/// kernel, in ring 3, is taken for the kernel's. RDTSCP: Xen refuses the exit
/// that TCG makes of it. XSAVE and what depends on it: dom0's processes lose
/// their registers once a guest runs.
const CPU: &str = "max,-smap,-rdtscp,-xsave,-xsaveopt,-avx,-avx2,-f16c,-fma,-mpx,-pku";

/// A Xen host to be started.
#[derive(Clone, Copy, Debug)]
pub struct Bed {
    /// Which Xen.
    pub version: Version,
    /// Memory for guests, in MiB.
    pub memory: u64,
    /// How long everything may take.
    pub limit: Duration,
    /// Whether dom0 offers a shell on the terminal when the scenario has ended.
    pub keep: bool,
}

impl Default for Bed {
    fn default() -> Bed {
        Bed {
            version: Version::default(),
            memory: 1024,
            limit: Duration::from_secs(300),
            keep: false,
        }
    }
}

/// A bed while it runs.
#[derive(Debug)]
pub struct Running {
    vm: Vm,
    out: PathBuf,
    limit: Option<Duration>,
}

impl Bed {
    /// Starts Xen, which runs `scenario`; `files` are used and left behind.
    ///
    /// # Errors
    /// When something cannot be fetched, written or started.
    pub fn start(&self, scenario: &Scenario, files: &Files) -> Result<Running> {
        let share = files.directory().join("share");
        let (input, out) = (share.join("in"), share.join("out"));
        for directory in [&input, &out] {
            fs::create_dir_all(directory)?;
        }
        scenario.write_to(&input)?;
        let machine = self.machine(files, &share)?;
        let console = if self.keep {
            Console::Terminal
        } else {
            Console::File
        };
        Ok(Running {
            vm: Vm::start(&machine, files, console)?,
            out,
            limit: (!self.keep).then_some(self.limit),
        })
    }

    /// Runs `scenario` to its end.
    ///
    /// # Errors
    /// When it cannot be started or its results not be read; not when it fails.
    pub fn run(&self, scenario: &Scenario, files: &Files) -> Result<Report> {
        self.start(scenario, files)?.wait(|| Ok(()))
    }

    fn machine(&self, files: &Files, share: &Path) -> Result<Machine> {
        let kernel = Kernel::fetch(Suite::Bookworm, "linux-image-amd64")?;
        let initrd = files.directory().join("dom0.cpio");
        fs::write(&initrd, dom0::initramfs(self.version, &kernel)?)?;
        let modules = [
            (hypervisor::dom0_kernel(&kernel.image)?, self.dom0_words()),
            (initrd, ""),
        ];
        Ok(Machine {
            model: "pc".into(),
            cpu: Some(CPU.into()),
            memory: format!("{}M", XEN + DOM0 + self.memory),
            accelerator: Accelerator::Tcg,
            kernel: Some(hypervisor::hypervisor(self.version)?),
            initrd: Some(multiboot_modules(&modules)?.into()),
            command_line: xen_words(),
            extra: shared(share).map(Into::into).into(),
            ..Machine::default()
        })
    }

    fn dom0_words(&self) -> &'static str {
        if self.keep {
            "console=hvc0 quiet loglevel=3 audit=0 nomodeset keep"
        } else {
            "console=hvc0 quiet loglevel=3 audit=0 nomodeset"
        }
    }
}

impl Running {
    /// Where guest `name` prints.
    pub fn guest_console(&self, name: &str) -> PathBuf {
        self.out.join("console").join(format!("guest-{name}.log"))
    }

    /// QEMU's command line.
    pub fn line(&self) -> &str {
        self.vm.line()
    }

    /// Waits for the end, at most as long as the bed says, and calls `meanwhile`
    /// time and again.
    ///
    /// # Errors
    /// When `meanwhile` fails, or what was left behind cannot be read.
    pub fn wait(self, meanwhile: impl FnMut() -> Result<()>) -> Result<Report> {
        let outcome: Outcome = self.vm.wait_and(self.limit, meanwhile)?;
        Report::read(&self.out, outcome)
    }
}

/// Guests may print on port 0xE9, at the debug level of guests; lines carry
/// Xen's time. TSC: guests read it themselves. Nothing hides in this machine, so
/// nothing is mitigated or scrubbed.
fn xen_words() -> String {
    format!(
        "console=com1 com1=115200,8n1 dom0_mem={DOM0}M,max:{DOM0}M dom0_max_vcpus=1 \
         loglvl=warning guest_loglvl=all console_timestamps=boot \
         tsc=stable:socket spec-ctrl=no xpti=off bootscrub=0"
    )
}

fn shared(directory: &Path) -> [String; 2] {
    let path = directory.to_string_lossy().replace(',', ",,");
    let options = "mount_tag=host,security_model=none";
    ["-virtfs".into(), format!("local,path={path},{options}")]
}

/// QEMU's `-initrd` for multiboot: files with their words, separated by commas,
/// doubled where they are meant (QEMU, hw/i386/multiboot.c).
fn multiboot_modules(modules: &[(PathBuf, &str)]) -> Result<String> {
    let mut list = Vec::new();
    for (file, words) in modules {
        let file = file.to_string_lossy();
        ensure!(
            !file.contains(' '),
            "{file}: QEMU takes no space in the path of a multiboot module: \
             set CARGO_TARGET_DIR to a directory without"
        );
        list.push(format!("{file} {words}").trim_end().replace(',', ",,"));
    }
    Ok(list.join(","))
}
