//! The programs of the host that a task needs, and how to get them.
//!
//! Nothing is installed silently, and nothing at all unless we are root.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A program, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Runs the guests. Any version with `-action panic=exit-failure`: 7.1 or later.
pub const QEMU: Tool = Tool {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
};
/// Fetches Debian packages.
pub const APT_GET: Tool = Tool {
    program: "apt-get",
    package: "apt",
};
/// Unpacks them.
pub const DPKG_DEB: Tool = Tool {
    program: "dpkg-deb",
    package: "dpkg",
};
/// Decompresses kernel modules.
pub const XZ: Tool = Tool {
    program: "xz",
    package: "xz-utils",
};
/// Decompresses Xen.
pub const GZIP: Tool = Tool {
    program: "gzip",
    package: "gzip",
};
/// Makes the root disk of guests that boot without an initrd.
pub const MKE2FS: Tool = Tool {
    program: "mke2fs",
    package: "e2fsprogs",
};
/// Makes unified kernel images.
pub const OBJCOPY: Tool = Tool {
    program: "objcopy",
    package: "binutils",
};
/// Runs ukify, which also makes them.
pub const PYTHON: Tool = Tool {
    program: "python3",
    package: "python3",
};
/// Fetches programs in Python.
pub const PIP: Tool = Tool {
    program: "pip3",
    package: "python3-pip",
};
/// Compiles programs in C, of which Rust needs the linker.
pub const GCC: Tool = Tool {
    program: "gcc",
    package: "gcc",
};
/// Unpacks the source of Linux.
pub const TAR: Tool = Tool {
    program: "tar",
    package: "tar",
};
/// Is the TPM of guests that have one.
pub const SWTPM: Tool = Tool {
    program: "swtpm",
    package: "swtpm",
};
/// Makes keys and signatures.
pub const OPENSSL: Tool = Tool {
    program: "openssl",
    package: "openssl",
};
/// Ties QEMU's life to ours; done without where it is missing.
pub const SETPRIV: Tool = Tool {
    program: "setpriv",
    package: "util-linux",
};

impl Tool {
    /// Where the program is: on the PATH, or in a `sbin` that only root's PATH has.
    pub fn find(self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        directories
            .map(|directory| directory.join(self.program))
            .find(|file| file.is_file())
    }

    /// A command that runs the program.
    pub fn command(self) -> Command {
        Command::new(self.find().unwrap_or_else(|| self.program.into()))
    }
}

/// Makes sure that all `tools` are there: as root by installing what is missing.
///
/// # Errors
/// When something is missing and we are not root, with the command to run; when
/// the installation fails.
pub fn require(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools
        .iter()
        .copied()
        .filter(|tool| tool.find().is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs = list(&missing, |tool| tool.program);
    let packages = list(&missing, |tool| tool.package);
    if APT_GET.find().is_none() {
        bail!("missing on this host: {programs} (Debian: {packages}); install them and try again");
    }
    if !is_root() {
        bail!(
            "missing on this host: {programs}; to install: \
             sudo apt-get install --no-install-recommends {packages}"
        );
    }
    eprintln!("xtask: installing {packages} for {programs}, which this host does not have");
    install(&missing)
}

fn install(missing: &[Tool]) -> Result<()> {
    let apt = || {
        let mut command = APT_GET.command();
        // Standard output belongs to the task: a guest's command may write there.
        command.stdout(std::io::stderr());
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    process::run(apt().arg("update"))?;
    let mut command = apt();
    command.args(["install", "-y", "--no-install-recommends"]);
    process::run(command.args(missing.iter().map(|tool| tool.package)))
}

fn list(tools: &[Tool], name: impl Fn(&Tool) -> &'static str) -> String {
    tools.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn is_root() -> bool {
    // "Uid: real effective saved filesystem", proc_pid_status(5).
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// The rustup targets of the firmware, its runtime image and the guest.
pub const RUST_TARGETS: [&str; 2] = ["x86_64-unknown-none", "x86_64-unknown-uefi"];

/// Makes sure that the toolchain has [`RUST_TARGETS`].
///
/// # Errors
/// When one is missing and rustup cannot add it.
pub fn require_rust_targets() -> Result<()> {
    for target in RUST_TARGETS {
        if has_rust_target(target)? {
            continue;
        }
        eprintln!("xtask: adding the Rust target {target}");
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(crate::workspace::root())
            .args(["target", "add", target]);
        process::run(&mut rustup).with_context(|| {
            format!(
                "the Rust target {target} is missing; install rustup (https://rustup.rs) and run \
                 `rustup target add {target}`"
            )
        })?;
    }
    Ok(())
}

fn has_rust_target(target: &str) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(crate::workspace::root());
    let libraries = process::text(rustc.args(["--print", "target-libdir", "--target", target]))?;
    Ok(Path::new(libraries.trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_every_unix_is_found() {
        let shell = Tool {
            program: "sh",
            package: "dash",
        };
        assert!(shell.find().is_some_and(|path| path.is_absolute()));
        assert!(require(&[shell]).is_ok());
    }

    #[test]
    fn a_missing_program_is_not_found() {
        let tool = Tool {
            program: "no-such-program",
            package: "no-such-package",
        };
        assert!(tool.find().is_none());
    }
}
