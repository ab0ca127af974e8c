//! `cargo xtask conformance`: which services kernels need, measured.
//!
//! Each kernel is booted once whole, with a trace, and then once without each
//! service it called: the firmware fails it (`ovmf-lite.deny=`). What was not called
//! needs no boot. Runtime services are called after ExitBootServices, too, where the
//! firmware is gone and counts nothing: each gets a boot. The result is
//! `docs/CONFORMANCE.md` and the same in `docs/conformance.json`; nothing in them is
//! written by hand.

mod bed;
mod document;
mod judge;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::accel::{self, Wish};
use crate::debian::Suite;
use crate::guest::{Guest, Purpose};
use crate::kernel::Kernel;
use crate::qemu::Files;
use crate::trace::Trace;
use crate::{build, workspace};
use judge::Progress;
use run::Bench;

/// Options of `cargo xtask conformance`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A kernel of Debian: 5.10, 6.1, 6.12, sid; may be repeated [default: all]
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    kernel: Vec<String>,
    /// Without the guest of Xen
    #[arg(long)]
    no_xen: bool,
    /// What executes the guests of QEMU
    #[arg(long, value_enum, default_value_t)]
    accel: Wish,
    /// How many machines run at the same time [default: as many as processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Where the two documents go [default: docs]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// Names of the kernels, and where Debian has them.
const NAMES: [&str; 4] = ["5.10", "6.1", "6.12", "sid"];
const SUITES: [Suite; 4] = [Suite::Bullseye, Suite::Bookworm, Suite::Trixie, Suite::Sid];
const PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel that runs as a guest of Xen, too.
const IN_XEN: &str = "6.1";

/// The boot that lacks nothing.
const WHOLE: &str = "";

/// The words for the proposal of 2016.
const PROFILE: &str = "ovmf-lite.profile=2016";

/// Runtime services that Linux has a use for after ExitBootServices and that are no
/// stubs (docs/COVERAGE.md).
const RUNTIME: [&str; 8] = [
    "GetTime",
    "SetTime",
    "SetVirtualAddressMap",
    "GetVariable",
    "GetNextVariableName",
    "SetVariable",
    "ResetSystem",
    "QueryVariableInfo",
];

/// A kernel, where it ran, and what was seen.
#[derive(Clone, Debug)]
struct Subject {
    /// As the document calls it.
    name: String,
    /// The version of Linux, as it says itself.
    version: String,
    /// The whole boot.
    whole: Progress,
    /// Its calls.
    trace: Trace,
    /// What became of the boots without something, by what they lack:
    /// `SERVICE`, `SERVICE:GUID`, or the profile's words.
    without: BTreeMap<String, Progress>,
}

/// A kernel with a userspace that says how far it came.
#[derive(Clone, Debug)]
struct Prepared {
    name: &'static str,
    kernel: PathBuf,
    initrd: PathBuf,
}

/// A machine to start: subject and what it lacks, or a Xen with guests that each lack
/// something of the subject.
enum Job {
    Boot(usize, String),
    Bed(usize, Vec<String>),
}

/// Measures and writes the documents.
///
/// # Errors
/// When something cannot be built, fetched or written, or a kernel does not come up
/// even with everything.
pub fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let bench = Bench {
        firmware: build::firmware()?,
        accelerator: accel::choose(options.accel),
        jobs: options.jobs.unwrap_or_else(processors).max(1),
    };
    let files = Files::create("conformance")?;
    let wanted = |name: &str| options.kernel.is_empty() || options.kernel.iter().any(|k| k == name);
    let kernels = NAMES.into_iter().zip(SUITES);
    let kernels: Vec<Prepared> = kernels
        .filter(|(name, _)| wanted(name))
        .map(|(name, suite)| prepare(name, suite, &files))
        .collect::<Result<_>>()?;
    let mut subjects = wholes(&bench, &kernels)?;
    let xen = kernels
        .iter()
        .position(|k| k.name == IN_XEN && !options.no_xen);
    knock_out(&bench, &kernels, &mut subjects, xen)?;
    let directory = options.output.clone();
    let directory = directory.unwrap_or_else(|| workspace::root().join("docs"));
    for (name, content) in document::write(&subjects, bench.accelerator)? {
        let file = directory.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("xtask: {} written", workspace::shown(&file));
    }
    eprintln!("xtask: measured in {} s", began.elapsed().as_secs());
    files.remove()
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn prepare(name: &'static str, suite: Suite, files: &Files) -> Result<Prepared> {
    let kernel = Kernel::fetch(suite, PACKAGE)?;
    let initrd = files.directory().join(format!("{name}.cpio"));
    let purpose = Purpose::Command(judge::SCRIPT.into());
    Guest::new(&kernel, &[], &purpose)?.write_initramfs(&initrd)?;
    Ok(Prepared {
        name,
        kernel: kernel.image,
        initrd,
    })
}

/// The whole boots.
fn wholes(bench: &Bench, kernels: &[Prepared]) -> Result<Vec<Subject>> {
    let jobs = (0..kernels.len()).collect();
    let booted = parallel(jobs, bench.jobs, |index: usize| {
        let kernel = &kernels[index];
        let console = bench.boot(kernel, "ovmf-lite.trace")?;
        Ok(vec![(index, Subject::new(kernel.name.into(), &console)?)])
    })?;
    let mut booted: Vec<(usize, Subject)> = booted;
    booted.sort_by_key(|(index, _)| *index);
    Ok(booted.into_iter().map(|(_, subject)| subject).collect())
}

