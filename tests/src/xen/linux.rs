//! Linux comes up complete in a PVH guest: kernels, memory sizes, processors.

use anyhow::Result;
use xtask::xen::domain::Domain;

use super::stage::Stage;
use super::{Case, Form};
use crate::bench::Release;

const PVH: &str = include_str!("pvh-checks.sh");
const CHECKS: &str = include_str!("../guest-checks.sh");

/// Memory in MiB that a release's kernel gets by with, initrd included.
const SMALL: u64 = 64;
const LARGE: u64 = 5 * 1024;

/// A guest: kernel, memory in MiB, processors.
type Guest = (Release, u64, u32);

/// One guest for each kernel, each memory size and number of processors.
///
/// # Errors
/// When a guest fails a check.
pub fn representative(case: &Case) -> Result<()> {
    run(
        case,
        &[
            (Release::Bullseye, SMALL, 1),
            (Release::Bookworm, 256, 4),
            (Release::Trixie, LARGE, 1),
            (Release::Sid, 256, 1),
        ],
    )
}

/// All kernels with all memory sizes and numbers of processors.
///
/// # Errors
/// When a guest fails a check.
pub fn matrix(case: &Case) -> Result<()> {
    let mut guests = vec![(Release::Bullseye, SMALL, 1), (Release::Bullseye, SMALL, 4)];
    for release in [Release::Bookworm, Release::Trixie, Release::Sid] {
        for memory in [256, LARGE] {
            guests.extend([1, 4].map(|processors| (release, memory, processors)));
        }
    }
    run(case, &guests)
}

fn run(case: &Case, guests: &[Guest]) -> Result<()> {
    let mut stage = Stage::new(case, LARGE)?;
    for guest in guests {
        add(&mut stage, *guest)?;
    }
    stage.run()?;
    Ok(())
}

fn add(stage: &mut Stage, (release, memory, processors): Guest) -> Result<()> {
    let name = format!("linux-{}-{memory}M-{processors}cpu", release.linux());
    let domain = Domain {
        name: name.clone(),
        memory,
        processors,
        ..Domain::default()
    };
    stage.guest(release, &script(stage.form(), memory, processors), domain)?;
    stage.check(&name, &format!("succeed {name} $patience"));
    // Its files are in dom0's memory.
    stage.step(&format!("rm -f {name}.initrd {name}.module"));
    Ok(())
}

/// What runs in a guest: the checks of Xen's own, and those of the firmware.
fn script(form: Form, memory: u64, processors: u32) -> String {
    let facts = format!(
        "MEMORY_KIB={}\nPROCESSORS={processors}\nTABLES=ACPI\n",
        memory * 1024
    );
    match form {
        Form::Firmware => format!("{facts}{PVH}{CHECKS}"),
        Form::Direct | Form::Hvm => format!("{facts}{PVH}"),
    }
}
