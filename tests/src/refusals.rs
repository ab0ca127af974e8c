//! What is no kernel is refused with one clear line, within seconds.
//!
//! The files are shaped so that QEMU passes them on: without an initrd it takes
//! anything that is longer than the setup header claims (QEMU, hw/i386/x86.c).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::process;
use xtask::qemu::{Files, Machine};
use xtask::vm::End;

use crate::bench::{Bench, Release};
use crate::pe_file::{self, put};

/// How long a refusal may take, on a busy machine.
const SECONDS: Duration = Duration::from_secs(20);

/// A file that is no kernel for us.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// What the case is called.
    pub name: &'static str,
    content: fn() -> Result<Vec<u8>>,
    /// What the error line says.
    words: &'static str,
}

/// All of them.
pub const REFUSALS: [Refusal; 4] = [
    Refusal {
        name: "refused-text",
        content: text,
        words: "kernel: not a PE image",
    },
    Refusal {
        name: "refused-truncated-kernel",
        content: truncated_kernel,
        words: "kernel: truncated: section",
    },
    Refusal {
        name: "refused-arm64-kernel",
        content: arm64_kernel,
        words: "machine 0xaa64",
    },
    Refusal {
        name: "refused-section-outside-file",
        content: section_outside_file,
        words: "kernel: truncated: section",
    },
];

impl Refusal {
    /// Boots the file and expects the refusal.
    ///
    /// # Errors
    /// When it is taken, or refused without a word or a failure.
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let files = Files::create(&format!("{}-files", self.name))?;
        let kernel = files.directory().join("kernel");
        fs::write(&kernel, (self.content)()?)?;
        refuse(bench, self.name, Some(kernel), self.words)?;
        files.remove()
    }
}

/// A machine with nothing to boot ends with a word, too.
///
/// # Errors
/// When it does not.
pub fn nothing_to_boot(bench: &Bench) -> Result<()> {
    refuse(bench, "refused-nothing", None, "expected a kernel")
}

/// A guest with too little memory for its kernel ends with a word.
///
/// # Errors
/// When it does not.
pub fn too_little_memory(bench: &Bench, mebibytes: u32) -> Result<()> {
    let machine = Machine {
        memory: format!("{mebibytes}M"),
        kernel: Some(Release::Bookworm.kernel()?.image),
        ..bench.machine()
    };
    let name = format!("refused-{mebibytes}M");
    expect_refusal(bench, &name, &machine, "give the guest more")
}

/// A kernel that is larger than all memory ends with a word.
///
/// # Errors
/// When it does not.
pub fn kernel_larger_than_memory(bench: &Bench) -> Result<()> {
    let name = "refused-large-kernel";
    let files = Files::create(&format!("{name}-files"))?;
    let image = files.directory().join("kernel");
    let mut bytes = kernel()?;
    bytes.resize(64 << 20, 0);
    fs::write(&image, bytes)?;
    let machine = Machine {
        memory: "48M".into(),
        kernel: Some(image),
        ..bench.machine()
    };
    let words = "67108864 bytes do not fit into the guest's free memory: give the guest more";
    expect_refusal(bench, name, &machine, words)?;
    files.remove()
}

/// A device that was added later answers at an I/O port instead of the one that
/// belongs there: 0xE9 to reads of one byte, 0 to longer ones.
fn covering(bench: &Bench, port: u16) -> Machine {
    let device = format!("isa-debugcon,iobase={port:#x},chardev=cover");
    let arguments = ["-chardev", "null,id=cover", "-device", &device];
    Machine {
        extra: arguments.map(Into::into).into(),
        ..bench.machine()
    }
}

/// A machine whose host bridge nobody knows is refused by the bridge's ID.
///
/// # Errors
/// When it is not.
pub fn unknown_machine(bench: &Bench) -> Result<()> {
    let words = "found 0000:0000: use -machine pc, q35 or microvm";
    expect_refusal(bench, "refused-machine", &covering(bench, 0xcfc), words)
}

/// A machine without fw_cfg is refused with one line. The firmware then cannot
/// know how to tell the host, so it stays as it is until somebody ends it.
///
/// # Errors
/// When it goes on, or says anything else.
pub fn no_fw_cfg(bench: &Bench) -> Result<()> {
    let words = "error: expected QEMU's fw_cfg device at port 0x510, found none";
    bench.watch("refused-no-fw-cfg", &covering(bench, 0x511), |console| {
        console.contains(words) && console.ends_with('\n')
    })
}

/// A case's name, a script for the table loader that is wrong, and what the
/// error line says.
pub type Script = (&'static str, fn() -> Vec<u8>, &'static str);

/// All of them.
pub const SCRIPTS: [Script; 3] = [
    (
        "refused-script-truncated",
        || allocate()[..100].to_vec(),
        "table loader, command 0: expected 128 bytes",
    ),
    (
        "refused-script-pointer",
        || [allocate(), pointer_outside()].concat(),
        "table loader, command 1: 4 bytes at offset 0x1000 are not inside",
    ),
    ("refused-script-without-rsdp", allocate, "etc/acpi/rsdp"),
];

/// The one file of these scripts, which holds the word `hello`.
const FILE: &str = "opt/org.ovmf-lite/table";

