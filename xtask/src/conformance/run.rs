//! A boot in QEMU that ends as soon as it is clear how far it comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::{Prepared, judge};
use crate::accel::Accelerator;
use crate::build::Firmware;
use crate::qemu::{Console, Files, Machine};
use crate::vm::Vm;

/// A kernel that has not said its first line by then never will: it takes two
/// seconds under emulation.
const TO_START: Duration = Duration::from_secs(40);
/// And for all of it, which takes six.
const TO_END: Duration = Duration::from_secs(100);

/// What all boots have in common.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The firmware.
    pub firmware: Firmware,
    /// What executes guests of QEMU.
    pub accelerator: Accelerator,
    /// How many machines run at the same time.
    pub jobs: usize,
}

impl Bench {
    /// Boots with `words` for the firmware and returns the console.
    ///
    /// # Errors
    /// When QEMU cannot be started; not when the guest dies or hangs.
    pub fn boot(&self, kernel: &Prepared, words: &str) -> Result<String> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let files = Files::create(&format!("conformance-{number}"))?;
        let machine = Machine {
            firmware: Some(self.firmware.flash.clone()),
            accelerator: self.accelerator,
            kernel: Some(kernel.kernel.clone()),
            initrd: Some(kernel.initrd.clone()),
            command_line: format!(
                "console=ttyS0 earlyprintk=ttyS0,115200 panic=-1 no_timer_check {words}"
            ),
            ..Machine::default()
        };
        let mut vm = Vm::start(&machine, &files, Console::File)?;
        let started = vm.wait_for(TO_START, |console| console.contains(judge::STARTED));
        if started.is_ok() {
            // How it ends is on the console.
            let _ = vm.wait_for(TO_END, |console| console.contains(judge::DONE));
        }
        let outcome = vm.stop()?;
        if outcome.elapsed > TO_START && !outcome.console.contains(judge::DONE) {
            eprintln!(
                "xtask: {} {words}: hung, or the host is too busy",
                kernel.name
            );
        }
        let console = outcome.console;
        eprintln!(
            "xtask: {} {words}: {}",
            kernel.name,
            judge::Progress::read(&console).words()
        );
        files.remove()?;
        Ok(console)
    }
}
