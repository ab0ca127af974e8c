//! The budget: what the firmware may cost in bytes, descriptors and instructions.
//!
//! It stands in `xtask/budget.json`. A figure may grow by 2 %; what goes beyond
//! is refused until somebody decides that it is worth it, and says so with
//! `cargo xtask size --accept`. Every figure is exact and the same on every host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::count;
use super::firmware::Firmware;
use super::material::Material;
use crate::{build, flash, workspace};

/// Options of `cargo xtask size`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Make what is measured the new budget
    #[arg(long)]
    accept: bool,
}

/// Figures by name.
pub type Figures = BTreeMap<String, u64>;

/// In percent of the budget.
const TOLERATED: u64 = 102;
/// One shift is enough: what a firmware waits for is charged as instructions.
const SHIFT: u32 = 3;

fn file() -> PathBuf {
    workspace::root().join("xtask/budget.json")
}

/// Measures the firmware, shows each figure next to its budget.
///
/// # Errors
/// When one is over its budget and that is not accepted.
pub fn run(options: &Options) -> Result<()> {
    let firmware = build::firmware()?;
    build::guest_application()?;
    let found = measure(&firmware.flash)?;
    let budget = match options.accept {
        true => write(&found)?,
        false => read()?,
    };
    for (name, value) in &found {
        let budget = budget.get(name).map_or("none".into(), u64::to_string);
        println!("{name:24} {value:>9}  budget {budget:>9}");
    }
    check(&found, &budget)
}

fn write(found: &Figures) -> Result<Figures> {
    fs::write(file(), serde_json::to_string_pretty(found)? + "\n")?;
    Ok(found.clone())
}

/// The budget.
///
/// # Errors
/// When it cannot be read.
pub fn read() -> Result<Figures> {
    let text = fs::read_to_string(file()).context("there is no budget: `cargo xtask size`")?;
    Ok(serde_json::from_str(&text)?)
}

/// Holds `found` to `budget`.
///
/// # Errors
/// With every figure that is too large or has no budget.
pub fn check(found: &Figures, budget: &Figures) -> Result<()> {
    let over = over(found, budget);
    ensure!(
        over.is_empty(),
        "over budget: {}; make it smaller, or say `cargo xtask size --accept`",
        over.join("; ")
    );
    Ok(())
}

/// What is over budget, in words.
pub fn over(found: &Figures, budget: &Figures) -> Vec<String> {
    let names = found
        .keys()
        .chain(budget.keys().filter(|name| !found.contains_key(*name)));
    let verdict = |name: &String| match (found.get(name), budget.get(name)) {
        (Some(found), Some(budget)) if found * 100 <= budget * TOLERATED => None,
        (Some(found), Some(budget)) => Some(format!(
            "{name}: expected at most {budget} and 2 %, found {found}"
        )),
        (Some(found), None) => Some(format!("{name}: {found}, without a budget")),
        (None, _) => Some(format!("{name}: not measured any more")),
    };
    names.filter_map(verdict).collect()
}

/// All figures of the firmware in a flash file; needs the probe.
///
/// # Errors
/// When it does not run.
pub fn measure(flash_file: &Path) -> Result<Figures> {
    let firmware = Firmware::bios("OVMF-lite", flash_file.to_owned());
    let bytes = fs::read(flash_file)?;
    let mut figures = Figures::new();
    figures.insert(
        "image bytes".into(),
        u64::try_from(flash::occupied(&bytes))?,
    );
    let files = super::files("budget")?;
    let material = Material::new(files.directory())?;
    for model in ["microvm", "pc", "q35"] {
        let probe = count::run(&firmware, model, &material.probe(), SHIFT)?;
        let map = probe.map()?;
        figures.insert(format!("instructions {model}"), instructions(&probe)?);
        figures.insert(format!("descriptors {model}"), map.descriptors);
        figures.insert(
            format!("kept KiB {model}"),
            map.runtime_kib + map.tables_kib,
        );
    }
    let probe = count::run(&firmware, "q35", &material.watched(), SHIFT)?;
    figures.insert("instructions kernel".into(), instructions(&probe)?);
    files.remove()?;
    Ok(figures)
}

fn instructions(probe: &count::Probe) -> Result<u64> {
    Ok(probe.in_firmware()? >> SHIFT)
}

/// The firmware in `flash`, slowed down by this many instructions: the jump in
/// the reset vector gets a loop in front of it.
///
/// # Errors
/// When the vector does not begin with a jump.
pub fn slowed(flash: &[u8], instructions: u32) -> Result<Vec<u8>> {
    let at = flash.len().checked_sub(16).context("no reset vector")?;
    let target = match flash[at..] {
        [0xeb, near, ..] => i16::from(near.cast_signed()) + 2,
        [0xe9, low, high, ..] => i16::from_le_bytes([low, high]) + 3,
        _ => bail!("the reset vector does not begin with a jump"),
    };
    let [a, b, c, d] = instructions.to_le_bytes();
    let [low, high] = (target - 12).to_le_bytes();
    // mov ecx, instructions; addr32 loop to itself; jmp target
    let code = [0x66, 0xb9, a, b, c, d, 0x67, 0xe2, 0xfd, 0xe9, low, high];
    let mut slowed = flash.to_vec();
    slowed[at..at + code.len()].copy_from_slice(&code);
    Ok(slowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, u64)]) -> Figures {
        list.iter()
            .map(|(name, value)| ((*name).into(), *value))
            .collect()
    }

    #[test]
    fn two_percent_are_tolerated() {
        let budget = figures(&[("a", 100), ("b", 1000)]);
        assert!(over(&figures(&[("a", 102), ("b", 1)]), &budget).is_empty());
        let words = over(&figures(&[("a", 103), ("b", 1000)]), &budget);
        assert_eq!(words, ["a: expected at most 100 and 2 %, found 103"]);
    }

    #[test]
    fn every_figure_has_a_budget() {
        let words = over(&figures(&[("a", 1)]), &figures(&[("b", 1)]));
        assert_eq!(
            words,
            ["a: 1, without a budget", "b: not measured any more"]
        );
    }

    #[test]
    fn a_loop_goes_in_front_of_the_jump() {
        let mut flash = vec![0; 32];
        flash[16..18].copy_from_slice(&[0xeb, 0xf0]);
        let slowed = slowed(&flash, 5).unwrap();
        // Both jumps end at 2: 16 + 2 - 16, and 16 + 12 - 26.
        assert_eq!(slowed[16..22], [0x66, 0xb9, 5, 0, 0, 0]);
        assert_eq!(slowed[25..28], [0xe9, (-26i8).cast_unsigned(), 0xff]);
        assert!(super::slowed(&[0; 32], 5).is_err());
    }
}
