//! The userspace of dom0: Xen's toolstack and device model from Debian's
//! packages, with the libraries they need, and busybox.
//!
//! It is an initramfs. Nothing in it is configured beyond what the toolstack
//! insists on; what happens in it is up to `init.sh` and the scenario.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use goblin::elf::Elf;

use super::hypervisor::Version;
use crate::debian;
use crate::guest::{add_busybox, add_modules};
use crate::kernel::Kernel;
use crate::tree::Tree;

const INIT: &[u8] = include_bytes!("init.sh");
const HELPERS: &[u8] = include_bytes!("helpers.sh");
const HOTPLUG: &[u8] = include_bytes!("hotplug.sh");

/// What dom0 needs of its kernel beyond what is built in: the toolstack's
/// devices, the back ends, the directory shared with the host.
const MODULES: [&str; 11] = [
    "xen_privcmd",
    "xen_evtchn",
    "xenfs",
    "xen_gntdev",
    "xen_gntalloc",
    "xen_blkback",
    "xen_netback",
    "loop",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
];

/// The toolstack's programs, below `usr/lib/xen-<version>/bin`.
const TOOLSTACK: [&str; 6] = [
    "xl",
    "xenstored",
    "xenconsoled",
    "xenconsole",
    "xen-init-dom0",
    "libxl-save-helper",
];
const XENSTORE: [&str; 5] = ["read", "write", "ls", "list", "rm"];
const DEVICE_MODEL: &str = "usr/libexec/xen-qemu-system-i386";

/// What the device model reads: package and file below its `usr/share`.
const DEVICE_MODEL_DATA: [(&str, &str); 7] = [
    ("qemu-system-data", "qemu/keymaps/en-us"),
    ("qemu-system-data", "qemu/linuxboot.bin"),
    ("qemu-system-data", "qemu/linuxboot_dma.bin"),
    ("qemu-system-data", "qemu/kvmvapic.bin"),
    ("seabios", "seabios/bios-256k.bin"),
    ("seabios", "seabios/vgabios-stdvga.bin"),
    ("ovmf", "ovmf/OVMF.fd"),
];

/// Packages without a name of their own in each release.
const PACKAGES: [&str; 41] = [
    "xenstore-utils",
    "qemu-system-xen",
    "qemu-system-data",
    "seabios",
    "ovmf",
    "libc6",
    "libxentoolcore1",
    "libxentoollog1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenstore4",
    "libyajl2",
    "libtinfo6",
    "zlib1g",
    "liblzma5",
    "libbz2-1.0",
    "libzstd1",
    "liblz4-1",
    "libuuid1",
    "libfdt1",
    "libgcc-s1",
    "libstdc++6",
    "libjpeg62-turbo",
    "libpixman-1-0",
    "libspice-server1",
    "libusb-1.0-0",
    "libpcre2-8-0",
    "libgstreamer1.0-0",
    "libgstreamer-plugins-base1.0-0",
    "libopus0",
    "libsasl2-2",
    "libunwind8",
    "libudev1",
    "libcap2",
    "libmount1",
    "libblkid1",
    "libselinux1",
];

/// Where the hypervisor's packages differ from release to release.
fn own_packages(version: Version) -> &'static [&'static str] {
    match version {
        Version::V4_17 => &[
            "xen-utils-4.17",
            "libxenmisc4.17",
            "libglib2.0-0",
            "liborc-0.4-0",
            "libssl3",
            "libffi8",
            "libdw1",
            "libelf1",
        ],
        Version::V4_20 => &[
            "xen-utils-4.20",
            "libxenmisc4.20",
            "libglib2.0-0t64",
            "liborc-0.4-0t64",
            "libssl3t64",
            "libffi8",
            "libatomic1",
            "libdrm2",
            "libsystemd0",
            "libxxhash0",
        ],
    }
}

