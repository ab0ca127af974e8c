//! Image services (UEFI 2.11 §7.4) and the way from bytes to a running image.
//!
//! Coverage, protocols:
//!
//! | EFI_LOADED_IMAGE_PROTOCOL | 9.1 | every loaded image | no device handle |
//! | EFI_LOADED_IMAGE_DEVICE_PATH_PROTOCOL | 9.2 | every loaded image | a copy of LoadImage's path; null without one; `\kernel` for the host's |

use super::{
    Alleged, events, machine, memory, protection, protocols, status, system_table, trace, with,
};
use crate::catalog::Service;
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
use uefi_raw::{Boolean, Char16, Guid, Handle, Status, guid};

/// `EFI_LOADED_IMAGE_PROTOCOL_REVISION`.
const LOADED_IMAGE_REVISION: u32 = 0x1000;

/// `EFI_LOADED_IMAGE_DEVICE_PATH_PROTOCOL_GUID`; its interface is the path, or
/// null for an image without one (UEFI 2.11 §9.2).
const LOADED_IMAGE_DEVICE_PATH: Guid = guid!("bc62157e-3e33-4fec-9920-2d3b36d750df");

/// The path of what the host gives: a file path node, `\kernel`, and the End node
/// (UEFI 2.11 §10.3.5.4). Boot managers follow `FilePath` without asking whether
/// there is one.
const KERNEL: [u8; 24] = [
    0x04, 0x04, 0x14, 0x00, b'\\', 0, b'k', 0, b'e', 0, b'r', 0, b'n', 0, b'e', 0, b'l', 0, 0, 0,
    0x7f, 0xff, 0x04, 0x00,
];

/// Where an image comes from, and what it is told.
#[derive(Default)]
pub struct Origin {
    parent: Option<HandleId>,
    /// Device path, as bytes with the End node; empty when there is none.
    path: Vec<u8>,
    /// Load options, UTF-16 with a final NUL.
    options: Vec<u16>,
}

impl Origin {
    /// The host, with these load options (UTF-16 with a final NUL).
    #[must_use]
    pub fn host(options: Vec<u16>) -> Self {
        Self {
            parent: None,
            path: KERNEL.to_vec(),
            options,
        }
    }
}

/// A loaded image's protocol and what it points to. The protocol comes first:
/// its address is the address of the whole.
#[repr(C)]
struct Block {
    protocol: LoadedImageProtocol,
    origin: Origin,
}

/// Parses `source`, places it in memory and gives it a handle with a loaded
/// image protocol.
pub fn load(source: &[u8], origin: Origin) -> Result<HandleId, LoadError> {
    let image = pe::Image::parse(source).map_err(LoadError::Format)?;
    let code = code_type(image.subsystem())?;
    let pages = PageCount::covering(image.size());
    let base = reserve(&image, code, pages)?;
    let placed = place(&image, base).map_err(LoadError::Place);
    let registered = placed.and_then(|()| register(&image, base, pages, code, origin));
    if registered.is_err() {
        free(base, pages);
    }
    registered
}

/// As [`load`], from `pages` that start with `file` bytes of a program and were
/// allocated with the [`code_type`] of its kind. They become the image where the
/// file allows that; otherwise they are given back when it has been placed.
pub fn load_from(
    pages: &'static mut [u8],
    file: usize,
    origin: Origin,
) -> Result<HandleId, LoadError> {
    let base = PhysAddr(pages.as_ptr().expose_provenance() as u64);
    let all = PageCount::covering(pages.len());
    if !pe::settle(pages, file, base.0) {
        let loaded = load(pages.get(..file).unwrap_or_default(), origin);
        free(base, all);
        return loaded;
    }
    let image = pe::Image::parse(pages).map_err(LoadError::Format)?;
    let size = PageCount::covering(image.size());
    let code = code_type(image.subsystem())?;
    let registered = register(&image, base, size, code, origin);
    let kept = if registered.is_ok() {
        size
    } else {
        PageCount(0)
    };
    if let Some(end) = base.frame().checked_add(kept) {
        free(end.address(), PageCount(all.0.saturating_sub(kept.0)));
    }
    registered
}

