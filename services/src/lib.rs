//! What UEFI *means*: data structures without hardware.
//!
//! With the `boot` feature (the default) this crate holds everything boot
//! services need; without it only what the runtime image may use: no alloc.
#![cfg_attr(not(test), no_std)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

#[cfg(feature = "boot")]
extern crate alloc;

pub mod clock;
pub mod crc32;
#[cfg(feature = "boot")]
pub mod memory;
pub mod resident;
pub mod variables;

#[cfg(feature = "boot")]
pub mod abi;
#[cfg(feature = "boot")]
pub mod boot;
#[cfg(feature = "boot")]
pub mod catalog;
#[cfg(feature = "boot")]
pub mod configuration;
#[cfg(feature = "boot")]
pub mod device_path;
#[cfg(feature = "boot")]
pub mod e820;
#[cfg(feature = "boot")]
pub mod events;
#[cfg(feature = "boot")]
mod guids;
#[cfg(feature = "boot")]
pub mod handles;
#[cfg(feature = "boot")]
pub mod images;
#[cfg(feature = "boot")]
pub mod keys;
#[cfg(feature = "boot")]
pub mod linux;
#[cfg(feature = "boot")]
pub mod mtrr;
#[cfg(feature = "boot")]
pub mod options;
#[cfg(feature = "boot")]
pub mod payload;
#[cfg(feature = "boot")]
pub mod pci;
#[cfg(feature = "boot")]
pub mod physical;
#[cfg(feature = "boot")]
pub mod pvh;
#[cfg(feature = "boot")]
mod sorted;
#[cfg(feature = "boot")]
pub mod tables;
#[cfg(feature = "boot")]
pub mod terminal;
#[cfg(feature = "boot")]
pub mod text;
#[cfg(feature = "boot")]
pub mod xen;
