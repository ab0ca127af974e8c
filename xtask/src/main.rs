//! `cargo xtask`: the command line over the library of the same name.
//!
//! Ends with status 0 only when what was asked for was done; otherwise with the
//! guest's own status, or 1 and one line on standard error.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, boot, build, check, conformance, coverage, nightly, test, trace, xen};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, boot, test and check OVMF-lite")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the firmware: target/ovmf-lite.elf and target/ovmf-lite.fd
    Build,
    /// Boot a Linux kernel through the firmware in QEMU
    Boot(Box<boot::Options>),
    /// Boot a Linux kernel through the firmware in a guest of a real Xen, in QEMU
    Xen(Box<xen::command::Options>),
    /// Measure the firmware against others: docs/PERFORMANCE.md
    Bench(bench::Options),
    /// Hold the firmware to its budget of bytes and instructions
    Size(bench::budget::Options),
    /// Show what a kernel asks of the firmware, call by call
    Trace(trace::Options),
    /// Measure which services kernels need: docs/CONFORMANCE.md
    Conformance(conformance::Options),
    /// Put docs/COVERAGE.md together from the code and the tests
    Coverage,
    /// Check formatting, lints, documentation and the house rules
    Check,
    /// Run every test: checks, host tests, virtual machines
    Test(test::Options),
    /// Interpret the host tests with Miri, which finds undefined behaviour
    Miri,
    /// Run fuzz targets, each for some seconds
    Fuzz(nightly::FuzzOptions),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Build => build::firmware().map(|_| ExitCode::SUCCESS),
        Task::Boot(options) => boot::run(&options),
        Task::Xen(options) => xen::command::run(&options),
        Task::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Size(options) => bench::budget::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Trace(options) => trace::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Conformance(options) => conformance::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Coverage => coverage::run().map(|()| ExitCode::SUCCESS),
        Task::Check => check::run().map(|()| ExitCode::SUCCESS),
        Task::Test(options) => test::run(&options).map(|()| ExitCode::SUCCESS),
        Task::Miri => nightly::miri().map(|()| ExitCode::SUCCESS),
        Task::Fuzz(options) => nightly::fuzz(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
