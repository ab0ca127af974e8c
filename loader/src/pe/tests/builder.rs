//! Writes PE32+ files from fields, wrong ones included.
//!
//! The numbers are those of the Microsoft PE Format and are written here
//! without goblin, so that a misreading there does not cancel out.

/// The fields of a file; everything else is zero.
#[derive(Clone)]
pub struct Builder {
    pub pe_offset: usize,
    pub machine: u16,
    pub characteristics: u16,
    pub magic: u16,
    pub entry: u32,
    pub image_base: u64,
    pub section_alignment: u32,
    pub size_of_image: u32,
    pub size_of_headers: u32,
    pub subsystem: u16,
    pub directories: Vec<(u32, u32)>,
    pub sections: Vec<RawSection>,
}

/// A section header and the bytes it points at.
#[derive(Clone)]
pub struct RawSection {
    pub name: &'static str,
    pub rva: u32,
    pub virtual_size: u32,
    pub offset: u32,
    pub raw: Vec<u8>,
    pub characteristics: u32,
}

pub const READ: u32 = 0x4000_0000;
pub const WRITE: u32 = 0x8000_0000;
pub const EXECUTE: u32 = 0x2000_0000;

/// The image is linked for an address above 4 GiB, as Xen is.
pub const LINKED_AT: u64 = 0xffff_82d0_4020_0000;

/// What a file's sections contain, by offset in the file. Made once: in Miri it
/// would otherwise be most of each test's time.
static CONTENT: [u8; 0x3000] = {
    let mut content = [0; 0x3000];
    let mut at = 0;
    while at < content.len() {
        content[at] = (at / 3) as u8 | 1;
        at += 1;
    }
    content
};

/// Linux before 6.7: sections 0x20 bytes apart and an image far larger than its
/// file, all of it inside the last section.
pub fn small_alignment() -> Builder {
    Builder {
        image_base: 0x100_0000,
        section_alignment: 0x20,
        size_of_image: 0x9_0010,
        size_of_headers: 0x200,
        entry: 0x260,
        directories: vec![(0, 0); 6],
        sections: vec![
            section(".setup", 0x200, 0x40, 0x200, 0x40, READ),
            section(".reloc", 0x240, 0x20, 0x240, 0x20, READ),
            section(".text", 0x260, 0x8_fdb0, 0x260, 0x120, READ | EXECUTE),
        ],
        ..paged()
    }
}

/// One section per page, the sections out of order, with relocations: a DIR64
/// at 0x2008, a HIGHLOW at 0x2ffc and a DIR64 across the page at 0x1ffc.
pub fn paged() -> Builder {
    let relocations = [
        block(0x1000, &[(10, 0xffc), (0, 0)]),
        block(0x2000, &[(10, 0x008), (3, 0xffc)]),
    ]
    .concat();
    let mut data = section(".data", 0x1000, 0x3800, 0x600, 0x2000, READ | WRITE);
    set(&mut data.raw, 0xffc, &(LINKED_AT + 0x11).to_le_bytes());
    set(&mut data.raw, 0x1008, &(LINKED_AT + 0x22).to_le_bytes());
    set(&mut data.raw, 0x1ffc, &0x4020_0033_u32.to_le_bytes());
    Builder {
        pe_offset: 0x80,
        machine: 0x8664,
        characteristics: 0x206,
        magic: 0x20b,
        entry: 0x5000,
        image_base: LINKED_AT,
        section_alignment: 0x1000,
        size_of_image: 0x7000,
        size_of_headers: 0x400,
        subsystem: 10,
        directories: {
            let mut directories = vec![(0, 0); 16];
            directories[5] = (0x6000, relocations.len() as u32);
            directories
        },
        sections: vec![
            section(".text", 0x5000, 0x123, 0x400, 0x200, READ | EXECUTE),
            data,
            RawSection {
                raw: relocations,
                ..section(".reloc", 0x6000, 0, 0x2600, 0, READ)
            },
            section(".gone", 0x7000, 0, 0, 0, READ),
        ],
    }
}

/// A section whose bytes tell where in the file they were.
pub fn section(
    name: &'static str,
    rva: u32,
    virtual_size: u32,
    offset: u32,
    raw_size: u32,
    characteristics: u32,
) -> RawSection {
    RawSection {
        name,
        rva,
        virtual_size,
        offset,
        raw: CONTENT[offset as usize..][..raw_size as usize].to_vec(),
        characteristics,
    }
}

