//! Image services (UEFI 2.11 §7.4) and the way from bytes to a running image.

use super::{Alleged, machine, memory, status, system_table, with};
use crate::handles::{HandleId, Interface};
use crate::images::{Image, LoadError, code_type};
use crate::memory::{PageCount, PhysAddr, Placement};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use ovmf_lite_loader::pe;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::MemoryType;
use uefi_raw::{Boolean, Char16, Handle, Status};

/// `EFI_LOADED_IMAGE_PROTOCOL_REVISION`.
const LOADED_IMAGE_REVISION: u32 = 0x1000;

/// A loaded image's protocol and the load options it points to. The protocol
/// comes first: its address is the address of the whole.
#[repr(C)]
struct Block {
    protocol: LoadedImageProtocol,
    options: Vec<u16>,
}

/// Parses `source`, places it in memory and gives it a handle with a loaded
/// image protocol. `options` become its load options.
pub fn load(source: &[u8], parent: Handle, options: Vec<u16>) -> Result<HandleId, LoadError> {
    let image = pe::Image::parse(source).map_err(LoadError::Format)?;
    let code = code_type(image.subsystem())?;
    let bytes = image.size();
    let pages = PageCount::covering(bytes);
    let base = reserve(&image, code, pages)?;
    let placed = place(&image, base).map_err(LoadError::Place);
    let registered = placed.and_then(|()| {
        let entry = base.0.saturating_add(u64::from(image.entry()));
        register(
            base,
            pages,
            entry,
            block(&image, base, code, parent, options),
        )
    });
    if registered.is_err() {
        let _ = with("LoadImage", |boot| {
            boot.memory.free(base, pages).map_err(status::from)
        });
    }
    registered
}

/// Takes memory for the image: where it must be, or high, so that the low
/// addresses kernels prefer stay free.
fn reserve(
    image: &pe::Image<'_>,
    code: MemoryType,
    pages: PageCount,
) -> Result<PhysAddr, LoadError> {
    let place = if image.relocatable() {
        Placement::Any
    } else {
        Placement::At(PhysAddr(image.image_base()))
    };
    let alignment = u64::try_from(image.alignment()).unwrap_or(u64::MAX);
    let no_memory = |_| LoadError::NoMemory {
        bytes: image.size(),
    };
    with("LoadImage", |boot| {
        if boot.images.check_room().is_err() {
            return Err(Status::OUT_OF_RESOURCES);
        }
        boot.memory
            .allocate_aligned(place, code, pages, alignment)
            .map_err(status::from)
    })
    .map_err(no_memory)
}

fn place(image: &pe::Image<'_>, base: PhysAddr) -> Result<(), pe::PlaceError> {
    let address = usize::try_from(base.0).unwrap_or_default();
    let start = ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: `image.size()` bytes at `base` were just allocated for this image.
    let memory = unsafe { Alleged::new(start) };
    match memory.bytes_mut(image.size()) {
        Ok(memory) => image.place(memory, base.0),
        // Address 0 is never allocated; a wrapping range neither.
        Err(_) => image.place(&mut [], base.0),
    }
}

/// The loaded image protocol of a placed image.
fn block(
    image: &pe::Image<'_>,
    base: PhysAddr,
    code: MemoryType,
    parent: Handle,
    options: Vec<u16>,
) -> Box<Block> {
    let data = if code == MemoryType::LOADER_CODE {
        MemoryType::LOADER_DATA
    } else {
        MemoryType::BOOT_SERVICES_DATA
    };
    Box::new(Block {
        protocol: LoadedImageProtocol {
            revision: LOADED_IMAGE_REVISION,
            parent_handle: parent,
            system_table: system_table("LoadImage").unwrap_or(ptr::null_mut()),
            device_handle: ptr::null_mut(),
            file_path: ptr::null(),
            reserved: ptr::null(),
            load_options_size: u32::try_from(size_of_val(options.as_slice())).unwrap_or(0),
            load_options: options.as_ptr().cast(),
            image_base: ptr::with_exposed_provenance(usize::try_from(base.0).unwrap_or_default()),
            image_size: u64::try_from(image.size()).unwrap_or_default(),
            image_code_type: code,
            image_data_type: data,
            unload: None,
        },
        options,
    })
}

/// Enters a placed image into the database.
fn register(
    base: PhysAddr,
    pages: PageCount,
    entry: u64,
    block: Box<Block>,
) -> Result<HandleId, LoadError> {
    let raw = Box::into_raw(block);
    let interface = Interface(raw.expose_provenance());
    let handle = with("LoadImage", |boot| {
        let handle = boot
            .handles
            .install(None, LoadedImageProtocol::GUID, interface)
            .map_err(status::from)?;
        boot.images.insert(
            handle,
            Image {
                base,
                pages,
                entry,
                interface,
            },
        );
        Ok(handle)
    });
    handle.map_err(|_| {
        drop_block(interface);
        LoadError::TooMany
    })
}

