//! The same boots as PVH guests of a real Xen, one after the other.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::run::Bench;
use super::{Prepared, WHOLE, judge, words};
use crate::qemu::Files;
use crate::xen::bed::Bed;
use crate::xen::domain::{Boot, Domain};
use crate::xen::scenario::Scenario;

const FUNCTIONS: &str = "
over() {
    said $1 'conformance: done' || ended $1
}

probe() {
    start $1
    eventually 240 over $1 || printf '\\n%s\\n' 'conformance: gave up waiting' >> $consoles/guest-$1.log
    stop $1
}
";

/// Memory of a guest, in MiB.
const MEMORY: u64 = 256;
/// For Xen and dom0, and for each guest, on a busy host.
const TO_START: u64 = 180;
const EACH: u64 = 120;

/// Starts a guest for each of `experiments`, what it lacks, and returns their consoles.
///
/// # Errors
/// When Xen or dom0 do not do what they should; not when a guest dies or hangs.
pub fn run(bench: &Bench, kernel: &Prepared, experiments: &[String]) -> Result<Vec<String>> {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let files = Files::create(&format!("conformance-xen-{number}"))?;
    let scenario = scenario(bench, kernel, experiments)?;
    let guests = u64::try_from(experiments.len())?;
    let bed = Bed {
        memory: MEMORY + MEMORY / 2,
        limit: Duration::from_secs(TO_START + EACH * guests),
        ..Bed::default()
    };
    let report = bed.run(&scenario, &files)?;
    report.status.with_context(|| {
        let last = report.outcome.last_line();
        format!("dom0 ended before its scenario did, last on its console: {last}")
    })?;
    let consoles = (0..experiments.len()).map(|index| report.console(&name(index)).to_owned());
    let consoles: Vec<String> = consoles.collect();
    for (what, console) in experiments.iter().zip(&consoles) {
        let progress = judge::Progress::read(console);
        eprintln!(
            "xtask: {} in Xen without `{what}`: {}",
            kernel.name,
            progress.words()
        );
    }
    files.remove()?;
    Ok(consoles)
}

fn name(index: usize) -> String {
    format!("guest{index}")
}

fn scenario(bench: &Bench, kernel: &Prepared, experiments: &[String]) -> Result<Scenario> {
    let mut script = FUNCTIONS.to_owned();
    let mut scenario = Scenario::new("");
    let mut module = fs::read(&kernel.kernel)?;
    module.extend(fs::read(&kernel.initrd)?);
    scenario.add_bytes("module", module);
    scenario.add_file("ovmf-lite.elf", &bench.firmware.elf);
    for (index, what) in experiments.iter().enumerate() {
        let words = match &**what {
            WHOLE => "ovmf-lite.trace".into(),
            what => words(what),
        };
        let name = name(index);
        script += &format!("check {name} probe {name}\n");
        scenario.add_domain(&Domain {
            name,
            boot: Boot::Pvh {
                kernel: "ovmf-lite.elf".into(),
                ramdisk: Some("module".into()),
            },
            command_line: format!("console=hvc0 earlyprintk=xen panic=-1 {words}"),
            memory: MEMORY,
            ..Domain::default()
        });
    }
    scenario.set_script(&script);
    Ok(scenario)
}
