//! Versions of Xen: Debian's packages of each, and the files that QEMU starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::debian::{self, Suite};
use crate::{host, process, workspace};

/// A version of Xen that Debian has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// Debian 12's
    #[default]
    #[value(name = "4.17")]
    V4_17,
    /// Debian 13's
    #[value(name = "4.20")]
    V4_20,
}

impl Version {
    /// As Xen writes it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V4_17 => "4.17",
            Version::V4_20 => "4.20",
        }
    }

    /// The release of Debian that has it.
    pub fn suite(self) -> Suite {
        match self {
            Version::V4_17 => Suite::Bookworm,
            Version::V4_20 => Suite::Trixie,
        }
    }
}

/// Where what is made here once is kept.
///
/// # Errors
/// When the directory cannot be created.
pub fn kept() -> Result<PathBuf> {
    let directory = workspace::target().join("xen");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// The hypervisor as QEMU's multiboot loader takes it: an ELF file that is not
/// compressed.
///
/// # Errors
/// When it cannot be fetched or unpacked.
pub fn hypervisor(version: Version) -> Result<PathBuf> {
    let package = format!("xen-hypervisor-{}-amd64", version.name());
    let package = debian::fetch(version.suite(), &package)?;
    let archive = package.join(format!("boot/xen-{}-amd64.gz", version.name()));
    let name = format!("{}.elf", name_of_target(&package)?);
    once(&name, || {
        host::require(&[host::GZIP])?;
        process::capture(host::GZIP.command().arg("-dc").arg(&archive))
    })
}

/// The kernel of dom0 as an ELF file, which spares Xen the decompression: under
/// emulation it takes as long as the rest of the start.
///
/// # Errors
/// When the image is not laid out as Debian's are, or cannot be unpacked.
pub fn dom0_kernel(image: &Path) -> Result<PathBuf> {
    let release = image.file_name().unwrap_or_default().to_string_lossy();
    once(&format!("{release}.elf"), || {
        host::require(&[host::XZ])?;
        let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        let packed = workspace::target().join("xen/packed.xz");
        fs::write(
            &packed,
            payload(&bytes).with_context(|| format!("{release}"))?,
        )?;
        let kernel = process::capture(host::XZ.command().arg("-dc").arg(&packed))?;
        fs::remove_file(packed)?;
        Ok(kernel)
    })
}

/// The compressed kernel in a bzImage. Linux, Documentation/arch/x86/boot.rst:
/// `setup_sects` at 0x1f1, `payload_offset` at 0x248 and `payload_length` at
/// 0x24c count from the end of the setup sectors. The last four bytes are the
/// unpacked size (arch/x86/boot/compressed/Makefile).
fn payload(image: &[u8]) -> Result<&[u8]> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let setup = 512 * (1 + usize::from(*image.get(0x1f1).context("the file is too short")?));
    let (offset, length) = word(0x248)
        .zip(word(0x24c))
        .context("the file is too short")?;
    let start = setup + offset;
    let payload = image
        .get(start..(start + length).saturating_sub(4))
        .context("the payload is not inside the file")?;
    ensure!(
        payload.starts_with(b"\xfd7zXZ"),
        "expected an xz-compressed kernel, found {:02x?}",
        &payload[..payload.len().min(6)]
    );
    Ok(payload)
}

/// The file `name` among what is kept, made by `make` if it is not there.
fn once(name: &str, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<PathBuf> {
    let file = kept()?.join(name);
    let lock = fs::File::create(kept()?.join("lock"))?;
    lock.lock().context("cannot lock the directory")?;
    if !file.is_file() {
        let partial = file.with_extension("partial");
        fs::write(&partial, make()?)?;
        fs::rename(&partial, &file)?;
    }
    Ok(file)
}

/// The name of the directory that the link `package` leads to: it holds the
/// version.
fn name_of_target(package: &Path) -> Result<String> {
    let target = fs::read_link(package)?;
    Ok(target.to_string_lossy().replace(['%', ':'], "-"))
}
