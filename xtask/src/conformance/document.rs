//! The result as a page for people and as JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use ovmf_lite_services::catalog;
use serde_json::{Map, Value, json};

use super::{PROFILE, RUNTIME, Subject};
use crate::accel::Accelerator;
use crate::emulator;

const HEAD: &str = include_str!("head.md");
const NOTES: &str = include_str!("notes.md");

/// What a kernel does without a service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It does not reach userspace.
    Mandatory,
    /// It does, perhaps without something.
    Tolerated(Option<String>),
    /// It took too long to come to any end.
    Unclear,
    /// It never asks.
    Unused,
}

impl Verdict {
    fn of(subject: &Subject, what: &str) -> Verdict {
        match subject.without.get(what) {
            None => Verdict::Unused,
            Some(progress) if progress.unclear => Verdict::Unclear,
            Some(progress) if !progress.init => Verdict::Mandatory,
            Some(progress) => match progress.loss(&subject.whole) {
                None if subject.count(what) == 0 => Verdict::Unused,
                loss => Verdict::Tolerated(loss),
            },
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Verdict::Mandatory => "mandatory",
            Verdict::Tolerated(_) => "tolerated",
            Verdict::Unclear => "unclear",
            Verdict::Unused => "unused",
        }
    }
}

/// Both documents: names and contents.
///
/// # Errors
/// When QEMU does not tell its version.
pub fn write(
    subjects: &[Subject],
    accelerator: Accelerator,
) -> Result<[(&'static str, String); 2]> {
    let qemu = emulator::version()?;
    let text = page(subjects, &qemu, accelerator)?;
    Ok([
        ("CONFORMANCE.md", text),
        ("conformance.json", json(subjects, &qemu)?),
    ])
}

fn page(subjects: &[Subject], qemu: &str, accelerator: Accelerator) -> Result<String> {
    let mut text = HEAD.to_owned();
    let accelerator = accelerator.name().to_uppercase();
    writeln!(text, "\nMeasured with {qemu}, {accelerator}.\n")?;
    text += "| kernel | Linux | calls before ExitBootServices | with the services of 2016 |\n";
    text += "|---|---|---|---|\n";
    for subject in subjects {
        let profile = &subject.without[PROFILE];
        let calls = subject.trace.calls.len();
        let came = format!("comes to {}: {}", profile.words(), profile.last);
        let (name, version) = (&subject.name, &subject.version);
        writeln!(text, "| {name} | {version} | {calls} | {came} |")?;
    }
    text += "\n## Services\n\n";
    text += &matrix(subjects, &services(subjects), cell)?;
    writeln!(text, "\nCalled by none: {}.\n", unused(subjects).join(", "))?;
    text += "## Protocols, tables and variables\n\n";
    text += &matrix(subjects, &protocols(subjects), cell)?;
    text += "\n## What is said without\n\n";
    let mandatory = |what: &&String| {
        let mut subjects = subjects.iter();
        subjects.any(|subject| Verdict::of(subject, what) == Verdict::Mandatory)
    };
    let all = [services(subjects), protocols(subjects)].concat();
    let rows: Vec<String> = all.iter().filter(mandatory).cloned().collect();
    text += &matrix(subjects, &rows, said)?;
    Ok(text + "\n" + NOTES)
}

fn matrix(
    subjects: &[Subject],
    rows: &[String],
    cell: fn(&Subject, &str) -> String,
) -> Result<String> {
    let names: Vec<&str> = subjects.iter().map(|subject| &*subject.name).collect();
    let mut text = format!(
        "| | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for row in rows {
        let cells: Vec<String> = subjects.iter().map(|subject| cell(subject, row)).collect();
        writeln!(text, "| {row} | {} |", cells.join(" | "))?;
    }
    Ok(text)
}

/// Verdict, loss and count.
fn cell(subject: &Subject, what: &str) -> String {
    let count = match subject.count(what) {
        0 => String::new(),
        count => format!(" ×{count}"),
    };
    match Verdict::of(subject, what) {
        Verdict::Mandatory => format!("**mandatory**{count}"),
        Verdict::Tolerated(None) => format!("tolerated{count}"),
        Verdict::Tolerated(Some(loss)) => format!("tolerated{count}: {loss}"),
        Verdict::Unclear => format!("unclear: hung, or the host was too busy{count}"),
        Verdict::Unused => String::new(),
    }
}

fn said(subject: &Subject, what: &str) -> String {
    match Verdict::of(subject, what) {
        Verdict::Mandatory => subject.without[what].last.replace('|', "/"),
        _ => String::new(),
    }
}

/// Services in the order of their tables that a kernel called, and the real ones of
/// the runtime.
fn services(subjects: &[Subject]) -> Vec<String> {
    let names = (0..catalog::SLOTS).map(|slot| catalog::service(slot).0);
    let called = |name: &&str| subjects.iter().any(|subject| subject.count(name) > 0);
    let names = names.filter(|name| RUNTIME.contains(name) || called(name));
    names.map(Into::into).collect()
}

fn unused(subjects: &[Subject]) -> Vec<String> {
    let used = services(subjects);
    let names = (0..catalog::SLOTS).map(|slot| catalog::service(slot).0);
    let names = names.filter(|name| *name != "reserved" && !used.iter().any(|used| used == name));
    names.map(Into::into).collect()
}

fn protocols(subjects: &[Subject]) -> Vec<String> {
    let all: BTreeSet<String> = subjects.iter().flat_map(Subject::protocols).collect();
    all.into_iter().collect()
}

fn json(subjects: &[Subject], qemu: &str) -> Result<String> {
    let kernels: Vec<Value> = subjects.iter().map(kernel).collect();
    let document = json!({ "qemu": qemu, "kernels": kernels });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn kernel(subject: &Subject) -> Value {
    let without = subject.without.iter().map(|(what, progress)| {
        let loss = progress.loss(&subject.whole).filter(|_| progress.init);
        let cell = json!({
            "calls": subject.count(what),
            "verdict": Verdict::of(subject, what).name(),
            "reached": progress.words(),
            "lost": loss.unwrap_or_default(),
            "said": if progress.init { "" } else { &progress.last },
        });
        (what.clone(), cell)
    });
    json!({
        "name": subject.name,
        "linux": subject.version,
        "calls": subject.trace.calls.len(),
        "without": without.collect::<Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_json_are_escaped() {
        let text = "a\"b\\c\n";
        let document: Value = serde_json::from_str(&json(&[], text).unwrap()).unwrap();
        assert_eq!(document["qemu"], text);
    }
}