fn drop_block(interface: Interface) {
    // SAFETY: the address came from `Box::into_raw` in `register` and is
    // dropped once, with the image it belongs to.
    drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<Block>(interface.0)) });
}

/// Runs a loaded image and returns what it returns or gives to Exit. An
/// application's memory is freed then (UEFI 2.11 §7.4.2).
pub fn start(handle: HandleId) -> Result<Status, Status> {
    let machine = machine("StartImage")?;
    let system_table = system_table("StartImage")?;
    let mut frame = 0usize;
    let frame_address = (&raw mut frame).expose_provenance();
    let image = with("StartImage", |boot| {
        boot.images
            .start(handle, frame_address)
            .map_err(status::from)
    })?;
    // SAFETY: `entry` lies in a placed image; `frame` outlives the call.
    let result = unsafe {
        (machine.enter_image)(&raw mut frame, image.entry, handle.to_raw(), system_table)
    };
    with("StartImage", |boot| {
        boot.images.stop();
        Ok(())
    })?;
    // A failing boot driver and every application go; a driver stays.
    if result.is_error() || is_application(image.interface) {
        unload(handle)?;
    }
    Ok(result)
}

fn is_application(interface: Interface) -> bool {
    // SAFETY: the block lives as long as its image is registered.
    let protocol = unsafe {
        Alleged::<MemoryType>::new(
            ptr::with_exposed_provenance::<u8>(interface.0)
                .wrapping_add(core::mem::offset_of!(LoadedImageProtocol, image_code_type))
                .cast(),
        )
    };
    protocol.read() == Ok(MemoryType::LOADER_CODE)
}

/// Removes an image that is not running and frees its memory.
fn unload(handle: HandleId) -> Result<(), Status> {
    let image = with("UnloadImage", |boot| {
        let image = boot.images.remove(handle).map_err(status::from)?;
        let _ = boot
            .handles
            .uninstall(handle, LoadedImageProtocol::GUID, image.interface);
        let _ = boot.memory.free(image.base, image.pages);
        Ok(image)
    })?;
    drop_block(image.interface);
    Ok(())
}

pub(super) unsafe extern "efiapi" fn load_image(
    _boot_policy: Boolean,
    parent: Handle,
    _device_path: *const DevicePathProtocol,
    source: *const u8,
    source_size: usize,
    image_handle: *mut Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let source = unsafe { Alleged::new(source) };
    // SAFETY: OUT, the caller's promise.
    let image_handle = unsafe { Alleged::new(image_handle) };
    if image_handle.is_null() || parent.is_null() {
        return Status::INVALID_PARAMETER;
    }
    if source.is_null() {
        // By device path: there are no devices to load from.
        return Status::NOT_FOUND;
    }
    status::of(source.bytes(source_size).and_then(|bytes| {
        let handle = load(bytes, parent, Vec::new()).map_err(|error| {
            log::warn!("LoadImage: {error}");
            status::from(&error)
        })?;
        image_handle.write(handle.to_raw())
    }))
}

pub(super) unsafe extern "efiapi" fn start_image(
    image_handle: Handle,
    exit_data_size: *mut usize,
    exit_data: *mut *mut Char16,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let exit_data_size = unsafe { Alleged::new(exit_data_size) };
    // SAFETY: OUT, the caller's promise.
    let exit_data = unsafe { Alleged::new(exit_data) };
    exit_data_size.write_optional(0);
    exit_data.write_optional(ptr::null_mut());
    start(HandleId::from_raw(image_handle)).unwrap_or_else(|status| status)
}

pub(super) unsafe extern "efiapi" fn exit(
    image_handle: Handle,
    exit_status: Status,
    _exit_data_size: usize,
    exit_data: *mut Char16,
) -> Status {
    let handle = HandleId::from_raw(image_handle);
    let frame = match with("Exit", |boot| Ok(boot.images.frame(handle))) {
        Ok(Ok(frame)) => frame,
        // Loaded but never started: Exit unloads it (UEFI 2.11 §7.4.5).
        Ok(Err(_)) => return status::of(unload(handle)),
        Err(status) => return status,
    };
    if !exit_data.is_null() {
        // StartImage reports no exit data, so nobody else would free it.
        // SAFETY: pool memory that the image allocated for this purpose.
        let _ = unsafe { memory::free_pool(exit_data.cast()) };
    }
    match machine("Exit") {
        Ok(machine) => {
            let frame = ptr::with_exposed_provenance(frame);
            // SAFETY: `frame` is that of the innermost running image: the caller.
            unsafe { (machine.leave_image)(frame, exit_status) }
        }
        Err(status) => status,
    }
}

pub(super) unsafe extern "efiapi" fn unload_image(image_handle: Handle) -> Status {
    status::of(unload(HandleId::from_raw(image_handle)))
}
