//! Images as the firmware describes them (UEFI 2.11 §9.1), and the image services
//! (§7.4) with programs made on the spot.

use crate::calls::Guest;
use crate::install::interface;
use crate::map::Map;
use crate::programs::{
    ANSWER, APPLICATION, BOOT_DRIVER, FILE_SIZE, IMAGE_SIZE, MACHINE, MAGIC, RAW_POINTER,
    RUNTIME_DRIVER, SUBSYSTEM, program, returning_code,
};
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, one_of, success};
use crate::start::start;
use core::ptr;
use r_efi::efi::protocols::device_path;
use r_efi::efi::protocols::loaded_image::{self, Protocol as LoadedImage};
use r_efi::efi::protocols::loaded_image_device_path as image_path;
use r_efi::efi::{self, Boolean, Handle, Status};

pub const IMAGE: Area = Area {
    name: "9.1 EFI_LOADED_IMAGE_PROTOCOL",
    checks: &[
        ("this image's protocol", protocol),
        ("this image's memory", memory),
        ("LoadOptions of this image", load_options),
        ("FilePath of this image is a file path", file_path),
        ("ParentHandle is who called LoadImage", |g| {
            with_image(g, |_, image| {
                equal("ParentHandle", image.parent_handle, g.handle)
            })
        }),
        ("SystemTable is the system table", |g| {
            with_image(g, |_, image| {
                equal("SystemTable", image.system_table, g.system_table())
            })
        }),
        ("an image without a device path has none", |g| {
            with_image(g, |_, image| holds("no path", image.file_path.is_null()))
        }),
        ("an image has no LoadOptions of its own", |g| {
            with_image(g, |_, image| {
                let options = (image.load_options_size, image.load_options.is_null());
                equal("size, and whether they are null", options, (0, true))
            })
        }),
        ("an application is of EfiLoaderCode and -Data", |g| {
            types(g, APPLICATION, (efi::LOADER_CODE, efi::LOADER_DATA))
        }),
        (
            "a boot service driver is of EfiBootServicesCode and -Data",
            |g| {
                types(
                    g,
                    BOOT_DRIVER,
                    (efi::BOOT_SERVICES_CODE, efi::BOOT_SERVICES_DATA),
                )
            },
        ),
        (
            "a runtime driver is of EfiRuntimeServicesCode and -Data, or refused",
            runtime_driver,
        ),
        ("9.2 FilePath is a copy of the device path", path_copy),
        (
            "9.2 EFI_LOADED_IMAGE_DEVICE_PATH_PROTOCOL is a copy of the device path",
            device_path,
        ),
    ],
};

pub const LOAD: Area = Area {
    name: "7.4.1 LoadImage",
    checks: &[
        ("ImageHandle of NULL", |g| {
            invalid(load_with(g, g.handle, ptr::null_mut()))
        }),
        ("ParentImageHandle of NULL", |g| {
            invalid(load_with(g, ptr::null_mut(), &mut ptr::null_mut()))
        }),
        ("ParentImageHandle that is no handle", |g| {
            invalid(load_with(g, interface(0x1230), &mut ptr::null_mut()))
        }),
        ("ParentImageHandle that is no image", |g| {
            let console = g.system().console_out_handle;
            invalid(load_with(g, console, &mut ptr::null_mut()))
        }),
        ("neither SourceBuffer nor DevicePath", nothing),
        ("a DevicePath that leads nowhere", nowhere),
        ("zeros", |g| refused(load(g, &mut [0; 4096]))),
        ("a text", text),
        ("a program that is cut off in its headers", |g| {
            refused(load(g, &mut good()[..0x100]))
        }),
        ("a program that is cut off in a section", |g| {
            refused(load(g, &mut good()[..0x300]))
        }),
        ("a program for another processor", |g| {
            broken(g, MACHINE, &[0x64, 0xaa])
        }),
        ("a program of 32 bits", |g| broken(g, MAGIC, &[0x0b, 0x01])),
        ("a program that is none of EFI", |g| {
            broken(g, SUBSYSTEM, &[2])
        }),
        ("an image of no bytes", |g| broken(g, IMAGE_SIZE, &[0; 4])),
        ("a section behind the end of the file", |g| {
            broken(g, RAW_POINTER, &[0, 0, 1, 0])
        }),
        ("headers and sections lie where they have to", placed),
        ("what a section's file does not fill is zeros", zero_filled),
        ("the source can be changed afterwards", source_is_copied),
    ],
};

