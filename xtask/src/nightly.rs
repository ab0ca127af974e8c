//! `cargo xtask miri` and `cargo xtask fuzz`: tests that need Rust's nightly
//! toolchain, so they are apart from `cargo xtask test`.
//!
//! Where the toolchain, or a part of it, is missing they say how to get it and
//! do nothing: nothing is installed by them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, workspace};

/// Options of `cargo xtask fuzz`.
#[derive(Clone, Debug, clap::Args)]
pub struct FuzzOptions {
    /// The one target to run; without it, each in turn
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// What a lane lacks, and the command that gets it.
struct Missing(&'static str, &'static str);

const NIGHTLY: Missing = Missing(
    "rustup's nightly toolchain is missing",
    "rustup toolchain install nightly --profile minimal --component miri,rust-src",
);
const MIRI: Missing = Missing(
    "the nightly toolchain lacks miri or rust-src",
    "rustup component add --toolchain nightly miri rust-src",
);
const CARGO_FUZZ: Missing = Missing(
    "cargo-fuzz is missing",
    "cargo install --locked cargo-fuzz@0.13.2",
);
const COMPILER: Missing = Missing(
    "c++, which compiles libFuzzer, is missing",
    "apt install g++",
);

/// Firmware addresses are integers, and the edge's tests leak what a running
/// system keeps; proptest looks for files with past failures.
const MIRI_FLAGS: &str =
    "-Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation";
/// Cases per property test: Miri is a thousand times slower than a processor.
const MIRI_CASES: &str = "2";

/// Interprets the tests of `loader` and `services` and finds undefined
/// behaviour; skipped where that is not installed.
///
/// # Errors
/// When a test fails or its behaviour is undefined.
pub fn miri() -> Result<()> {
    if let Some(missing) = missing_for_miri() {
        skip("miri", &missing);
        return Ok(());
    }
    let mut cargo = cargo();
    cargo.args(["miri", "test", "--lib", "--all-features"]);
    cargo.args(["-p", "ovmf-lite-loader", "-p", "ovmf-lite-services"]);
    cargo.env("MIRIFLAGS", MIRI_FLAGS);
    cargo.env("PROPTEST_CASES", MIRI_CASES);
    process::run(&mut cargo)
}

/// Runs fuzz targets, each for a time; skipped where that is not installed.
///
/// # Errors
/// When a target crashes, with the input that does it; when there is no target
/// of this name.
pub fn fuzz(options: &FuzzOptions) -> Result<()> {
    if let Some(missing) = missing_for_fuzzing() {
        skip("fuzz", &missing);
        return Ok(());
    }
    let mut targets = targets()?;
    if let Some(wanted) = &options.target {
        if !targets.contains(wanted) {
            bail!(
                "expected a fuzz target, one of {}; found `{wanted}`",
                targets.join(", ")
            );
        }
        targets = vec![wanted.clone()];
    }
    let mut failures = Vec::new();
    for target in &targets {
        eprintln!("fuzz: {target}: {} s", options.seconds);
        failures.extend(fuzz_target(target, options.seconds).err());
    }
    for failure in &failures {
        eprintln!("fuzz: FAILED: {failure:#}");
    }
    match failures.len() {
        0 => Ok(()),
        some => bail!("{some} of {} fuzz targets failed", targets.len()),
    }
}

fn fuzz_target(target: &str, seconds: u32) -> Result<()> {
    let artifacts = directory().join("artifacts").join(target);
    let before = files(&artifacts);
    let mut cargo = cargo_fuzz("run");
    cargo
        .arg("--target-dir")
        .arg(workspace::target().join("fuzz"));
    cargo.args([target, "--"]);
    cargo.arg(format!("-max_total_time={seconds}"));
    // One slow input is a finding, and one that eats memory, too.
    cargo.args([
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
        "-print_funcs=0",
        "-print_final_stats=1",
    ]);
    process::run(&mut cargo).with_context(|| {
        let new = files(&artifacts);
        let new = new.difference(&before).map(|file| workspace::shown(file));
        match new.collect::<Vec<_>>().as_slice() {
            [] => format!("{target}: no input was saved"),
            inputs => format!("{target} fails with {}", inputs.join(", ")),
        }
    })
}

/// The files in `directory`; none when it does not exist.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

fn targets() -> Result<Vec<String>> {
    let list = process::text(&mut cargo_fuzz("list"))?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn directory() -> PathBuf {
    workspace::root().join("tests/fuzz")
}

fn missing_for_miri() -> Option<Missing> {
    let mut rustup = rustup();
    rustup.args(["component", "list", "--installed", "--toolchain", "nightly"]);
    let Ok(components) = process::text(&mut rustup) else {
        return Some(NIGHTLY);
    };
    let has = |name| components.lines().any(|line| line.starts_with(name));
    (!has("miri") || !has("rust-src")).then_some(MIRI)
}

fn missing_for_fuzzing() -> Option<Missing> {
    let works = |command: &mut Command| process::text(command).is_ok();
    if !works(cargo().arg("--version")) {
        return Some(NIGHTLY);
    }
    if !works(cargo().args(["fuzz", "--version"])) {
        return Some(CARGO_FUZZ);
    }
    (!works(Command::new("c++").arg("--version"))).then_some(COMPILER)
}

fn skip(lane: &str, Missing(what, command): &Missing) {
    eprintln!("{lane}: skipped: {what}; to get it: {command}");
}

fn cargo_fuzz(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.args(["fuzz", command, "--fuzz-dir"]).arg(directory());
    cargo
}

/// The nightly cargo.
fn cargo() -> Command {
    let mut rustup = rustup();
    rustup.args(["run", "nightly", "cargo"]);
    rustup
}

/// Rustup in the workspace, without what the toolchain that built us told us of
/// itself, and never installing anything.
fn rustup() -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(workspace::root());
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        rustup.env_remove(variable);
    }
    rustup.env("RUSTUP_AUTO_INSTALL", "0");
    rustup
}