impl Subject {
    fn new(name: String, console: &str) -> Result<Subject> {
        let (whole, trace) = (Progress::read(console), Trace::read(console));
        ensure!(
            whole.init && whole.efivars.len() == judge::EFIVARS && !trace.calls.is_empty(),
            "{name}: expected a boot with variables and a trace, found: {}",
            whole.last
        );
        let calls = trace.calls.len();
        eprintln!("xtask: {name}: {calls} calls before ExitBootServices");
        Ok(Subject {
            name,
            version: judge::version(console).unwrap_or_default(),
            whole,
            trace,
            without: BTreeMap::new(),
        })
    }

    /// What boots are needed to know about this kernel.
    fn experiments(&self) -> Vec<String> {
        let called = self.trace.calls.iter().map(|call| call.service.clone());
        let services: BTreeSet<String> = called.chain(RUNTIME.map(Into::into)).collect();
        let mut experiments: Vec<String> = services.into_iter().collect();
        experiments.extend(self.protocols());
        experiments.push(PROFILE.into());
        experiments
    }

    /// `SERVICE:GUID` of what services gave or took that are asked for several.
    fn protocols(&self) -> BTreeSet<String> {
        let calls = || {
            self.trace
                .calls
                .iter()
                .filter_map(|call| Some((call, call.guid()?)))
        };
        let several = |service: &str| {
            let mut guids = calls().filter(|(call, _)| call.service == service);
            let first = guids.next().map(|(_, guid)| guid);
            guids.any(|(_, guid)| Some(guid) != first)
        };
        let given = calls().filter(|(call, _)| call.status == "SUCCESS" && several(&call.service));
        given
            .map(|(call, guid)| format!("{}:{guid}", call.service))
            .collect()
    }

    /// How often a service, or one of its GUIDs, was asked for.
    fn count(&self, what: &str) -> usize {
        let (service, guid) = match what.split_once(':') {
            Some((service, guid)) => (service, Some(guid)),
            None => (what, None),
        };
        let calls = self.trace.calls.iter();
        let calls = calls.filter(|call| call.service == service);
        calls
            .filter(|call| guid.is_none() || call.guid() == guid)
            .count()
    }
}

/// The words that take `what` away.
fn words(what: &str) -> String {
    match what {
        PROFILE => PROFILE.into(),
        _ => format!("ovmf-lite.deny={what}"),
    }
}

/// All other boots. Those in Xen are of the kernel at `xen`; they become a subject
/// of their own.
fn knock_out(
    bench: &Bench,
    kernels: &[Prepared],
    subjects: &mut Vec<Subject>,
    xen: Option<usize>,
) -> Result<()> {
    let mut jobs = Vec::new();
    if let Some(index) = xen {
        // The longest jobs come first.
        let mut experiments = subjects[index].experiments();
        experiments.insert(0, WHOLE.into());
        let half = experiments.split_off(experiments.len() / 2);
        jobs.extend([experiments, half].map(|part| Job::Bed(index, part)));
    }
    for (index, subject) in subjects.iter().enumerate() {
        let experiments = subject.experiments().into_iter();
        jobs.extend(experiments.map(|what| Job::Boot(index, what)));
    }
    let guests = subjects.len();
    let results = parallel(jobs, bench.jobs, |job| match job {
        Job::Boot(index, what) => {
            let console = bench.boot(&kernels[index], &words(&what))?;
            Ok(vec![(index, what, console)])
        }
        Job::Bed(index, experiments) => {
            let consoles = bed::run(bench, &kernels[index], &experiments)?;
            let results = experiments.into_iter().zip(consoles);
            Ok(results
                .map(|(what, console)| (guests, what, console))
                .collect())
        }
    })?;
    if let Some(index) = xen {
        let whole = results.iter().find(|(_, what, _)| what == WHOLE);
        let (_, _, console) = whole.context("the whole boot in Xen is missing")?;
        let name = format!("{} in Xen", kernels[index].name);
        let version = subjects[index].version.clone();
        subjects.push(Subject {
            version,
            ..Subject::new(name, console)?
        });
    }
    for (index, what, console) in results.into_iter().filter(|(_, what, _)| what != WHOLE) {
        subjects[index]
            .without
            .insert(what, Progress::read(&console));
    }
    for subject in subjects {
        let unknown = |what: &String| !subject.without.contains_key(what);
        let missing: Vec<_> = subject.experiments().into_iter().filter(unknown).collect();
        ensure!(
            missing.is_empty(),
            "{}: not tried without {missing:?}",
            subject.name
        );
    }
    Ok(())
}

/// Does `jobs` in several threads; the first error ends it.
fn parallel<J: Send, R: Send>(
    jobs: Vec<J>,
    threads: usize,
    work: impl Fn(J) -> Result<Vec<R>> + Sync,
) -> Result<Vec<R>> {
    let queue = Mutex::new(jobs.into_iter());
    let results = Mutex::new(Ok(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let done = |new: Result<Vec<R>>| {
        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
        match (results.as_mut(), new) {
            (Ok(results), Ok(new)) => results.extend(new),
            (Ok(_), Err(error)) => *results = Err(error),
            (Err(_), _) => return false,
        }
        results.is_ok()
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if !done(work(job)) {
                        break;
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
