//! The userspace of a guest: busybox, one script, the modules it needs.
//!
//! Made anew for every run, as an initramfs or as the content of a root disk.
//! A command to run is part of it, so nothing has to be typed into the guest.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::debian::{self, Suite};
use crate::host;
use crate::kernel::Kernel;
use crate::process;
use crate::tree::Tree;

const INIT: &[u8] = include_bytes!("init.sh");

/// Modules every guest gets: variables as files.
const MODULES: [&str; 1] = ["efivarfs"];

/// Directories that something is mounted on: a read-only root has to have them.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// What the guest does once it is up.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// Run this shell script, report its output and its status.
    Command(String),
    /// Show what the kernel found of EFI.
    Show,
    /// Show it and offer a shell on the console.
    Shell,
}

/// The files of a guest.
#[derive(Debug)]
pub struct Guest {
    tree: Tree,
}

impl Guest {
    /// A guest for `kernel` with `modules` loaded beyond those that every guest
    /// has.
    ///
    /// # Errors
    /// When busybox or a module cannot be had.
    pub fn new(kernel: &Kernel, modules: &[&str], purpose: &Purpose) -> Result<Guest> {
        let mut tree = Tree::default();
        for directory in MOUNT_POINTS {
            tree.add_directory(directory);
        }
        add_busybox(&mut tree)?;
        tree.add_program("init", INIT);
        add_modules(&mut tree, kernel, &[&MODULES, modules].concat())?;
        match purpose {
            Purpose::Command(script) => tree.add_file("command", script.as_bytes()),
            Purpose::Show => {}
            Purpose::Shell => tree.add_file("interactive", &[]),
        }
        Ok(Guest { tree })
    }

    /// Adds a file of no special permissions.
    pub fn add_file(&mut self, path: &str, bytes: &[u8]) {
        self.tree.add_file(path, bytes);
    }

    /// Adds a program or library.
    pub fn add_program(&mut self, path: &str, bytes: &[u8]) {
        self.tree.add_program(path, bytes);
    }

    /// Adds a directory.
    pub fn add_directory(&mut self, path: &str) {
        self.tree.add_directory(path);
    }

    /// The guest as an initramfs.
    ///
    /// # Errors
    /// When a file is larger than the format can say.
    pub fn initramfs(&self) -> Result<Vec<u8>> {
        self.tree.initramfs()
    }

    /// Writes the guest as an initramfs to `file`.
    ///
    /// # Errors
    /// As [`Self::initramfs`], or when it cannot be written.
    pub fn write_initramfs(&self, file: &Path) -> Result<()> {
        fs::write(file, self.initramfs()?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Writes the guest as an ext4 file system of `mebibytes` to `image`, by
    /// way of the directory `image` with the suffix `.root`.
    ///
    /// # Errors
    /// When mke2fs is missing or fails, or a file cannot be written.
    pub fn root_disk(&self, image: &Path, mebibytes: u32) -> Result<()> {
        host::require(&[host::MKE2FS])?;
        let root = image.with_extension("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(&root)?;
        self.tree.write_below(&root)?;
        fs::File::create(image)?.set_len(u64::from(mebibytes) << 20)?;
        let mut mke2fs = host::MKE2FS.command();
        mke2fs
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .arg(&root)
            .arg(image);
        process::run(&mut mke2fs)?;
        fs::remove_dir_all(&root)?;
        Ok(())
    }
}

/// Adds `bin/busybox`, linked statically.
///
/// # Errors
/// When it cannot be fetched.
pub fn add_busybox(tree: &mut Tree) -> Result<()> {
    let package = debian::fetch(Suite::Bookworm, "busybox-static")?;
    tree.add_copy("bin/busybox", &package.join("bin/busybox"))
}

/// Adds the `modules` of `kernel`, and what they depend on, below `modules`: in
/// their loading order by name.
///
/// # Errors
/// When one cannot be read.
pub fn add_modules(tree: &mut Tree, kernel: &Kernel, modules: &[&str]) -> Result<()> {
    tree.add_directory("modules");
    for (index, module) in kernel.modules(modules)?.iter().enumerate() {
        let path = format!("modules/{index:02}-{}.ko", module.name);
        tree.add_file(&path, &module.bytes);
    }
    Ok(())
}
