//! What only shows from inside the firmware or from outside of xl: the guest
//! application, the time it is told, options in xenstore, and a start structure
//! without a memory map.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use xtask::build;
use xtask::xen::domain::{Boot, Domain};

use super::Case;
use super::patched;
use super::stage::{FIRMWARE, Stage};
use crate::bench::Release;

const FUNCTIONS: &str = include_str!("inside.sh");

/// What the application needs to know of a PVH domain.
const APPLICATION_WORDS: &str = "boot-time no-smbios";
/// How far the time that a guest is told may be from ours, in seconds: it was
/// told when it ran, not when we look.
const OLDEST: u64 = 600;

/// Runs it.
///
/// # Errors
/// When a check fails, or the guest was told a wrong time.
pub fn run(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, 256)?;
    stage.functions(FUNCTIONS);
    stage.bytes("application.efi", fs::read(build::guest_image())?);
    for (name, words, check) in [
        ("application", APPLICATION_WORDS, "passes application"),
        ("cold", "reset=cold", "resets cold"),
        ("late", "reset=warm late", "resets late"),
        ("off", "reset=shutdown late", "ends off"),
    ] {
        stage.domain(&application(name, words));
        stage.check(name, check);
    }
    stage.guest(
        Release::Bookworm,
        "grep from-xenstore /proc/cmdline",
        guest("options"),
    )?;
    stage.check("options", "obeys_options options");
    let elf = patched::without_memory_map(&fs::read(build::elf())?)?;
    stage.bytes("version-0.elf", elf);
    stage.step("ln options.module version-0.module");
    stage.domain(&Domain {
        boot: Boot::Pvh {
            kernel: "version-0.elf".into(),
            ramdisk: Some("version-0.module".into()),
        },
        command_line: "console=hvc0 panic=-1 from-xenstore".into(),
        ..guest("version-0")
    });
    stage.check("no-memory-map", "succeed version-0 $patience");
    let report = stage.run()?;
    let told = time_in(report.console("application"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    ensure!(
        (now - OLDEST..=now).contains(&told),
        "the guest was told {told} s since 1970, and now is {now}"
    );
    Ok(())
}

fn guest(name: &str) -> Domain {
    Domain {
        name: name.into(),
        memory: 256,
        ..Domain::default()
    }
}

fn application(name: &str, words: &str) -> Domain {
    Domain {
        boot: Boot::Pvh {
            kernel: FIRMWARE.into(),
            ramdisk: Some("application.efi".into()),
        },
        command_line: words.into(),
        extra: vec!["on_reboot = \"preserve\"".into()],
        ..guest(name)
    }
}

/// The last time that the application says it was told, in seconds since 1970.
fn time_in(console: &str) -> Result<u64> {
    let mut lines = console.lines().rev();
    let time = lines.find_map(|line| line.trim().strip_prefix("guest: time "));
    let time = time.context("the application said no time")?;
    let numbers = time.split(['-', 'T', ':']).map(str::parse);
    let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
    let [year, month, day, hour, minute, second] = numbers[..] else {
        anyhow::bail!("`{time}` is no time");
    };
    // Days of the Gregorian calendar since 1970, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 719_469;
    Ok(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        let time = |text: &str| time_in(&format!("ok\r\nguest: time {text}\r\nok\r\n")).unwrap();
        assert_eq!(time("1970-01-01T00:00:00"), 0);
        assert_eq!(time("2000-02-29T23:59:59"), 951_868_799);
        assert_eq!(time("2025-11-25T19:34:56"), 1_764_099_296);
    }
}
