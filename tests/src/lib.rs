//! Tests that boot virtual machines: cases, and the bench they run on.
//!
//! Each case is a function from a [`bench::Bench`] to success or an
//! explanation; the test binary `vm` gives them names.
#![forbid(unsafe_code)]

pub mod bench;
pub mod budget;
pub mod cold;
pub mod compare;
pub mod devices;
pub mod display;
pub mod efivarfs;
pub mod guest_application;
pub mod hotplug;
pub mod judges;
pub mod kexec;
pub mod lifecycle;
pub mod linux;
pub mod microvm;
pub mod monitor;
pub mod packages;
pub mod pe_file;
pub mod phases;
pub mod pvh_loader;
pub mod reference;
pub mod refusals;
pub mod signing;
pub mod tpm;
pub mod trace;
pub mod uefi_vars;
pub mod uki;
pub mod variable_space;
pub mod variable_tools;
pub mod variables;
pub mod virt_firmware;
pub mod xen;
