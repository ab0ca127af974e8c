//! `cargo xtask coverage`: docs/COVERAGE.md, put together from the code and the
//! tests.
//!
//! What a slot of a service table is, its section and its limits stand in the code
//! that fills the table; protocols, configuration tables and variables in rows of
//! the module that makes them, below a line `Coverage, KIND:`. Tests are counted
//! where they name the service, and kernels in docs/conformance.json. A test
//! compares the page with what this makes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{source, workspace};

const PAGE: &str = "docs/COVERAGE.md";

/// The tables of functions: heading, file, what comes before the slots.
const TABLES: [(&str, &str, &str); 2] = [
    (
        "Boot services",
        "services/src/abi/table.rs",
        "BootServices {\n        header",
    ),
    (
        "Runtime services",
        "firmware/runtime/src/tables.rs",
        "RuntimeServices {\n        header",
    ),
];

/// Kinds of rows in modules: heading, and the columns.
const KINDS: [(&str, &str, &[&str]); 3] = [
    (
        "Protocols",
        "protocols",
        &["protocol", "section", "where", "note"],
    ),
    (
        "Configuration tables",
        "configuration tables",
        &["table", "section", "source"],
    ),
    (
        "Global variables",
        "global variables",
        &["variable", "value", "why"],
    ),
];

const INTRODUCTION: &str = "\
# Coverage

Written by `cargo xtask coverage` from the code and its tests; edit those. What kernels need of all this is measured in
[CONFORMANCE.md](CONFORMANCE.md). `ovmf-lite.deny=` on the command line makes a stub of any service, and `ovmf-lite.trace` logs
its calls ([TESTING.md](TESTING.md)).

Every slot of the two service tables holds a function that can be called. `real` means: to the letter of the section of UEFI 2.11
that is named, within the limits of the note. `stub` means: returns `EFI_UNSUPPORTED`, whatever the arguments.

Tests are counted: those of the guest application (`tests/guest`, in a virtual machine, on Debian's OVMF as well) in areas of
the section, or where there is none, functions that call the service; those of the edge (`services/src/abi/tests`) and of the runtime image in a process
(`tests/tests/runtime_image`) that call the service; and the Linux kernels that call it on their way up, of those in
CONFORMANCE.md. The data structures below have many more of their own.
";

/// Text under the headings.
const REMARKS: [(&str, &str); 2] = [
    (
        "Runtime services",
        "What is a stub here is missing from `EFI_RT_PROPERTIES_TABLE` (§4.6.2), too, and so is what is unsupported after\n\
         ExitBootServices. All real ones work before and after SetVirtualAddressMap.\n",
    ),
    (
        "Global variables",
        "Those of §3.3 that the firmware makes itself. The first four are `EFI_WRITE_PROTECTED`, and so is anything else with their\n\
         vendor and attributes.\n",
    ),
];

/// Writes the page.
///
/// # Errors
/// When the code cannot be read, or the page not be written.
pub fn run() -> Result<()> {
    let path = workspace::root().join(PAGE);
    fs::write(&path, generate()?).with_context(|| format!("cannot write {}", path.display()))
}

/// The page as it is to be, for comparison with [`present`].
///
/// # Errors
/// When a source cannot be read or is not as expected.
pub fn generate() -> Result<String> {
    let tests = Tests::read()?;
    let mut page = INTRODUCTION.to_owned();
    for (heading, file, start) in TABLES {
        page.push_str(&title(heading));
        page.push_str(
            "| service | state | section | guest | edge, image | kernels | note |\n\
             |---|---|---|---:|---:|---:|---|\n",
        );
        for service in slots(&read(file)?, start).context(file)? {
            page.push_str(&service.row(&tests));
        }
    }
    for (heading, kind, columns) in KINDS {
        page.push_str(&title(heading));
        let counted = kind == "protocols";
        page.push_str(&head(columns, counted));
        for row in rows(kind)? {
            let name = row.first().cloned().unwrap_or_default();
            let count = counted.then(|| tests.guest(&name, ""));
            writeln!(page, "| {} |{}", row.join(" | "), cell(count))?;
        }
    }
    Ok(page)
}

/// The page as it is.
///
/// # Errors
/// When it cannot be read.
pub fn present() -> Result<String> {
    read(PAGE)
}

fn title(heading: &str) -> String {
    let remark = REMARKS.iter().find(|(of, _)| *of == heading);
    let remark = remark.map_or(String::new(), |(_, text)| format!("{text}\n"));
    format!("\n## {heading}\n\n{remark}")
}

fn head(columns: &[&str], counted: bool) -> String {
    let (more, line) = if counted {
        (" guest |", "---:|")
    } else {
        ("", "")
    };
    let lines = "---|".repeat(columns.len());
    format!("| {} |{more}\n|{lines}{line}\n", columns.join(" | "))
}

fn cell(count: Option<usize>) -> String {
    count.map_or(String::new(), |count| format!(" {count} |"))
}

/// One slot of a table of functions.
struct Service {
    /// The field's name.
    slot: String,
    real: bool,
    section: String,
    note: String,
}

impl Service {
    fn row(&self, tests: &Tests) -> String {
        let name = camel(&self.slot);
        let count = |n: usize| match n {
            0 => String::new(),
            n => n.to_string(),
        };
        format!(
            "| {name} | {} | {} | {} | {} | {} | {} |\n",
            if self.real { "real" } else { "stub" },
            self.section,
            count(tests.of_service(&name, self)),
            count(tests.calling(&self.slot)),
            count(tests.kernels(&name)),
            self.note,
        )
    }
}

/// `allocate_pages` as the specification writes it.
fn camel(slot: &str) -> String {
    let word = |word: &str| match word {
        "tpl" => "TPL".to_owned(),
        word => {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_uppercase() + rest
        }
    };
    slot.split('_').map(word).collect()
}

/// The slots that are filled behind `start`, with the comments in front of them:
/// `// §SECTION: NOTE`.
fn slots(source: &str, start: &str) -> Result<Vec<Service>> {
    let (_, table) = source.split_once(start).context("no such table")?;
    let (table, _) = table.split_once("\n    }\n").context("no end")?;
    let mut services = Vec::new();
    let mut comment = Vec::new();
    for line in table.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("// ") {
            comment.push(text);
        } else if let Some((slot, function)) = line.split_once(": ") {
            let text = std::mem::take(&mut comment).join(" ");
            if !function.contains("::") || function.starts_with("ptr::") || slot.is_empty() {
                continue; // the reserved one
            }
            let text = text.strip_prefix('§');
            let text = text.with_context(|| format!("{slot}: expected a comment `// §…`"))?;
            let (section, note) = text.split_once(": ").unwrap_or((text, ""));
            services.push(Service {
                slot: slot.to_owned(),
                real: !function.starts_with("unsupported::"),
                section: section.to_owned(),
                note: note.to_owned(),
            });
        }
    }
    Ok(services)
}

