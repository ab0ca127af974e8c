//! One guest's life as `xl` has it: devices, console, save and restore, reboot,
//! shutdown.

use anyhow::Result;
use xtask::xen::domain::Domain;

use super::stage::Stage;
use super::{Case, Form};
use crate::bench::Release;

const FUNCTIONS: &str = include_str!("lifecycle.sh");
const GUEST: &str = include_str!("lifecycle-guest.sh");

/// Enough for the kernel, little to save.
const MEMORY: u64 = 192;

/// The checks, each a function of `lifecycle.sh` with dashes for underscores.
const CHECKS: [&str; 9] = [
    "comes-up",
    "disk-holds-what-the-guest-wrote",
    "network-answers",
    "console-works-both-ways",
    "is-saved",
    "is-restored",
    "reboots",
    "shuts-down",
    "resets-itself",
];

/// Runs it.
///
/// # Errors
/// When a check fails.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, MEMORY * 2)?;
    stage.functions(FUNCTIONS);
    let efi = case.form != Form::Direct;
    let script = format!("EFI={efi}\n{GUEST}");
    stage.guest(Release::Bookworm, &script, with_devices(case.form))?;
    let mut resetting = Domain {
        name: "resetting".into(),
        memory: MEMORY,
        ..Domain::default()
    };
    if efi {
        resetting.command_line += " reboot=efi";
    }
    stage.guest(Release::Bookworm, "reboot -f\nsleep 60\n", resetting)?;
    for check in CHECKS {
        stage.check(check, &check.replace('-', "_"));
    }
    stage.run()?;
    Ok(())
}

fn with_devices(form: Form) -> Domain {
    let kind = match form {
        Form::Hvm => ", type=vif",
        _ => "",
    };
    let disk = "format=raw, vdev=xvda, access=rw, backendtype=phy, target=/dev/loop0";
    Domain {
        memory: MEMORY,
        extra: vec![
            format!("disk = [ \"{disk}\" ]"),
            // Nothing emulated beside it.
            format!("vif = [ \"mac=00:16:3e:00:00:01, ip=10.0.9.2{kind}\" ]"),
        ],
        ..Domain::default()
    }
}
