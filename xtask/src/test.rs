//! `cargo xtask test`: every test there is, and a summary.
//!
//! The tests that boot virtual machines are an ordinary test binary; it runs
//! only inside a [`Session`], which is handed over in the environment.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::accel::{self, Accelerator, Wish};
use crate::{build, check, process};

/// Options of `cargo xtask test`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The whole matrix of virtual machines instead of a representative part
    #[arg(long)]
    all: bool,
    /// What executes the guests
    #[arg(long, value_enum, default_value_t)]
    accel: Wish,
    /// Only the virtual machine tests whose name contains this
    filter: Option<String>,
}

const MATRIX: &str = "OVMF_LITE_TEST_MATRIX";
const ACCELERATOR: &str = "OVMF_LITE_TEST_ACCELERATOR";

/// What the tests in virtual machines have to know.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Whether the whole matrix is wanted.
    pub all: bool,
    /// What executes the guests.
    pub accelerator: Accelerator,
}

impl Session {
    /// The session we run in, if any: only `cargo xtask test` makes one, after
    /// it has built what the tests need.
    pub fn current() -> Option<Session> {
        let kvm = env::var(ACCELERATOR).ok()? == Accelerator::Kvm.name();
        let accelerator = if kvm {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        };
        Some(Session {
            all: env::var(MATRIX).ok()? == "all",
            accelerator,
        })
    }

    fn hand_over(self, command: &mut Command) {
        command.env(MATRIX, if self.all { "all" } else { "part" });
        command.env(ACCELERATOR, self.accelerator.name());
    }
}

/// Runs the checks, the tests on the host and the tests in virtual machines;
/// with a filter only the last.
///
/// # Errors
/// When any of them fails; all are run.
pub fn run(options: &Options) -> Result<()> {
    let mut stages = Stages::default();
    if options.filter.is_none() {
        stages.run("checks", check::run);
        stages.run("tests on the host", || {
            process::run(process::cargo().args(["test", "--quiet", "--no-fail-fast"]))
        });
    }
    stages.run("tests in virtual machines", || in_virtual_machines(options));
    stages.summarize()
}

fn in_virtual_machines(options: &Options) -> Result<()> {
    build::firmware()?;
    build::guest_application()?;
    build::varstored()?;
    let session = Session {
        all: options.all,
        accelerator: accel::choose(options.accel),
    };
    let mut cargo = process::cargo();
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "ovmf-lite-tests",
        "--test",
        "vm",
        "--",
    ]);
    cargo.args(&options.filter);
    session.hand_over(&mut cargo);
    process::run(&mut cargo)
}

#[derive(Default)]
struct Stages(Vec<(&'static str, Duration, bool)>);

impl Stages {
    fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()>) {
        eprintln!("test: {name}");
        let started = Instant::now();
        let result = stage();
        if let Err(error) = &result {
            eprintln!("test: {name}: {error:#}");
        }
        self.0.push((name, started.elapsed(), result.is_ok()));
    }

    fn summarize(&self) -> Result<()> {
        eprintln!("test: summary");
        for (name, elapsed, passed) in &self.0 {
            let verdict = if *passed { "passed" } else { "FAILED" };
            eprintln!("  {verdict}  {name} ({} s)", elapsed.as_secs());
        }
        if self.0.iter().any(|(_, _, passed)| !passed) {
            bail!("not everything passed");
        }
        Ok(())
    }
}
