//! The results as a page, as JSON and as charts.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::chart::{self, Bar};
use super::{MAIN, Row};
use crate::accel::Accelerator;
use crate::debian::{self, Suite};
use crate::emulator;

/// A figure of a row: its name in a sentence, the file of its chart, what it is,
/// and its value, if it has one.
type Figure = (&'static str, &'static str, fn(&[Row], &Row) -> Option<f64>);

/// What is charted and compared.
const FIGURES: [Figure; 6] = [
    (
        "Instructions from reset to a small EFI application",
        "start",
        |_, row| Some(as_f64(row.start.instructions)),
    ),
    (
        "Instructions of the firmware for a kernel and 32 MiB of initrd, beyond that",
        "kernel",
        |_, row| Some(as_f64(row.kernel?.instructions)),
    ),
    (
        "Seconds from QEMU's start to the guest's userspace",
        "time",
        |_, row| Some(row.time?.median),
    ),
    (
        "KiB of 512 MiB that a guest without EFI has more",
        "memory",
        lost,
    ),
    ("Descriptors in the memory map", "map", |_, row| {
        Some(as_f64(row.map?.descriptors))
    }),
    ("Bytes of the image neither 00 nor FF", "image", |_, row| {
        Some(as_f64(row.image?.occupied))
    }),
];

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// How much less memory Linux has than without EFI on the same machine, in KiB.
fn lost(rows: &[Row], row: &Row) -> Option<f64> {
    let without = rows
        .iter()
        .find(|other| other.map.is_none() && other.machine == row.machine)?;
    row.map?;
    Some(as_f64(without.memory?.total_kib) - as_f64(row.memory?.total_kib))
}

/// Writes `PERFORMANCE.md`, `performance.json` and the charts to `directory`, and
/// shows the page.
///
/// # Errors
/// When they cannot be written.
pub fn write(directory: &Path, rows: &[Row], accelerator: Accelerator) -> Result<()> {
    fs::create_dir_all(directory)?;
    let machine = machine(accelerator)?;
    let json = json!({ "machine": machine, "rows": rows });
    let write = |name: String, content: String| fs::write(directory.join(name), content);
    write(
        "performance.json".into(),
        serde_json::to_string_pretty(&json)? + "\n",
    )?;
    for figure in &FIGURES {
        let (title, name, _) = figure;
        write(
            format!("performance-{name}.svg"),
            chart::bars(title, &bars(rows, figure)),
        )?;
    }
    let page = page(rows, &machine);
    print!("{page}");
    write("PERFORMANCE.md".into(), page)?;
    Ok(())
}

/// A bar for each row of the main machine that has the figure.
fn bars(rows: &[Row], (_, _, value): &Figure) -> Vec<Bar> {
    let main = rows.iter().filter(|row| row.machine == MAIN);
    let values: Vec<_> = main
        .filter_map(|row| Some((row.firmware.clone(), value(rows, row)?)))
        .collect();
    let ours = values.first().map_or(1.0, |(_, value)| *value);
    let bar = |(name, value): (String, f64)| {
        let written = format!("{} ({})", short(value), times(value / ours));
        (name, value.max(0.0), written)
    };
    values.into_iter().map(bar).collect()
}

fn times(ratio: f64) -> String {
    format!("{}×", short(ratio))
}

/// Three digits or so, with a unit of magnitude.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        magnitude if magnitude >= 1e6 => (value / 1e6, " M"),
        magnitude if magnitude >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    match value.abs() {
        magnitude if magnitude >= 100.0 || value.fract() == 0.0 => format!("{value:.0}{unit}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}{unit}"),
        _ => format!("{value:.2}{unit}"),
    }
}

fn page(rows: &[Row], machine: &[(String, String)]) -> String {
    let mut page = HEAD.to_owned();
    page += &headline(rows);
    page += "\n## Charts\n\n";
    for (title, name, _) in &FIGURES {
        page += &format!("![{title}](performance-{name}.svg)\n\n");
    }
    page += "## All figures\n\n";
    page += "| firmware | machine | M instructions to the application | waited ms | kernel and initrd: M instructions more | descriptors | runtime KiB | ACPI KiB | MemTotal KiB | usable in e820 KiB | runtime regions in Linux | userspace s: median (least to most) |\n";
    page += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in rows {
        page += &line(row);
    }
    page += "\n| image | file bytes | neither 00 nor FF | zlib |\n|---|---:|---:|---:|\n";
    for row in rows {
        if let Some(image) = row.image {
            page += &format!(
                "| {} | {} | {} | {} |\n",
                row.firmware, image.file, image.occupied, image.compressed
            );
        }
    }
    page += "\n## Measured on\n\n| | |\n|---|---|\n";
    for (name, value) in machine {
        page += &format!("| {name} | {value} |\n");
    }
    page += METHOD;
    page
}

