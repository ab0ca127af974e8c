//! This image as the firmware describes it (UEFI 2.11 §9.1), and the image
//! services (§7.4) with a program made on the spot.

use crate::calls::Guest;
use crate::map::Map;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use core::mem::offset_of;
use core::ptr;
use r_efi::efi::protocols::loaded_image::{self, Protocol as LoadedImage};
use r_efi::efi::{self, Boolean, BootServices, Handle, Status, SystemTable};

pub const AREA: Area = Area {
    name: "images",
    checks: &[
        ("this image's protocol", protocol),
        ("this image's memory", memory),
        ("load options", load_options),
        ("LoadImage with wrong parameters", wrong_parameters),
        ("LoadImage of what is no program", not_a_program),
        ("UnloadImage of an image that never ran", unload),
        ("StartImage of a program that returns", returns),
        ("StartImage of a program that calls Exit", exits),
        ("StartImage of what is no image", start_junk),
    ],
};

/// The loaded image protocol of a handle.
fn image_of(guest: &Guest, handle: Handle) -> Result<&LoadedImage, Failure> {
    let found = guest.interface::<LoadedImage>(handle, &loaded_image::PROTOCOL_GUID);
    let image = found.map_err(|status| Failure::new(format_args!("HandleProtocol: {status}")))?;
    // SAFETY: the firmware's protocol, which lives as long as the image.
    Ok(unsafe { &*image })
}

fn protocol(guest: &Guest) -> Outcome {
    let image = image_of(guest, guest.handle)?;
    equal("Revision", image.revision, loaded_image::REVISION)?;
    equal("SystemTable", image.system_table, guest.system_table())?;
    let types = (image.image_code_type, image.image_data_type);
    equal("memory types", types, (efi::LOADER_CODE, efi::LOADER_DATA))
}

