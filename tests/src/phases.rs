//! Time stamps of the start: on the console for the host that asks, in variables
//! for the operating system.

use anyhow::{Context, Result, ensure};
use xtask::bench::firmware::Firmware;
use xtask::bench::material::Material;
use xtask::bench::phases::{self, Phases};
use xtask::build;
use xtask::qemu::{Files, Machine};

use crate::bench::{Bench, Release, Root, System};
use crate::variables;

/// Both variables as systemd's `efi_loader_get_boot_usec` reads them: four bytes of
/// attributes, then a decimal number in UTF-16.
const SCRIPT: &str = "\
cd /sys/firmware/efi/efivars || exit 1
for name in LoaderTimeInitUSec LoaderTimeExecUSec; do
    file=$name-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
    [ -e $file ] || { echo none; continue; }
    [ \"$(head -c 4 $file | hexdump -ve '1/1 \"%02x\"')\" = 06000000 ] || exit 2
    tail -c +5 $file | tr -d '\\000'
    echo
done
";

/// Linux finds both times: in this order, after the reset and before now. On a
/// microvm nobody says how fast the counter counts, and there are none.
///
/// # Errors
/// When it does not.
pub fn variables(bench: &Bench, model: &str) -> Result<()> {
    let machine = Machine {
        model: model.into(),
        ..bench.machine()
    };
    found_by_linux(bench, &format!("phases-variables-{model}"), machine)
}

/// So it does when variables are kept in flash.
///
/// # Errors
/// When it does not.
pub fn variables_with_flash(bench: &Bench) -> Result<()> {
    let files = Files::create("phases-variables-flash-store")?;
    let store = variables::template(&files, "OVMF_VARS_4M.ms.fd")?;
    let machine = variables::machine(bench, &store, None);
    found_by_linux(bench, "phases-variables-flash", machine)?;
    files.remove()
}

fn found_by_linux(bench: &Bench, name: &str, machine: Machine) -> Result<()> {
    let model = machine.model.clone();
    let system = System::new(Release::Bookworm, Root::Initrd);
    let outcome = bench.succeed(name, machine, system, SCRIPT)?;
    let lines: Vec<_> = outcome.output.lines().map(str::trim).collect();
    if model == "microvm" {
        ensure!(
            lines == ["none", "none"],
            "expected no times, found {lines:?}"
        );
        return Ok(());
    }
    let times = lines.iter().map(|line| Ok(line.parse::<u128>()?));
    let times = times
        .collect::<Result<Vec<_>>>()
        .context(outcome.output.clone())?;
    let limit = outcome.elapsed.as_micros();
    ensure!(
        matches!(times[..], [init, exec] if 0 < init && init < exec && exec < limit),
        "expected two times that rise from 0 to {limit}, found {times:?}"
    );
    Ok(())
}

/// The host moves each byte of kernel and initrd into memory once; the processor
/// moves none: it has not the instructions to.
///
/// # Errors
/// When more bytes are moved.
pub fn moved_once(_: &Bench) -> Result<()> {
    /// For the host's tables and lists, and the kernel's headers, which are read
    /// before it is known where the kernel goes: far less than a kernel.
    const BESIDES: u64 = 256 << 10;
    let files = Files::create("phases-moved-once")?;
    let firmware = Firmware::bios("OVMF-lite", build::flash_image());
    let material = Material::new(files.directory())?;
    let Phases { ends, fetched } = phases::measure(&firmware, "q35", &material.watched())?;
    let [kernel, initrd] = material.watched().bytes()?;
    let once = kernel + initrd;
    ensure!(
        (once..once + BESIDES).contains(&fetched),
        "expected {once} bytes and at most {BESIDES} besides to be fetched, found {fetched}"
    );
    // No instruction moves more than 16 bytes, and what repeats one counts each time.
    let stamp = |name| ends.iter().find(|(phase, _)| phase == name);
    let [tables, started] = ["tables", "started"].map(|name| stamp(name).map_or(0, |(_, at)| *at));
    let work = started - tables;
    println!(
        "kernel {kernel}, initrd {initrd}, fetched {fetched} bytes; {work} instructions from \
         tables to start"
    );
    ensure!(
        (1..kernel / 16).contains(&work),
        "expected too few instructions to copy the kernel, found {work}"
    );
    files.remove()
}

/// The phases are shown when asked for, in their order; a start is all of them.
///
/// # Errors
/// When they are not.
pub fn shown(_: &Bench) -> Result<()> {
    let files = Files::create("phases")?;
    let firmware = Firmware::bios("OVMF-lite", build::flash_image());
    let material = Material::new(files.directory())?;
    let phases = phases::measure(&firmware, "q35", &material.watched())?.ends;
    let names: Vec<_> = phases.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "reset",
        "long-mode",
        "platform",
        "tables",
        "placed",
        "started",
        "exit",
    ];
    ensure!(names == expected, "expected {expected:?}, found {names:?}");
    ensure!(
        phases.is_sorted_by(|(_, a), (_, b)| a < b),
        "expected each phase to end after the one before, found {phases:?}"
    );
    files.remove()
}