/// A relocation block of `(type, offset)` entries.
pub fn block(page: u32, entries: &[(u16, u16)]) -> Vec<u8> {
    let size = 8 + 2 * entries.len() as u32;
    let mut bytes = [page.to_le_bytes(), size.to_le_bytes()].concat();
    for (kind, offset) in entries {
        bytes.extend((kind << 12 | offset).to_le_bytes());
    }
    bytes
}

/// Overwrites part of `bytes`, which grows as needed.
pub fn set(bytes: &mut Vec<u8>, at: usize, value: &[u8]) {
    let end = at + value.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[at..end].copy_from_slice(value);
}

impl Builder {
    /// The section called `name`, to be changed.
    pub fn section(&mut self, name: &str) -> &mut RawSection {
        let found = self.sections.iter_mut().find(|s| s.name == name);
        found.expect("the builder has a section of that name")
    }

    /// Replaces the relocation directory and its bytes.
    pub fn relocations(mut self, bytes: &[u8]) -> Self {
        self.directories[5].1 = bytes.len() as u32;
        self.section(".reloc").raw = bytes.to_vec();
        self
    }

    /// Where the section table ends.
    pub fn headers_end(&self) -> usize {
        self.section_table() + 40 * self.sections.len()
    }

    fn section_table(&self) -> usize {
        self.pe_offset + 24 + 112 + 8 * self.directories.len()
    }

    pub fn build(&self) -> Vec<u8> {
        let ends = self.sections.iter().map(RawSection::end);
        let length = ends.fold(self.size_of_headers as usize, usize::max);
        let mut file = vec![0; length];
        let pe = self.pe_offset;
        set(&mut file, 0, b"MZ");
        set(&mut file, 0x3c, &(pe as u32).to_le_bytes());
        set(&mut file, pe, b"PE\0\0");
        set(&mut file, pe + 4, &self.machine.to_le_bytes());
        let number_of_sections = self.sections.len() as u16;
        set(&mut file, pe + 6, &number_of_sections.to_le_bytes());
        let size_of_optional_header = (112 + 8 * self.directories.len()) as u16;
        set(&mut file, pe + 20, &size_of_optional_header.to_le_bytes());
        set(&mut file, pe + 22, &self.characteristics.to_le_bytes());
        self.optional_header(&mut file);
        for (index, section) in self.sections.iter().enumerate() {
            section.write(&mut file, self.section_table() + 40 * index);
        }
        file
    }

    fn optional_header(&self, file: &mut Vec<u8>) {
        let at = self.pe_offset + 24;
        set(file, at, &self.magic.to_le_bytes());
        set(file, at + 16, &self.entry.to_le_bytes());
        set(file, at + 24, &self.image_base.to_le_bytes());
        set(file, at + 32, &self.section_alignment.to_le_bytes());
        set(file, at + 36, &0x20_u32.to_le_bytes());
        set(file, at + 56, &self.size_of_image.to_le_bytes());
        set(file, at + 60, &self.size_of_headers.to_le_bytes());
        set(file, at + 68, &self.subsystem.to_le_bytes());
        let number_of_rva_and_sizes = self.directories.len() as u32;
        set(file, at + 108, &number_of_rva_and_sizes.to_le_bytes());
        for (index, (rva, size)) in self.directories.iter().enumerate() {
            set(file, at + 112 + 8 * index, &rva.to_le_bytes());
            set(file, at + 116 + 8 * index, &size.to_le_bytes());
        }
    }
}

impl RawSection {
    /// Where its bytes end in the file.
    fn end(&self) -> usize {
        self.offset as usize + self.raw.len()
    }

    fn write(&self, file: &mut Vec<u8>, at: usize) {
        set(file, at, &[0; 40]);
        set(file, at, self.name.as_bytes());
        set(file, at + 8, &self.virtual_size.to_le_bytes());
        set(file, at + 12, &self.rva.to_le_bytes());
        set(file, at + 16, &(self.raw.len() as u32).to_le_bytes());
        set(file, at + 20, &self.offset.to_le_bytes());
        set(file, at + 36, &self.characteristics.to_le_bytes());
        set(file, self.offset as usize, &self.raw);
    }
}
