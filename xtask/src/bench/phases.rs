//! `cargo xtask bench --phases`: where the instructions of a start go, by the
//! firmware's own time stamps.

use anyhow::{Context, Result};

use super::count::{self, Program};
use super::firmware::Firmware;
use super::material::Material;

/// What makes the firmware show its phases.
const ASK: [&str; 2] = ["-fw_cfg", "name=opt/org.ovmf-lite/phases,string=1"];
const SHIFT: u32 = 3;

/// Shows the phases on each machine, in instructions.
///
/// # Errors
/// When the firmware does not tell them.
pub fn show(firmware: &Firmware, material: &Material) -> Result<()> {
    println!("instructions        at  since before");
    for model in ["q35", "pc", "microvm"] {
        println!("{model}");
        let mut before = 0;
        for (name, at) in measure(firmware, model, material)? {
            println!("  {name:10} {at:>9}     {:>9}", at - before);
            before = at;
        }
    }
    println!("started to exit is mostly the kernel's own work");
    Ok(())
}

/// Each phase and when it ended, in instructions from reset.
///
/// # Errors
/// When the firmware does not tell them.
pub fn measure(
    firmware: &Firmware,
    model: &str,
    material: &Material,
) -> Result<Vec<(String, u64)>> {
    let program = Program {
        extra: &ASK,
        ..material.watched()
    };
    let probe = count::run(firmware, model, &program, SHIFT)?;
    parse(&probe.console)
}

fn parse(console: &str) -> Result<Vec<(String, u64)>> {
    let mut lines = console.lines();
    let line = lines.find_map(|line| line.split_once("ovmf-lite: phases: "));
    let (_, line) = line.context("the firmware did not show its phases")?;
    let words: Vec<_> = line.split_whitespace().collect();
    let pairs = words.as_chunks().0.iter();
    pairs
        .map(|[name, stamp]| Ok(((*name).to_owned(), stamp.parse::<u64>()? >> SHIFT)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read() {
        let phases = parse("x\novmf-lite: phases: reset 32 exit 800\r\n").unwrap();
        assert_eq!(phases, [("reset".into(), 4), ("exit".into(), 100)]);
        assert!(parse("").is_err());
    }
}
