//! The initial RAM disk, as Linux asks for it: a handle with the vendor media
//! device path `LINUX_EFI_INITRD_MEDIA_GUID` and LOAD_FILE2 (UEFI 2.11 §13.2;
//! Linux `Documentation/arch/x86/boot.rst`, `drivers/firmware/efi/libstub`).
//!
//! Coverage, protocols:
//!
//! | EFI_DEVICE_PATH_PROTOCOL | 10.2 | the initrd's handle | vendor media path `LINUX_EFI_INITRD_MEDIA_GUID` |
//! | EFI_LOAD_FILE2_PROTOCOL | 13.2 | the initrd's handle, if there is one | copies from the host straight to the caller |

use super::{Alleged, protocols, status, trace, with};
use crate::catalog;
use crate::catalog::Service;
use crate::handles::Interface;
use core::ffi::c_void;
use uefi_raw::protocol::device_path::DevicePathProtocol;
use uefi_raw::protocol::media::LoadFile2Protocol;
use uefi_raw::{Boolean, Status};

/// Vendor-defined media node with GUID 5568e427-68fc-4f3d-ac74-ca555231cc68,
/// then the End node.
static PATH: [u8; 24] = [
    0x04, 0x03, 0x14, 0x00, 0x27, 0xe4, 0x68, 0x55, 0xfc, 0x68, 0x3d, 0x4f, 0xac, 0x74, 0xca, 0x55,
    0x52, 0x31, 0xcc, 0x68, 0x7f, 0xff, 0x04, 0x00,
];

static LOAD_FILE2: LoadFile2Protocol = LoadFile2Protocol { load_file };

/// Offers the initrd, if the host gave one. Without one there is no handle, and
/// LocateDevicePath returns the `NOT_FOUND` that Linux insists on.
pub fn publish() -> Result<(), Status> {
    if with(Service::Firmware, |boot| Ok(boot.initrd.is_none()))? {
        return Ok(());
    }
    let path = (&raw const PATH).expose_provenance();
    let load_file2 = trace::published(&raw const LOAD_FILE2, catalog::LOAD_FILE2, 1);
    let load_file2 = Interface(load_file2.expose_provenance());
    let both = [
        (DevicePathProtocol::GUID, Interface(path)),
        (LoadFile2Protocol::GUID, load_file2),
    ];
    protocols::publish(&both).map(drop)
}

unsafe extern "efiapi" fn load_file(
    _this: *mut LoadFile2Protocol,
    file_path: *const DevicePathProtocol,
    boot_policy: Boolean,
    buffer_size: *mut usize,
    buffer: *mut c_void,
) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let buffer_size = unsafe { Alleged::new(buffer_size) };
    // SAFETY: OUT, the caller's promise.
    let buffer = unsafe { Alleged::<u8>::new(buffer.cast()) };
    if boot_policy.is_true() {
        return Status::UNSUPPORTED;
    }
    if file_path.is_null() {
        return Status::INVALID_PARAMETER;
    }
    status::of(buffer_size.read().and_then(|room| {
        let initrd = with(Service::Firmware, |boot| {
            boot.initrd.ok_or(Status::NOT_FOUND)
        })?;
        buffer_size.write(initrd.size)?;
        // The null buffer decides: Linux 5.10 asks with an uninitialised size.
        if buffer.is_null() || room < initrd.size {
            return Err(Status::BUFFER_TOO_SMALL);
        }
        (initrd.read)(buffer.bytes_mut(initrd.size)?).map_err(|reason| {
            log::error!("initrd: {reason}");
            Status::DEVICE_ERROR
        })
    }))
}
