//! From the firmware's ELF file to a flash image.
//!
//! The flash ends at 4 GiB and the processor starts 16 bytes below (Intel SDM
//! Vol. 3 §11.1.4), so what the processor starts with, the section `.reset`, ends
//! the image: the linker script puts the reset vector into its last 16 bytes. Below
//! it lies what it unpacks: everything from the first loadable byte up to `.cold`,
//! and `.cold` (see `firmware/src/arch/cold.rs`). Whatever is below that stays as
//! erased flash, 0xFF.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;

use crate::{elf, pack};

/// Size of the flash image in bytes.
pub const FLASH_SIZE: usize = 1 << 20;

const ERASED: u8 = 0xff;
const RESET_VECTOR_SIZE: usize = 16;
/// The most that is packed: more would not fit anyway.
const LARGEST: usize = 16 * FLASH_SIZE;
/// Where `.reset` holds the address of the first packed byte.
const PACKED: Range<usize> = 0..4;
/// What an instruction of unpacking may cost, in hundredths of a byte: every start
/// unpacks the first part, and few need the second.
const PRICES: [u32; 2] = [20, 1];

/// Packs the image in `elf` into a flash image of [`FLASH_SIZE`].
///
/// # Errors
/// When the file is no ELF, has nothing to load, lacks one of the three sections or has
/// them elsewhere, does not fit or does not end in a reset vector.
pub fn from_elf(elf: &[u8]) -> Result<Vec<u8>> {
    let Image {
        bytes,
        text,
        cold,
        reset,
    } = Image::read(elf)?;
    check_reset_vector(&bytes[reset.clone()])?;
    let mut packed = pack::block(&[], &bytes[..cold.start], PRICES[0])?;
    // What is in front of the code has changed when .cold is unpacked.
    packed.extend(pack::block(&bytes[text], &bytes[cold], PRICES[1])?);
    let size = packed.len() + reset.len();
    ensure!(
        size <= FLASH_SIZE,
        "the packed image is {size} bytes, the flash has room for {FLASH_SIZE}"
    );
    let mut flash = vec![ERASED; FLASH_SIZE - size];
    flash.extend(packed);
    let start = flash.len();
    flash.extend(&bytes[reset]);
    let address = (1_u64 << 32) - size as u64;
    flash[start..][PACKED].copy_from_slice(&(address as u32).to_le_bytes());
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

/// What an ELF file loads, and where in it three sections are.
struct Image {
    bytes: Vec<u8>,
    /// And what is between it and `.cold`.
    text: Range<usize>,
    cold: Range<usize>,
    reset: Range<usize>,
}

impl Image {
    fn read(bytes: &[u8]) -> Result<Self> {
        let elf = Elf::parse(bytes).context("the firmware is not an ELF file")?;
        let headers = elf.program_headers.iter();
        let loads: Vec<_> = headers
            .filter(|h| h.p_type == PT_LOAD && h.p_filesz > 0)
            .collect();
        for pair in loads.windows(2) {
            let (end, next) = (
                pair[0].p_paddr.saturating_add(pair[0].p_memsz),
                pair[1].p_paddr,
            );
            ensure!(
                end <= next,
                "expected segments in order and apart, found one up to {end:#x} and the next at {next:#x}"
            );
        }
        let ends = loads.iter().map(|h| h.p_paddr.saturating_add(h.p_filesz));
        let start = loads.iter().map(|h| h.p_paddr).min();
        let start = start.context("the ELF file loads nothing")?;
        let size = usize::try_from(ends.max().unwrap_or(start) - start)?;
        ensure!(
            size <= LARGEST,
            "the image is {size:#x} bytes, expected at most {LARGEST:#x}"
        );
        let mut image = vec![0; size];
        for header in loads {
            let content = bytes
                .get(header.file_range())
                .context("a segment ends after the file")?;
            let offset = usize::try_from(header.p_paddr - start)?;
            image[offset..offset + content.len()].copy_from_slice(content);
        }
        let section = |name| {
            let header = elf::section(&elf, name)?;
            let from = header.sh_addr.checked_sub(start).map(usize::try_from);
            let from = from.context("a section lies below the image")??;
            let to = from.saturating_add(header.sh_size.try_into()?);
            ensure!(to <= size, "section {name} ends behind the image");
            Ok(from..to)
        };
        let text: Range<usize> = section(".text")?;
        let (cold, reset) = (section(".cold")?, section(".reset")?);
        ensure!(
            text.end <= cold.start && cold.end <= reset.start && reset.end == size,
            "expected .text, .cold and .reset up to {size:#x}, found {text:#x?}, {cold:#x?} and {reset:#x?}"
        );
        Ok(Self {
            bytes: image,
            text: text.start..cold.start,
            cold,
            reset,
        })
    }
}

fn check_reset_vector(reset: &[u8]) -> Result<()> {
    let vector = reset.last_chunk::<RESET_VECTOR_SIZE>();
    let is_empty = |byte: &u8| matches!(*byte, 0 | ERASED);
    ensure!(
        reset.len().is_multiple_of(RESET_VECTOR_SIZE)
            && vector.is_some_and(|vector| !vector.iter().all(is_empty)),
        "expected .reset to end in a reset vector of {RESET_VECTOR_SIZE} bytes: the linker script lost it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x10_0000;

    /// A 64-bit ELF file that loads `image` at [`START`], with three sections in it:
    /// `.text` are the 32 bytes before `.cold`.
    fn elf(image: &[u8], cold: Range<u64>, reset: Range<u64>) -> Vec<u8> {
        let whole = 0..image.len() as u64;
        in_segments(std::slice::from_ref(&whole), image, cold, reset)
    }

    fn in_segments(
        segments: &[Range<u64>],
        image: &[u8],
        cold: Range<u64>,
        reset: Range<u64>,
    ) -> Vec<u8> {
        let names = b"\0.cold\0.reset\0.text\0";
        let count = u16::try_from(segments.len()).unwrap();
        let image_at = 64 + 56 * u64::from(count);
        let names_at = image_at + image.len() as u64;
        let sections_at = names_at + names.len() as u64;
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        file.extend([0, 64, sections_at].map(u64::to_le_bytes).concat());
        file.extend(
            [0, 0, 64, 56, count, 64, 5, 4]
                .map(u16::to_le_bytes)
                .concat(),
        );
        for segment in segments {
            file.extend([PT_LOAD, 7].map(u32::to_le_bytes).concat());
            let (address, size) = (START + segment.start, segment.end - segment.start);
            let fields = [image_at + segment.start, address, address, size, size, 16];
            file.extend(fields.map(u64::to_le_bytes).concat());
        }
        file.extend(image);
        file.extend(names);
        let sections = [
            (0, 0, 0, 0..0),
            (14, 1, START + cold.start - 32, cold.start - 32..cold.start),
            (1, 1, START + cold.start, cold),
            (7, 1, START + reset.start, reset),
            (0, 3, 0, names_at..sections_at),
        ];
        for (name, kind, address, bytes) in sections {
            file.extend([name, kind].map(u32::to_le_bytes).concat());
            let size = bytes.end - bytes.start;
            let fields = [0, address, bytes.start, size, 0, 0, 0];
            file.extend(fields.map(u64::to_le_bytes).concat());
        }
        file
    }

    /// 64 bytes of data, 64 of `.cold`, 32 of `.reset`.
    fn image() -> Vec<u8> {
        let data = (0..128_u8).map(|byte| byte % 50);
        data.chain([7; 32]).collect()
    }

    fn refusal(image: &[u8], cold: Range<u64>, reset: Range<u64>) -> String {
        from_elf(&elf(image, cold, reset)).unwrap_err().to_string()
    }

    fn unpacked(before: &[u8], packed: &[u8]) -> Vec<u8> {
        lz4_flex::block::decompress_with_dict(packed, 64, before).unwrap()
    }

    #[test]
    fn the_flash_ends_in_the_packed_image_and_the_reset_section() {
        let image = image();
        let flash = from_elf(&elf(&image, 64..128, 128..160)).unwrap();
        assert_eq!(flash.len(), FLASH_SIZE);
        let (below, reset) = flash.split_at(FLASH_SIZE - 32);
        assert_eq!(reset[4..], [7; 28]);
        let address = u32::from_le_bytes(reset[PACKED].try_into().unwrap());
        let packed = &below[address as usize - (0xfff0_0000)..];
        let first = pack::block(&[], &image[..64], PRICES[0]).unwrap();
        let (first, second) = packed.split_at(first.len());
        for (before, packed, expected) in [(0..0, first, 0..64), (32..64, second, 64..128)] {
            let block = packed.strip_suffix(&[0, 0]).unwrap();
            assert_eq!(unpacked(&image[before], block), image[expected]);
        }
        let erased = below.len() - packed.len();
        assert!(below[..erased].iter().all(|byte| *byte == ERASED));
        let empty = flash.iter().filter(|byte| matches!(**byte, 0 | ERASED));
        assert_eq!(occupied(&flash), FLASH_SIZE - empty.count());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let image: Vec<_> = (0..FLASH_SIZE).map(|_| noise()).collect();
        let size = image.len() as u64;
        let error = refusal(&image, size - 128..size - 64, size - 64..size);
        assert!(error.contains("room for 1048576"), "{error}");
        let error = refusal(&vec![1; LARGEST + 16], 64..128, 128..160);
        assert!(error.contains("expected at most 0x1000000"), "{error}");
    }

    #[test]
    fn what_does_not_end_in_a_reset_vector_is_refused() {
        let mut empty = image();
        for byte in [0, ERASED] {
            empty[144..].fill(byte);
            let error = refusal(&empty, 64..128, 128..160);
            assert!(error.contains("lost it"), "{error}");
        }
        let odd = [image(), vec![7; 8]].concat();
        let error = refusal(&odd, 64..128, 128..168);
        assert!(error.contains("lost it"), "{error}");
    }

    #[test]
    fn sections_elsewhere_are_refused() {
        let image = image();
        let error = refusal(&image, 64..128, 112..144);
        assert!(
            error.contains("expected .text, .cold and .reset"),
            "{error}"
        );
        let error = refusal(&image, 64..128, 128..176);
        assert!(error.contains("ends behind the image"), "{error}");
    }

    #[test]
    fn segments_may_touch_but_not_overlap() {
        let image = image();
        let flash = |segments| from_elf(&in_segments(segments, &image, 64..128, 128..160));
        let whole = from_elf(&elf(&image, 64..128, 128..160)).unwrap();
        assert_eq!(flash(&[0..100, 100..160]).unwrap(), whole);
        let error = flash(&[0..101, 100..160]).unwrap_err().to_string();
        assert!(error.contains("expected segments in order"), "{error}");
        assert!(flash(&[100..160, 0..100]).is_err());
    }

    #[test]
    fn what_is_no_elf_is_refused() {
        assert!(from_elf(b"MZ").is_err());
        let whole = elf(&image(), 64..128, 128..160);
        assert!(from_elf(&whole[..200]).is_err());
        let mut nameless = whole;
        let at = nameless.windows(5).position(|bytes| bytes == b".cold");
        nameless[at.unwrap()] = b'x';
        let error = from_elf(&nameless).unwrap_err();
        assert!(error.to_string().contains("section .cold"), "{error}");
    }
}
