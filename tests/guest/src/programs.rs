//! Programs made on the spot, to be loaded and started: the smallest PE files
//! that are right, so that a check can make one wrong.

use core::mem::offset_of;
use r_efi::efi::{BootServices, Status, SystemTable};

/// Where the machine's field is, and others that checks change.
pub const MACHINE: usize = 0x44;
/// The magic number of the optional header.
pub const MAGIC: usize = 0x58;
/// What kind of program it is.
pub const SUBSYSTEM: usize = 0x9c;
/// Size of the image in memory.
pub const IMAGE_SIZE: usize = 0x90;
/// Where the section lies in the file.
pub const RAW_POINTER: usize = 0x10c;

/// `EFI_IMAGE_SUBSYSTEM_EFI_APPLICATION`, and the drivers behind it.
pub const APPLICATION: u8 = 10;
/// A driver that goes with the boot services.
pub const BOOT_DRIVER: u8 = 11;
/// A driver that stays.
pub const RUNTIME_DRIVER: u8 = 12;

/// What the programs below return.
pub const ANSWER: Status = Status::ABORTED;

/// Size of a program's file.
pub const FILE_SIZE: usize = 0x400;
const CODE: usize = 0x200;

/// The smallest PE32+ program: one section at 0x1000, with `code`.
pub fn program(code: &[u8]) -> [u8; FILE_SIZE] {
    let mut file = [0; FILE_SIZE];
    let mut put = |offset: usize, bytes: &[u8]| {
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &[0x64, 0x86, 1, 0]); // x86-64, one section
    put(0x54, &[0xa0, 0, 0x22, 0]); // optional header size; executable, large addresses
    put(0x58, &[0x0b, 0x02]); // PE32+
    put(0x5c, &0x200_u32.to_le_bytes()); // SizeOfCode
    put(0x68, &0x1000_u32.to_le_bytes()); // entry point
    put(0x6c, &0x1000_u32.to_le_bytes()); // BaseOfCode
    put(0x78, &0x1000_u32.to_le_bytes()); // SectionAlignment
    put(0x7c, &0x200_u32.to_le_bytes()); // FileAlignment
    put(0x90, &0x2000_u32.to_le_bytes()); // SizeOfImage
    put(0x94, &0x200_u32.to_le_bytes()); // SizeOfHeaders
    put(0x9c, &10_u16.to_le_bytes()); // EFI application
    put(0xc4, &6_u32.to_le_bytes()); // NumberOfRvaAndSizes, all empty
    put(0xf8, b".text\0\0\0");
    put(0x100, &0x1000_u32.to_le_bytes()); // VirtualSize
    put(0x104, &0x1000_u32.to_le_bytes()); // VirtualAddress
    put(0x108, &0x200_u32.to_le_bytes()); // SizeOfRawData
    put(0x10c, &(CODE as u32).to_le_bytes()); // PointerToRawData
    put(0x11c, &0x6000_0020_u32.to_le_bytes()); // code, read, execute
    put(CODE, code);
    file
}

/// `mov rax, STATUS; ret`
pub fn returning_code(status: Status) -> [u8; 11] {
    let mut code = [0; 11];
    code[..2].copy_from_slice(&[0x48, 0xb8]);
    code[2..10].copy_from_slice(&status.as_usize().to_le_bytes());
    code[10] = 0xc3;
    code
}

/// `Exit(handle, ANSWER, size, data)`, which must not come back to the `ud2`.
pub fn exiting_code(size: u32, data: *mut u16) -> [u8; 45] {
    let mut code = [0; 45];
    let boot = offset_of!(SystemTable, boot_services) as u8;
    let exit = offset_of!(BootServices, exit) as u32;
    code[..4].copy_from_slice(&[0x48, 0x83, 0xec, 0x28]); // sub rsp, 0x28
    code[4..8].copy_from_slice(&[0x48, 0x8b, 0x42, boot]); // mov rax, [rdx + boot]
    code[8..10].copy_from_slice(&[0x48, 0xba]); // mov rdx, ANSWER
    code[10..18].copy_from_slice(&ANSWER.as_usize().to_le_bytes());
    code[18..20].copy_from_slice(&[0x41, 0xb8]); // mov r8d, size
    code[20..24].copy_from_slice(&size.to_le_bytes());
    code[24..26].copy_from_slice(&[0x49, 0xb9]); // mov r9, data
    code[26..34].copy_from_slice(&data.addr().to_le_bytes());
    code[34..36].copy_from_slice(&[0xff, 0x90]); // call [rax + exit]
    code[36..40].copy_from_slice(&exit.to_le_bytes());
    code[40..42].copy_from_slice(&[0x0f, 0x0b]); // ud2
    code
}
