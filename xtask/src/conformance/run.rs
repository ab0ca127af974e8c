//! A boot in QEMU that ends as soon as it is clear how far it comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
    /// Boots with `words` for the firmware and returns the console. What is not clear
    /// by then is tried once more: the host may have been busy.
    ///
    /// # Errors
    /// When QEMU cannot be started; not when the guest dies or hangs.
    pub fn boot(&self, kernel: &Prepared, words: &str) -> Result<String> {
        let mut console = self.try_to_boot(kernel, words)?;
        if console.contains(judge::GAVE_UP) {
            console = self.try_to_boot(kernel, words)?;
        }
        let progress = judge::Progress::read(&console);
        eprintln!("xtask: {} {words}: {}", kernel.name, progress.words());
        Ok(console)
    }

    fn try_to_boot(&self, kernel: &Prepared, words: &str) -> Result<String> {
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
        let began = Instant::now();
        let waited = vm
            .wait_for(TO_START, |console| console.contains(judge::STARTED))
            .and_then(|()| vm.wait_for(TO_END, |console| console.contains(judge::DONE)));
        // An error is the end of QEMU or that of our patience.
        let gave_up = waited.is_err() && began.elapsed() >= TO_START && vm.is_running()?;
        let mut console = vm.stop()?.console;
        if gave_up {
            console = format!("{console}\n{}\n", judge::GAVE_UP);
        }
        files.remove()?;
        Ok(console)
    }
}