/// All rows of a kind, module by module.
fn rows(kind: &str) -> Result<Vec<Vec<String>>> {
    let start = format!("//! Coverage, {kind}:");
    let mut rows = Vec::new();
    for directory in ["services/src", "firmware/src", "firmware/runtime/src"] {
        for (_, source) in sources(directory)? {
            let Some((_, behind)) = source.split_once(&start) else {
                continue;
            };
            let docs = behind
                .lines()
                .skip(1)
                .map_while(|line| line.strip_prefix("//!"));
            let table = docs.filter_map(|line| line.trim().strip_prefix("| ")?.strip_suffix('|'));
            rows.extend(table.map(|row| row.split('|').map(|cell| cell.trim().into()).collect()));
        }
    }
    Ok(rows)
}

/// The tests there are.
struct Tests {
    /// The guest application's areas, and how many checks each has.
    guest: Vec<(String, usize)>,
    /// Its functions.
    functions: Vec<String>,
    /// Bodies of tests at the edge and of the runtime image.
    bodies: Vec<String>,
    /// Calls by service, one map for each kernel.
    calls: Vec<BTreeMap<String, u64>>,
}

impl Tests {
    fn read() -> Result<Self> {
        let (mut guest, mut functions) = (Vec::new(), Vec::new());
        for (_, source) in sources("tests/guest/src")? {
            guest.extend(areas(&source));
            functions.extend(source.split("\nfn ").skip(1).map(str::to_owned));
        }
        let mut bodies = Vec::new();
        for directory in ["services/src/abi", "tests/tests"] {
            for (name, source) in sources(directory)? {
                if directory == "tests/tests" || name.contains("tests") {
                    bodies.extend(source.split("#[test]").skip(1).map(str::to_owned));
                }
            }
        }
        let calls = called()?;
        Ok(Self {
            guest,
            functions,
            bodies,
            calls,
        })
    }

    /// Checks in areas that name this, or whose sections include this one.
    fn guest(&self, name: &str, section: &str) -> usize {
        let names = |area: &str| has_word(area, name) || includes(area, section);
        let areas = self.guest.iter().filter(|(area, _)| names(area));
        areas.map(|(_, checks)| checks).sum()
    }

