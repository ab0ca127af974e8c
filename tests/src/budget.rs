//! The budget of bytes and instructions, and that waste is seen.

use std::fs;

use anyhow::{Result, ensure};
use xtask::bench::budget;
use xtask::build;
use xtask::qemu::Files;

use crate::bench::Bench;

/// What is wasted on purpose.
const WASTE: u32 = 10_000_000;

/// Holds the firmware to its budget.
///
/// # Errors
/// When it is over it.
pub fn held(_: &Bench) -> Result<()> {
    budget::check(&budget::measure(&build::flash_image())?, &budget::read()?)
}

/// A firmware that wastes instructions is over budget by exactly these, in each
/// figure of instructions and in no other.
///
/// # Errors
/// When it is not.
pub fn waste(_: &Bench) -> Result<()> {
    let files = Files::create("budget-waste")?;
    let slowed = files.directory().join("slowed.fd");
    let flash = fs::read(build::flash_image())?;
    fs::write(&slowed, budget::slowed(&flash, WASTE)?)?;
    let (before, after) = (
        budget::measure(&build::flash_image())?,
        budget::measure(&slowed)?,
    );
    let mut counted = 0;
    for (name, before) in before
        .iter()
        .filter(|(name, _)| name.starts_with("instructions"))
    {
        let more = after[name] - before;
        // The loop's set-up, and what a polled device saw of the time.
        ensure!(
            (WASTE.into()..u64::from(WASTE) + 1000).contains(&more),
            "{name}: expected {WASTE} more, found {more}"
        );
        counted += 1;
    }
    let over = budget::over(&after, &before);
    ensure!(
        counted == 4 && over.len() == counted,
        "expected four figures over budget, found {over:?}"
    );
    ensure!(budget::check(&after, &before).is_err());
    files.remove()
}
