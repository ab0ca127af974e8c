//! `cargo xtask check`: what every commit has to pass, without running it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, host, process, source};

/// Runs every check; each prints one line.
///
/// # Errors
/// When a check fails; all are run and each failure says what to do.
pub fn run() -> Result<()> {
    host::require_rust_targets()?;
    let runtime = build::runtime_image()?;
    let bare = |arguments: &str| {
        let mut cargo = cargo(arguments);
        cargo.env("OVMF_LITE_RUNTIME_IMAGE", &runtime);
        cargo
    };
    let firmware = "--package ovmf-lite --target x86_64-unknown-none --release";
    let image = "--package ovmf-lite-runtime --target x86_64-unknown-uefi --profile runtime";
    let guest = "--package ovmf-lite-guest --target x86_64-unknown-uefi --release";
    let clippy = |of: &str| bare(&format!("clippy --quiet {of} -- -D warnings"));
    let doc = |of: &str| {
        let mut cargo = bare(&format!(
            "doc --quiet --no-deps --document-private-items {of}"
        ));
        // The pages include private items, so links to them do not break.
        cargo.env(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private_intra_doc_links",
        );
        cargo
    };
    let commands = [
        (
            "formatting",
            "run `cargo fmt --all`",
            cargo("fmt --all --check"),
        ),
        ("lints of the host crates", FIX, clippy("--all-targets")),
        ("lints of the firmware", FIX, clippy(firmware)),
        ("lints of the runtime image", FIX, clippy(image)),
        ("lints of the guest application", FIX, clippy(guest)),
        ("documentation of the host crates", FIX, doc("")),
        ("documentation of the firmware", FIX, doc(firmware)),
        ("documentation of the runtime image", FIX, doc(image)),
    ];
    let mut failures = 0;
    for (what, remedy, mut command) in commands {
        failures += report(what, process::run(&mut command).context(remedy));
    }
    failures += report("house rules", source::check());
    if failures > 0 {
        bail!("{failures} of the checks failed");
    }
    Ok(())
}

const FIX: &str = "fix what is said above";

/// Prints the result of one check and returns the number of failures in it.
fn report(what: &str, result: Result<()>) -> usize {
    match result {
        Ok(()) => {
            eprintln!("check: {what}: ok");
            0
        }
        Err(error) => {
            eprintln!("check: {what}: FAILED: {error:#}");
            1
        }
    }
}

fn cargo(arguments: &str) -> Command {
    let mut cargo = process::cargo();
    cargo.args(arguments.split_whitespace());
    cargo
}
