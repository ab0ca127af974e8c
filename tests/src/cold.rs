//! What an ordinary start never calls stays packed: QEMU's translator tells which
//! instructions of it have run. See `firmware/src/arch/cold.rs`.

use std::fs;

use anyhow::{Context, Result, ensure};
use goblin::elf::Elf;
use xtask::accel::Accelerator;
use xtask::build;
use xtask::elf::section;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, COMMAND_LINE, Release, Root, System};

/// A kernel starts without.
///
/// # Errors
/// When it does not.
pub fn stays_packed(bench: &Bench, release: Release, model: &str) -> Result<()> {
    let name = format!("cold-{model}-{}", release.linux());
    let run = instructions_run(bench, &name, release, model, "")?;
    ensure!(
        run == 0,
        "expected no instruction of .cold to run, found {run}"
    );
    Ok(())
}

/// The trace of a start is in it.
///
/// # Errors
/// When nothing of it has run: then nobody looked in the right place.
pub fn is_unpacked(bench: &Bench) -> Result<()> {
    let word = " ovmf-lite.trace";
    let run = instructions_run(bench, "cold-traced", Release::Bookworm, "q35", word)?;
    ensure!(
        run > 100,
        "expected instructions of .cold to run, found {run}"
    );
    Ok(())
}

/// How many instructions of `.cold` QEMU has translated in the course of a start.
fn instructions_run(
    bench: &Bench,
    name: &str,
    release: Release,
    model: &str,
    word: &str,
) -> Result<usize> {
    let elf = fs::read(build::elf())?;
    let elf = Elf::parse(&elf)?;
    let cold = section(&elf, ".cold")?;
    let files = Files::create(&format!("{name}-log"))?;
    let log = files.directory().join("translated.log");
    let range = format!("{:#x}+{:#x}", cold.sh_addr, cold.sh_size);
    let arguments = ["-d", "in_asm,nochain", "-dfilter", &range, "-D"];
    let mut extra = arguments.map(Into::into).to_vec();
    extra.push(log.clone().into());
    let machine = Machine {
        accelerator: Accelerator::Tcg,
        model: model.into(),
        processors: 2,
        memory: "6G".into(),
        command_line: format!("{COMMAND_LINE}{word}"),
        extra,
        ..bench.machine()
    };
    bench.succeed(name, machine, System::new(release, Root::Initrd), "true")?;
    let translated = fs::read_to_string(&log).context("QEMU wrote no log")?;
    files.remove()?;
    Ok(translated
        .lines()
        .filter(|line| line.starts_with("0x"))
        .count())
}
