//! A running virtual machine that never outlives the one who waits for it.
//!
//! QEMU writes everything to files, which are read while it runs; it is killed
//! when its time is over, when the [`Vm`] is dropped and when we die.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::qemu::{Console, Files, Machine};
use crate::{host, process};

const POLL: Duration = Duration::from_millis(20);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// QEMU ended with this status; 0 when the guest powered off or reset.
    Exited(i32),
    /// QEMU was ended by this signal.
    Signal(i32),
    /// QEMU was killed after its time.
    TimedOut,
}

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Everything on the first serial port.
    pub console: String,
    /// What the guest's command printed.
    pub output: String,
    /// The status of the guest's command, if it got that far.
    pub status: Option<u8>,
    /// What QEMU itself said.
    pub messages: String,
    /// From the start of QEMU to its end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The last line on the console that says anything.
    pub fn last_line(&self) -> &str {
        let mut lines = self.console.lines().rev().map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or("nothing")
    }
}

/// Where to show a run while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Nowhere.
    Nothing,
    /// The console on standard output.
    Console,
    /// The console on standard error, the command's output on standard output.
    Command,
}

/// A started QEMU.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    files: Files,
    started: Instant,
    line: String,
}

impl Vm {
    /// Starts `machine`, which leaves `files` behind.
    ///
    /// # Errors
    /// When QEMU is not there or cannot be started.
    pub fn start(machine: &Machine, files: &Files, console: Console) -> Result<Vm> {
        let qemu = machine.emulator.invocation()?;
        let mut command = bound_to_us(qemu.program);
        command.args(qemu.arguments);
        command.args(machine.arguments(files, console));
        let messages = File::create(files.qemu())?;
        if console == Console::File {
            command.stdin(Stdio::null()).stdout(messages.try_clone()?);
            command.stderr(messages);
        }
        let line = process::line(&command);
        let child = command.spawn().context("cannot start QEMU")?;
        let files = files.clone();
        Ok(Vm {
            child,
            files,
            started: Instant::now(),
            line,
        })
    }

    /// The command line, to be pasted into a shell.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Waits until QEMU ends, at most until `limit` has passed since its start,
    /// and shows meanwhile what `echo` says.
    ///
    /// # Errors
    /// When QEMU cannot be waited for or its files not be read.
    pub fn wait(self, limit: Option<Duration>, echo: Echo) -> Result<Outcome> {
        let mut shown = Shown::new(echo);
        let files = self.files.clone();
        self.wait_and(limit, || shown.update(&files))
    }

    /// Waits as [`Vm::wait`] does and calls `meanwhile` time and again, the last
    /// time after QEMU has ended.
    ///
    /// # Errors
    /// When QEMU cannot be waited for, or `meanwhile` fails.
    pub fn wait_and(
        mut self,
        limit: Option<Duration>,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Outcome> {
        let end = loop {
            let status = self.child.try_wait()?;
            meanwhile()?;
            if let Some(status) = status {
                break ended(status);
            }
            if limit.is_some_and(|limit| self.started.elapsed() > limit) {
                self.kill();
                break End::TimedOut;
            }
            thread::sleep(POLL);
        };
        self.outcome(end)
    }

    /// Waits until the console satisfies `seen`.
    ///
    /// # Errors
    /// When QEMU ends first, or `limit` has passed since its start.
    pub fn wait_for(&mut self, limit: Duration, seen: impl Fn(&str) -> bool) -> Result<()> {
        loop {
            let ended = self.child.try_wait()?;
            if seen(&text(&self.files.console())) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("QEMU ended before, {status}");
            }
            if self.started.elapsed() > limit {
                bail!("not seen within {} s", limit.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// Whether QEMU has not ended by itself.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Ends the run now.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn stop(mut self) -> Result<Outcome> {
        self.kill();
        self.outcome(End::TimedOut)
    }

    fn kill(&mut self) {
        // Fails only when QEMU has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn outcome(&self, end: End) -> Result<Outcome> {
        let report = bytes(&self.files.report());
        let (output, status) = split_report(&report);
        Ok(Outcome {
            end,
            console: text(&self.files.console()),
            output: String::from_utf8_lossy(output).into_owned(),
            status,
            messages: text(&self.files.qemu()),
            elapsed: self.started.elapsed(),
        })
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `program`, to be killed by the kernel when the thread that starts it ends:
/// the only way that also covers our own death by a signal.
pub fn bound_to_us(program: PathBuf) -> Command {
    let setpriv = host::SETPRIV;
    if setpriv.find().is_none() {
        return Command::new(program);
    }
    let mut command = setpriv.command();
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}

/// QEMU creates the files in its own time; before, there is nothing to read.
fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&bytes(path)).into_owned()
}

/// How much of a run's files has been shown.
struct Shown {
    echo: Echo,
    console: usize,
    output: usize,
}

impl Shown {
    fn new(echo: Echo) -> Shown {
        Shown {
            echo,
            console: 0,
            output: 0,
        }
    }

    fn update(&mut self, files: &Files) -> Result<()> {
        let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
        match self.echo {
            Echo::Nothing => return Ok(()),
            Echo::Console => show(&bytes(&files.console()), &mut self.console, &mut stdout)?,
            Echo::Command => {
                let report = bytes(&files.report());
                show(&bytes(&files.console()), &mut self.console, &mut stderr)?;
                show(split_report(&report).0, &mut self.output, &mut stdout)?;
            }
        }
        Ok(())
    }
}

/// Writes what is new in `bytes` since `shown` of them were written.
///
/// # Errors
/// When it cannot be written.
pub fn show(bytes: &[u8], shown: &mut usize, to: &mut impl Write) -> Result<()> {
    if let Some(new) = bytes.get(*shown..).filter(|new| !new.is_empty()) {
        to.write_all(new)?;
        to.flush()?;
        *shown = bytes.len();
    }
    Ok(())
}

/// What the command printed, and the status in the trailer `\0exit=<n>\n`. An
/// unfinished trailer belongs to neither.
fn split_report(report: &[u8]) -> (&[u8], Option<u8>) {
    let Some(at) = report.iter().rposition(|byte| *byte == 0) else {
        return (report, None);
    };
    let (output, trailer) = report.split_at(at);
    let status = str::from_utf8(trailer).ok().and_then(|trailer| {
        trailer
            .strip_prefix("\0exit=")?
            .strip_suffix('\n')?
            .parse()
            .ok()
    });
    (output, status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_with_the_status() {
        assert_eq!(split_report(b"a\nb\n\0exit=3\n"), (&b"a\nb\n"[..], Some(3)));
        assert_eq!(split_report(b"\0exit=0\n"), (&b""[..], Some(0)));
    }

    #[test]
    fn a_report_without_end_has_no_status() {
        assert_eq!(split_report(b"exit=0\n"), (&b"exit=0\n"[..], None));
        assert_eq!(split_report(b"a\0exit=1"), (&b"a"[..], None));
        assert_eq!(split_report(b""), (&b""[..], None));
    }

    #[test]
    fn the_last_line_says_something() {
        let mut outcome = Outcome {
            end: End::Exited(1),
            console: "one\r\ntwo\r\n\n \r\n".into(),
            output: String::new(),
            status: None,
            messages: String::new(),
            elapsed: Duration::ZERO,
        };
        assert_eq!(outcome.last_line(), "two");
        outcome.console.clear();
        assert_eq!(outcome.last_line(), "nothing");
    }
}
