//! Linux kernels of Debian: the image, and its modules in loading order.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use goblin::elf::Elf;
use ovmf_lite_loader::pe::Image;

use crate::debian::{self, Suite};
use crate::{elf, host, process};

/// As much of a kernel as holds the signature of the setup header, and where.
const HEAD: u64 = 0x206;
const SETUP_SIGNATURE: Range<usize> = 0x202..0x206;

/// A kernel image, with the modules that were installed with it.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bzImage.
    pub image: PathBuf,
    modules: Option<PathBuf>,
}

/// A module as `insmod` takes it: an uncompressed ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// File name without suffixes.
    pub name: String,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

impl Kernel {
    /// The kernel in `package` of `suite`.
    ///
    /// # Errors
    /// When it cannot be fetched or is laid out unlike a Debian kernel.
    pub fn fetch(suite: Suite, package: &str) -> Result<Kernel> {
        Kernel::unpacked(&debian::fetch(suite, package)?)
    }

    fn unpacked(package: &Path) -> Result<Kernel> {
        let in_boot = entries(&package.join("boot"))
            .unwrap_or_default()
            .into_iter();
        let releases = entries(&package.join("usr/lib/modules"))
            .unwrap_or_default()
            .into_iter();
        let beside_modules = releases.map(|release| release.join("vmlinuz"));
        let mut files = in_boot.chain(beside_modules);
        let image = files.find(|path| file_name(path).starts_with("vmlinuz") && path.is_file());
        Ok(Kernel::at(&image.with_context(|| {
            format!("{} holds no kernel", package.display())
        })?))
    }

    /// The kernel in the file `image`. It has modules if it lies as Debian lays
    /// it out: as `boot/vmlinuz-<release>` next to `lib/modules/<release>`, or
    /// as `vmlinuz` among its modules.
    pub fn at(image: &Path) -> Kernel {
        let directory = image.parent().unwrap_or(image);
        let mut places = vec![directory.to_owned()];
        if let Some((root, release)) = directory
            .parent()
            .zip(file_name(image).strip_prefix("vmlinuz-"))
        {
            let below = ["usr/lib/modules", "lib/modules"].map(|modules| root.join(modules));
            places.extend(below.map(|modules| modules.join(release)));
        }
        let modules = places
            .into_iter()
            .find(|place| place.join("kernel").is_dir());
        Kernel {
            image: image.to_owned(),
            modules,
        }
    }

    /// Whether QEMU passes an initrd on with this kernel: only with one that has
    /// the setup header of Linux (QEMU, hw/i386/x86.c; Linux,
    /// Documentation/arch/x86/boot.rst).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn takes_initrd(&self) -> Result<bool> {
        let mut head = Vec::new();
        let file = fs::File::open(&self.image)
            .with_context(|| format!("cannot read {}", self.image.display()))?;
        file.take(HEAD).read_to_end(&mut head)?;
        Ok(head.get(SETUP_SIGNATURE) == Some(b"HdrS"))
    }

    /// What keeps the firmware from loading this kernel, if anything.
    pub fn defect(&self) -> Option<String> {
        let bytes = fs::read(&self.image).ok()?;
        let error = Image::parse(&bytes).err()?;
        Some(format!("{}: {error}", self.image.display()))
    }

    /// The modules called `names` and all they depend on, dependencies first.
    /// What is built in is left out, and so, with a word, is what is missing.
    ///
    /// # Errors
    /// When a module cannot be read.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        let Some(directory) = &self.modules else {
            return Ok(Vec::new());
        };
        let files = files_below(&directory.join("kernel"))?;
        let built_in = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let built_in: Vec<_> = built_in
            .lines()
            .map(|line| module_name(Path::new(line)))
            .collect();
        let find = |name: &str| {
            if let Some(file) = files.iter().find(|file| module_name(file) == name) {
                return Ok(Some(read_module(file)?));
            }
            if !built_in.iter().any(|known| known == name) {
                eprintln!(
                    "xtask: there is no module {name} in {}",
                    directory.display()
                );
            }
            Ok(None)
        };
        let mut ordered = Vec::new();
        for name in names {
            add_with_dependencies(name, &find, &mut ordered)?;
        }
        Ok(ordered)
    }
}

