//! Loaded images: from LoadImage over StartImage to Exit (UEFI 2.11 §7.4).
//!
//! Where an image was placed, whether it runs, and which of the running ones is
//! on top: only that one can leave through Exit.

use crate::handles::{HandleId, Interface};
use crate::memory::{PageCount, PhysAddr};
use alloc::vec::Vec;
use core::fmt;
use ovmf_lite_loader::pe;
use uefi_raw::table::boot::MemoryType;

/// Most images that may be loaded at once.
const MAX_IMAGES: usize = 64;

/// A placed image.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte of its memory.
    pub base: PhysAddr,
    /// Length of its memory.
    pub pages: PageCount,
    /// Address of its entry point.
    pub entry: u64,
    /// Its `EFI_LOADED_IMAGE_PROTOCOL`.
    pub interface: Interface,
    /// Its device path; null when it has none.
    pub path: Interface,
    /// Whether it is gone when it returns; a driver stays.
    pub application: bool,
    /// Whether it was ever started.
    pub started: bool,
}

/// Why an image cannot be loaded.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Not a PE image this machine can run.
    Format(pe::Error),
    /// The image cannot be placed where there is room.
    Place(pe::PlaceError),
    /// A runtime driver, or something that is no EFI program at all.
    Subsystem(pe::Subsystem),
    /// No free range of `bytes` bytes.
    NoMemory {
        /// Size of the image in memory.
        bytes: usize,
    },
    /// [`MAX_IMAGES`] is reached.
    TooMany,
}

impl fmt::Display for LoadError {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Place(error) => error.fmt(f),
            Self::Subsystem(found) => write!(
                f,
                "expected an EFI application (subsystem 10) or boot driver (11), found {}",
                found.0
            ),
            Self::NoMemory { bytes } => write!(
                f,
                "needs {} KiB of memory in one piece, more than is free: give the guest more",
                bytes.div_ceil(1024)
            ),
            Self::TooMany => write!(f, "expected at most {MAX_IMAGES} loaded images"),
        }
    }
}

/// The memory type of an image's code, by what kind of program it is.
pub fn code_type(subsystem: pe::Subsystem) -> Result<MemoryType, LoadError> {
    match subsystem {
        pe::Subsystem::EFI_APPLICATION => Ok(MemoryType::LOADER_CODE),
        pe::Subsystem::EFI_BOOT_SERVICE_DRIVER => Ok(MemoryType::BOOT_SERVICES_CODE),
        other => Err(LoadError::Subsystem(other)),
    }
}

/// Exit, StartImage or UnloadImage named an image that is not in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongState;

/// All loaded images and the stack of running ones.
#[derive(Default)]
pub struct Images {
    loaded: Vec<(HandleId, Image)>,
    running: Vec<(HandleId, usize)>,
    /// What the image that leaves gives to the one that started it: size in bytes
    /// and address.
    pub exit_data: (usize, usize),
}

impl Images {
    /// No images.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            loaded: Vec::new(),
            running: Vec::new(),
            exit_data: (0, 0),
        }
    }

    /// Whether one more image may be loaded.
    pub fn check_room(&self) -> Result<(), LoadError> {
        if self.loaded.len() < MAX_IMAGES {
            Ok(())
        } else {
            Err(LoadError::TooMany)
        }
    }

    /// Records a placed image, of a new handle.
    pub fn insert(&mut self, handle: HandleId, image: Image) {
        self.loaded.push((handle, image));
    }

    /// The image of this handle.
    pub fn get(&self, handle: HandleId) -> Result<Image, WrongState> {
        let index = self.position(handle)?;
        let found = self.loaded.get(index).ok_or(WrongState)?;
        Ok(found.1)
    }

    /// Marks a loaded image as running, which it can be once; `frame` is where Exit returns to.
    pub fn start(&mut self, handle: HandleId, frame: usize) -> Result<Image, WrongState> {
        let index = self.position(handle)?;
        let (_, image) = self.loaded.get_mut(index).ok_or(WrongState)?;
        if image.started {
            return Err(WrongState);
        }
        image.started = true;
        self.running.push((handle, frame));
        Ok(*image)
    }

    #[inline(never)]
    fn position(&self, handle: HandleId) -> Result<usize, WrongState> {
        let mut all = self.loaded.iter();
        all.position(|(other, _)| *other == handle)
            .ok_or(WrongState)
    }

    fn is_running(&self, handle: HandleId) -> bool {
        self.running.iter().any(|(running, _)| *running == handle)
    }

    /// The frame of the running image, when `handle` is the one on top.
    pub fn frame(&self, handle: HandleId) -> Result<usize, WrongState> {
        match self.running.last() {
            Some((top, frame)) if *top == handle => Ok(*frame),
            _ => Err(WrongState),
        }
    }

    /// Takes the image on top off the stack: it returned or left by Exit.
    pub fn stop(&mut self) {
        self.running.pop();
    }

    /// Forgets an image that is not running.
    pub fn remove(&mut self, handle: HandleId) -> Result<Image, WrongState> {
        if self.is_running(handle) {
            return Err(WrongState);
        }
        let index = self.position(handle)?;
        Ok(self.loaded.remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            base: PhysAddr(0x10_0000),
            pages: PageCount(1),
            entry: 0x10_0010,
            interface: Interface(1),
            path: Interface(0),
            application: true,
            started: false,
        }
    }

    fn handle(n: usize) -> HandleId {
        HandleId::from_raw(core::ptr::without_provenance_mut(n))
    }

    #[test]
    fn only_the_image_on_top_can_leave() {
        let mut images = Images::new();
        for n in [1, 2] {
            images.insert(handle(n), image());
            assert!(images.start(handle(n), n).is_ok());
        }
        assert_eq!(images.frame(handle(1)), Err(WrongState));
        assert_eq!(images.frame(handle(2)), Ok(2));
        images.stop();
        assert_eq!(images.frame(handle(1)), Ok(1));
    }

    #[test]
    fn a_running_image_is_neither_started_nor_removed() {
        let mut images = Images::new();
        images.insert(handle(1), image());
        assert!(images.start(handle(1), 7).is_ok());
        assert!(images.start(handle(1), 7).is_err());
        assert!(images.remove(handle(1)).is_err());
        images.stop();
        assert!(images.remove(handle(1)).is_ok());
        assert!(images.start(handle(1), 7).is_err());
    }
}