/// The initramfs of dom0, which runs `kernel`.
///
/// # Errors
/// When a package cannot be fetched, or a program or library is in none of them.
pub fn initramfs(version: Version, kernel: &Kernel) -> Result<Vec<u8>> {
    let packages = Packages::fetch(version)?;
    let mut tree = Tree::default();
    for directory in ["dev", "proc", "sys", "tmp", "share", "run", "var/lib/xen"] {
        tree.add_directory(directory);
    }
    add_busybox(&mut tree)?;
    add_modules(&mut tree, kernel, &MODULES)?;
    tree.add_program("init", INIT);
    tree.add_file("bed/helpers.sh", HELPERS);
    for script in ["block", "vif-bridge"] {
        tree.add_program(&format!("etc/xen/scripts/{script}"), HOTPLUG);
    }
    tree.add_file("etc/xen/xl.conf", b"");
    add_programs(&mut tree, version, &packages)?;
    tree.initramfs()
}

fn add_programs(tree: &mut Tree, version: Version, packages: &Packages) -> Result<()> {
    let directory = format!("usr/lib/xen-{}", version.name());
    let toolstack = TOOLSTACK.map(|program| format!("{directory}/bin/{program}"));
    let xenstore = XENSTORE.map(|command| format!("usr/bin/xenstore-{command}"));
    let programs = toolstack.iter().chain(&xenstore);
    for program in programs.map(String::as_str).chain([DEVICE_MODEL]) {
        packages.add_program(tree, program)?;
    }
    packages.add(tree, &format!("{directory}/boot/hvmloader"))?;
    for (_, file) in DEVICE_MODEL_DATA {
        packages.add(tree, &format!("usr/share/{file}"))?;
    }
    tree.add_file("bed/toolstack", format!("/{directory}/bin\n").as_bytes());
    Ok(())
}

/// Unpacked packages, and every library in them by its name.
struct Packages {
    names: String,
    directories: Vec<PathBuf>,
    libraries: BTreeMap<String, PathBuf>,
}

impl Packages {
    fn fetch(version: Version) -> Result<Packages> {
        let names = [own_packages(version), &PACKAGES].concat();
        let directories = debian::fetch_all(version.suite(), &names)?;
        let mut libraries = BTreeMap::new();
        for directory in &directories {
            for place in ["lib", "usr/lib"] {
                collect(
                    &directory.join(place).join("x86_64-linux-gnu"),
                    &mut libraries,
                );
            }
        }
        Ok(Packages {
            names: names.join(" "),
            directories,
            libraries,
        })
    }

    fn find(&self, path: &str) -> Result<PathBuf> {
        let mut files = self.directories.iter().map(|package| package.join(path));
        files.find(|file| file.is_file()).with_context(|| {
            format!(
                "expected /{path} in one of the Debian packages {}",
                self.names
            )
        })
    }

    fn add(&self, tree: &mut Tree, path: &str) -> Result<()> {
        tree.add_copy(path, &self.find(path)?)
    }

    /// Adds a program, and the libraries it needs that are not there yet.
    fn add_program(&self, tree: &mut Tree, path: &str) -> Result<()> {
        let bytes = fs::read(self.find(path)?)?;
        tree.add_program(path, &bytes);
        self.add_needed(tree, path, &bytes)
    }

    fn add_needed(&self, tree: &mut Tree, user: &str, bytes: &[u8]) -> Result<()> {
        let elf = Elf::parse(bytes).with_context(|| format!("{user} is no ELF file"))?;
        if let Some(linker) = elf.interpreter.map(|path| path.trim_start_matches('/')) {
            let name = linker.rsplit('/').next().unwrap_or(linker);
            self.add_library(tree, linker, name, user)?;
        }
        for name in elf.libraries {
            self.add_library(tree, &format!("lib/{name}"), name, user)?;
        }
        Ok(())
    }

    fn add_library(&self, tree: &mut Tree, path: &str, name: &str, user: &str) -> Result<()> {
        if tree.has(path) {
            return Ok(());
        }
        let file = self.libraries.get(name).ok_or_else(|| {
            anyhow!(
                "the library {name} of {user} is in none of the Debian packages {}",
                self.names
            )
        })?;
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        tree.add_program(path, &bytes);
        self.add_needed(tree, name, &bytes)
    }
}

/// Adds the libraries in `directory`, links to them included, to `libraries`.
fn collect(directory: &Path, libraries: &mut BTreeMap<String, PathBuf>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
    {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        libraries.insert(name.into_owned(), path.clone());
    }
}
