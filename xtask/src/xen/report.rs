//! What a scenario leaves behind: verdicts, figures, consoles, logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::vm::Outcome;

/// The result of one `check` of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the check is called.
    pub name: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Figures of a scenario: names and values.
pub type Figures = Vec<(String, String)>;

/// Everything a run left behind.
#[derive(Clone, Debug)]
pub struct Report {
    /// The checks, in their order.
    pub verdicts: Vec<Verdict>,
    /// What it measured.
    pub figures: Figures,
    /// What each guest printed on its console.
    pub consoles: BTreeMap<String, String>,
    /// The files that it left in `$out/left`.
    pub left: BTreeMap<String, Vec<u8>>,
    /// What the scenario printed outside of its checks.
    pub messages: String,
    /// `xl dmesg`, at the end.
    pub hypervisor: String,
    /// The status of the scenario, if it came to its end.
    pub status: Option<u8>,
    /// How QEMU ended; the console is that of Xen and dom0.
    pub outcome: Outcome,
}

impl Report {
    /// Reads what was left in `out`.
    ///
    /// # Errors
    /// When a verdict is no verdict or a file cannot be read.
    pub fn read(out: &Path, outcome: Outcome) -> Result<Report> {
        let (verdicts, figures) = parse(&text(&out.join("verdicts")))?;
        Ok(Report {
            verdicts,
            figures,
            consoles: consoles(&out.join("console"))?,
            left: left(&out.join("left"))?,
            messages: text(&out.join("scenario.log")),
            hypervisor: text(&out.join("xl-dmesg")),
            status: text(&out.join("status")).trim().parse().ok(),
            outcome,
        })
    }

    /// What the guest `name` printed.
    pub fn console(&self, name: &str) -> &str {
        self.consoles.get(name).map_or("", String::as_str)
    }

    /// The value of the figure `name`.
    pub fn figure(&self, name: &str) -> Option<&str> {
        let mut figures = self.figures.iter();
        figures.find_map(|(known, value)| (known == name).then_some(&**value))
    }
}

/// The status that a guest without a second port reported on its console.
pub fn guest_status(console: &str) -> Option<u8> {
    let mut lines = console.lines().rev();
    lines.find_map(|line| line.strip_prefix("guest: exit=")?.trim().parse().ok())
}

/// What the command of such a guest printed.
pub fn guest_output(console: &str) -> &str {
    let start = "guest: output";
    let after = console.split_once(start).map_or("", |(_, after)| after);
    let output = after.split_once("guest: exit=").map_or(after, |(o, _)| o);
    output.trim()
}

fn parse(lines: &str) -> Result<(Vec<Verdict>, Figures)> {
    let (mut verdicts, mut figures) = (Vec::new(), Vec::new());
    for line in lines.lines() {
        let strange = || format!("`{line}` is no verdict");
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, name, elapsed, value] = fields[..] else {
            anyhow::bail!(strange());
        };
        if kind == "figure" {
            figures.push((name.to_owned(), value.to_owned()));
            continue;
        }
        verdicts.push(Verdict {
            name: name.to_owned(),
            failure: (kind != "pass").then(|| value.to_owned()),
            elapsed: Duration::from_millis(elapsed.parse().with_context(strange)?),
        });
    }
    Ok((verdicts, figures))
}

fn left(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let entries = fs::read_dir(directory).into_iter().flatten();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, fs::read(entry.path())?);
    }
    Ok(files)
}

/// The files `guest-<name>.log`, as xenconsoled names them.
fn consoles(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut consoles = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(consoles);
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name.strip_prefix("guest-").unwrap_or(&name);
        consoles.insert(name.to_owned(), text(&path).replace('\r', ""));
    }
    Ok(consoles)
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_figures_are_told_apart() {
        let lines = "pass\tboot\t1200\t\nfigure\tmemory\t0\t12 KiB\nfail\tsave\t30\tno space\n";
        let (verdicts, figures) = parse(lines).unwrap();
        let names: Vec<_> = verdicts
            .iter()
            .map(|v| (&*v.name, v.failure.as_deref()))
            .collect();
        assert_eq!(names, [("boot", None), ("save", Some("no space"))]);
        assert_eq!(verdicts[0].elapsed, Duration::from_millis(1200));
        assert_eq!(figures, [("memory".to_owned(), "12 KiB".to_owned())]);
        assert!(parse("pass\n").is_err());
    }

    #[test]
    fn a_guest_reports_on_its_console() {
        let console = "[0.1] Linux\nguest: output\na\nb\n\nguest: exit=3\n[2.0] Power down\n";
        assert_eq!(guest_status(console), Some(3));
        assert_eq!(guest_output(console), "a\nb");
        assert_eq!(guest_status("guest: output\n"), None);
        assert_eq!(guest_output("nothing"), "");
    }
}
