//! What others see in the file of a store: virt-firmware, a reader of EDK2's
//! format in Python (PyPI, `virt-firmware`), which shares nothing with ours.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use xtask::{host, process, workspace};

/// It, what it imports, and what that imports.
const PACKAGES: [&str; 5] = [
    "virt-firmware==26.10",
    "cryptography==45.0.7",
    "cffi==1.17.1",
    "pycparser==2.22",
    "pefile==2024.8.26",
];

/// Attributes of variables that an operating system sees and that are kept.
const SEEN: u32 = 5;

/// One variable: its name and GUID as efivarfs writes them, then its attributes
/// and its value in hexadecimal.
pub type Line = String;

/// The variables in `store` that an operating system sees.
///
/// # Errors
/// When the reader cannot be had, or does not like the file.
pub fn variables(store: &Path) -> Result<BTreeSet<Line>> {
    let json = store.with_extension("json");
    let mut python = host::PYTHON.command();
    python.env("PYTHONPATH", packages()?);
    python
        .args(["-m", "virt.firmware.vars", "--input"])
        .arg(store);
    python.arg("--output-json").arg(&json);
    process::text(&mut python)?;
    let text = fs::read_to_string(&json)?;
    fs::remove_file(&json)?;
    lines(&text)
}

/// Where its packages are, which are fetched once.
fn packages() -> Result<PathBuf> {
    let directory = workspace::target().join("virt-firmware");
    fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock().context("cannot lock the packages")?;
    let complete = directory.join("packages");
    if !complete.is_dir() {
        host::require(&[host::PYTHON, host::PIP])?;
        let partial = directory.join("partial");
        let mut pip = host::PYTHON.command();
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]);
        pip.args(["--root-user-action", "ignore", "--target"])
            .arg(&partial);
        process::text(pip.args(PACKAGES))?;
        fs::rename(&partial, &complete)?;
    }
    Ok(complete)
}

/// Reads its JSON, which has one field a line.
fn lines(json: &str) -> Result<BTreeSet<Line>> {
    let mut found = BTreeSet::new();
    let mut fields = json.lines().filter_map(|line| line.trim().split_once(": "));
    while let Some((field, name)) = fields.next() {
        if field != "\"name\"" {
            continue;
        }
        let mut next = |label| {
            let (field, value) = fields.next().context("a variable without end")?;
            ensure!(field == label, "expected {label}, found {field}");
            Ok(text(value))
        };
        let (guid, attributes, data) = (next("\"guid\"")?, next("\"attr\"")?, next("\"data\"")?);
        let attributes: u32 = attributes.parse()?;
        if attributes & SEEN == SEEN {
            let attributes = attributes.swap_bytes();
            found.insert(format!("{}-{guid} {attributes:08x}{data}", text(name)));
        }
    }
    Ok(found)
}

fn text(value: &str) -> &str {
    value.trim_end_matches(',').trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn what_an_operating_system_sees_is_read() {
        let json = r#"{
            "variables": [
                {
                    "name": "A B",
                    "guid": "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
                    "attr": 39,
                    "data": "00ff"
                },
                {
                    "name": "Boot",
                    "guid": "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
                    "attr": 3,
                    "data": "00"
                }"#;
        let found: Vec<_> = lines(json).unwrap().into_iter().collect();
        let expected = "A B-d719b2cb-3d3a-4596-a3bc-dad00e67656f 2700000000ff";
        assert_eq!(found, [expected]);
        assert!(lines("\"name\": \"X\",").is_err());
    }
}