    /// Checks of a service: if no area is about it, functions that call it.
    fn of_service(&self, name: &str, service: &Service) -> usize {
        let call = format!(".{}(", service.slot);
        match self.guest(name, &service.section) {
            // Those that go through all slots.
            0 if !service.real => self.guest("slots", ""),
            0 => self
                .functions
                .iter()
                .filter(|one| one.contains(&call))
                .count(),
            checks => checks,
        }
    }

    /// Tests that call the function in this slot.
    fn calling(&self, slot: &str) -> usize {
        self.bodies
            .iter()
            .filter(|body| has_word(body, slot))
            .count()
    }

    /// Kernels that call this service.
    fn kernels(&self, name: &str) -> usize {
        let calls = |kernel: &&BTreeMap<String, u64>| kernel.get(name).is_some_and(|n| *n > 0);
        self.calls.iter().filter(calls).count()
    }
}

fn has_word(text: &str, wanted: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word == wanted)
}

/// Whether `area`, such as `7.1.3-7.1.6 events`, is about `section`.
fn includes(area: &str, section: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        text.split('.').map(|number| number.parse().ok()).collect()
    };
    let range = area.split(' ').next().unwrap_or_default();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (numbers(first), numbers(section), numbers(last)) {
        (Some(first), Some(section), Some(last)) => first <= section && section <= last,
        _ => false,
    }
}

/// The areas in a file of the guest application, and how many checks each has.
fn areas(source: &str) -> Vec<(String, usize)> {
    let behind = source.split("    name: \"").skip(1);
    let areas = behind.filter_map(|text| {
        let (name, rest) = text.split_once('"')?;
        let (_, list) = rest.split_once("checks: &[")?;
        Some((name.to_owned(), tuples(list)))
    });
    areas.collect()
}

/// How many tuples there are up to the bracket that ends the list.
fn tuples(list: &str) -> usize {
    let (mut depth, mut count, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for character in list.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => {
                count += usize::from(depth == 0 && character == '(');
                depth += 1;
            }
            ']' if depth == 0 => break,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    count
}

/// How often each kernel of docs/conformance.json calls what.
fn called() -> Result<Vec<BTreeMap<String, u64>>> {
    let json: Value = serde_json::from_str(&read("docs/conformance.json")?)?;
    let kernels = json["kernels"].as_array().context("no kernels")?;
    let calls = kernels.iter().map(|kernel| {
        let services = kernel["without"].as_object().into_iter().flatten();
        let calls = services.map(|(name, one)| (name.clone(), one["calls"].as_u64().unwrap_or(0)));
        calls.collect()
    });
    Ok(calls.collect())
}

/// All Rust files below `directory`, in order, with what is in them.
fn sources(directory: &str) -> Result<Vec<(String, String)>> {
    let files = source::rust_files(&workspace::root().join(directory))?;
    let sources = files.iter().map(|path| {
        let path = path.to_str().context("a path is no UTF-8")?;
        Ok((path.to_owned(), read(path)?))
    });
    sources.collect()
}

fn read(path: &str) -> Result<String> {
    let path = workspace::root().join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_counted_whatever_is_in_them() {
        let list = "\n(\"a (b)\", |g| { f(g, [1, (2)]) }),\n(\"\\\"]\", c),\n], (\"no\", more)";
        assert_eq!(tuples(list), 2);
    }

    #[test]
    fn areas_include_sections() {
        assert!(includes("7.1.3-7.1.6 events", "7.1.5"));
        assert!(includes("7.3.10 CloseProtocol", "7.3.10"));
        assert!(!includes("7.3.10 CloseProtocol", "7.3.1"));
        assert!(!includes("full", "7.3.1"));
    }

    #[test]
    fn slots_have_sections_and_notes() {
        let table = "T {\n        header: header(),\n        // §7.2.1: some\n        // note\n        \
                     allocate_pages: memory::allocate_pages,\n        reserved: ptr::null_mut(),\n        \
                     // §7.1.8\n        raise_tpl: unsupported::raise_tpl,\n    }\n";
        let services = slots(table, "T {\n        header").unwrap();
        let [one, other] = &services[..] else {
            panic!("two services")
        };
        assert_eq!(
            (camel(&one.slot), &*one.note),
            ("AllocatePages".into(), "some note")
        );
        assert!(one.real && !other.real);
        assert_eq!(
            (camel(&other.slot), &*other.section),
            ("RaiseTPL".into(), "7.1.8")
        );
        let bare = "T {\n        header: h(),\n        stall: timers::stall,\n    }\n";
        assert!(slots(bare, "T {\n        header").is_err());
    }
}