fn add_with_dependencies(
    name: &str,
    find: &impl Fn(&str) -> Result<Option<Vec<u8>>>,
    ordered: &mut Vec<Module>,
) -> Result<()> {
    if ordered.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(bytes) = find(name)? else {
        return Ok(());
    };
    for dependency in dependencies(&bytes).with_context(|| format!("module {name}"))? {
        add_with_dependencies(&dependency, find, ordered)?;
    }
    ordered.push(Module {
        name: name.to_owned(),
        bytes,
    });
    Ok(())
}

/// The modules that `module` needs, from its `.modinfo` section: strings
/// separated by NUL, one of them `depends=a,b` (Linux, scripts/mod/modpost.c).
/// The package has no modules.dep; that is made by depmod on installation.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = Elf::parse(module)?;
    let range = elf::section(&elf, ".modinfo")?.file_range();
    let info = range
        .and_then(|range| module.get(range))
        .context("section .modinfo ends after the file")?;
    let mut entries = info.split(|byte| *byte == 0);
    let depends = entries
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    let depends = String::from_utf8_lossy(depends);
    Ok(depends
        .split(',')
        .filter(|n| !n.is_empty())
        .map(canonical)
        .collect())
}

fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|suffix| suffix != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    host::require(&[host::XZ])?;
    process::capture(host::XZ.command().arg("-dc").arg(file))
}

/// `kernel/fs/a-b.ko.xz` is module `a_b`.
fn module_name(path: &Path) -> String {
    let name = file_name(path);
    canonical(name.split_once(".ko").map_or(name, |(stem, _)| stem))
}

/// The kernel takes dashes and underscores in module names for the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(directory)? {
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relocatable ELF file with the sections null, `.modinfo` and `.shstrtab`.
    fn module(info: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0\x01\0\0\0".to_vec();
        let info_at = 64;
        let names_at = info_at + info.len() as u64;
        let headers_at = names_at + names.len() as u64;
        file.extend([0, 0, headers_at].map(u64::to_le_bytes).concat());
        file.extend([0, 0, 64, 0, 0, 64, 3, 2].map(u16::to_le_bytes).concat());
        file.extend_from_slice(info);
        file.extend_from_slice(names);
        file.extend([0; 64]);
        for (name, kind, at, size) in [(1, 1, info_at, info.len()), (10, 3, names_at, names.len())]
        {
            file.extend([name, kind].map(u32::to_le_bytes).concat());
            file.extend(
                [0, 0, at, size as u64, 0, 1, 0]
                    .map(u64::to_le_bytes)
                    .concat(),
            );
        }
        file
    }

    #[test]
    fn dependencies_come_from_modinfo() {
        let bytes = module(b"license=GPL\0depends=virtio-ring,virtio\0name=virtio_blk\0");
        assert_eq!(dependencies(&bytes).unwrap(), ["virtio_ring", "virtio"]);
        assert!(dependencies(&module(b"depends=\0")).unwrap().is_empty());
        assert!(dependencies(b"not a module").is_err());
    }

    #[test]
    fn dependencies_are_loaded_first_and_once() {
        let find = |name: &str| {
            Ok(match name {
                "top" => Some(module(b"depends=left,right\0")),
                "left" | "right" => Some(module(b"depends=base\0")),
                "base" => Some(module(b"depends=\0")),
                _ => None,
            })
        };
        let mut ordered = Vec::new();
        add_with_dependencies("top", &find, &mut ordered).unwrap();
        add_with_dependencies("builtin", &find, &mut ordered).unwrap();
        let names: Vec<_> = ordered.iter().map(|module| &*module.name).collect();
        assert_eq!(names, ["base", "left", "right", "top"]);
    }

    #[test]
    fn a_file_names_its_module() {
        assert_eq!(
            module_name(Path::new("kernel/fs/efivarfs/efivarfs.ko.xz")),
            "efivarfs"
        );
        assert_eq!(module_name(Path::new("pvpanic-mmio.ko")), "pvpanic_mmio");
    }
}