/// The loaded image protocol of a handle.
pub fn image_of(guest: &Guest, handle: Handle) -> Result<&LoadedImage, Failure> {
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
    let data = LOAD.checks.as_ptr().addr();
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

fn load(guest: &Guest, file: &mut [u8]) -> Result<Handle, Status> {
    load_at(guest, ptr::null_mut(), file.as_mut_ptr(), file.len())
}

fn load_at(guest: &Guest, path: *mut u8, source: *mut u8, size: usize) -> Result<Handle, Status> {
    let mut handle = ptr::null_mut();
    let (path, source) = (path.cast(), source.cast());
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

pub fn loaded(guest: &Guest, file: &[u8; FILE_SIZE]) -> Result<Handle, Failure> {
    let found = load(guest, &mut { *file });
    found.map_err(|status| Failure::new(format_args!("LoadImage: {status}")))
}

/// A program that is right.
pub fn good() -> [u8; FILE_SIZE] {
    program(&returning_code(ANSWER))
}

/// The same of another kind.
pub fn driver(subsystem: u8, returned: Status) -> [u8; FILE_SIZE] {
    let mut file = program(&returning_code(returned));
    file[SUBSYSTEM] = subsystem;
    file
}

/// Loads an image, looks at it and unloads it.
fn with_image(guest: &Guest, look: impl FnOnce(Handle, &LoadedImage) -> Outcome) -> Outcome {
    with_file(guest, &good(), look)
}

fn with_file(
    guest: &Guest,
    file: &[u8; FILE_SIZE],
    look: impl FnOnce(Handle, &LoadedImage) -> Outcome,
) -> Outcome {
    let handle = loaded(guest, file)?;
    let outcome = look(handle, image_of(guest, handle)?);
    success("UnloadImage", guest.unload_image(handle))?;
    outcome
}

fn types(guest: &Guest, subsystem: u8, expected: (u32, u32)) -> Outcome {
    types_of(guest, &driver(subsystem, Status::SUCCESS), expected)
}

fn types_of(guest: &Guest, file: &[u8; FILE_SIZE], expected: (u32, u32)) -> Outcome {
    with_file(guest, file, |_, image| {
        let types = (image.image_code_type, image.image_data_type);
        equal("types", types, expected)?;
        let mut map = Map::new();
        map.fetch(guest)?;
        let ty = map.at(image.image_base.addr() as u64).map(|d| d.r#type);
        equal("type in the memory map", ty, Some(expected.0))
    })
}

fn runtime_driver(guest: &Guest) -> Outcome {
    let file = driver(RUNTIME_DRIVER, Status::SUCCESS);
    match load(guest, &mut { file }) {
        Err(found) => gives(Status::UNSUPPORTED, found),
        Ok(handle) => {
            success("UnloadImage", guest.unload_image(handle))?;
            let types = (efi::RUNTIME_SERVICES_CODE, efi::RUNTIME_SERVICES_DATA);
            types_of(guest, &file, types)
        }
    }
}

/// A device path that leads nowhere: a vendor's media node.
const PATH: [u8; 24] = [
    0x04, 0x03, 0x14, 0x00, 0x44, 0x11, 0x5c, 0x88, 0x1d, 0x9b, 0x6a, 0x45, 0xb2, 0x04, 0xc6, 0x3f,
    0x90, 0x52, 0x7e, 0x28, 0x7f, 0xff, 0x04, 0x00,
];

fn load_from(
    guest: &Guest,
    path: &mut [u8; 24],
    file: Option<&mut [u8]>,
) -> Result<Handle, Status> {
    let (source, size) = file.map_or((ptr::null_mut(), 0), |file| (file.as_mut_ptr(), file.len()));
    load_at(guest, path.as_mut_ptr(), source, size)
}

/// Loads from [`PATH`] and compares the path that `find` finds.
fn path_from(
    guest: &Guest,
    find: impl FnOnce(Handle, &LoadedImage) -> Result<*mut [u8; 24], Status>,
) -> Outcome {
    let mut path = PATH;
    let handle = load_from(guest, &mut path, Some(&mut good()));
    let handle = handle.map_err(|status| Failure::new(format_args!("LoadImage: {status}")))?;
    path.fill(0);
    let found = find(handle, image_of(guest, handle)?);
    // SAFETY: a device path of 24 bytes, which [`PATH`] is, or shorter ones,
    // which lie in memory that goes on.
    let found = found.map(|path| unsafe { path.read_unaligned() });
    success("UnloadImage", guest.unload_image(handle))?;
    equal("path", found, Ok(PATH))
}

/// Of what the host loads: boot managers follow the path unasked.
fn file_path(guest: &Guest) -> Outcome {
    let path = image_of(guest, guest.handle)?.file_path;
    holds("a path", !path.is_null())?;
    // SAFETY: not null, so a device path.
    let node = unsafe { &*path };
    let kind = (node.r#type, node.sub_type);
    let expected = (
        device_path::TYPE_MEDIA,
        device_path::Media::SUBTYPE_FILE_PATH,
    );
    equal("type and sub-type", kind, expected)
}

fn path_copy(guest: &Guest) -> Outcome {
    path_from(guest, |_, image| Ok(image.file_path.cast()))
}

fn device_path(guest: &Guest) -> Outcome {
    path_from(guest, |handle, _| {
        guest.interface(handle, &image_path::PROTOCOL_GUID)
    })
}

fn load_with(guest: &Guest, parent: Handle, handle: *mut Handle) -> Status {
    let mut file = good();
    let source = file.as_mut_ptr().cast();
    let path: *mut device_path::Protocol = ptr::null_mut();
    guest.load_image(Boolean::FALSE, parent, path, source, FILE_SIZE, handle)
}

fn nothing(guest: &Guest) -> Outcome {
    let (path, source) = (ptr::null_mut(), ptr::null_mut());
    let mut handle = ptr::null_mut();
    let found = guest.load_image(Boolean::FALSE, guest.handle, path, source, 0, &mut handle);
    gives(Status::NOT_FOUND, found)
}

fn nowhere(guest: &Guest) -> Outcome {
    let found = load_from(guest, &mut { PATH }, None);
    gives(Status::NOT_FOUND, found.err().unwrap_or(Status::SUCCESS))
}

fn refused(found: Result<Handle, Status>) -> Outcome {
    let right = [Status::LOAD_ERROR, Status::UNSUPPORTED];
    one_of(right, found.err().unwrap_or(Status::SUCCESS))
}

fn text(guest: &Guest) -> Outcome {
    const TEXT: &[u8] = b"this is a text file, not a program\n";
    let mut text: [u8; 2048] = core::array::from_fn(|i| TEXT[i % TEXT.len()]);
    refused(load(guest, &mut text))
}

/// A program with other bytes at an offset.
fn broken(guest: &Guest, offset: usize, bytes: &[u8]) -> Outcome {
    let mut file = good();
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
    refused(load(guest, &mut file))
}

fn bytes<const N: usize>(image: &LoadedImage, offset: usize) -> [u8; N] {
    let start = image.image_base.cast::<u8>().wrapping_add(offset);
    // SAFETY: inside the image, which has two pages.
    unsafe { start.cast::<[u8; N]>().read() }
}

fn placed(guest: &Guest) -> Outcome {
    with_image(guest, |_, image| {
        holds("two pages or more", image.image_size >= 0x2000)?;
        equal("headers", bytes(image, 0), *b"MZ")?;
        equal("code", bytes(image, 0x1000), returning_code(ANSWER))
    })
}

fn zero_filled(guest: &Guest) -> Outcome {
    with_image(guest, |_, image| {
        equal("bytes", bytes(image, 0x1200), [0; 0xe00])
    })
}

fn source_is_copied(guest: &Guest) -> Outcome {
    let mut file = good();
    let handle = load(guest, &mut file).unwrap_or(ptr::null_mut());
    file.fill(0xcc);
    gives(ANSWER, start(guest, handle))
}
