//! Guests of a real Xen: what `xl` users do with them.
//!
//! A case is one start of Xen with a scenario of many checks; it fails with the
//! list of those that failed. The same cases run guests that xl starts by
//! itself, so that what differs is the firmware.

use anyhow::Result;
use xtask::xen::domain::Boot;
use xtask::xen::hypervisor::Version;

mod figures;
mod forms;
mod hvm;
mod inside;
mod lifecycle;
mod linux;
mod memory;
mod patched;
mod stage;
mod starts;
mod variables;
mod varstored;

pub use variables::APPLICATION_WROTE;

/// How a guest comes to its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `kernel=` is the firmware, `ramdisk=` kernel and initrd in one file.
    Firmware,
    /// `kernel=` is the kernel, which has a PVH entry of its own.
    Direct,
    /// An HVM guest: hvmloader starts the flash image, and the device model has
    /// kernel and initrd.
    Hvm,
}

/// A named start of Xen.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    what: &'static str,
    version: Version,
    form: Form,
    run: fn(&Case) -> Result<()>,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Firmware => "firmware",
            Form::Direct => "direct",
            Form::Hvm => "hvm",
        }
    }

    /// What guest `name` starts; the files are those that a stage makes of them.
    fn boot(self, name: &str, kernel: &str) -> Boot {
        match self {
            Form::Firmware => Boot::Pvh {
                kernel: stage::FIRMWARE.into(),
                ramdisk: Some(format!("{name}.module")),
            },
            Form::Direct => Boot::Pvh {
                kernel: kernel.into(),
                ramdisk: Some(format!("{name}.initrd")),
            },
            Form::Hvm => Boot::Hvm {
                firmware: Some(stage::FLASH.into()),
                kernel: Some(kernel.into()),
                ramdisk: Some(format!("{name}.initrd")),
            },
        }
    }

    /// How long a guest may take to come up, in seconds. The device model of an
    /// HVM guest passes its kernel on byte by byte.
    fn patience(self) -> u32 {
        match self {
            Form::Hvm => 280,
            _ => 170,
        }
    }
}

impl Case {
    /// What the case is called.
    pub fn name(&self) -> String {
        let version = self.version.name();
        format!("xen-{version}-{}-{}", self.form.name(), self.what)
    }

    /// Runs it.
    ///
    /// # Errors
    /// When a check fails, or Xen or dom0 do not come up.
    pub fn run(&self) -> Result<()> {
        (self.run)(self)
    }
}

type Run = fn(&Case) -> Result<()>;

/// What is done with guests in either form.
const COMMON: [(&str, Run); 4] = [
    ("linux", linux::representative),
    ("lifecycle", lifecycle::run),
    ("memory", memory::run),
    ("starts", starts::run),
];

/// What only a firmware can do.
const OWN: [(&str, Run); 4] = [
    ("forms", forms::run),
    ("inside", inside::run),
    ("figures", figures::pvh),
    ("variables", variables::run),
];

/// What is done with HVM guests.
const HVM: [(&str, Run); 3] = [
    ("linux", hvm::representative),
    ("refusals", hvm::refusals),
    ("varstored", varstored::run),
];

/// What takes long with them.
const HVM_LONG: [(&str, Run); 3] = [
    ("linux-matrix", hvm::matrix),
    ("lifecycle", lifecycle::run),
    ("variables", variables::run),
];

/// What takes long.
const LONG: [(&str, Run); 2] = [
    ("linux-matrix", linux::matrix),
    ("figures-ovmf", figures::ovmf),
];

/// All cases, or those of the normal run: the firmware on Debian 12's Xen.
pub fn cases(all: bool) -> Vec<Case> {
    let versions = [Version::V4_17, Version::V4_20];
    let versions = versions
        .into_iter()
        .filter(|v| all || *v == Version::default());
    let mut cases = Vec::new();
    for version in versions {
        let mut add = |form, list: &[(&'static str, Run)]| {
            cases.extend(list.iter().map(|&(what, run)| Case {
                what,
                version,
                form,
                run,
            }));
        };
        add(Form::Firmware, &COMMON);
        add(Form::Firmware, &OWN);
        add(Form::Hvm, &HVM);
        if all {
            add(Form::Firmware, &LONG);
            add(Form::Hvm, &HVM_LONG);
            add(Form::Direct, &COMMON);
        }
    }
    cases
}
