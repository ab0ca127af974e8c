//! Just enough of the PE file format to break a file, or to move its headers.
//! Offsets are those of the Microsoft PE Format.

use anyhow::{Context, Result, ensure};

/// `e_lfanew` in the DOS header: where the PE signature is.
pub const SIGNATURE_POINTER: usize = 0x3c;
/// `NumberOfSections`, from the signature.
pub const SECTION_COUNT: usize = 6;
/// `SizeOfOptionalHeader`, from the signature.
pub const OPTIONAL_HEADER_SIZE: usize = 20;
/// The optional header, from the signature; the section table is behind it.
pub const OPTIONAL_HEADER: usize = 24;
/// `SizeOfHeaders`, from the signature.
pub const HEADERS_SIZE: usize = OPTIONAL_HEADER + 60;
/// Size of an entry of the section table.
pub const SECTION_ENTRY: usize = 40;
/// `SizeOfRawData` in an entry of the section table.
pub const RAW_SIZE: usize = 16;
/// `PointerToRawData` in an entry of the section table.
pub const RAW_POINTER: usize = 20;

/// Where the signature and the first entry of the section table are in `file`.
///
/// # Errors
/// When the file is too short.
pub fn layout(file: &[u8]) -> Result<(usize, usize)> {
    let signature = get(file, SIGNATURE_POINTER, 4)?;
    let optional_header = get(file, signature + OPTIONAL_HEADER_SIZE, 2)?;
    Ok((signature, signature + OPTIONAL_HEADER + optional_header))
}

/// The little-endian field of `size` bytes at offset `at`.
///
/// # Errors
/// When the file is too short.
pub fn get(file: &[u8], at: usize, size: usize) -> Result<usize> {
    let field = file
        .get(at..at + size)
        .context("the file is shorter than its headers")?;
    Ok(field
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

/// Replaces what is at offset `at`.
///
/// # Errors
/// When the file is too short.
pub fn put(file: &mut [u8], at: usize, value: &[u8]) -> Result<()> {
    ensure!(
        at + value.len() <= file.len(),
        "the file is shorter than its headers"
    );
    file[at..at + value.len()].copy_from_slice(value);
    Ok(())
}
