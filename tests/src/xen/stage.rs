//! A scenario put together check by check, run and judged.
//!
//! A check that never ran has failed, too. A failed case is explained by each
//! failed check's reason, the end of each guest's console and where the logs are.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use xtask::guest::{Guest, Purpose};
use xtask::kernel::Kernel;
use xtask::qemu::Files;
use xtask::vm::End;
use xtask::xen::bed::Bed;
use xtask::xen::command::MODULES;
use xtask::xen::domain::Domain;
use xtask::xen::report::Report;
use xtask::xen::scenario::Scenario;
use xtask::{build, workspace};

use super::{Case, Form};
use crate::bench::Release;

/// The firmware, among the files of a scenario.
pub const FIRMWARE: &str = "ovmf-lite.elf";
/// The flash image, among them.
pub const FLASH: &str = "ovmf-lite.fd";

/// Generous: an idle machine needs a sixth of it.
const SECONDS_OVER_PATIENCE: u64 = 10;
const SECONDS_FOR_DOM0: u64 = 120;
const CONSOLE_LINES: usize = 25;

/// A case's scenario while it is written.
pub struct Stage {
    case: Case,
    files: Files,
    /// What the checks call.
    functions: String,
    /// Commands that stand between checks, and the checks themselves.
    steps: Vec<String>,
    checks: Vec<String>,
    scenario: Scenario,
    /// Memory for guests that run at the same time, in MiB.
    memory: u64,
    starts: u64,
}

impl Stage {
    /// A stage for `case` with room for guests of `memory` MiB at the same time.
    ///
    /// # Errors
    /// When its directory cannot be created.
    pub fn new(case: &Case, memory: u64) -> Result<Stage> {
        let mut scenario = Scenario::new("");
        scenario.add_file(FIRMWARE, &build::elf());
        scenario.add_file(FLASH, &build::flash_image());
        Ok(Stage {
            case: *case,
            files: Files::create(&case.name())?,
            functions: String::new(),
            steps: Vec::new(),
            checks: Vec::new(),
            scenario,
            memory,
            starts: 0,
        })
    }

    /// A directory of its own, for what has to be made in files.
    pub fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// How its guests come to their kernels.
    pub fn form(&self) -> Form {
        self.case.form
    }

    /// Adds shell functions for the checks.
    pub fn functions(&mut self, functions: &str) {
        self.functions += functions;
    }

    /// Adds a file.
    pub fn bytes(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.scenario.add_bytes(name, bytes);
    }

