//! The userspace of a guest: busybox, one script, the modules it needs.
//!
//! Made anew for every run, as an initramfs or as the content of a root disk.
//! A command to run is part of it, so nothing has to be typed into the guest.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::NewcBuilder;

use crate::debian::{self, Suite};
use crate::host;
use crate::kernel::Kernel;
use crate::process;

const INIT: &[u8] = include_bytes!("init.sh");

/// Modules every guest gets: variables as files.
const MODULES: [&str; 1] = ["efivarfs"];

/// Directories that something is mounted on: a read-only root has to have them.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "tmp"];

// `st_mode`, inode(7).
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;

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
    files: Vec<GuestFile>,
}

#[derive(Debug)]
struct GuestFile {
    /// Relative to the guest's root, parents come first.
    path: String,
    /// Type and permissions.
    mode: u32,
    bytes: Vec<u8>,
}

impl Guest {
    /// A guest for `kernel` with `modules` loaded beyond those that every guest
    /// has.
    ///
    /// # Errors
    /// When busybox or a module cannot be had.
    pub fn new(kernel: &Kernel, modules: &[&str], purpose: &Purpose) -> Result<Guest> {
        let busybox = debian::fetch(Suite::Bookworm, "busybox-static")?.join("bin/busybox");
        let busybox =
            fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        let mut guest = Guest { files: Vec::new() };
        for directory in MOUNT_POINTS.iter().chain(&["bin", "modules"]) {
            guest.add(directory, DIRECTORY, &[]);
        }
        guest.add("bin/busybox", EXECUTABLE, &busybox);
        guest.add("init", EXECUTABLE, INIT);
        let modules = kernel.modules(&[&MODULES, modules].concat())?;
        for (index, module) in modules.iter().enumerate() {
            let path = format!("modules/{index:02}-{}.ko", module.name);
            guest.add(&path, PLAIN, &module.bytes);
        }
        match purpose {
            Purpose::Command(script) => guest.add_file("command", script.as_bytes()),
            Purpose::Show => {}
            Purpose::Shell => guest.add_file("interactive", &[]),
        }
        Ok(guest)
    }

    /// Adds a file of no special permissions to the root directory.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) {
        self.add(name, PLAIN, bytes);
    }

    /// Adds a program or library at `path`, in a directory that is there.
    pub fn add_program(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, EXECUTABLE, bytes);
    }

    /// Adds a directory.
    pub fn add_directory(&mut self, path: &str) {
        self.add(path, DIRECTORY, &[]);
    }

    fn add(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let (path, bytes) = (path.to_owned(), bytes.to_owned());
        self.files.push(GuestFile { path, mode, bytes });
    }

    /// The guest as an initramfs: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    ///
    /// # Errors
    /// When a file is larger than the format can say.
    pub fn initramfs(&self) -> Result<Vec<u8>> {
        let inputs = self.files.iter().map(|file| {
            let header = NewcBuilder::new(&file.path).mode(file.mode).nlink(1);
            (header, Cursor::new(&file.bytes))
        });
        Ok(cpio::write_cpio(inputs, Vec::new())?)
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
        self.write_below(&root)?;
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

    fn write_below(&self, root: &Path) -> Result<()> {
        for file in &self.files {
            let path = root.join(&file.path);
            if file.mode == DIRECTORY {
                fs::create_dir_all(&path)?;
            } else {
                fs::File::create(&path)?.write_all(&file.bytes)?;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initramfs_holds_what_was_added() {
        let mut guest = Guest { files: Vec::new() };
        guest.add("bin", DIRECTORY, &[]);
        guest.add("bin/tool", EXECUTABLE, b"\x7fELF");
        guest.add_file("command", b"uname -r");
        let archive = guest.initramfs().unwrap();

        let mut reader = cpio::NewcReader::new(&archive[..]).unwrap();
        let mut found = Vec::new();
        while !reader.entry().is_trailer() {
            let entry = reader.entry();
            let head = (entry.name().to_owned(), entry.mode());
            let mut bytes = Vec::new();
            let rest = reader.to_writer(&mut bytes).unwrap();
            found.push((head, bytes));
            reader = cpio::NewcReader::new(rest).unwrap();
        }
        let expected = [
            (("bin".to_owned(), 0o040_755), vec![]),
            (("bin/tool".to_owned(), 0o100_755), b"\x7fELF".to_vec()),
            (("command".to_owned(), 0o100_644), b"uname -r".to_vec()),
        ];
        assert_eq!(found, expected);
    }
}
