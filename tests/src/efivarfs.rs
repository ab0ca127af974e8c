//! The kernel's own tests of efivarfs (Linux, `tools/testing/selftests/efivarfs`)
//! on our store. They come with the source of the guest's kernel, from Debian's
//! archive, and are compiled here; nothing of them is kept beyond `target`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xtask::debian::{self, Suite};
use xtask::guest::Guest;
use xtask::qemu::Files;
use xtask::{host, process, workspace};

use crate::bench::{Bench, Release, Root, System};
use crate::packages;
use crate::variables::{machine, template};

const SYSTEM: System = System {
    release: Release::Bookworm,
    root: Root::Initrd,
    modules: &[],
    programs: Some(add_tests),
};

/// Where the tests are in the source, and in the guest.
const TESTS: &str = "tools/testing/selftests/efivarfs";
/// The programs among them.
const PROGRAMS: [&str; 2] = ["create-read", "open-unlink"];
/// How many tests there are in Linux 6.1; none is declared unsupported.
const COUNT: usize = 8;

/// Runs them all.
///
/// # Errors
/// When one fails, or another number of them is run.
pub fn run(bench: &Bench) -> Result<()> {
    let files = Files::create("efivarfs-selftests-files")?;
    let store = template(&files, "OVMF_VARS_4M.fd")?;
    let machine = machine(bench, &store, None);
    let script = format!("cd /{TESTS} && bash efivarfs.sh 2>&1");
    let outcome = bench.succeed("efivarfs-selftests", machine, SYSTEM, &script)?;
    let passed = outcome.output.matches("[PASS]").count();
    ensure!(
        passed == COUNT && !outcome.output.contains("[FAIL]"),
        "expected {COUNT} tests to pass, found {passed}:\n{}",
        outcome.output
    );
    files.remove()
}

fn add_tests(guest: &mut Guest) -> Result<()> {
    let directory = source()?;
    for program in PROGRAMS {
        let binary = directory.join(program);
        let mut gcc = host::GCC.command();
        gcc.args(["-static", "-O1", "-o"]).arg(&binary);
        process::run(gcc.arg(directory.join(program).with_extension("c")))?;
        guest.add_program(&format!("{TESTS}/{program}"), &packages::read(&binary)?);
    }
    let script = packages::read(&directory.join("efivarfs.sh"))?;
    guest.add_program(&format!("{TESTS}/efivarfs.sh"), &script);
    packages::add_chattr(guest)?;
    packages::add(
        guest,
        "bin/bash",
        &["bash", "libtinfo6", "libc6"],
        &["libtinfo.", "libc.so"],
    )
}

/// The directory of the tests, taken out of the kernel's source once.
fn source() -> Result<PathBuf> {
    let package = debian::fetch(Suite::Bookworm, "linux-source-6.1")?;
    let archive = package.join("usr/src/linux-source-6.1.tar.xz");
    let directory = workspace::target().join("selftests");
    fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock().context("cannot lock the kernel's tests")?;
    if !directory.join("tools").is_dir() {
        unpack(&archive, &directory)?;
    }
    Ok(directory.join(TESTS))
}

fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    host::require(&[host::TAR, host::XZ, host::GCC])?;
    let partial = directory.join("partial");
    fs::create_dir_all(&partial)?;
    let mut tar = host::TAR.command();
    tar.arg("-xJf").arg(archive).arg("-C").arg(&partial);
    tar.args(["--strip-components=1", &format!("linux-source-6.1/{TESTS}")]);
    process::run(&mut tar)?;
    Ok(fs::rename(partial.join("tools"), directory.join("tools"))?)
}
