//! QEMU's monitor, for what is done to a machine while it runs (QEMU,
//! docs/interop/qmp-spec.rst): commands of its human side, one at a time, each
//! waited for.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Arguments that give a machine a monitor at `socket`.
pub fn arguments(socket: &Path) -> [String; 4] {
    let place = format!("path={},server=on,wait=off", socket.display());
    [
        "-chardev".into(),
        format!("socket,id=monitor,{place}"),
        "-mon".into(),
        "chardev=monitor,mode=control".into(),
    ]
}

/// Where the socket of a monitor is in `directory`.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("monitor")
}

/// A connection.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to a running machine.
    ///
    /// # Errors
    /// When nobody listens or answers.
    pub fn connect(socket: &Path) -> Result<Monitor> {
        let stream = UnixStream::connect(socket).context("cannot connect to QEMU's monitor")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut monitor = Monitor {
            stream: BufReader::new(stream),
        };
        monitor.execute(r#"{"execute":"qmp_capabilities"}"#)?;
        Ok(monitor)
    }

    /// Runs a command that says nothing when all is well. It has no quotes.
    ///
    /// # Errors
    /// With what it says otherwise.
    pub fn run(&mut self, command: &str) -> Result<()> {
        let request = format!(
            r#"{{"execute":"human-monitor-command","arguments":{{"command-line":"{command}"}}}}"#
        );
        let answer = self.execute(&request)?;
        ensure!(
            answer.trim() == r#"{"return": ""}"#,
            "`{command}`: {}",
            answer.trim()
        );
        Ok(())
    }

    /// Sends a request and returns its answer; events in between are passed over.
    fn execute(&mut self, request: &str) -> Result<String> {
        writeln!(self.stream.get_mut(), "{request}")?;
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line);
            ensure!(read? > 0, "QEMU's monitor ended before `{request}` did");
            if line.starts_with(r#"{"return""#) || line.starts_with(r#"{"error""#) {
                return Ok(line);
            }
        }
    }
}
