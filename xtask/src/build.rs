//! Builds the firmware and everything that goes into it, and measures it.
//!
//! Refuses a runtime image that could not live on after ExitBootServices: one
//! that needs relocation or imports, has a section that is both writable and
//! executable or shares its pages, or is larger than promised.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ovmf_lite_loader::pe::Image;

use crate::{flash, host, process, workspace};

const PAGE: u32 = 4096;
/// Largest runtime region: what the guest never gets back.
pub const RUNTIME_LIMIT: usize = 128 * 1024;
/// Most bytes of the flash that may be neither zero nor erased.
const OCCUPIED_LIMIT: usize = 128 * 1024;

/// The firmware in its two wrappings.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// For Xen PVH guests, QEMU's `-kernel` and other PVH loaders.
    pub elf: PathBuf,
    /// For QEMU's `-bios` and pflash.
    pub flash: PathBuf,
}

/// Builds the firmware: `ovmf-lite.elf` and `ovmf-lite.fd` in the target directory.
///
/// # Errors
/// When something does not compile or breaks a promise of size or shape.
pub fn firmware() -> Result<Firmware> {
    host::require_rust_targets()?;
    let runtime = runtime_image()?;
    let elf = elf();
    fs::copy(compile_firmware(&runtime)?, &elf).context("cannot copy the firmware's ELF file")?;
    let flash = flash_image();
    write_flash(&elf, &flash).with_context(|| format!("no flash image of {}", elf.display()))?;
    Ok(Firmware { elf, flash })
}

/// Where [`firmware`] puts the ELF file.
pub fn elf() -> PathBuf {
    workspace::target().join("ovmf-lite.elf")
}

/// Where [`firmware`] puts the flash image.
pub fn flash_image() -> PathBuf {
    workspace::target().join("ovmf-lite.fd")
}

/// Builds the guest test application and the probe, EFI applications.
///
/// # Errors
/// When it does not compile.
pub fn guest_application() -> Result<()> {
    host::require_rust_targets()?;
    compile("ovmf-lite-guest", "x86_64-unknown-uefi", "release", |_| {})
}

/// Where [`guest_application`] puts the probe, which measures instead of testing.
pub fn probe_image() -> PathBuf {
    workspace::target().join("x86_64-unknown-uefi/release/ovmf-lite-probe.efi")
}

/// Where [`guest_application`] puts the application.
pub fn guest_image() -> PathBuf {
    workspace::target().join("x86_64-unknown-uefi/release/ovmf-lite-guest.efi")
}

/// What runs in dom0.
const DOM0_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the stand-in for varstored, which runs in dom0 of a Xen: linked
/// statically, because dom0's libraries may be older than this host's.
///
/// # Errors
/// When it does not compile.
pub fn varstored() -> Result<()> {
    compile("ovmf-lite-varstored", DOM0_TARGET, "release", |cargo| {
        cargo.env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static",
        );
    })
}

/// Where [`varstored`] puts it.
pub fn varstored_program() -> PathBuf {
    let directory = workspace::target().join(DOM0_TARGET);
    directory.join("release/ovmf-lite-varstored")
}

/// Builds the runtime image and checks its promises.
///
/// # Errors
/// When it does not compile or breaks one.
pub fn runtime_image() -> Result<PathBuf> {
    compile(
        "ovmf-lite-runtime",
        "x86_64-unknown-uefi",
        "runtime",
        |_| {},
    )?;
    let path = workspace::target().join("x86_64-unknown-uefi/runtime/ovmf-lite-runtime.efi");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let size = check_runtime_image(&bytes)
        .with_context(|| format!("the runtime image {} is unfit", workspace::shown(&path)))?;
    eprintln!(
        "xtask: runtime region {} KiB of at most {}",
        size / 1024,
        RUNTIME_LIMIT / 1024
    );
    Ok(path)
}

fn compile_firmware(runtime: &Path) -> Result<PathBuf> {
    // Panics name their place: without the path of this machine's crates, so that
    // everybody builds the same bytes.
    let crates = cargo_home().join("registry/src/");
    let remap = format!("--remap-path-prefix={}=", crates.display());
    let flags = format!("target.x86_64-unknown-none.rustflags=[{remap:?}]");
    compile("ovmf-lite", "x86_64-unknown-none", "release", |cargo| {
        cargo.args(["--config", &flags]);
        cargo.env("OVMF_LITE_RUNTIME_IMAGE", runtime);
    })?;
    Ok(workspace::target().join("x86_64-unknown-none/release/ovmf-lite"))
}

/// Where cargo has the sources of crates.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

