//! A PVH loader of our own, which hands the firmware what no real one would.
//!
//! A ROM of a few instructions goes to 32-bit protected mode and jumps to the
//! ELF file's entry with EBX on an `hvm_start_info` (Xen docs/misc/pvh.pandoc),
//! both of which QEMU's `loader` device has put into memory. Each case has to
//! end with its line.

use std::fs;

use anyhow::{Context, Result};
use xtask::build;
use xtask::qemu::{Files, Machine};

use crate::bench::Bench;
use crate::refusals::expect_refusal;

/// The whole of a ROM, and where it lies: its end is that of the first 4 GiB.
const ROM_SIZE: usize = 0x1_0000;
const ROM: u32 = 0xffff_0000;
/// Where the processor starts in it (Intel SDM vol. 3 §10.1.4).
const RESET_VECTOR: usize = 0xfff0;
/// Places in the ROM.
const GDT_POINTER: usize = 0x18;
const CODE16: usize = 0x20;
const CODE32: usize = 0x40;

/// Where the structures go, and the parts behind them.
const INFO: u64 = 0x1_0000;
const MEMORY_MAP: u64 = INFO + 0x100;
const MODULES: u64 = INFO + 0x200;

/// Field of an ELF64 file's header: the entry point.
const ELF_ENTRY: usize = 24;

/// What the loader hands over.
#[derive(Clone, Copy, Debug)]
struct StartInfo {
    magic: u32,
    version: u32,
    memory_ranges: u32,
    modules: &'static [(u64, u64)],
}

const RIGHT: StartInfo = StartInfo {
    magic: 0x336e_c578,
    version: 1,
    memory_ranges: 2,
    modules: &[],
};
/// RAM as [`Bench::machine`] has it: start and size.
const RAM: [(u64, u64); 2] = [(0, 0xa_0000), (1 << 20, 511 << 20)];

/// A case: what is handed over, and what the error line says.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    info: StartInfo,
    words: &'static str,
}

/// All of them; the first shows that the loader is not what is refused.
pub const CASES: [Case; 7] = [
    Case {
        name: "refused-pvh-nothing",
        info: RIGHT,
        words: "expected a kernel from the host",
    },
    Case {
        name: "refused-pvh-magic",
        info: StartInfo {
            magic: 0x336e_c579,
            ..RIGHT
        },
        words: "expected magic 0x336ec578, found 0x336ec579",
    },
    Case {
        name: "refused-pvh-version-0",
        info: StartInfo {
            version: 0,
            ..RIGHT
        },
        words: "expected version 1 with a memory map, found version 0",
    },
    Case {
        name: "refused-pvh-no-memory-map",
        info: StartInfo {
            memory_ranges: 0,
            ..RIGHT
        },
        words: "expected version 1 with a memory map, found version 1 without RAM",
    },
    Case {
        name: "refused-pvh-module-outside",
        info: StartInfo {
            modules: &[(0x8000_0000, 0x1000)],
            ..RIGHT
        },
        words: "expected 4096 bytes of RAM for the module at 0x80000000",
    },
    Case {
        name: "refused-pvh-module-on-firmware",
        info: StartInfo {
            modules: &[(0x10_0000, 0x1000)],
            ..RIGHT
        },
        words: "expected 4096 bytes of RAM for the module at 0x100000",
    },
    Case {
        name: "refused-pvh-three-modules",
        info: StartInfo {
            modules: &[
                (0x100_0000, 0x1000),
                (0x200_0000, 0x1000),
                (0x300_0000, 0x1000),
            ],
            ..RIGHT
        },
        words: "expected a kernel and at most one initrd, found 3 modules",
    },
];

impl Case {
    /// Starts the firmware with it and expects the refusal.
    ///
    /// # Errors
    /// When the firmware goes on, or stops without a word.
    pub fn run(&self, bench: &Bench) -> Result<()> {
        let files = Files::create(&format!("{}-files", self.name))?;
        let (rom, info) = (
            files.directory().join("rom"),
            files.directory().join("info"),
        );
        let elf = build::elf();
        let program = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let entry = program.get(ELF_ENTRY..).and_then(|rest| rest.first_chunk());
        let entry = u32::from_le_bytes(*entry.context("the ELF file is cut short")?);
        fs::write(&rom, rom_image(entry))?;
        fs::write(&info, self.info.bytes())?;
        let devices = [
            format!("loader,file={}", elf.display()),
            format!("loader,file={},addr={INFO:#x},force-raw=on", info.display()),
        ];
        let devices = devices.iter().flat_map(|device| ["-device", device]);
        let machine = Machine {
            firmware: Some(rom),
            extra: devices.map(Into::into).collect(),
            ..bench.machine()
        };
        expect_refusal(bench, self.name, &machine, self.words)?;
        files.remove()
    }
}

impl StartInfo {
    /// The structure as it lies at [`INFO`], its memory map and module list
    /// (Xen xen/include/public/arch-x86/hvm/start_info.h).
    fn bytes(&self) -> Vec<u8> {
        let count = self.modules.len() as u32;
        let mut bytes = [self.magic, self.version, 0, count]
            .map(u32::to_le_bytes)
            .concat();
        // No command line, no RSDP.
        bytes.extend([MODULES, 0, 0, MEMORY_MAP].map(u64::to_le_bytes).concat());
        bytes.extend(self.memory_ranges.to_le_bytes());
        bytes.resize((MEMORY_MAP - INFO) as usize, 0);
        let ram = 1;
        for (start, size) in RAM {
            bytes.extend([start, size, ram].map(u64::to_le_bytes).concat());
        }
        bytes.resize((MODULES - INFO) as usize, 0);
        for (start, size) in self.modules {
            bytes.extend([*start, *size, 0, 0].map(u64::to_le_bytes).concat());
        }
        bytes
    }
}

/// The ROM, which jumps to `entry`.
fn rom_image(entry: u32) -> Vec<u8> {
    let at = |offset: usize| ROM + offset as u32;
    let descriptors: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    let mut code16 = vec![0xfa]; // cli
    code16.extend([0x2e, 0x66, 0x0f, 0x01, 0x16]); // lgdtl %cs:GDT_POINTER
    code16.extend((GDT_POINTER as u16).to_le_bytes());
    code16.extend([0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // CR0.PE on
    code16.extend([0x66, 0xea]); // ljmpl $8, $CODE32
    code16.extend(at(CODE32).to_le_bytes());
    code16.extend([8, 0]);
    let mut code32 = vec![0x66, 0xb8, 0x10, 0x00]; // movw $16, %ax
    code32.extend([0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // to %ds, %es, %ss
    code32.push(0xbb); // movl $INFO, %ebx
    code32.extend((INFO as u32).to_le_bytes());
    code32.push(0xb8); // movl $entry, %eax
    code32.extend(entry.to_le_bytes());
    code32.extend([0xff, 0xe0]); // jmp *%eax
    let mut pointer = 23_u16.to_le_bytes().to_vec();
    pointer.extend(ROM.to_le_bytes());
    // jmp CODE16, whose offset wraps at 64 KiB
    let back = (CODE16 as u16).wrapping_sub(RESET_VECTOR as u16 + 3);
    let [low, high] = back.to_le_bytes();
    let mut rom = vec![0xff; ROM_SIZE];
    for (offset, bytes) in [
        (0, descriptors.map(u64::to_le_bytes).concat()),
        (GDT_POINTER, pointer),
        (CODE16, code16),
        (CODE32, code32),
        (RESET_VECTOR, vec![0xe9, low, high]),
    ] {
        rom[offset..offset + bytes.len()].copy_from_slice(&bytes);
    }
    rom
}