fn memory(guest: &Guest) -> Outcome {
    let image = image_of(guest, guest.handle)?;
    let start = image.image_base.addr();
    let range = start..start + image.image_size as usize;
    let code = memory as *const () as usize;
    let data = AREA.checks.as_ptr().addr();
    holds(
        "ImageBase and ImageSize around this code",
        range.contains(&code),
    )?;
    holds(
        "ImageBase and ImageSize around these data",
        range.contains(&data),
    )?;
    // SAFETY: the image's first bytes are its own header.
    let magic = unsafe { image.image_base.cast::<[u8; 2]>().read() };
    equal("first bytes", magic, *b"MZ")?;
    let mut map = Map::new();
    map.fetch(guest)?;
    let ty = map.at(start as u64).map(|d| d.r#type);
    equal("type in the memory map", ty, Some(efi::LOADER_CODE))
}

/// The load options in UTF-16; empty when there are none.
fn options(guest: &Guest) -> Result<&[u16], Failure> {
    let image = image_of(guest, guest.handle)?;
    let size = image.load_options_size as usize;
    if size == 0 {
        return Ok(&[]);
    }
    let start = image.load_options.cast::<u16>();
    holds("load options in whole characters", size.is_multiple_of(2))?;
    holds(
        "aligned load options",
        !start.is_null() && start.is_aligned(),
    )?;
    // SAFETY: the firmware's, of that size, as long as this image lives.
    Ok(unsafe { core::slice::from_raw_parts(start, size / 2) })
}

fn load_options(guest: &Guest) -> Outcome {
    let options = options(guest)?;
    let length = options.iter().position(|&unit| unit == 0);
    let ends_in_nul = length.is_some_and(|length| length + 1 == options.len());
    holds("one NUL, at the end", options.is_empty() || ends_in_nul)
}

/// Whether the load options contain a word.
pub fn has_option(guest: &Guest, word: &str) -> bool {
    let options = options(guest).unwrap_or_default();
    let here = |window: &[u16]| window.iter().copied().eq(word.encode_utf16());
    options.windows(word.len()).any(here)
}

/// What the programs below return.
const ANSWER: Status = Status::ABORTED;

const FILE_SIZE: usize = 0x400;
const CODE: usize = 0x200;

/// The smallest PE32+ program: one section at 0x1000, with `code`.
fn program(code: &[u8]) -> [u8; FILE_SIZE] {
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
    put(0x100, &0x200_u32.to_le_bytes()); // VirtualSize
    put(0x104, &0x1000_u32.to_le_bytes()); // VirtualAddress
    put(0x108, &0x200_u32.to_le_bytes()); // SizeOfRawData
    put(0x10c, &(CODE as u32).to_le_bytes()); // PointerToRawData
    put(0x11c, &0x6000_0020_u32.to_le_bytes()); // code, read, execute
    put(CODE, code);
    file
}

/// `mov rax, ANSWER; ret`
fn returning_code() -> [u8; 11] {
    let mut code = [0; 11];
    code[..2].copy_from_slice(&[0x48, 0xb8]);
    code[2..10].copy_from_slice(&ANSWER.as_usize().to_le_bytes());
    code[10] = 0xc3;
    code
}

/// `Exit(handle, ANSWER, 0, NULL)`, which must not come back to the `ud2`.
fn exiting_code() -> [u8; 32] {
    let mut code = [0; 32];
    let boot = offset_of!(SystemTable, boot_services) as u8;
    let exit = offset_of!(BootServices, exit) as u32;
    code[..4].copy_from_slice(&[0x48, 0x83, 0xec, 0x28]); // sub rsp, 0x28
    code[4..8].copy_from_slice(&[0x48, 0x8b, 0x42, boot]); // mov rax, [rdx + boot]
    code[8..10].copy_from_slice(&[0x48, 0xba]); // mov rdx, ANSWER
    code[10..18].copy_from_slice(&ANSWER.as_usize().to_le_bytes());
    code[18..21].copy_from_slice(&[0x45, 0x31, 0xc0]); // xor r8d, r8d
    code[21..24].copy_from_slice(&[0x45, 0x31, 0xc9]); // xor r9d, r9d
    code[24..26].copy_from_slice(&[0xff, 0x90]); // call [rax + exit]
    code[26..30].copy_from_slice(&exit.to_le_bytes());
    code[30..].copy_from_slice(&[0x0f, 0x0b]); // ud2
    code
}

fn load(guest: &Guest, file: &mut [u8]) -> Result<Handle, Status> {
    let mut handle = ptr::null_mut();
    let (source, size) = (file.as_mut_ptr().cast(), file.len());
    let path = ptr::null_mut();
    match guest.load_image(
        Boolean::FALSE,
        guest.handle,
        path,
        source,
        size,
        &mut handle,
    ) {
        Status::SUCCESS => Ok(handle),
        status => Err(status),
    }
}

/// A program with `code`, loaded.
pub fn loaded(guest: &Guest, code: &[u8]) -> Result<Handle, Failure> {
    let found = load(guest, &mut program(code));
    found.map_err(|status| Failure::new(format_args!("LoadImage: {status}")))
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let mut file = program(&returning_code());
    let source = file.as_mut_ptr().cast();
    let none = ptr::null_mut();
    let mut handle = none;
    let call = |parent, source, handle| {
        guest.load_image(
            Boolean::FALSE,
            parent,
            ptr::null_mut(),
            source,
            FILE_SIZE,
            handle,
        )
    };
    let found = call(guest.handle, source, ptr::null_mut());
    status("no place for the handle", found, Status::INVALID_PARAMETER)?;
    let found = call(none, source, &mut handle);
    status("no parent", found, Status::INVALID_PARAMETER)?;
    let found = call(guest.handle, none, &mut handle);
    status("neither source nor path", found, Status::NOT_FOUND)
}

fn not_a_program(guest: &Guest) -> Outcome {
    let refused = |found| {
        let understood = matches!(found, Err(Status::LOAD_ERROR | Status::UNSUPPORTED));
        holds("LOAD_ERROR or UNSUPPORTED", understood)
    };
    refused(load(guest, &mut [0; 4096]))?;
    const TEXT: &[u8] = b"this is a text file, not a program\n";
    let mut text: [u8; 2048] = core::array::from_fn(|i| TEXT[i % TEXT.len()]);
    refused(load(guest, &mut text))?;
    let mut cut_off = program(&returning_code());
    refused(load(guest, &mut cut_off[..0x100]))?;
    let mut arm64 = program(&returning_code());
    arm64[0x44..0x46].copy_from_slice(&0xaa64_u16.to_le_bytes());
    refused(load(guest, &mut arm64))
}

/// Checks that a handle stands for an image no more.
fn gone(guest: &Guest, handle: Handle) -> Outcome {
    holds("an image that is gone", image_of(guest, handle).is_err())
}

fn unload(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &returning_code())?;
    let image = image_of(guest, handle)?;
    equal("ParentHandle", image.parent_handle, guest.handle)?;
    holds("a size of two pages or more", image.image_size >= 0x2000)?;
    success("UnloadImage", guest.unload_image(handle))?;
    gone(guest, handle)?;
    let found = guest.unload_image(handle);
    status("UnloadImage", found, Status::INVALID_PARAMETER)
}

/// Starts a program, which must end with [`ANSWER`] and be unloaded.
fn run(guest: &Guest, code: &[u8]) -> Outcome {
    let handle = loaded(guest, code)?;
    let (mut size, mut data) = (1, ptr::null_mut());
    let found = guest.start_image(handle, &mut size, &mut data);
    status("StartImage", found, ANSWER)?;
    equal("exit data", (size, data.is_null()), (0, true))?;
    gone(guest, handle)
}

fn returns(guest: &Guest) -> Outcome {
    run(guest, &returning_code())
}

fn exits(guest: &Guest) -> Outcome {
    run(guest, &exiting_code())
}

fn start_junk(guest: &Guest) -> Outcome {
    let (mut size, mut data) = (0, ptr::null_mut());
    let found = guest.start_image(ptr::null_mut(), &mut size, &mut data);
    status("StartImage", found, Status::INVALID_PARAMETER)?;
    let console = guest.system().console_out_handle;
    let found = guest.start_image(console, &mut size, &mut data);
    status("StartImage", found, Status::INVALID_PARAMETER)
}