fn compile(
    package: &str,
    target: &str,
    profile: &str,
    adjust: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["build", "--package", package]);
    // On a terminal cargo shows its progress; in a log there is none to show.
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo.args(["--target", target, "--profile", profile]);
    adjust(&mut cargo);
    process::run(&mut cargo)
}

fn write_flash(elf: &Path, path: &Path) -> Result<()> {
    let flash = flash::from_elf(&fs::read(elf)?)?;
    let occupied = flash::occupied(&flash);
    eprintln!(
        "xtask: flash image {} KiB, {occupied} bytes of it neither 00 nor FF, of at most {OCCUPIED_LIMIT}",
        flash.len() / 1024
    );
    ensure!(
        occupied < OCCUPIED_LIMIT,
        "the firmware outgrew its promise to stay small"
    );
    fs::write(path, &flash)?;
    Ok(())
}

/// Checks the promises of the runtime image and returns its size in bytes.
///
/// # Errors
/// With the promise that is broken.
pub fn check_runtime_image(bytes: &[u8]) -> Result<usize> {
    let image = Image::parse(bytes)?;
    let size = image.size();
    if image.has_relocations() {
        bail!("it has base relocations: something in it holds an address");
    }
    if image.imports() {
        bail!("it imports symbols: nothing will be there to provide them");
    }
    if size > RUNTIME_LIMIT {
        bail!("it takes {size} bytes of the guest's memory, the limit is {RUNTIME_LIMIT}");
    }
    for section in image.sections() {
        let name = section.name;
        if section.writable() && section.executable() {
            bail!("its section {name} is writable and executable");
        }
        if section.writable() && !section.raw.is_empty() {
            bail!(
                "its section {name} has {} bytes in the file, expected none: one of its statics is not all zero",
                section.raw.len()
            );
        }
        if !section.rva.is_multiple_of(PAGE) {
            bail!(
                "its section {name} starts at {:#x}, not at a page",
                section.rva
            );
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: u32 = 0x6000_0020;
    const WRITABLE_CODE: u32 = 0xe000_0020;
    const WRITABLE_DATA: u32 = 0xc000_0040;

    /// A PE32+ image of `size` bytes with one section at `rva`; the second data
    /// directory, the imports, is at `imports`. Offsets are those of the
    /// Microsoft PE Format, "Optional Header" and "Section Table".
    fn image(size: u32, rva: u32, characteristics: u32, imports: u32) -> Vec<u8> {
        let mut file = vec![0; 0x400];
        let mut put = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
        put(0, b"MZ");
        put(0x3c, &[0x40]);
        put(0x40, b"PE\0\0\x64\x86\x01\0");
        put(0x54, &[240, 0, 2, 0]);
        let optional_header = [
            (0, 0x20b),
            (16, rva),
            (32, 0x200),
            (36, 0x200),
            (56, size),
            (60, 0x200),
            (68, 10),
            (108, 16),
            (120, imports),
            (124, if imports == 0 { 0 } else { 0x10 }),
        ];
        for (at, value) in optional_header {
            put(0x58 + at, &value.to_le_bytes());
        }
        put(0x148, b".text\0\0\0");
        for (at, value) in [
            (8, 0x200),
            (12, rva),
            (16, 0x200),
            (20, 0x200),
            (36, characteristics),
        ] {
            put(0x148 + at, &value.to_le_bytes());
        }
        file
    }

    fn refusal(bytes: &[u8]) -> String {
        check_runtime_image(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_closed_image_is_taken() {
        let largest = u32::try_from(RUNTIME_LIMIT).unwrap();
        assert_eq!(
            check_runtime_image(&image(largest, 0x1000, CODE, 0)).unwrap(),
            RUNTIME_LIMIT
        );
    }

    #[test]
    fn broken_promises_are_named() {
        let writable = refusal(&image(0x2000, 0x1000, WRITABLE_CODE, 0));
        assert!(writable.contains("writable and executable"), "{writable}");
        let initialised = refusal(&image(0x2000, 0x1000, WRITABLE_DATA, 0));
        assert!(
            initialised.contains("512 bytes in the file"),
            "{initialised}"
        );
        let unaligned = refusal(&image(0x2000, 0x1200, CODE, 0));
        assert!(unaligned.contains("not at a page"), "{unaligned}");
        let open = refusal(&image(0x2000, 0x1000, CODE, 0x1000));
        assert!(open.contains("imports"), "{open}");
        let large = refusal(&image(0x21000, 0x1000, CODE, 0));
        assert!(large.contains("the limit is 131072"), "{large}");
    }
}
