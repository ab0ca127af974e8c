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
        let Phases { ends, fetched } = measure(firmware, model, &material.watched())?;
        for (name, at) in ends {
            println!("  {name:10} {at:>9}     {:>9}", at - before);
            before = at;
        }
        println!("  {fetched} bytes fetched");
    }
    println!("started to exit is mostly the kernel's own work");
    Ok(())
}

/// What the firmware says of a start.
#[derive(Clone, Debug)]
pub struct Phases {
    /// Each phase and when it ended, in instructions from reset.
    pub ends: Vec<(String, u64)>,
    /// Bytes that the host moved into the guest's memory.
    pub fetched: u64,
}

/// Starts `program` and asks.
///
/// # Errors
/// When the firmware does not tell.
pub fn measure(firmware: &Firmware, model: &str, program: &Program<'_>) -> Result<Phases> {
    let program = Program {
        extra: &ASK,
        ..*program
    };
    let probe = count::run(firmware, model, &program, SHIFT)?;
    parse(&probe.console)
}

fn parse(console: &str) -> Result<Phases> {
    let mut lines = console.lines();
    let line = lines.find_map(|line| line.split_once("ovmf-lite: phases: "));
    let (_, line) = line.context("the firmware did not show its phases")?;
    let (ends, fetched) = line.split_once("; ").context("no bytes fetched")?;
    let words: Vec<_> = ends.split_whitespace().collect();
    let pairs = words.as_chunks().0.iter();
    let ends = pairs
        .map(|[name, stamp]| Ok(((*name).to_owned(), stamp.parse::<u64>()? >> SHIFT)))
        .collect::<Result<_>>()?;
    let fetched = fetched.split(' ').next().unwrap_or_default().parse()?;
    Ok(Phases { ends, fetched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read() {
        let text = "x\novmf-lite: phases: reset 32 exit 800; 77 bytes fetched\r\n";
        let phases = parse(text).unwrap();
        assert_eq!(phases.ends, [("reset".into(), 4), ("exit".into(), 100)]);
        assert_eq!(phases.fetched, 77);
        assert!(parse("").is_err());
    }
}
