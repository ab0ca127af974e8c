//! `docs/COVERAGE.md` says of each boot service what the code does.

use std::collections::BTreeMap;
use std::fs;

use xtask::workspace;

/// Service names, lower case without underscores, and whether each is real.
type Coverage = BTreeMap<String, bool>;

fn read(path: &str) -> String {
    fs::read_to_string(workspace::root().join(path)).expect("a file of the repository")
}

/// The slots that are filled in `source`, with `stub` naming the stubs' module.
fn filled(source: &str, stub: &str) -> Coverage {
    let slots = source.lines().filter_map(|line| {
        let (slot, function) = line.trim().strip_suffix(',')?.split_once(": ")?;
        let (module, _) = function.split_once("::")?;
        // The reserved slot.
        let service = function != "ptr::null_mut()";
        service.then(|| (slot.replace('_', ""), module != stub))
    });
    slots.collect()
}

/// The rows of a table of `docs/COVERAGE.md`.
fn documented(heading: &str) -> Coverage {
    let text = read("docs/COVERAGE.md");
    let (_, section) = text.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (name, state) = (cells.next()?, cells.next()?);
        match state {
            "real" => Some((name.to_lowercase(), true)),
            "stub" => Some((name.to_lowercase(), false)),
            _ => None,
        }
    });
    rows.collect()
}

#[test]
fn boot_services_are_as_documented() {
    let source = read("services/src/abi/table.rs");
    let (_, table) = source.split_once("header: header(),\n").expect("the table");
    let filled = filled(table, "unsupported");
    assert_eq!(filled.len(), 43, "one entry per boot service: {filled:?}");
    assert_eq!(filled, documented("## Boot services"));
}

#[test]
fn runtime_services_are_as_documented() {
    let source = read("firmware/runtime/src/tables.rs");
    let (_, table) = source
        .split_once("RUNTIME_SIGNATURE),\n")
        .expect("the table");
    let (table, _) = table.split_once('}').expect("its end");
    let filled = filled(table, "unsupported");
    assert_eq!(
        filled.len(),
        14,
        "one entry per runtime service: {filled:?}"
    );
    assert_eq!(filled, documented("## Runtime services"));
}
