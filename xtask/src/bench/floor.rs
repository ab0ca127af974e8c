//! The least a machine can be started with: an ELF file that a PVH loader enters,
//! which prints the time stamp counter as the probe does and ends QEMU. It is
//! what SeaBIOS and qboot are measured with, which know no EFI.

/// 32-bit code: RDTSC, its 64 bits to port 0x3F8 as 16 hexadecimal digits behind
/// the words, then isa-debug-exit.
#[rustfmt::skip]
const CODE: [u8; 64] = [
    0x0f, 0x31,                         // rdtsc
    0x89, 0xc3,                         // mov ebx, eax
    0x89, 0xd5,                         // mov ebp, edx
    0x66, 0xba, 0xf8, 0x03,             // mov dx, 0x3f8
    0xbe, 0x40, 0x00, 0x20, 0x00,       // mov esi, words
    0xb9, 0x0f, 0x00, 0x00, 0x00,       // mov ecx, 15
    0xf3, 0x6e,                         // rep outsb
    0xb9, 0x10, 0x00, 0x00, 0x00,       // mov ecx, 16
    0x89, 0xe8,                         // next: mov eax, ebp
    0xc1, 0xe8, 0x1c,                   // shr eax, 28
    0x04, 0x30,                         // add al, '0'
    0x3c, 0x3a,                         // cmp al, '9' + 1
    0x72, 0x02,                         // jb digit
    0x04, 0x27,                         // add al, 'a' - '9' - 1
    0xee,                               // digit: out dx, al
    0x0f, 0xa4, 0xdd, 0x04,             // shld ebp, ebx, 4
    0xc1, 0xe3, 0x04,                   // shl ebx, 4
    0xe2, 0xe9,                         // loop next
    0xb0, 0x0a,                         // mov al, '\n'
    0xee,                               // out dx, al
    0xb0, 0x10,                         // mov al, 0x10
    0xe6, 0xf4,                         // out 0xf4, al
    0xf4,                               // hlt
    0xeb, 0xfd,                         // jmp hlt
    0x90, 0x90, 0x90, 0x90,
];

/// Followed by the digits.
const WORDS: &[u8; 15] = b"\nprobe: tsc 0x ";
const LOADED_AT: u32 = 2 << 20;
const HEADERS: u32 = 52 + 2 * 32;

/// The file: ELF32 with one PT_LOAD, and the note XEN_ELFNOTE_PHYS32_ENTRY in it
/// (Xen docs/misc/pvh.pandoc).
pub fn elf() -> Vec<u8> {
    let mut content = CODE.to_vec();
    content.extend(WORDS);
    content.resize(content.len().next_multiple_of(4), 0);
    let note = HEADERS + length(&content);
    content.extend([4, 4, 18].map(u32::to_le_bytes).concat());
    content.extend(b"Xen\0");
    content.extend(LOADED_AT.to_le_bytes());
    let size = length(&content);
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    file.extend([LOADED_AT, 52, 0, 0].map(u32::to_le_bytes).concat());
    file.extend([52, 32, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let load = [1, HEADERS, LOADED_AT, LOADED_AT, size, size, 7, 4];
    let notes = [4, note, 0, 0, 20, 20, 4, 4];
    file.extend(
        [load, notes]
            .concat()
            .iter()
            .flat_map(|word: &u32| word.to_le_bytes()),
    );
    file.extend(content);
    file
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_where_the_code_looks_for_them() {
        let file = elf();
        let at = usize::try_from(HEADERS).unwrap() + CODE.len();
        assert_eq!(&file[at..at + WORDS.len()], WORDS);
        assert_eq!(CODE[11..15], (LOADED_AT + length(&CODE)).to_le_bytes());
        let elf = goblin::elf::Elf::parse(&file).unwrap();
        assert_eq!(elf.entry, u64::from(LOADED_AT));
        let mut notes = elf.iter_note_headers(&file).unwrap();
        let note = notes.next().unwrap().unwrap();
        assert_eq!((note.name, note.n_type), ("Xen", 18));
        assert_eq!(note.desc, LOADED_AT.to_le_bytes());
    }
}
