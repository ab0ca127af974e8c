//! Which QEMU runs a machine: the host's, or QEMU 10, whose devices Debian 12's
//! own has not. That one comes from Debian's packages, with all its libraries and
//! their linker; nothing of the host is used or changed.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::debian::{self, Suite};
use crate::{host, process};

/// A QEMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emulator {
    /// The host's.
    #[default]
    Host,
    /// QEMU 10 of Debian 12's backports.
    Ten,
}

/// How to start a QEMU.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

const LINKER: &str = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// QEMU itself: programs, modules, data.
const PARTS: [&str; 3] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data"];
/// The libraries it is linked to, and theirs.
const PACKAGES: [&str; 44] = [
    "libc6",
    "libaio1",
    "libblkid1",
    "libbpf1",
    "libcapstone4",
    "libdaxctl1",
    "libelf1",
    "libfdt1",
    "libffi8",
    "libfuse3-3",
    "libglib2.0-0",
    "libgmp10",
    "libgnutls30",
    "libhogweed6",
    "libibverbs1",
    "libidn2-0",
    "libjpeg62-turbo",
    "libkmod2",
    "liblzma5",
    "libmount1",
    "libndctl6",
    "libnettle8",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpixman-1-0",
    "libpmem1",
    "libpng16-16",
    "librdmacm1",
    "libsasl2-2",
    "libseccomp2",
    "libselinux1",
    "libslirp0",
    "libssl3",
    "libtasn1-6",
    "libudev1",
    "libunistring2",
    "liburing2",
    "libuuid1",
    "libvdeplug2",
    "libzstd1",
    "zlib1g",
];

impl Emulator {
    /// How to start it.
    ///
    /// # Errors
    /// When it is not there and cannot be had.
    pub fn invocation(self) -> Result<Invocation> {
        match self {
            Emulator::Host => {
                host::require(&[host::QEMU])?;
                Ok(Invocation {
                    program: host::QEMU.find().context("QEMU has vanished")?,
                    arguments: Vec::new(),
                })
            }
            Emulator::Ten => ten(),
        }
    }
}

/// What the host's QEMU says of its version.
///
/// # Errors
/// When it does not.
pub fn version() -> Result<String> {
    let text = process::text(host::QEMU.command().arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ten() -> Result<Invocation> {
    let names = [&PARTS[..], &PACKAGES].concat();
    let directories = debian::fetch_all(Suite::BookwormBackports, &names)?;
    let below = |part: usize, path: &str| directories[part].join(path);
    let libraries = directories[PARTS.len()..].iter();
    let libraries = libraries.flat_map(|package| LIBRARIES.map(|path| package.join(path)));
    let libraries = env::join_paths(libraries.filter(|path| path.is_dir()))?;
    let mut modules = OsString::from("QEMU_MODULE_DIR=");
    modules.push(below(1, "usr/lib/x86_64-linux-gnu/qemu"));
    Ok(Invocation {
        program: "/usr/bin/env".into(),
        arguments: vec![
            modules,
            below(PARTS.len(), LINKER).into(),
            "--library-path".into(),
            libraries,
            below(0, "usr/bin/qemu-system-x86_64").into(),
            "-L".into(),
            below(2, "usr/share/qemu").into(),
        ],
    })
}
