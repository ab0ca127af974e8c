//! The probe of tests/guest/src/bin/probe, put into a kernel.
//!
//! A Linux bzImage has a section with code for real mode, which nobody runs
//! under EFI. The probe's image goes over it, and the file's entry point to the
//! probe, which goes on to the kernel's. All else stays as it was, the file's size and
//! layout included.

use anyhow::{Context, Result, ensure};
use ovmf_lite_loader::pe::Image;

/// What stands in the probe in front of the distance to the kernel's entry point.
const MARK: &[u8] = b"OVMF-lite probe:";
const UNNEEDED: [&[u8]; 2] = [b".eh_fram", b".reloc"];
/// Microsoft PE Format: offset of the PE header's offset, and of
/// `AddressOfEntryPoint` from there.
const PE_POINTER: usize = 0x3c;
const ENTRY: usize = 24 + 16;

/// `kernel` with `probe` in it.
///
/// # Errors
/// When one of them is no PE file, or the kernel has no room.
pub fn into_kernel(kernel: &[u8], probe: &[u8]) -> Result<Vec<u8>> {
    let image = Image::parse(kernel)?;
    let setup = image
        .sections()
        .find(|section| section.name.as_bytes() == b".setup")
        .context("the kernel has no section .setup")?;
    let distance = i64::from(image.entry()) - i64::from(setup.rva);
    let (blob, entry) = placed(probe, distance)?;
    ensure!(
        blob.len() <= setup.raw.len(),
        "the probe takes {} bytes, the kernel's setup code has {}",
        blob.len(),
        setup.raw.len()
    );
    let at = setup.raw.as_ptr().addr() - kernel.as_ptr().addr();
    let mut file = kernel.to_vec();
    file[at..at + blob.len()].copy_from_slice(&blob);
    let header = u32::from_le_bytes(file[PE_POINTER..PE_POINTER + 4].try_into()?);
    let field = usize::try_from(header)? + ENTRY;
    file[field..field + 4].copy_from_slice(&(setup.rva + entry).to_le_bytes());
    Ok(file)
}

/// The probe as it is in memory, with the distance set, and its entry point.
fn placed(probe: &[u8], distance: i64) -> Result<(Vec<u8>, u32)> {
    let image = Image::parse(probe)?;
    // Unwinding information, which nobody reads, holds the only addresses.
    let needed = image
        .sections()
        .filter(|s| !UNNEEDED.contains(&s.name.as_bytes()));
    let ends = needed.map(|s| s.rva + s.virtual_size).max();
    let end = usize::try_from(ends.context("the probe is empty")?)?;
    let mut memory = vec![0; image.size()];
    let mut elsewhere = memory.clone();
    image.place(&mut memory, 0)?;
    image.place(&mut elsewhere, u64::try_from(image.alignment())?)?;
    memory.truncate(end);
    ensure!(
        elsewhere.starts_with(&memory),
        "the probe holds an address: what it does depends on where it lies"
    );
    let mark = memory.windows(MARK.len()).position(|bytes| bytes == MARK);
    let at = mark.context("the probe has no mark")? + MARK.len();
    memory[at..at + 8].copy_from_slice(&distance.to_le_bytes());
    Ok((memory, image.entry()))
}