/// How many times our figure each other firmware has.
fn headline(rows: &[Row]) -> String {
    let main: Vec<_> = rows.iter().filter(|row| row.machine == MAIN).collect();
    let names: Vec<_> = main.iter().map(|row| row.firmware.as_str()).collect();
    let mut table = format!("| on {MAIN} | {} |\n|---|", names.join(" | "));
    table += &"---:|".repeat(names.len());
    table.push('\n');
    for (title, _, value) in &FIGURES {
        let ours = main.first().and_then(|row| value(rows, row));
        let cell = |row: &&Row| match (value(rows, row), ours) {
            (Some(value), Some(ours)) if !std::ptr::eq(*row, main[0]) => times(value / ours),
            (Some(value), _) => format!("{} = 1", short(value)),
            (None, _) => "".into(),
        };
        let cells: Vec<_> = main.iter().map(cell).collect();
        table += &format!("| {title} | {} |\n", cells.join(" | "));
    }
    table
}

fn line(row: &Row) -> String {
    let millions = |instructions: u64| format!("{:.3}", as_f64(instructions) / 1e6);
    let some = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    let time = row.time.map_or(String::new(), |time| {
        format!("{:.2} ({:.2} to {:.2})", time.median, time.least, time.most)
    });
    let (map, memory) = (row.map, row.memory);
    let cells = [
        row.firmware.clone(),
        row.machine.clone(),
        millions(row.start.instructions),
        waited(row.start.waited_ns),
        row.kernel
            .map_or(String::new(), |kernel| millions(kernel.instructions)),
        some(map.map(|map| map.descriptors)),
        some(map.map(|map| map.runtime_kib)),
        some(map.map(|map| map.tables_kib)),
        some(memory.map(|memory| memory.total_kib)),
        some(memory.map(|memory| memory.usable_kib)),
        some(memory.map(|memory| memory.runtime_regions)),
        time,
    ];
    format!("| {} |\n", cells.join(" | "))
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn waited(nanoseconds: i64) -> String {
    format!("{:.1}", nanoseconds as f64 / 1e6)
}

/// What the figures were measured on, each with its name.
fn machine(accelerator: Accelerator) -> Result<Vec<(String, String)>> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "));
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let version = |package| -> Result<String> {
        let directory = fs::canonicalize(debian::fetch(Suite::Bookworm, package)?)?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        Ok(name.replace('_', " "))
    };
    let facts = [
        (
            "processor",
            format!("{count} × {}", model.unwrap_or("unknown")),
        ),
        ("QEMU", emulator::version()?),
        ("instructions", "TCG, -icount, -cpu qemu64, 512 MiB".into()),
        (
            "times",
            format!(
                "{}, 512 MiB, one processor",
                accelerator.name().to_uppercase()
            ),
        ),
        ("OVMF", version("ovmf")?),
        ("kernel", version("linux-image-cloud-amd64")?),
        (
            "firmware",
            format!("OVMF-lite {}", env!("CARGO_PKG_VERSION")),
        ),
        ("command", "`cargo xtask bench`".into()),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
}

const HEAD: &str = "\
# Performance

Written by `cargo xtask bench`; edit `xtask/src/bench/report.rs` instead. In the column of OVMF-lite are its own figures, in the
others how many times these they are. \"no EFI\" is SeaBIOS (on microvm qboot), which starts the same kernel without EFI.

";

const METHOD: &str = "
## How

**Instructions** are counted by the guest's own time stamp counter while QEMU's time passes by instructions
(`-icount shift=S,sleep=off`): 2^S ns each. Two shifts, 3 and 6, tell instructions from timed waits. A small EFI application reads the counter
as its first act; without EFI a PVH program does. These figures are exact: the same on every run and host. They price neither
exits to the hypervisor nor caches, so they rank and guard, and are no milliseconds.

**Kernel and initrd**: the application is put into the unused real-mode code of Debian's kernel, runs in front of its EFI stub and times each
call that the stub makes, the initrd's LoadFile2 included, until ExitBootServices has succeeded. The figure is the firmware's
part: loading and placing the kernel, and these calls.

**Times** are medians of starts that took turns, from QEMU's start to the first byte from the guest's userspace, most of it the kernel's own.

**Memory** is what Linux 6.1 reports with 512 MiB, without `efi=debug`, which would keep all of the firmware's memory. A guest started
without EFI is what it is compared with.

The budget in `xtask/budget.json` holds bytes, descriptors and instructions to 2 %: `cargo xtask size`, and the tests `budget-`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 1.0, 2.346, 42.5, 9999.0, 12_345.0, 778_900_000.0].map(short);
        assert_eq!(shown, ["0", "1", "2.35", "42.5", "9999", "12.3 k", "779 M"]);
    }
}