/// Gives the machine a table-loader script in the place of QEMU's.
///
/// # Errors
/// When it is taken, or refused without a word.
pub fn script(bench: &Bench, name: &str, content: &[u8], words: &str) -> Result<()> {
    let files = Files::create(&format!("{name}-files"))?;
    let script = files.directory().join("script");
    fs::write(&script, content)?;
    // QEMU adds no script of its own to a machine without ACPI.
    let options = [
        format!("name=etc/table-loader,file={}", script.display()),
        format!("name={FILE},string=hello"),
    ];
    let machine = Machine {
        model: "q35,acpi=off".into(),
        extra: options
            .iter()
            .flat_map(|option| ["-fw_cfg", option])
            .map(Into::into)
            .collect(),
        ..bench.machine()
    };
    expect_refusal(bench, name, &machine, words)?;
    files.remove()
}

/// A command of QEMU's table loader (hw/acpi/bios-linker-loader.c).
fn command(number: u32, files: &[&str], fields: &[u8]) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    for file in files {
        let mut name = file.as_bytes().to_vec();
        name.resize(56, 0);
        bytes.extend(name);
    }
    bytes.extend(fields);
    bytes.resize(128, 0);
    bytes
}

fn allocate() -> Vec<u8> {
    command(1, &[FILE], &[16, 0, 0, 0, 1])
}

fn pointer_outside() -> Vec<u8> {
    command(2, &[FILE, FILE], &[0, 0x10, 0, 0, 4])
}

/// `cargo xtask boot` with a file that is no kernel ends with a status that is
/// not 0 and a line that says what is wrong, also where QEMU refuses the file
/// before the firmware sees it.
///
/// # Errors
/// When it does not.
pub fn by_command(name: &str, content: &[u8], words: &str) -> Result<()> {
    let files = Files::create(&format!("{name}-files"))?;
    let kernel = files.directory().join("kernel");
    fs::write(&kernel, content)?;
    let mut boot = process::cargo();
    boot.args(["xtask", "boot", "--accel", "tcg", "--timeout", "60"]);
    let output = boot.arg("--kernel").arg(&kernel).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or_default();
    ensure!(!output.status.success(), "it succeeded:\n{errors}");
    ensure!(last.contains(words), "expected `{words}` in:\n{errors}");
    files.remove()
}

fn refuse(bench: &Bench, name: &str, kernel: Option<PathBuf>, words: &str) -> Result<()> {
    let machine = Machine {
        kernel,
        ..bench.machine()
    };
    expect_refusal(bench, name, &machine, words)
}

/// Starts `machine` and expects that it ends, failed, within seconds and with one
/// error line that has `words` in it.
///
/// # Errors
/// When anything else happens.
pub(crate) fn expect_refusal(
    bench: &Bench,
    name: &str,
    machine: &Machine,
    words: &str,
) -> Result<()> {
    let outcome = bench.expect(name, machine, End::Exited(1), words)?;
    let errors = outcome.console.matches("error:").count();
    ensure!(
        errors == 1,
        "expected one error, found {errors}:\n{}",
        outcome.console
    );
    ensure!(
        outcome.elapsed < SECONDS,
        "it took {:?} to refuse",
        outcome.elapsed
    );
    Ok(())
}

fn text() -> Result<Vec<u8>> {
    Ok("Not a kernel.\n".repeat(32 * 1024).into_bytes())
}

fn kernel() -> Result<Vec<u8>> {
    let image = Release::Bookworm.kernel()?.image;
    fs::read(&image).with_context(|| format!("cannot read {}", image.display()))
}

/// All of the headers and a part of the sections.
fn truncated_kernel() -> Result<Vec<u8>> {
    let mut bytes = kernel()?;
    bytes.truncate(64 * 1024);
    Ok(bytes)
}

/// The headers of a PE32+ image for another machine: `IMAGE_FILE_MACHINE_ARM64`.
fn arm64_kernel() -> Result<Vec<u8>> {
    let signature = 64;
    let mut bytes = vec![0; 16 * 1024];
    put(&mut bytes, 0, b"MZ")?;
    put(
        &mut bytes,
        pe_file::SIGNATURE_POINTER,
        &64_u32.to_le_bytes(),
    )?;
    put(&mut bytes, signature, b"PE\0\0\x64\xaa")?;
    put(
        &mut bytes,
        signature + pe_file::OPTIONAL_HEADER_SIZE,
        &240_u16.to_le_bytes(),
    )?;
    put(
        &mut bytes,
        signature + pe_file::OPTIONAL_HEADER,
        &0x20b_u16.to_le_bytes(),
    )?;
    Ok(bytes)
}

/// A real kernel whose first section claims to go on behind the file.
fn section_outside_file() -> Result<Vec<u8>> {
    let mut bytes = kernel()?;
    let (_, first_section) = pe_file::layout(&bytes)?;
    put(
        &mut bytes,
        first_section + pe_file::RAW_SIZE,
        &0x7fff_f000_u32.to_le_bytes(),
    )?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use ovmf_lite_loader::pe::Image;

    use super::*;

    #[test]
    fn made_up_files_are_refused_by_the_loader_for_their_reason() {
        assert!(Image::parse(&text().unwrap()).is_err());
        let Err(error) = Image::parse(&arm64_kernel().unwrap()) else {
            panic!("an ARM64 image was taken");
        };
        assert!(error.to_string().to_lowercase().contains("aa64"), "{error}");
    }
}
