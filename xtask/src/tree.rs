//! The files of a Linux userspace: put together in memory, written as an
//! initramfs or below a directory.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::NewcBuilder;

// `st_mode`, inode(7).
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;

/// Files and directories, parents before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Relative to the root.
    path: String,
    /// Type and permissions.
    mode: u32,
    bytes: Vec<u8>,
}

impl Tree {
    /// Adds a file of no special permissions, and the directories above it.
    pub fn add_file(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, PLAIN, bytes);
    }

    /// Adds a program or library, and the directories above it.
    pub fn add_program(&mut self, path: &str, bytes: &[u8]) {
        self.add(path, EXECUTABLE, bytes);
    }

    /// Adds a directory, and those above it.
    pub fn add_directory(&mut self, path: &str) {
        if !self.has(path) {
            self.add(path, DIRECTORY, &[]);
        }
    }

    /// Adds a copy of the file `from`, a program if it is one there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn add_copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let failed = || format!("cannot read {}", from.display());
        let bytes = fs::read(from).with_context(failed)?;
        let mode = fs::metadata(from)
            .with_context(failed)?
            .permissions()
            .mode();
        let executable = mode & 0o111 != 0;
        self.add(path, if executable { EXECUTABLE } else { PLAIN }, &bytes);
        Ok(())
    }

    /// Whether something is at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    fn add(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.add_directory(parent);
        }
        let (path, bytes) = (path.to_owned(), bytes.to_owned());
        self.files.push(Entry { path, mode, bytes });
    }

    /// The files as an initramfs: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
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

    /// Writes the files below the directory `root`.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write_below(&self, root: &Path) -> Result<()> {
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
        let mut tree = Tree::default();
        tree.add_program("bin/tool", b"\x7fELF");
        tree.add_file("command", b"uname -r");
        let archive = tree.initramfs().unwrap();

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
