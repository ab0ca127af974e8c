//! The guest application under Debian's OVMF: the tests of this firmware are held
//! against the firmware that everybody knows.
//!
//! Where OVMF fails one, [`EXPECTED`] says who is right and why. A failure that is
//! not in it fails the case; so does an entry whose test passes, or is no more.
//! Tests of what only this firmware promises do not run there at all.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use xtask::build;
use xtask::debian::Suite;
use xtask::qemu::{Files, Machine};
use xtask::vm::End;

use crate::bench::Bench;
use crate::variables;

/// A test that OVMF fails, and why we are right. Sections are those of UEFI 2.11.
type Difference = (&'static str, &'static str);

const EXPECTED: &[Difference] = &[
    (
        "7.2.1 AllocatePages: more bytes than there are numbers",
        "EFI_OUT_OF_RESOURCES is for pages that could not be allocated; no count of pages is invalid. \
         EDK2 says EFI_INVALID_PARAMETER when the count of bytes overflows",
    ),
    (
        "7.2.2 FreePages: more than was allocated",
        "EFI_NOT_FOUND says that the pages were not allocated, not that some of them were: nothing may \
         be freed. EDK2 goes region by region and has freed the first when it finds the second free",
    ),
    (
        "7.2.3 GetMemoryMap: a buffer of just the size is enough",
        "EFI_BUFFER_TOO_SMALL is for a buffer that cannot hold the map. EDK2 counts descriptors \
         before it merges them",
    ),
    (
        "7.4.1 LoadImage: neither SourceBuffer nor DevicePath",
        "EFI_NOT_FOUND is what the list of statuses says of just this. EDK2 says \
         EFI_INVALID_PARAMETER",
    ),
];

/// Runs it under the OVMF of a Debian release, with its variables in flash.
///
/// # Errors
/// When OVMF differs in another way than expected, or does not get to the end.
pub fn run(bench: &Bench, suite: Suite) -> Result<()> {
    let files = Files::create("reference-store")?;
    let (code, store) = variables::ovmf_of(suite, &files)?;
    let machine = Machine {
        kernel: Some(build::guest_image()),
        command_line: "reference".into(),
        ..variables::machine(bench, &store, Some(code))
    };
    let outcome = bench.expect("reference", &machine, End::Exited(0), " passed, ")?;
    judge(&outcome.console, EXPECTED)?;
    files.remove()
}

/// Compares the application's lines with the failures that are expected.
fn judge(console: &str, expected: &[Difference]) -> Result<()> {
    let passed: Vec<_> = lines(console, "ok ").collect();
    let mut failed: BTreeMap<&str, &str> =
        lines(console, "FAIL ").map(|line| (line, line)).collect();
    let known = |line: &str, name: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(": "))
    };
    let mut wrong = Vec::new();
    for (name, _) in expected {
        let before = failed.len();
        failed.retain(|line, _| !known(line, name));
        if failed.len() == before {
            let what = if passed.contains(name) {
                "passes now"
            } else {
                "was not run"
            };
            wrong.push(format!("expected to fail, but {what}: {name}"));
        }
    }
    wrong.extend(
        failed
            .into_keys()
            .map(|line| format!("not expected to fail: {line}")),
    );
    ensure!(wrong.is_empty(), "OVMF differs:\n{}", wrong.join("\n"));
    Ok(())
}

/// What follows `word` in the lines that begin with it.
fn lines<'c>(console: &'c str, word: &'static str) -> impl Iterator<Item = &'c str> {
    console
        .lines()
        .filter_map(move |line| line.trim_end().strip_prefix(word))
}

#[cfg(test)]
mod tests {
    use super::judge;

    const CONSOLE: &str =
        "ok 1 A: one\r\nFAIL 1 A: two: expected 2, found 3\r\nguest: 1 passed, 1 failed\r\n";

    #[test]
    fn what_is_expected_is_fine() {
        assert!(judge(CONSOLE, &[("1 A: two", "because")]).is_ok());
    }

    #[test]
    fn all_else_is_told() {
        let explained = |expected: &[_]| judge(CONSOLE, expected).unwrap_err().to_string();
        assert!(explained(&[]).contains("not expected to fail: 1 A: two: expected 2, found 3"));
        let two = ("1 A: two", "");
        assert!(explained(&[two, ("1 A: one", "")]).contains("passes now: 1 A: one"));
        assert!(explained(&[two, ("1 A: three", "")]).contains("was not run: 1 A: three"));
        assert!(explained(&[("1 A: tw", "")]).contains("not expected"));
    }
}
