//! HVM guests: the flash image as hvmloader's firmware, and what it refuses.

use std::fs;

use anyhow::Result;
use xtask::build;
use xtask::xen::domain::{Boot, Domain};

use super::Case;
use super::patched;
use super::stage::Stage;
use crate::bench::Release;

const HVM: &str = include_str!("hvm-checks.sh");
const CHECKS: &str = include_str!("../guest-checks.sh");
const FUNCTIONS: &str = include_str!("refused.sh");

const UUID: &str = "8a1f52f0-0dd5-4c6e-9d0e-7f2f7b1c0a11";

/// A guest: kernel, memory in MiB, processors, `vga=`.
type Guest = (Release, u64, u32, &'static str);

/// One guest.
///
/// # Errors
/// When it fails a check.
pub fn representative(case: &Case) -> Result<()> {
    run(case, 512, &[(Release::Bookworm, 512, 1, "none")])
}

/// Kernels, memory sizes, processors and displays, such that any two values
/// meet.
///
/// # Errors
/// When a guest fails a check.
pub fn matrix(case: &Case) -> Result<()> {
    const LARGE: u64 = 5 * 1024;
    let guests = [
        (Release::Bookworm, 512, 4, "stdvga"),
        (Release::Bookworm, LARGE, 1, "none"),
        (Release::Trixie, 512, 1, "stdvga"),
        (Release::Trixie, LARGE, 4, "none"),
        (Release::Trixie, LARGE, 1, "stdvga"),
        (Release::Bookworm, 512, 4, "none"),
    ];
    run(case, LARGE, &guests)
}

fn run(case: &Case, memory: u64, guests: &[Guest]) -> Result<()> {
    let mut stage = Stage::new(case, memory)?;
    for guest in guests {
        add(&mut stage, *guest)?;
    }
    stage.run()?;
    Ok(())
}

fn add(stage: &mut Stage, (release, memory, processors, vga): Guest) -> Result<()> {
    let name = format!("{}-{memory}M-{processors}cpu-{vga}", release.linux());
    let domain = Domain {
        name: name.clone(),
        memory,
        processors,
        extra: vec![format!("uuid = \"{UUID}\""), format!("vga = \"{vga}\"")],
        ..Domain::default()
    };
    let facts = format!(
        "UUID={UUID}\nMEMORY_KIB={}\nPROCESSORS={processors}\nTABLES=\"ACPI SMBIOS\"\n",
        memory * 1024 - video_kib(vga)
    );
    stage.guest(release, &format!("{facts}{HVM}{CHECKS}"), domain)?;
    stage.check(&name, &format!("succeed {name} $patience"));
    stage.step(&format!("rm -f {name}.initrd"));
    Ok(())
}

/// What `xl` takes of the guest's memory for a display (xl.cfg(5), `videoram`).
fn video_kib(vga: &str) -> u64 {
    match vga {
        "stdvga" => 16 * 1024,
        _ => 0,
    }
}

/// 16-bit code that runs in front of the firmware's and damages hvmloader's
/// information: its checksum, or the number of its memory ranges (5) with a
/// checksum that is right again.
const WRONG_CHECKSUM: [u8; 5] = [0xc6, 0x06, 0x0f, 0x10, 0xee];
const NO_MEMORY: [u8; 11] = [0xc6, 0x06, 0x24, 0x10, 0, 0x80, 0x06, 0x0f, 0x10, 5, 0x90];

/// What hvmloader or the device model does not give is missed with one line.
///
/// # Errors
/// When something is not refused, or without a word.
pub fn refusals(case: &Case) -> Result<()> {
    let mut stage = Stage::new(case, 256)?;
    stage.functions(FUNCTIONS);
    let flash = fs::read(build::flash_image())?;
    stage.bytes("checksum.fd", patched::after(&WRONG_CHECKSUM, &flash)?);
    stage.bytes("memory.fd", patched::after(&NO_MEMORY, &flash)?);
    let refusals = [
        ("no-kernel", super::stage::FLASH, "expected a kernel"),
        ("checksum", "checksum.fd", "expected bytes with the sum 0"),
        ("no-ram", "memory.fd", "expected RAM in the memory map"),
    ];
    for (name, firmware, words) in refusals {
        stage.domain(&Domain {
            name: name.into(),
            boot: Boot::Hvm {
                firmware: Some(firmware.into()),
                kernel: None,
                ramdisk: None,
            },
            command_line: String::new(),
            memory: 128,
            ..Domain::default()
        });
        stage.check(
            &format!("refused-{name}"),
            &format!("refused {name} '{words}'"),
        );
    }
    stage.run()?;
    Ok(())
}
