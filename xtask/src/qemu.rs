//! The one QEMU command line: which machine, and where its outputs go.
//!
//! Nothing comes from QEMU's defaults or its user configuration. A guest that
//! panics, or a firmware that gives up, ends QEMU with status 1 by way of the
//! pvpanic device (QEMU, docs/specs/pvpanic.rst).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::accel::Accelerator;
use crate::emulator::Emulator;
use crate::workspace;

/// How the machine gets its firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// `-bios` with the flash image.
    Bios,
    /// `-drive if=pflash` with the flash image.
    Pflash,
    /// `-kernel` with this ELF file; the kernel becomes a PVH module, with the
    /// initrd behind it in the same file.
    Pvh(PathBuf),
}

/// What to emulate and what to start in it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Which QEMU.
    pub emulator: Emulator,
    /// `-machine`: `q35`, `pc` or `microvm`, options behind it.
    pub model: String,
    /// `-cpu`; without it the most that the accelerator has to offer.
    pub cpu: Option<String>,
    /// `-m`: a number with a unit, such as `512M`.
    pub memory: String,
    /// `-smp`: number of processors.
    pub processors: u32,
    /// `-accel`.
    pub accelerator: Accelerator,
    /// The flash image; without it QEMU's own firmware.
    pub firmware: Option<PathBuf>,
    /// How it, or the ELF file in its place, is given to QEMU.
    pub wrapping: Wrapping,
    /// `-kernel`.
    pub kernel: Option<PathBuf>,
    /// Whether time has to pass evenly on a busy host, too: Linux on a microvm
    /// needs that. The price is speed, and that time is not the host's.
    pub steady_time: bool,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`: the kernel's command line; needs a kernel.
    pub command_line: String,
    /// Whether there is a debug console at port 0x402, for the firmware's log.
    /// SeaBIOS spends most of its time on one.
    pub debug_console: bool,
    /// Whether a reset starts the machine again instead of ending QEMU.
    pub resets: bool,
    /// Where a socket is to be whose bytes come in on the first serial port.
    pub keyboard: Option<PathBuf>,
    /// More arguments, as they are.
    pub extra: Vec<OsString>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            emulator: Emulator::Host,
            model: "q35".into(),
            cpu: None,
            memory: "512M".into(),
            processors: 1,
            accelerator: Accelerator::Tcg,
            firmware: None,
            wrapping: Wrapping::Bios,
            kernel: None,
            steady_time: false,
            initrd: None,
            command_line: String::new(),
            debug_console: true,
            resets: false,
            keyboard: None,
            extra: Vec::new(),
        }
    }
}

/// Where the first serial port goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// To the terminal, which also controls QEMU (Ctrl-A h), and to the file.
    Terminal,
    /// To the file.
    File,
}

/// The files a run needs and leaves behind.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// A new directory below the target directory, named after `name` and our
    /// process.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(name: &str) -> Result<Files> {
        let name = format!("{name}-{}", std::process::id());
        let directory = workspace::target().join("vm").join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Files { directory })
    }

    /// Removes the files, which nobody needs after a success.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .with_context(|| format!("cannot remove {}", self.directory.display()))
    }

    /// Their directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// First serial port: the console.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Second serial port: what the guest's command printed, and its status.
    pub fn report(&self) -> PathBuf {
        self.directory.join("report.log")
    }

    /// Debug port 0x402: the firmware's log.
    pub fn debug(&self) -> PathBuf {
        self.directory.join("debug.log")
    }

    /// What QEMU itself had to say.
    pub fn qemu(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }
}

impl Machine {
    /// QEMU's arguments for this machine.
    pub fn arguments(&self, files: &Files, console: Console) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.words("-nodefaults -no-user-config -display none");
        self.add_hardware(&mut arguments);
        self.add_outputs(&mut arguments, files, console);
        self.add_payload(&mut arguments);
        arguments.0.extend(self.extra.iter().cloned());
        arguments.0
    }

    fn add_hardware(&self, arguments: &mut Arguments) {
        arguments.pair("-machine", &self.model);
        arguments.pair("-accel", self.acceleration());
        if self.counts_instructions() {
            arguments.words("-icount shift=3");
        }
        arguments.pair(
            "-cpu",
            self.cpu.as_deref().unwrap_or(self.accelerator.best_cpu()),
        );
        arguments.pair("-m", &self.memory);
        arguments.pair("-smp", self.processors.to_string());
        arguments.words("-device pvpanic -action panic=exit-failure");
        if !self.resets {
            arguments.words("-no-reboot");
        }
    }

    fn add_outputs(&self, arguments: &mut Arguments, files: &Files, console: Console) {
        let console_file = escaped(&files.console());
        match console {
            Console::Terminal => {
                let terminal = format!("stdio,id=console,mux=on,signal=off,logfile={console_file}");
                arguments.pair("-chardev", terminal);
                arguments.words("-mon chardev=console");
            }
            Console::File => {
                let backend = match &self.keyboard {
                    None => format!("file,id=console,path={console_file}"),
                    Some(socket) => {
                        let path = escaped(socket);
                        let socket = format!("socket,id=console,path={path},server=on,wait=off");
                        format!("{socket},logfile={console_file}")
                    }
                };
                arguments.pair("-chardev", backend);
            }
        }
        let report = escaped(&files.report());
        arguments.pair("-chardev", format!("file,id=report,path={report}"));
        // A microvm brings one serial port only.
        arguments.words(if self.is_microvm() {
            "-serial chardev:console -device isa-serial,index=1,chardev=report"
        } else {
            "-serial chardev:console -serial chardev:report"
        });
        if !self.debug_console {
            return;
        }
        let debug = escaped(&files.debug());
        arguments.pair("-chardev", format!("file,id=debug,path={debug}"));
        arguments.words("-device isa-debugcon,iobase=0x402,chardev=debug");
    }

    /// Several processors of a TCG guest take turns: run in threads of their own
    /// they now and then miss that one of them has patched code, and Linux, which
    /// patches itself while it runs, dies of its own breakpoint ("Oops: int3").
    fn acceleration(&self) -> &'static str {
        match self.accelerator {
            Accelerator::Tcg if self.processors > 1 => "tcg,thread=single",
            other => other.name(),
        }
    }

    /// The only timer of a microvm is the 8254. Linux measures the time stamp
    /// counter against it and stops when a busy host interrupts that; with a
    /// time that passes by instructions, 8 ns each, it always measures the same.
    /// QEMU 7.2 then never gets a second processor going, so several have to
    /// hope for an idle host.
    fn counts_instructions(&self) -> bool {
        let needed = self.steady_time && self.is_microvm();
        needed && self.accelerator == Accelerator::Tcg && self.processors == 1
    }

    fn is_microvm(&self) -> bool {
        self.model.split(',').next() == Some("microvm")
    }

    fn add_payload(&self, arguments: &mut Arguments) {
        self.add_firmware(arguments);
        for (option, file) in [("-kernel", &self.kernel), ("-initrd", &self.initrd)] {
            if let Some(file) = file {
                arguments.pair(option, file);
            }
        }
        // QEMU refuses a command line without a kernel.
        if self.kernel.is_some() {
            arguments.pair("-append", &self.command_line);
        }
    }

    fn add_firmware(&self, arguments: &mut Arguments) {
        match (&self.wrapping, &self.firmware) {
            (Wrapping::Bios, Some(file)) => arguments.pair("-bios", file),
            (Wrapping::Pflash, Some(file)) => {
                let options = "if=pflash,unit=0,format=raw,readonly=on,file=";
                arguments.pair("-drive", format!("{options}{}", escaped(file)));
            }
            _ => {}
        }
    }

    /// This machine with what its wrapping does to kernel and initrd; `files`
    /// gets the module that both may become.
    ///
    /// # Errors
    /// When the module cannot be written.
    pub fn wrapped(&self, files: &Files) -> Result<Machine> {
        let Wrapping::Pvh(elf) = &self.wrapping else {
            return Ok(self.clone());
        };
        let module = files.directory().join("module");
        let mut bytes = Vec::new();
        for part in [&self.kernel, &self.initrd].into_iter().flatten() {
            let part = fs::read(part).with_context(|| format!("cannot read {}", part.display()))?;
            // A page border between the two, as a user's padding may be.
            bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
            bytes.extend(part);
        }
        fs::write(&module, bytes)?;
        Ok(Machine {
            kernel: Some(elf.clone()),
            initrd: self.kernel.is_some().then_some(module),
            ..self.clone()
        })
    }
}

const PAGE: usize = 4096;

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.extend([option.into(), value.into()]);
    }
}

/// `path` inside an option list, where a comma ends a value unless doubled.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine, console: Console) -> String {
        let arguments = machine.arguments(
            &Files {
                directory: "/a,b".into(),
            },
            console,
        );
        let words: Vec<_> = arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn every_part_of_the_machine_is_named() {
        let machine = Machine {
            model: "pc".into(),
            cpu: Some("qemu64".into()),
            memory: "6G".into(),
            processors: 4,
            firmware: Some("fw.fd".into()),
            kernel: Some("vmlinuz".into()),
            initrd: Some("initrd".into()),
            command_line: "console=ttyS0 quiet".into(),
            extra: vec!["-S".into()],
            ..Machine::default()
        };
        let line = line(&machine, Console::File);
        let hardware =
            "-machine pc -accel tcg,thread=single -cpu qemu64 -m 6G -smp 4 -device pvpanic";
        let payload = "-bios fw.fd -kernel vmlinuz -initrd initrd -append console=ttyS0 quiet -S";
        assert!(
            line.starts_with("-nodefaults -no-user-config -display none -machine"),
            "{line}"
        );
        assert!(line.contains(hardware), "{line}");
        assert!(line.contains("-no-reboot"), "{line}");
        assert!(line.ends_with(payload), "{line}");
    }

    #[test]
    fn a_machine_without_kernel_has_no_command_line() {
        let machine = Machine {
            resets: true,
            ..Machine::default()
        };
        let line = line(&machine, Console::File);
        assert!(
            !line.contains("-append") && !line.contains("-no-reboot"),
            "{line}"
        );
    }

    #[test]
    fn a_microvm_has_one_serial_port_and_counts_instructions() {
        let machine = Machine {
            model: "microvm,pcie=on".into(),
            steady_time: true,
            ..Machine::default()
        };
        let line = line(&machine, Console::File);
        assert!(line.contains("-icount shift=3"), "{line}");
        assert!(line.contains("-device isa-serial,index=1"), "{line}");
    }

    #[test]
    fn commas_in_paths_do_not_end_the_option() {
        let line = line(&Machine::default(), Console::Terminal);
        assert!(
            line.contains("signal=off,logfile=/a,,b/console.log -mon"),
            "{line}"
        );
    }
}
