//! What a developer runs: build, boot, test, check.
//!
//! The binary is a command line over this library, so that the tests that boot
//! virtual machines use the same QEMU command line and the same guest as
//! `cargo xtask boot`. Everything is written below the target directory; the
//! host's own packages are only touched by [`host::require`], and it says so.
#![forbid(unsafe_code)]

pub mod accel;
pub mod bench;
pub mod boot;
pub mod build;
pub mod check;
pub mod conformance;
pub mod coverage;
pub mod debian;
pub mod elf;
pub mod emulator;
pub mod flash;
pub mod guest;
pub mod host;
pub mod kernel;
pub mod nightly;
pub mod pack;
pub mod process;
pub mod qemu;
pub mod source;
pub mod test;
pub mod trace;
pub mod tree;
pub mod vm;
pub mod workspace;
pub mod xen;
