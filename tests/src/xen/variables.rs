//! Variables on a disk of the domain: written and read by the guest application,
//! seen by Linux, which can use that disk and any other, and by Debian's OVMF; kept
//! when the domain is destroyed while it writes.

use std::fs;

use anyhow::{Context, Result, ensure};
use xtask::build;
use xtask::test::Session;
use xtask::xen::domain::{Boot, Domain};
use xtask::xen::report::{Report, guest_output};

use super::stage::{FIRMWARE, FLASH, Stage};
use super::{Case, Form};
use crate::bench::{Bench, Release};
use crate::variables::{read_by_ovmf, template_bytes};

const FUNCTIONS: &str = include_str!("variables.sh");
const GUEST: &str = include_str!("variables-guest.sh");

/// What Linux sees of what the guest application has written: to be put behind
/// the prelude of [`crate::variables`], or that of `variables-guest.sh`.
pub const APPLICATION_WROTE: &str = r#"
vendor=1d3b7c52-8e0f-4a96-b127-65fa309ce84b
expect Kept-$vendor 070000006f6e6574776f
expect New-$vendor 070000006e6577
[ "$(stat -c %s Large-$vendor)" = 40004 ] || { echo "FAILED: no Large"; exit 1; }
if ls | grep -E "(Gone|Hidden)-$vendor"; then echo "FAILED: it is visible"; exit 1; fi
"#;

const MEMORY: u64 = 256;
/// How often the domain is destroyed.
const ROUNDS: u32 = 4;

/// Runs it.
///
/// # Errors
/// When a check fails, or OVMF does not find the variables.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, MEMORY * 2)?;
    stage.functions(FUNCTIONS);
    stage.bytes("application.efi", fs::read(build::guest_image())?);
    stage.bytes("vars.fd", template_bytes("OVMF_VARS_4M.fd")?);
    // In dom0's kernel, by way of a loop device, or in QEMU.
    let on = |back_end, name| {
        let words = "format=raw, vdev=xvdz, access=rw, backendtype";
        format!("{words}={back_end}, target=/bed/in/{name}")
    };
    let file = |name| on("phy", name);
    let qdisk = |name| on("qdisk", name);
    let device = "format=raw, vdev=xvde, access=rw, backendtype=phy, target=/dev/loop0";
    for (name, words) in [("writer", "store=write"), ("reader", "store=check")] {
        stage.domain(&application(case, name, words, &[&file("vars.fd")]));
    }
    stage.check("written", "passes writer");
    stage.check("read", "passes_late reader");
    let script = format!("{GUEST}{APPLICATION_WROTE}");
    let disks = [device.to_owned(), file("vars.fd")];
    stage.guest(Release::Bookworm, &script, with_disks("linux", &disks))?;
    stage.guest(
        Release::Bookworm,
        "awk '/MemTotal/ { print $2 }' /proc/meminfo",
        with_disks("plain", &[]),
    )?;
    stage.check("linux-uses-all-disks", "uses_disks linux");
    stage.check("without-disks", "succeed plain $patience");
    stage.step("mkdir -p $out/left; cp vars.fd $out/left/");
    for (name, words) in [("formats", "store=write"), ("formatted", "store=check")] {
        stage.domain(&application(
            case,
            name,
            words,
            &[device, &qdisk("blank.fd")],
        ));
    }
    stage.check("a-blank-one-is-formatted", "formats");
    stage.domain(&application(
        case,
        "loop",
        "store=loop",
        &[&qdisk("loop.fd")],
    ));
    stage.check("destroyed-while-it-writes", &format!("destroyed {ROUNDS}"));
    let report = stage.run()?;
    costs_no_memory(&report)?;
    let session = Session::current().context("the session has ended")?;
    let store = report.left.get("vars.fd").context("no vars.fd is left")?;
    read_by_ovmf(&Bench::new(session), &case.name(), store)
}

/// A guest has as much memory with disks as without.
fn costs_no_memory(report: &Report) -> Result<()> {
    let memory = |name: &str| -> Result<u64> {
        let output = guest_output(report.console(name));
        let last = output.lines().last().unwrap_or_default();
        last.trim()
            .parse()
            .with_context(|| format!("{name}: {output}"))
    };
    let (with, without) = (memory("linux")?, memory("plain")?);
    ensure!(
        with.abs_diff(without) <= 8,
        "MemTotal is {with} KiB with disks and {without} KiB without"
    );
    Ok(())
}

fn with_disks(name: &str, disks: &[String]) -> Domain {
    let disks: Vec<_> = disks.iter().map(|disk| format!("\"{disk}\"")).collect();
    let extra = vec![format!("disk = [ {} ]", disks.join(", "))];
    Domain {
        name: name.into(),
        memory: MEMORY,
        extra,
        ..Domain::default()
    }
}

fn application(case: &Case, name: &str, words: &str, disks: &[&str]) -> Domain {
    let disks: Vec<_> = disks.iter().map(|disk| (*disk).to_owned()).collect();
    let file = Some("application.efi".into());
    Domain {
        boot: match case.form {
            Form::Hvm => Boot::Hvm {
                firmware: Some(FLASH.into()),
                kernel: file,
                ramdisk: None,
            },
            _ => Boot::Pvh {
                kernel: FIRMWARE.into(),
                ramdisk: file,
            },
        },
        command_line: words.into(),
        ..with_disks(name, &disks)
    }
}
