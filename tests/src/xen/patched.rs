//! The firmware's files with a few instructions more, to bring about what no
//! toolstack and no hvmloader of today does.

use anyhow::{Context, Result, ensure};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE};
use goblin::elf::{Elf, ProgramHeader};

use crate::pe_file::put;

/// `mov dword [ebx+4], 0`: `hvm_start_info` becomes version 0, which has no
/// memory map (Xen, `xen/include/public/arch-x86/hvm/start_info.h`).
const BE_VERSION_0: [u8; 7] = [0xc7, 0x43, 0x04, 0, 0, 0, 0];
/// With a jump behind it.
const PATCH: u64 = BE_VERSION_0.len() as u64 + 5;
const JUMP_NEAR: u8 = 0xe9;
const JUMP_SHORT: u8 = 0xeb;
/// Length of the entry of a program header, and where it has its sizes (ELF-64).
const PROGRAM_HEADER: usize = 56;
const FILE_SIZE: usize = 32;
const MEMORY_SIZE: usize = 40;

/// The ELF file such that it starts as from Xen 4.10: with a start structure
/// without a memory map.
///
/// # Errors
/// When the file is not laid out as it should be.
pub fn without_memory_map(elf: &[u8]) -> Result<Vec<u8>> {
    let parsed = Elf::parse(elf)?;
    let headers = &parsed.program_headers;
    let note = headers.iter().find(|header| header.p_type == PT_NOTE);
    let note = note.context("no note in the ELF file")?;
    // The note's value, an entry address of 32 bits, is the last thing in it.
    let entry_at = usize::try_from(note.p_offset + note.p_filesz)? - 4;
    let room = |header: &ProgramHeader| has_room(header, headers, elf);
    let index = headers.iter().position(room);
    let index = index.context("no room behind a segment of the ELF file")?;
    let segment = &headers[index];
    let address = segment.p_paddr + segment.p_filesz;
    let mut patch = BE_VERSION_0.to_vec();
    patch.push(JUMP_NEAR);
    let behind = address + PATCH;
    patch.extend(i32::try_from(parsed.entry.wrapping_sub(behind).cast_signed())?.to_le_bytes());
    let mut file = elf.to_vec();
    let offset = usize::try_from(segment.p_offset + segment.p_filesz)?;
    put(&mut file, offset, &patch)?;
    let header = usize::try_from(parsed.header.e_phoff)? + index * PROGRAM_HEADER;
    for size in [FILE_SIZE, MEMORY_SIZE] {
        let grown = segment.p_filesz + PATCH;
        put(&mut file, header + size, &grown.to_le_bytes())?;
    }
    put(&mut file, entry_at, &u32::try_from(address)?.to_le_bytes())?;
    Ok(file)
}

/// Whether the patch fits behind a segment: nothing is loaded there, and the file has
/// nothing but zeros.
fn has_room(segment: &ProgramHeader, all: &[ProgramHeader], elf: &[u8]) -> bool {
    let end = segment.p_paddr + segment.p_filesz;
    let mut loads = all.iter().filter(|header| header.p_type == PT_LOAD);
    let taken = loads.any(|header| (end..end + PATCH).contains(&header.p_paddr));
    let offset = segment.p_offset + segment.p_filesz;
    let behind = usize::try_from(offset).ok().and_then(|at| elf.get(at..));
    segment.p_type == PT_LOAD
        && segment.p_memsz == segment.p_filesz
        && !taken
        && behind.is_some_and(|behind| behind.starts_with(&[0; PATCH as usize]))
}

/// Length of what is at the reset vector.
const RESET_VECTOR: usize = 16;

/// The flash image such that `code`, 16-bit code of at most 13 bytes, runs first.
///
/// # Errors
/// When the image does not begin with a jump, or `code` is too long.
pub fn after(code: &[u8], flash: &[u8]) -> Result<Vec<u8>> {
    let vector = flash
        .len()
        .checked_sub(RESET_VECTOR)
        .context("no reset vector")?;
    let (length, distance) = match flash[vector..] {
        [JUMP_SHORT, distance, ..] => (2, i16::from(distance.cast_signed())),
        [JUMP_NEAR, low, high, ..] => (3, i16::from_le_bytes([low, high])),
        _ => anyhow::bail!(
            "expected a jump at the reset vector, found {:x?}",
            &flash[vector..]
        ),
    };
    // From the end of one jump to the end of the other.
    let moved = i16::try_from(code.len() + 3)? - length;
    let mut patch = code.to_vec();
    patch.push(JUMP_NEAR);
    patch.extend((distance - moved).to_le_bytes());
    ensure!(
        patch.len() <= RESET_VECTOR,
        "{} bytes at the reset vector",
        patch.len()
    );
    let mut file = flash.to_vec();
    put(&mut file, vector, &patch)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_still_leads_where_it_led() {
        let mut flash = vec![0; 32];
        // At 16: back to 2.
        flash[16..18].copy_from_slice(&[JUMP_SHORT, (-16_i8).cast_unsigned()]);
        let patched = after(&[0x90, 0x90], &flash).unwrap();
        assert_eq!(patched[16..21], [0x90, 0x90, JUMP_NEAR, 0xed, 0xff]);
        // 16 + 5 - 19 is 2.
    }

    #[test]
    fn what_is_no_jump_is_refused() {
        assert!(after(&[0x90], &[0; 32]).is_err());
        assert!(after(&[0x90], &[]).is_err());
        let mut flash = [0; 16];
        flash[0] = JUMP_SHORT;
        assert!(after(&[0x90; 14], &flash).is_err());
    }
}
