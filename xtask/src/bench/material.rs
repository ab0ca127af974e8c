//! What is started in the machines: the probe, a kernel with the probe in it, an
//! initrd, a guest's userspace, and the program for machines without EFI.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::count::Program;
use super::{floor, inject};
use crate::build;
use crate::debian::Suite;
use crate::kernel::Kernel;

/// Size of the initrd in the kernel's measurement.
const INITRD_BYTES: usize = 32 << 20;

/// The files.
#[derive(Clone, Debug)]
pub struct Material {
    /// The probe.
    pub probe: PathBuf,
    /// What counts without EFI.
    pub floor: PathBuf,
    /// Debian 12's cloud kernel.
    pub kernel: Kernel,
    watched: PathBuf,
    initrd: PathBuf,
}

impl Material {
    /// Writes them to `directory`; the probe has to be built.
    ///
    /// # Errors
    /// When the kernel cannot be had or has no room for the probe.
    pub fn new(directory: &Path) -> Result<Material> {
        let material = Material {
            probe: build::probe_image(),
            floor: directory.join("floor.elf"),
            kernel: Kernel::fetch(Suite::Bookworm, "linux-image-cloud-amd64")?,
            watched: directory.join("watched"),
            initrd: directory.join("initrd"),
        };
        let kernel = fs::read(&material.kernel.image)?;
        let watched = inject::into_kernel(&kernel, &fs::read(&material.probe)?)?;
        fs::write(&material.watched, watched)?;
        fs::write(&material.initrd, vec![0x55; INITRD_BYTES])?;
        fs::write(&material.floor, floor::elf())?;
        Ok(material)
    }

    /// The probe alone.
    pub fn probe(&self) -> Program<'_> {
        Program {
            kernel: &self.probe,
            initrd: None,
            extra: &[],
        }
    }

    /// What counts without EFI.
    pub fn floor(&self) -> Program<'_> {
        Program {
            kernel: &self.floor,
            ..self.probe()
        }
    }

    /// The kernel with the probe in it, and an initrd of 32 MiB.
    pub fn watched(&self) -> Program<'_> {
        Program {
            kernel: &self.watched,
            initrd: Some(&self.initrd),
            extra: &[],
        }
    }
}
