//! Who is measured: a firmware, and how QEMU gets it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian::{self, Suite};
use crate::qemu::{Files, Machine, Wrapping};

/// A firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// What it is called in the results.
    pub name: String,
    /// How it starts.
    pub entry: Entry,
}

/// How a firmware starts, and where it is.
#[derive(Clone, Debug)]
pub enum Entry {
    /// `-bios`.
    Bios(PathBuf),
    /// Two flash drives: code, and a copy of the variables.
    Pflash(PathBuf, PathBuf),
    /// An ELF file that QEMU's own firmware enters as PVH kernel.
    Pvh(PathBuf),
    /// QEMU's own: SeaBIOS, on microvm qboot, with its kernel loader.
    Own,
}

impl Firmware {
    /// A firmware in a flash file, given by `-bios`.
    pub fn bios(name: &str, file: PathBuf) -> Firmware {
        Firmware {
            name: name.into(),
            entry: Entry::Bios(file),
        }
    }

    /// `NAME=PATH`, or `NAME=PATH:pvh` for an ELF file.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Firmware> {
        let (name, path) = text
            .split_once('=')
            .context("expected NAME=PATH or NAME=PATH:pvh")?;
        Ok(match path.strip_suffix(":pvh") {
            Some(path) => Firmware {
                name: name.into(),
                entry: Entry::Pvh(path.into()),
            },
            None => Firmware::bios(name, path.into()),
        })
    }

    /// Debian's OVMF in both sizes.
    ///
    /// # Errors
    /// When its package cannot be fetched.
    pub fn ovmf() -> Result<[Firmware; 2]> {
        let share = debian::fetch(Suite::Bookworm, "ovmf")?.join("usr/share");
        let large = |name| share.join("OVMF").join(name);
        let entry = Entry::Pflash(large("OVMF_CODE_4M.fd"), large("OVMF_VARS_4M.fd"));
        Ok([
            Firmware::bios("OVMF 2M", share.join("ovmf/OVMF.fd")),
            Firmware {
                name: "OVMF 4M".into(),
                entry,
            },
        ])
    }

    /// QEMU's own firmware, which starts kernels without EFI.
    pub fn own() -> Firmware {
        Firmware {
            name: "no EFI".into(),
            entry: Entry::Own,
        }
    }

    /// Whether it starts EFI applications.
    pub fn has_efi(&self) -> bool {
        !matches!(self.entry, Entry::Own)
    }

    /// Its code, of what its size is measured.
    pub fn image(&self) -> Option<&Path> {
        match &self.entry {
            Entry::Bios(file) | Entry::Pflash(file, _) | Entry::Pvh(file) => Some(file),
            Entry::Own => None,
        }
    }

    /// `machine` with this firmware; `files` gets what it writes to.
    ///
    /// # Errors
    /// When that cannot be copied.
    pub fn put_into(&self, mut machine: Machine, files: &Files) -> Result<Machine> {
        match &self.entry {
            Entry::Bios(file) => machine.firmware = Some(file.clone()),
            Entry::Pflash(code, variables) => {
                let copy = files.directory().join("variables");
                fs::copy(variables, &copy)?;
                let drive = format!("if=pflash,unit=1,format=raw,file={}", copy.display());
                machine.firmware = Some(code.clone());
                machine.wrapping = Wrapping::Pflash;
                machine.extra.extend(["-drive".into(), drive.into()]);
            }
            Entry::Pvh(elf) => {
                machine.wrapping = Wrapping::Pvh(elf.clone());
                machine = machine.wrapped(files)?;
            }
            Entry::Own => {}
        }
        Ok(machine)
    }
}
