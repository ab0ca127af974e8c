//! The kernel and its initrd, from where the host has them into our memory.

use super::fw_cfg::{FwCfg, Item};
use crate::arch::once::Once;
use crate::arch::ram;
use crate::boot::Failure;
use crate::console::warning;
use alloc::vec;
use core::fmt;
use core::ops::Range;
use ovmf_lite_loader::pe;
use ovmf_lite_services::abi::{self, images::Origin};
use ovmf_lite_services::boot::Initrd;
use ovmf_lite_services::handles::HandleId;
use ovmf_lite_services::images::code_type;
use ovmf_lite_services::linux::Room;
use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, Placement};
use ovmf_lite_services::payload::{Appended, appended};
use ovmf_lite_services::pvh::Module;
use uefi_raw::Status;
use uefi_raw::table::boot::MemoryType;

/// As much of a file as is read before there is memory for all of it: the headers
/// of any kernel.
const HEAD: usize = 4096;

/// An initrd that a loader put into memory, for [`read_module`].
static INITRD_MODULE: Once<&'static [u8]> = Once::new();

/// A kernel that lies with the host.
#[derive(Clone, Copy, Debug)]
pub enum Payload {
    /// Behind QEMU's fw_cfg, in two parts that belong together.
    FwCfg([Item; 2], Option<Initrd>),
    /// In memory, where a loader put it.
    Modules(Module, Option<Module>),
}

/// Why the kernel's bytes are not in our memory.
#[derive(Debug)]
pub enum Error {
    /// It is larger than any free piece of memory: its size in bytes.
    TooLarge(usize),
    /// It cannot be transferred.
    Transfer,
    /// The module cannot be taken over.
    Module(memory::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(size) => write!(
                f,
                "{size} bytes do not fit into the guest's free memory: give the guest more"
            ),
            Self::Transfer => write!(f, "the host failed to transfer it"),
            Self::Module(error) => error.fmt(f),
        }
    }
}

/// A kernel file in our memory.
pub struct Kernel {
    pages: &'static mut [u8],
    /// Where in `pages` the kernel is.
    file: Range<usize>,
    /// Where in `pages` an initrd follows it, if one does.
    appended: Option<Range<usize>>,
    initrd: Option<Initrd>,
    /// Whether `pages` may become the image.
    ours: bool,
}

impl Payload {
    /// Brings the kernel's bytes into memory that is ours. They are read by
    /// `fw_cfg` if they lie there.
    pub fn fetch(&self, fw_cfg: Option<&FwCfg>, memory: &mut MemoryMap) -> Result<Kernel, Error> {
        match self {
            Self::FwCfg(parts, initrd) => {
                let fw_cfg = fw_cfg.ok_or(Error::Transfer)?;
                let pages = transfer(parts, fw_cfg, memory)?;
                Ok(Kernel {
                    pages,
                    file: 0..size(parts),
                    appended: None,
                    initrd: *initrd,
                    ours: true,
                })
            }
            Self::Modules(kernel, initrd) => {
                take(kernel, initrd.as_ref(), memory).map_err(Error::Module)
            }
        }
    }
}

fn size(parts: &[Item]) -> usize {
    parts.iter().map(|part| part.size).sum()
}

fn transfer(
    parts: &[Item],
    fw_cfg: &FwCfg,
    memory: &mut MemoryMap,
) -> Result<&'static mut [u8], Error> {
    let file = size(parts);
    let mut head = vec![0; HEAD.min(file)];
    read(parts, fw_cfg, &mut head)?;
    // The file is read to where its image will be.
    let needs = pe::Needs::of(&head);
    let ty = needs.and_then(|needs| code_type(needs.subsystem).ok());
    let pages = ram::allocate_aligned(
        memory,
        Placement::Any,
        ty.unwrap_or(MemoryType::BOOT_SERVICES_DATA),
        needs.map_or(file, |needs| needs.size.max(file)),
        needs.map_or(PAGE_SIZE, |needs| needs.alignment as u64),
    )
    .or_else(|_| ram::allocate(memory, Placement::Any, MemoryType::BOOT_SERVICES_DATA, file))
    .map_err(|_| Error::TooLarge(file))?;
    read(parts, fw_cfg, &mut pages[..file])?;
    Ok(pages)
}

