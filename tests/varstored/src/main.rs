//! A stand-in for varstored, which keeps the variables of `XenServer`'s guests in
//! dom0 (<https://github.com/xapi-project/varstored>).
//!
//! `ovmf-lite-varstored DOMAIN VARIABLES LOG [MODE]` serves one domain, which is
//! still paused, until it is gone. Variables are in the file VARIABLES, one a
//! line; each request becomes a line in LOG, after `ready`. With a MODE it answers
//! wrongly (`hostile.rs`).
//!
//! It listens where varstored does, on ports 0x100 to 0x10b: a write of a frame
//! number to 0x100 is a request, everything reads 0. The rest of them, physical
//! presence of a TPM, does nothing here.

mod file;
mod hostile;
mod protocol;
mod store;
mod xen;

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hostile::Mode;
use protocol::{SIZE, Service};
use store::Store;
use xen::{Access, Server};

const PORTS: [u64; 2] = [0x100, 0x10b];
const REQUEST: u64 = PORTS[0];

/// How often to look whether the domain is still there.
const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("varstored: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Options {
    domain: u16,
    variables: PathBuf,
    log: PathBuf,
    mode: Option<Mode>,
}

/// Everything that a request changes.
struct State {
    service: Service,
    log: File,
    hostile: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Options> {
        let domain = words.next()?.parse().ok()?;
        let variables = words.next()?.into();
        let log = words.next()?.into();
        let mode = match words.next() {
            Some(name) => Some(Mode::named(&name)?),
            None => None,
        };
        Some(Options {
            domain,
            variables,
            log,
            mode,
        })
    }
}

fn run() -> io::Result<()> {
    let usage = "expected DOMAIN VARIABLES LOG [longer|endless|smaller|status|silence|mute]";
    let options = Options::parse(std::env::args().skip(1));
    let options = options.ok_or(io::Error::new(ErrorKind::InvalidInput, usage))?;
    let mut state = State {
        service: Service::new(Store::new(file::read(&options.variables)?)),
        log: File::create(&options.log)?,
        hostile: false,
    };
    let mut server = Server::register(options.domain, PORTS)?;
    writeln!(state.log, "ready")?;
    while server.has_domain() {
        let mut result = Ok(());
        server.serve(PATIENCE, &mut |server, access| {
            if let Access::Write { port, size, value } = access
                && (port, size) == (REQUEST, 4)
            {
                result = state.request(server, value, &options);
            }
            0
        })?;
        result?;
    }
    Ok(())
}

impl State {
    /// Handles the request in the pages from frame `frame`. What is kept is in its
    /// file, and the line in the log, before the guest goes on.
    fn request(&mut self, server: &Server, frame: u64, options: &Options) -> io::Result<()> {
        let mut line = String::new();
        let mapped = server.with_frames::<SIZE>(frame, |message| {
            line = self.answer(message, options.mode);
        });
        if let Err(error) = mapped {
            // As varstored: no answer.
            line = format!("frame {frame:#x}: {error}");
        }
        file::write(&options.variables, &self.service.store)?;
        writeln!(self.log, "{line}")
    }

    /// Answers a message, and says how.
    fn answer(&mut self, message: &mut [u8; SIZE], mode: Option<Mode>) -> String {
        let request = *message;
        let handled = self.service.handle(message);
        if let Some(mode) = mode {
            self.hostile |= mode.begins(&handled);
            if self.hostile {
                mode.spoil(&request, &handled, message);
            }
        }
        handled.line
    }
}
