//! `cargo xtask bench`: the firmware next to Debian's OVMF and to QEMU's start
//! without EFI, measured in one run by the same means.
//!
//! Writes `docs/PERFORMANCE.md` and what it shows. What counts are ratios: the
//! instructions are exact, but no processor takes the same time for each, and
//! times are those of this host.

pub mod budget;
mod chart;
pub mod count;
pub mod firmware;
mod floor;
pub mod guest;
mod image;
mod inject;
pub mod material;
pub mod phases;
mod report;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::accel::{self, Accelerator, Wish};
use crate::qemu::Files;
use crate::{build, workspace};
use count::{Map, Work};
use firmware::Firmware;
use guest::{Memory, Spread};
use image::Image;
use material::Material;

/// Options of `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// One more firmware: NAME=PATH of a flash file, or NAME=PATH:pvh of an ELF file
    #[arg(long, value_name = "NAME=PATH[:pvh]")]
    firmware: Vec<String>,
    /// Starts of each firmware by the clock
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Where PERFORMANCE.md, performance.json and the charts go
    #[arg(long, default_value = "docs")]
    output: PathBuf,
    /// Only show where the instructions of a start go
    #[arg(long)]
    phases: bool,
    /// What executes the guests whose starts are timed
    #[arg(long, value_enum, default_value_t)]
    accel: Wish,
}

/// A firmware on a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Which firmware.
    pub firmware: String,
    /// Which machine.
    pub machine: String,
    /// From reset to a small program.
    pub start: Work,
    /// What a kernel of 14 MB with an initrd of 32 MiB costs on top of that, up to
    /// ExitBootServices.
    pub kernel: Option<Work>,
    /// What the program saw of memory.
    pub map: Option<Map>,
    /// What a Linux guest has of it.
    pub memory: Option<Memory>,
    /// From the start of QEMU to the guest's userspace, in seconds.
    pub time: Option<Spread>,
    /// Its image.
    pub image: Option<Image>,
}

/// The machine whose rows are compared: all of them start on it.
const MAIN: &str = "q35";

/// Measures everything and writes the report.
///
/// # Errors
/// When something does not start.
pub fn run(options: &Options) -> Result<()> {
    let ours = build::firmware()?;
    build::guest_application()?;
    let files = files("bench")?;
    // A copy: what is measured is one firmware, whatever is built meanwhile.
    let flash = files.directory().join("ovmf-lite.fd");
    fs::copy(ours.flash, &flash)?;
    let mut all = vec![Firmware::bios("OVMF-lite", flash)];
    let material = Material::new(files.directory())?;
    if options.phases {
        phases::show(&all[0], &material)?;
        return files.remove();
    }
    all.extend(Firmware::ovmf()?);
    for text in &options.firmware {
        all.push(Firmware::parse(text)?);
    }
    all.push(Firmware::own());
    let mut rows = Vec::new();
    for firmware in &all {
        for model in machines(firmware) {
            eprintln!("bench: {} on {model}", firmware.name);
            rows.push(row(firmware, model, &material)?);
        }
    }
    let accelerator = accel::choose(options.accel);
    clock(&all, &material, accelerator, options.rounds, &mut rows)?;
    files.remove()?;
    report::write(&workspace::root().join(&options.output), &rows, accelerator)
}

/// OVMF has no build for microvm in Debian.
fn machines(firmware: &Firmware) -> &'static [&'static str] {
    match firmware.name.as_str() {
        "OVMF-lite" | "no EFI" => &[MAIN, "pc", "microvm"],
        _ => &[MAIN, "pc"],
    }
}

fn row(firmware: &Firmware, model: &str, material: &Material) -> Result<Row> {
    let program = match firmware.has_efi() {
        true => material.probe(),
        false => material.floor(),
    };
    let (start, probe) = count::work(firmware, model, &program)?;
    let main = model == MAIN;
    let kernel = match main && firmware.has_efi() {
        true => Some(
            count::work(firmware, model, &material.watched())?
                .0
                .beyond(start),
        ),
        false => None,
    };
    let memory = match model {
        "pc" => None,
        _ => Some(guest::memory(firmware, model, material)?),
    };
    let image = firmware.image().filter(|_| main);
    Ok(Row {
        firmware: firmware.name.clone(),
        machine: model.into(),
        start,
        kernel,
        map: firmware.has_efi().then(|| probe.map()).transpose()?,
        memory,
        time: None,
        image: image.map(Image::of).transpose()?,
    })
}

/// Starts one after the other, time and again, so that what else the host does
/// meets all of them.
fn clock(
    all: &[Firmware],
    material: &Material,
    accelerator: Accelerator,
    rounds: usize,
    rows: &mut [Row],
) -> Result<()> {
    let mut times = vec![Vec::<Duration>::new(); all.len()];
    for round in 1..=rounds {
        eprintln!("bench: by the clock, {round} of {rounds}");
        for (firmware, times) in all.iter().zip(&mut times) {
            times.push(guest::time(firmware, MAIN, material, accelerator)?);
        }
    }
    let main = rows.iter_mut().filter(|row| row.machine == MAIN);
    for (row, times) in main.zip(times.iter().filter(|times| !times.is_empty())) {
        row.time = Some(Spread::of(times)?);
    }
    Ok(())
}

/// A directory for a run: tests make several at a time.
fn files(name: &str) -> Result<Files> {
    static RUN: AtomicU32 = AtomicU32::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    Files::create(&format!("{}-{run}", name.replace([' ', ',', '='], "-")))
}
