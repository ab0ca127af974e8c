//! HVM guests whose variables are kept in dom0 by varstored: by a stand-in for it
//! (`tests/varstored`), because only XenServer and XCP-ng have it.

use std::fs;

use anyhow::Result;
use xtask::build;
use xtask::xen::domain::{Boot, Domain};

use super::Case;
use super::stage::{FLASH, Stage};
use crate::bench::Release;

const FUNCTIONS: &str = include_str!("varstored.sh");
const CHECKS: &str = include_str!("../guest-checks.sh");
/// What Linux does with variables, before the checks that every guest makes.
const LINUX: &str = include_str!("varstored-guest.sh");

const MEMORY: u64 = 192;

/// How the stand-in answers wrongly, and what is broken for the application then.
const HOSTILE: [(&str, &str); 5] = [
    ("longer", "reads"),
    ("endless", "reads"),
    ("smaller", "reads"),
    ("status", "all"),
    ("silence", "all"),
];

/// Runs it.
///
/// # Errors
/// When a check fails.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, MEMORY)?;
    stage.functions(FUNCTIONS);
    stage.bytes("application.efi", fs::read(build::guest_image())?);
    stage.bytes("varstored", fs::read(build::varstored_program())?);
    stage.step("chmod +x varstored");
    for (name, words) in [
        ("without", "application"),
        ("application", "application hosted varstored"),
        ("mute", "application"),
    ] {
        stage.domain(&application(name, words));
    }
    let facts = format!(
        "MEMORY_KIB={}\nPROCESSORS=1\nTABLES=\"ACPI SMBIOS\"\n",
        MEMORY * 1024
    );
    let script = format!("{facts}{LINUX}{CHECKS}");
    stage.guest(Release::Bookworm, &script, guest("linux"))?;
    for (name, command) in [
        ("memory-without-varstored", "without"),
        ("varstored-keeps-variables", "application"),
        ("linux-finds-and-changes-them", "linux"),
        ("memory-with-mute-varstored", "mute"),
    ] {
        stage.check(name, command);
    }
    for (mode, broken) in HOSTILE {
        stage.domain(&application(mode, &format!("broken={broken}")));
        stage.check(&format!("wrong-answers-{mode}"), &format!("hostile {mode}"));
    }
    stage.run()?;
    Ok(())
}

fn guest(name: &str) -> Domain {
    Domain {
        name: name.into(),
        memory: MEMORY,
        ..Domain::default()
    }
}

fn application(name: &str, words: &str) -> Domain {
    Domain {
        boot: Boot::Hvm {
            firmware: Some(FLASH.into()),
            kernel: Some("application.efi".into()),
            ramdisk: None,
        },
        command_line: words.into(),
        ..guest(name)
    }
}
