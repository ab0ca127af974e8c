//! From the firmware's ELF file to a flash image.
//!
//! The flash ends at 4 GiB and the processor starts 16 bytes below (Intel SDM
//! Vol. 3 §11.1.4), so the loadable image is right-aligned: the linker script
//! puts the reset vector into its last 16 bytes. Whatever is below stays as
//! erased flash, 0xFF.

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;

/// Size of the flash image in bytes.
pub const FLASH_SIZE: usize = 1 << 20;

const ERASED: u8 = 0xff;
const RESET_VECTOR_SIZE: usize = 16;

/// Lays the loadable image of `elf` out into a flash image of [`FLASH_SIZE`].
///
/// # Errors
/// When the file is no ELF, has nothing to load, does not fit or does not end
/// in a reset vector.
pub fn from_elf(elf: &[u8]) -> Result<Vec<u8>> {
    let image = loadable_image(elf)?;
    let Some(below) = FLASH_SIZE.checked_sub(image.bytes.len()) else {
        bail!(
            "the image is {} bytes, the flash has room for {FLASH_SIZE}",
            image.bytes.len()
        );
    };
    check_reset_vector(&image)?;
    let mut flash = vec![ERASED; below];
    flash.extend_from_slice(&image.bytes);
    Ok(flash)
}

/// The bytes of `flash` that are neither zero nor erased: what the firmware
/// would take in a store that compresses runs.
pub fn occupied(flash: &[u8]) -> usize {
    flash
        .iter()
        .filter(|byte| !matches!(**byte, 0 | ERASED))
        .count()
}

struct Loadable {
    bytes: Vec<u8>,
    /// Physical address of the byte after the last.
    end: u64,
}

fn loadable_image(bytes: &[u8]) -> Result<Loadable> {
    let elf = Elf::parse(bytes).context("the firmware is not an ELF file")?;
    let headers = elf.program_headers.iter();
    let loads: Vec<_> = headers
        .filter(|h| h.p_type == PT_LOAD && h.p_filesz > 0)
        .collect();
    let start = loads
        .iter()
        .map(|h| h.p_paddr)
        .min()
        .context("the ELF file loads nothing")?;
    let end = loads
        .iter()
        .map(|h| h.p_paddr.saturating_add(h.p_filesz))
        .max()
        .unwrap_or(start);
    let size = usize::try_from(end - start)?;
    if size > FLASH_SIZE {
        bail!("the image spans {start:#x}..{end:#x}, the flash has room for {FLASH_SIZE:#x} bytes");
    }
    let mut image = vec![0; size];
    for header in loads {
        let content = bytes
            .get(header.file_range())
            .context("a segment ends after the file")?;
        let offset = usize::try_from(header.p_paddr - start)?;
        image[offset..offset + content.len()].copy_from_slice(content);
    }
    Ok(Loadable { bytes: image, end })
}

fn check_reset_vector(image: &Loadable) -> Result<()> {
    if !image.end.is_multiple_of(RESET_VECTOR_SIZE as u64) {
        bail!(
            "the image ends at {:#x}, not after a 16-byte reset vector",
            image.end
        );
    }
    let vector = image.bytes.len().saturating_sub(RESET_VECTOR_SIZE);
    if image.bytes[vector..]
        .iter()
        .all(|byte| matches!(*byte, 0 | ERASED))
    {
        bail!("the last 16 bytes of the image are empty: the linker script lost the reset vector");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit ELF file with one PT_LOAD per `(physical address, content)`.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        file.extend([0, 64, 0].map(u64::to_le_bytes).concat());
        let count = u16::try_from(segments.len()).unwrap();
        file.extend(
            [0, 0, 64, 56, count, 64, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        let mut offset = 64 + 56 * segments.len() as u64;
        for (address, content) in segments {
            let size = content.len() as u64;
            file.extend([PT_LOAD, 7].map(u32::to_le_bytes).concat());
            // Virtual addresses are elsewhere: only the physical ones count.
            let fields = [offset, address + 0x1000_0000, *address, size, size, 16];
            file.extend(fields.map(u64::to_le_bytes).concat());
            offset += size;
        }
        file.extend(segments.iter().flat_map(|(_, content)| content.iter()));
        file
    }

    #[test]
    fn the_image_ends_with_the_flash() {
        let flash = from_elf(&elf(&[(0x1020, &[2; 16]), (0x1000, &[1; 8])])).unwrap();
        assert_eq!(flash.len(), FLASH_SIZE);
        let mut expected = vec![1; 8];
        expected.extend([0; 24]);
        expected.extend([2; 16]);
        assert_eq!(flash[FLASH_SIZE - 48..], expected);
        assert!(flash[..FLASH_SIZE - 48].iter().all(|byte| *byte == 0xff));
        assert_eq!(occupied(&flash), 24);
    }

    #[test]
    fn an_image_of_exactly_the_flash_fits() {
        assert!(from_elf(&elf(&[(0, &vec![1; FLASH_SIZE])])).is_ok());
        let error = from_elf(&elf(&[(0, &vec![1; FLASH_SIZE + 16])])).unwrap_err();
        assert!(error.to_string().contains("room for"), "{error}");
    }

    #[test]
    fn what_does_not_end_in_a_reset_vector_is_refused() {
        let error = from_elf(&elf(&[(0x1000, &[1; 24])])).unwrap_err();
        assert!(error.to_string().contains("ends at 0x1018"), "{error}");
        for empty in [0, 0xff] {
            let error = from_elf(&elf(&[(0x1000, &[1; 16]), (0x1010, &[empty; 16])])).unwrap_err();
            assert!(
                error.to_string().contains("lost the reset vector"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(from_elf(b"MZ").is_err());
        assert!(from_elf(&elf(&[])).is_err());
        let mut cut = elf(&[(0x1000, &[1; 16])]);
        cut.pop();
        assert!(from_elf(&cut).is_err());
    }
}
