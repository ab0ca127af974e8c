//! Programs of Debian 12 in a guest, with the libraries they are linked to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xtask::debian::{self, Suite};
use xtask::guest::Guest;

/// Where packages have libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Adds `program`, a path in one of `packages`, and those of their libraries
/// whose names begin with one of `libraries`.
///
/// # Errors
/// When a package cannot be fetched or a file not be read.
pub fn add(guest: &mut Guest, program: &str, packages: &[&str], libraries: &[&str]) -> Result<()> {
    guest.add_directory("lib");
    guest.add_directory("lib64");
    for package in packages {
        let package = debian::fetch(Suite::Bookworm, package)?;
        for directory in LIBRARIES {
            add_libraries(guest, &package.join(directory), libraries)?;
        }
        let file = package.join(program);
        if file.is_file() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            guest.add_program(&format!("bin/{name}"), &read(&file)?);
        }
    }
    Ok(())
}

/// Adds chattr, which busybox does not have: efivarfs lets most variables be changed
/// only after it.
///
/// # Errors
/// When it cannot be fetched or read.
pub fn add_chattr(guest: &mut Guest) -> Result<()> {
    let packages = ["e2fsprogs", "libext2fs2", "libcom-err2", "libc6"];
    let libraries = ["libe2p.", "libcom_err.", "libc.so"];
    add(guest, "usr/bin/chattr", &packages, &libraries)
}

/// Adds the libraries in `directory`, the dynamic linker where programs expect
/// it.
fn add_libraries(guest: &mut Guest, directory: &Path, libraries: &[&str]) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ld-linux") {
            guest.add_program(&format!("lib64/{name}"), &read(&path)?);
        } else if libraries.iter().any(|library| name.starts_with(library)) {
            guest.add_program(&format!("lib/{name}"), &read(&path)?);
        }
    }
    Ok(())
}

/// The content of a file.
///
/// # Errors
/// When it cannot be read, with its name.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
