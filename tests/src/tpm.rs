//! A TPM 2.0 that QEMU has from swtpm, behind both of its register interfaces,
//! works in Linux. The firmware only passes the host's table on: it measures
//! nothing and does not start the TPM, which Linux then does itself.

use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use xtask::qemu::{Files, Machine};
use xtask::{host, vm};

use crate::bench::{Bench, Release, Root, System};

const CHECKS: &str = include_str!("tpm-checks.sh");
/// How long swtpm may take to listen.
const LIMIT: Duration = Duration::from_secs(10);

/// The program that is the TPM, ended with its owner.
struct Swtpm(Child);

impl Swtpm {
    /// Starts it with an empty state in `directory`.
    fn start(directory: &Path, socket: &Path) -> Result<Swtpm> {
        host::require(&[host::SWTPM])?;
        let mut command = vm::bound_to_us(host::SWTPM.find().context("swtpm has vanished")?);
        command.args(["socket", "--tpm2", "--tpmstate"]);
        command.arg(format!("dir={}", directory.display()));
        command.arg("--ctrl");
        command.arg(format!("type=unixio,path={}", socket.display()));
        let swtpm = Swtpm(command.spawn().context("cannot start swtpm")?);
        let started = Instant::now();
        while !socket.exists() {
            ensure!(started.elapsed() < LIMIT, "swtpm does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(swtpm)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `model` with a TPM behind `interface`, QEMU's name of the device.
///
/// # Errors
/// When Linux does not find it, or it does not answer.
pub fn run(bench: &Bench, model: &str, interface: &str) -> Result<()> {
    let name = format!("{interface}-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let socket = files.directory().join("socket");
    let swtpm = Swtpm::start(files.directory(), &socket)?;
    let arguments = format!(
        "-chardev socket,id=t0,path={} -tpmdev emulator,id=t1,chardev=t0 \
         -device {interface},tpmdev=t1",
        socket.display()
    );
    let machine = Machine {
        model: model.into(),
        extra: arguments.split(' ').map(Into::into).collect(),
        ..bench.machine()
    };
    let system = System::new(Release::Bookworm, Root::Initrd);
    bench.succeed(&name, machine, system, CHECKS)?;
    drop(swtpm);
    files.remove()
}
