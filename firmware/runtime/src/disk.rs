//! The image of a store on a disk, which the firmware writes to the disk until
//! ExitBootServices.
//!
//! Promises to call the firmware only from within SetVariable, and from the
//! entry point, and never after ExitBootServices: by then the store has been
//! left.

use crate::flash::Flash;
use core::ptr;
use core::slice;
use ovmf_lite_services::resident::{self, Keep};
use ovmf_lite_services::variables::{BLOCK, ERASED, Failed, Storage};

/// The image.
pub struct Image {
    address: usize,
    size: usize,
    keep: Keep,
}

impl Image {
    /// The image that the firmware read, if it did.
    pub fn new(found: resident::Disk) -> Option<Self> {
        Some(Self {
            address: usize::try_from(found.address).ok()?,
            size: usize::try_from(found.size).ok()?,
            keep: found.keep?,
        })
    }

    /// Changes some bytes, and tells the firmware.
    fn change(
        &mut self,
        offset: usize,
        length: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), Failed> {
        let start = ptr::with_exposed_provenance_mut::<u8>(self.address);
        // SAFETY: the firmware gave us this memory, and there are boot services.
        let image = unsafe { slice::from_raw_parts_mut(start, self.size) };
        let room = image.get_mut(offset..).ok_or(Failed)?;
        change(room.get_mut(..length).ok_or(Failed)?);
        self.call(offset, length)
    }

    fn call(&mut self, offset: usize, length: usize) -> Result<(), Failed> {
        // SAFETY: there are boot services, so the firmware is there.
        let kept = unsafe { (self.keep)(offset, length) };
        kept.then_some(()).ok_or(Failed)
    }
}

/// Where variables are kept.
pub enum Place {
    /// In flash.
    Flash(Flash),
    /// On a disk.
    Disk(Image),
}

impl Storage for Place {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Flash(flash) => flash.bytes(),
            Self::Disk(image) => {
                let start = ptr::with_exposed_provenance(image.address);
                // SAFETY: as in `change`; `self` is borrowed as long as this is.
                unsafe { slice::from_raw_parts(start, image.size) }
            }
        }
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        match self {
            Self::Flash(flash) => flash.program(offset, bytes),
            Self::Disk(image) => image.change(offset, bytes.len(), |room| {
                for (to, from) in room.iter_mut().zip(bytes) {
                    *to = *from;
                }
            }),
        }
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        match self {
            Self::Flash(flash) => flash.erase(offset),
            Self::Disk(image) => image.change(offset, BLOCK, |block| block.fill(ERASED)),
        }
    }

    fn sync(&mut self) -> Result<(), Failed> {
        match self {
            Self::Flash(_) => Ok(()),
            Self::Disk(image) => image.call(0, 0),
        }
    }

    fn outlives_boot(&self) -> bool {
        matches!(self, Self::Flash(_))
    }
}