/// Frees what was allocated for an image; nothing can be done about an error.
fn free(start: PhysAddr, pages: PageCount) {
    let _ = memory::free(start, pages);
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
    with(Service::LoadImage, |boot| {
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
fn block(image: &pe::Image<'_>, base: PhysAddr, code: MemoryType, origin: Origin) -> Box<Block> {
    let data = if code == MemoryType::LOADER_CODE {
        MemoryType::LOADER_DATA
    } else {
        MemoryType::BOOT_SERVICES_DATA
    };
    Box::new(Block {
        protocol: LoadedImageProtocol {
            revision: LOADED_IMAGE_REVISION,
            parent_handle: origin.parent.map_or(ptr::null_mut(), HandleId::to_raw),
            system_table: system_table(Service::LoadImage).unwrap_or(ptr::null_mut()),
            device_handle: ptr::null_mut(),
            file_path: path(&origin).cast(),
            reserved: ptr::null(),
            load_options_size: u32::try_from(size_of_val(origin.options.as_slice())).unwrap_or(0),
            load_options: options(&origin).cast(),
            image_base: ptr::with_exposed_provenance(usize::try_from(base.0).unwrap_or_default()),
            image_size: u64::try_from(image.size()).unwrap_or_default(),
            image_code_type: code,
            image_data_type: data,
            unload: None,
        },
        origin,
    })
}

/// The address of the device path of an image, or null.
fn path(origin: &Origin) -> *const u8 {
    match origin.path.as_slice() {
        [] => ptr::null(),
        path => path.as_ptr(),
    }
}

/// The address of the load options of an image, or null.
fn options(origin: &Origin) -> *const u16 {
    match origin.options.as_slice() {
        [] => ptr::null(),
        options => options.as_ptr(),
    }
}

/// Enters a placed image into the database.
#[inline(never)]
fn register(
    image: &pe::Image<'_>,
    base: PhysAddr,
    pages: PageCount,
    code: MemoryType,
    origin: Origin,
) -> Result<HandleId, LoadError> {
    let block = block(image, base, code, origin);
    let path = Interface(path(&block.origin).expose_provenance());
    let raw = Box::into_raw(block);
    let interface = Interface(raw.expose_provenance());
    let protocols = [
        (LoadedImageProtocol::GUID, interface),
        (LOADED_IMAGE_DEVICE_PATH, path),
    ];
    let loaded = Image {
        base,
        pages,
        entry: base.0.saturating_add(u64::from(image.entry())),
        interface,
        path,
        application: image.subsystem() == pe::Subsystem::EFI_APPLICATION,
        started: false,
    };
    let handle = with(Service::LoadImage, |boot| {
        let handle = boot.handles.install_all(None, &protocols);
        let handle = handle.map_err(status::from)?;
        boot.images.insert(handle, loaded);
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

/// Runs the first image and returns what it returns or gives to Exit. An
/// application's memory is freed then (UEFI 2.11 §7.4.2). From now on it is a
/// program who calls, so a trace begins with the runtime services, too.
pub fn start(handle: HandleId) -> Result<Status, Status> {
    super::with_edge(Service::StartImage, |edge| {
        edge.hook_runtime();
        Ok(())
    })?;
    let (status, data) = run(handle)?;
    release(data);
    Ok(status)
}

/// What an image gave to Exit: pool memory, and its size in bytes. Null and 0
/// when it gave nothing.
type ExitData = (usize, *mut u8);

/// Frees exit data that nobody wants.
fn release((size, data): ExitData) {
    if size != 0 {
        // SAFETY: no pointers are followed: it is looked up.
        let _ = unsafe { memory::free_pool(data) };
    }
}

fn run(handle: HandleId) -> Result<(Status, ExitData), Status> {
    let machine = machine(Service::StartImage)?;
    let system_table = system_table(Service::StartImage)?;
    let mut frame = 0usize;
    let frame_address = (&raw mut frame).expose_provenance();
    let (image, level) = with(Service::StartImage, |boot| {
        let started = boot.images.start(handle, frame_address);
        Ok((started.map_err(status::from)?, boot.tpl))
    })?;
    let depth = trace::depth();
    // SAFETY: `entry` lies in a placed image; `frame` outlives the call.
    let result = unsafe {
        (machine.enter_image)(&raw mut frame, image.entry, handle.to_raw(), system_table)
    };
    trace::unwind(depth);
    let (size, data) = with(Service::StartImage, |boot| {
        boot.images.stop();
        Ok(core::mem::take(&mut boot.images.exit_data))
    })?;
    // As it was, wherever the image has left.
    events::set_level(level);
    let data = (size, ptr::with_exposed_provenance_mut(data));
    events::dispatch();
    // A failing boot driver and every application go; a driver stays.
    if result.is_error() || image.application {
        unload(handle)?;
    }
    Ok((result, data))
}

/// Removes an image that is not running and frees its memory.
#[cold]
fn unload(handle: HandleId) -> Result<(), Status> {
    let image = with(Service::UnloadImage, |boot| {
        let image = boot.images.remove(handle).map_err(status::from)?;
        let handles = &mut boot.handles;
        handles.remove_image(handle, LoadedImageProtocol::GUID, image.interface);
        handles.remove_image(handle, LOADED_IMAGE_DEVICE_PATH, image.path);
        let _ = boot.memory.free(image.base, image.pages);
        Ok(image)
    })?;
    drop_block(image.interface);
    protection::forget(image.base, image.pages);
    Ok(())
}

#[cold]
pub(super) unsafe extern "efiapi" fn load_image(
    _boot_policy: Boolean,
    parent: Handle,
    device_path: *const DevicePathProtocol,
    source: *const u8,
    source_size: usize,
    image_handle: *mut Handle,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let device_path = unsafe { Alleged::new(device_path.cast()) };
    // SAFETY: IN, the caller's promise.
    let source = unsafe { Alleged::new(source) };
    // SAFETY: OUT, the caller's promise.
    let image_handle = unsafe { Alleged::new(image_handle) };
    let parent = HandleId::from_raw(parent);
    let known = with(Service::LoadImage, |boot| {
        boot.images.get(parent).map_err(status::from)
    });
    if image_handle.is_null() || known.is_err() {
        return Status::INVALID_PARAMETER;
    }
    if source.is_null() {
        // By device path: there are no devices to load from.
        return Status::NOT_FOUND;
    }
    status::of(source.bytes(source_size).and_then(|bytes| {
        let origin = Origin {
            parent: Some(parent),
            path: copied(device_path)?,
            options: Vec::new(),
        };
        let handle = load(bytes, origin).map_err(|error| {
            log::warn!("LoadImage: {error}");
            status::from(&error)
        })?;
        image_handle.write(handle.to_raw())
    }))
}

/// A caller's device path, which it may free after the call.
fn copied(path: Alleged<u8>) -> Result<Vec<u8>, Status> {
    if path.is_null() {
        return Ok(Vec::new());
    }
    Ok(protocols::path_bytes(path)?.to_vec())
}

#[cold]
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
    match run(HandleId::from_raw(image_handle)) {
        Ok((status, (size, data))) => {
            if exit_data.is_null() {
                release((size, data));
            }
            exit_data.write_optional(data.cast());
            exit_data_size.write_optional(size);
            status
        }
        Err(status) => status,
    }
}

/// The frame of the image on top, which is the only one that can leave; `None`
/// for one that was never started.
fn frame_of(handle: HandleId) -> Result<Option<usize>, Status> {
    with(Service::Exit, |boot| {
        let image = boot.images.get(handle).map_err(status::from)?;
        let frame = image.started.then(|| boot.images.frame(handle));
        frame.transpose().map_err(status::from)
    })
}

#[cold]
pub(super) unsafe extern "efiapi" fn exit(
    image_handle: Handle,
    exit_status: Status,
    exit_data_size: usize,
    exit_data: *mut Char16,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let data = unsafe { Alleged::new(exit_data.cast()) };
    let handle = HandleId::from_raw(image_handle);
    let frame = match frame_of(handle) {
        Ok(Some(frame)) => frame,
        // Loaded but never started: Exit unloads it (UEFI 2.11 §7.4.5).
        Ok(None) => return status::of(unload(handle)),
        Err(status) => return status,
    };
    if !exit_data.is_null()
        && exit_data_size != 0
        && let Err(status) = keep(data, exit_data_size)
    {
        return status;
    }
    match machine(Service::Exit) {
        Ok(machine) => {
            let frame = ptr::with_exposed_provenance(frame);
            // SAFETY: `frame` is that of the innermost running image: the caller.
            unsafe { (machine.leave_image)(frame, exit_status) }
        }
        Err(status) => status,
    }
}

/// Copies exit data for the caller of StartImage, who will free it: what the image
/// gave may lie in its own memory. If it is pool memory, it is freed.
fn keep(data: Alleged<u8>, size: usize) -> Result<(), Status> {
    let copy = memory::allocate(Service::Exit, MemoryType::BOOT_SERVICES_DATA, size)?;
    // SAFETY: pool memory of this size, allocated on the line above.
    let target = unsafe { Alleged::new(copy) }.bytes_mut(size)?;
    target.copy_from_slice(data.bytes(size)?);
    release((size, data.pointer()));
    with(Service::Exit, |boot| {
        boot.images.exit_data = (size, copy.expose_provenance());
        Ok(())
    })
}

#[cold]
pub(super) unsafe extern "efiapi" fn unload_image(image_handle: Handle) -> Status {
    let handle = HandleId::from_raw(image_handle);
    status::of(ask_to_unload(handle).and_then(|()| unload(handle)))
}

/// A driver that was started has to agree, by the function it has set for that
/// purpose (UEFI 2.11 §7.4.3).
fn ask_to_unload(handle: HandleId) -> Result<(), Status> {
    let image = with(Service::UnloadImage, |boot| {
        boot.images.get(handle).map_err(status::from)
    })?;
    if !image.started {
        return Ok(());
    }
    let block = ptr::with_exposed_provenance::<Block>(image.interface.0);
    // SAFETY: the block lives as long as its image is registered.
    let unload = unsafe { (*block).protocol.unload }.ok_or(Status::UNSUPPORTED)?;
    // SAFETY: the driver's own function, as it said.
    match unsafe { unload(handle.to_raw()) } {
        Status::SUCCESS => Ok(()),
        refused => Err(refused),
    }
}