    /// Adds `release`'s kernel, and returns it and its file's name.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn kernel(&mut self, release: Release) -> Result<(Kernel, String)> {
        let kernel = release.kernel()?;
        let name = format!("vmlinuz-{}", release.linux());
        self.scenario.add_file(&name, &kernel.image);
        Ok((kernel, name))
    }

    /// Adds a guest that runs `script`, in the case's form. What it starts is
    /// put together before the next check.
    ///
    /// # Errors
    /// When its kernel or userspace cannot be had.
    pub fn guest(&mut self, release: Release, script: &str, domain: Domain) -> Result<()> {
        self.guest_as(self.case.form, release, script, domain)
    }

    /// The same in another form than the case's.
    ///
    /// # Errors
    /// When its kernel or userspace cannot be had.
    pub fn guest_as(
        &mut self,
        form: Form,
        release: Release,
        script: &str,
        domain: Domain,
    ) -> Result<()> {
        let kernel = self.userspace(release, &domain.name, script)?;
        if form == Form::Firmware {
            let name = &domain.name;
            self.step(&format!("cat {kernel} {name}.initrd > {name}.module"));
        }
        let boot = form.boot(&domain.name, &kernel);
        self.domain(&Domain { boot, ..domain });
        Ok(())
    }

    /// Adds `<name>.initrd`, which runs `script`, and the kernel it is for; its
    /// file's name is returned.
    ///
    /// # Errors
    /// When kernel or userspace cannot be had.
    pub fn userspace(&mut self, release: Release, name: &str, script: &str) -> Result<String> {
        let (kernel, file) = self.kernel(release)?;
        let guest = Guest::new(&kernel, &MODULES, &Purpose::Command(script.to_owned()))?;
        let initrd = guest.initramfs()?;
        self.bytes(&format!("{name}.initrd"), initrd);
        Ok(file)
    }

    /// Adds a guest's configuration.
    pub fn domain(&mut self, domain: &Domain) {
        self.scenario.add_domain(domain);
    }

    /// Adds a command that is no check.
    pub fn step(&mut self, command: &str) {
        self.steps.push(command.to_owned());
    }

    /// Adds a check. It may start a guest, or twice.
    pub fn check(&mut self, name: &str, command: &str) {
        self.checks.push(name.to_owned());
        self.steps.push(format!("check {name} {command}"));
        self.starts += 1;
    }

    /// Makes room for `starts` more guests in the time limit.
    pub fn more_time(&mut self, starts: u64) {
        self.starts += starts;
    }

    /// Runs everything and expects every check to pass; figures are printed.
    ///
    /// # Errors
    /// When a check fails or does not run, with the reasons.
    pub fn run(mut self) -> Result<Report> {
        let patience = self.case.form.patience();
        let script = format!(
            "patience={patience}\n{}\n{}\n",
            self.functions,
            self.steps.join("\n")
        );
        self.scenario.set_script(&script);
        let bed = Bed {
            version: self.case.version,
            // What Xen needs for each guest's page tables is small.
            memory: self.memory + self.memory / 16 + 64,
            limit: Duration::from_secs(SECONDS_FOR_DOM0 + self.starts * self.seconds_per_guest()),
            ..Bed::default()
        };
        let running = bed.start(&self.scenario, &self.files)?;
        let line = running.line().to_owned();
        let report = running.wait(|| Ok(()))?;
        let failures = self.failures(&report);
        if !failures.is_empty() {
            bail!("{}", self.explain(&failures, &report, &line));
        }
        summarize(&self.case.name(), &report);
        self.files.remove()?;
        Ok(report)
    }

    fn seconds_per_guest(&self) -> u64 {
        u64::from(self.case.form.patience()) + SECONDS_OVER_PATIENCE
    }

    fn failures(&self, report: &Report) -> Vec<String> {
        let mut failures = Vec::new();
        for name in &self.checks {
            match report.verdicts.iter().find(|verdict| verdict.name == *name) {
                None => failures.push(format!("{name}: did not run")),
                Some(verdict) => {
                    let reason = verdict.failure.as_ref();
                    failures.extend(reason.map(|reason| format!("{name}: {reason}")));
                }
            }
        }
        if report.outcome.end != End::Exited(0) {
            failures.push(format!("QEMU's end: {:?}", report.outcome.end));
        }
        failures
    }

    fn explain(&self, failures: &[String], report: &Report, line: &str) -> String {
        let mut text = format!(
            "{} of {} checks failed after {} s:\n  {}\n",
            failures.len(),
            self.checks.len(),
            report.outcome.elapsed.as_secs(),
            failures.join("\n  ")
        );
        for (name, console) in &report.consoles {
            text += &format!("--- end of the console of {name}\n{}\n", tail(console));
        }
        let said = [&report.messages, &report.outcome.messages].map(|said| said.trim().to_owned());
        text + &format!(
            "--- end of Xen's console\n{}\n--- said by the scenario\n{}\n--- said by QEMU\n{}\n\
             --- logs: {}\n--- to try again:\n{line}\n",
            tail(&report.outcome.console),
            said[0],
            said[1],
            workspace::shown(self.files.directory()),
        )
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

fn summarize(name: &str, report: &Report) {
    let seconds = |elapsed: Duration| elapsed.as_secs_f32();
    let checks = report.verdicts.iter();
    let checks = checks.map(|v| format!("{} {:.1} s", v.name, seconds(v.elapsed)));
    let checks: Vec<_> = checks.collect();
    let elapsed = seconds(report.outcome.elapsed);
    eprintln!("{name}: {elapsed:.1} s: {}", checks.join(", "));
    for (figure, value) in &report.figures {
        eprintln!("{name}: {figure}: {value}");
    }
}