/// Fills `target` from the start of the file that `parts` make.
fn read(parts: &[Item], fw_cfg: &FwCfg, mut target: &mut [u8]) -> Result<(), Error> {
    for part in parts {
        let (here, behind) = target.split_at_mut(part.size.min(target.len()));
        fw_cfg.read(*part, here).map_err(|_| Error::Transfer)?;
        target = behind;
    }
    Ok(())
}

fn take(
    kernel: &Module,
    initrd: Option<&Module>,
    memory: &mut MemoryMap,
) -> Result<Kernel, memory::Error> {
    let (pages, file) = take_module(kernel, memory)?;
    let Some(initrd) = initrd else {
        return Ok(Kernel::divided(pages, file));
    };
    let (initrd_pages, range) = take_module(initrd, memory)?;
    let initrd_pages: &'static [u8] = initrd_pages;
    let initrd = INITRD_MODULE.get_or(|| &initrd_pages[range]);
    Ok(Kernel {
        pages,
        file,
        appended: None,
        initrd: Some(initrd_module(initrd.len())),
        ours: false,
    })
}

fn initrd_module(size: usize) -> Initrd {
    Initrd {
        size,
        read: read_module,
    }
}

/// The module's pages and where in them it is.
#[cold]
fn take_module(
    module: &Module,
    memory: &mut MemoryMap,
) -> Result<(&'static mut [u8], Range<usize>), memory::Error> {
    let pages = ram::take(memory, module)?;
    let start = (module.start % PAGE_SIZE) as usize;
    Ok((pages, start..start + module.bytes as usize))
}

/// Copies the initrd to where the kernel wants it.
#[cold]
fn read_module(buffer: &mut [u8]) -> Result<(), &'static str> {
    let initrd = INITRD_MODULE.get().ok_or("it is gone")?;
    buffer.copy_from_slice(initrd.get(..buffer.len()).ok_or("it is shorter")?);
    Ok(())
}

impl Kernel {
    /// The kernel at `file` in `pages`, and the initrd behind it, if one is there.
    fn divided(pages: &'static mut [u8], file: Range<usize>) -> Self {
        let Range { start, end } = file;
        let appended = match appended(&pages[file]) {
            Appended::Initrd(offset) => Some(start + offset..end),
            Appended::Nothing => None,
            Appended::Junk(offset) => {
                warning!(
                    "kernel: expected an initrd behind it, found {} bytes that Linux would not \
                     take for one; they are ignored",
                    end - start - offset
                );
                None
            }
        };
        let initrd = appended.as_ref().map(|range| initrd_module(range.len()));
        let end = appended.as_ref().map_or(end, |range| range.start);
        Self {
            pages,
            file: start..end,
            appended,
            initrd,
            ours: false,
        }
    }

    /// The kernel's bytes.
    pub fn file(&self) -> &[u8] {
        &self.pages[self.file.clone()]
    }

    /// The memory it needs beside its image, which it allocates when it runs.
    pub fn room(&self) -> Option<Room> {
        let image = pe::Image::parse(self.file()).ok()?;
        Room::of(self.file(), image.size() as u64)
    }

    /// The initrd that belongs to it. It can be read once the kernel has been
    /// [loaded](Self::load).
    pub fn initrd(&self) -> Option<Initrd> {
        self.initrd
    }

    /// Loads it as an image. Of its file's memory only an initrd that follows it
    /// stays.
    pub fn load(self, origin: Origin) -> Result<HandleId, Failure> {
        if self.ours {
            return abi::images::load_from(self.pages, self.file.end, origin)
                .map_err(Failure::Kernel);
        }
        let image = abi::images::load(self.file(), origin);
        self.release()?;
        image.map_err(Failure::Kernel)
    }

    fn release(self) -> Result<(), Status> {
        let Some(appended) = self.appended else {
            return abi::give_back(self.pages);
        };
        let page = PAGE_SIZE as usize;
        let start = appended.start / page * page;
        let (kernel, initrd) = self.pages.split_at_mut(start);
        let initrd: &'static [u8] = initrd;
        INITRD_MODULE.get_or(|| &initrd[appended.start - start..appended.end - start]);
        abi::give_back(kernel)
    }
}
