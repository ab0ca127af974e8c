//! The table loader: a script from the host that says where its tables go and
//! how they are linked (QEMU `hw/acpi/bios-linker-loader.c`,
//! `include/hw/acpi/bios-linker-loader.h`).
//!
//! All four commands, each checked against the sizes of the files it names. The
//! first command that does not fit stops the script.

use super::{checksum, get, put};
use crate::physical::Physical;
use alloc::vec::Vec;
use core::fmt;
use ovmf_lite_loader::Printed;

/// Size of one command in bytes.
const ENTRY: usize = 128;
/// Room for a file name, NUL included.
const NAME: usize = 56;
/// Most files a script may allocate; QEMU's have four or five.
const MAX_FILES: usize = 64;

/// What a script asks of the host and of memory.
pub trait Host<'a> {
    /// Puts the whole file into memory that stays, at an address that is a
    /// multiple of `alignment`.
    fn place(&mut self, file: &[u8], alignment: u64) -> Result<Blob<'a>, HostError>;
    /// Writes bytes back to the host's file.
    fn write(&mut self, file: &[u8], offset: u32, bytes: &mut [u8]) -> Result<(), HostError>;
}

/// Why the host did not do what the script asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// There is no such file.
    NoFile,
    /// There is no room for it.
    NoMemory,
    /// The transfer failed.
    Transfer,
}

/// A file in memory.
#[derive(Debug)]
pub struct Blob<'a> {
    /// Its physical address.
    pub address: u64,
    /// Its bytes.
    pub bytes: &'a mut [u8],
    /// Where in it ends what the script has to do with: fields, what they point to,
    /// and what is under a checksum. 0 at first.
    pub used: usize,
}

impl Blob<'_> {
    /// What is up to `end` is used.
    fn uses(&mut self, end: usize) {
        self.used = self.used.max(end.min(self.bytes.len()));
    }

    /// What begins at `offset` is used. It is a table, which says how long it is
    /// (ACPI 6.5 §5.2.6), or something else: then what is there instead is no more
    /// than too much.
    fn uses_table(&mut self, offset: usize) {
        const LENGTH: usize = 4;
        let length = get(self.bytes, offset.saturating_add(LENGTH), 4).unwrap_or(0);
        self.uses(offset.saturating_add(index(length).max(1)));
    }
}

/// The files that a script put into memory.
#[derive(Debug, Default)]
pub struct Files<'a>(Vec<(&'a [u8], Blob<'a>)>);

impl<'a> Files<'a> {
    /// The file of this name.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Blob<'a>> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, blob)| blob)
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut Blob<'a>> {
        self.0
            .iter_mut()
            .find(|(known, _)| *known == name)
            .map(|(_, blob)| blob)
    }
}

impl Physical for Files<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let source = self.0.iter().find_map(|(_, blob)| {
            let start = usize::try_from(address.checked_sub(blob.address)?).ok()?;
            blob.bytes.get(start..start.checked_add(buffer.len())?)
        })?;
        buffer.copy_from_slice(source);
        Some(())
    }
}

/// A command that cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// Number of the command in the script, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub problem: Problem<'a>,
}

/// What is wrong with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The script ends inside the command.
    Truncated,
    /// A file name without its NUL.
    Name,
    /// The named file was not allocated before.
    NotAllocated(&'a [u8]),
    /// The named file is allocated twice, or is one too many.
    Again(&'a [u8]),
    /// The host could not provide or take the file.
    Host(&'a [u8], HostError),
    /// The alignment is not a power of two.
    Alignment(u64),
    /// A pointer of neither 1, 2, 4 nor 8 bytes.
    Width(u64),
    /// The range lies outside the file.
    Outside {
        /// The file.
        file: &'a [u8],
        /// First byte of the range.
        offset: u64,
        /// Length of the range in bytes.
        length: u64,
        /// Size of the file in bytes.
        size: usize,
    },
    /// The pointer does not fit its width.
    Overflow(u64),
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table loader, command {}: ", self.index)?;
        match &self.problem {
            Problem::Truncated => write!(f, "expected {ENTRY} bytes, found the script's end"),
            Problem::Name => write!(f, "expected a file name of at most {NAME} bytes with NUL"),
            Problem::NotAllocated(file) => {
                write!(
                    f,
                    "expected {} to be allocated by an earlier command",
                    Printed(file)
                )
            }
            Problem::Again(file) => write!(
                f,
                "expected each of at most {MAX_FILES} files to be allocated once, found {}",
                Printed(file)
            ),
            Problem::Host(file, HostError::NoFile) => {
                write!(f, "expected the host to have a file {}", Printed(file))
            }
            Problem::Host(file, HostError::NoMemory) => {
                write!(f, "no memory for {}: give the guest more", Printed(file))
            }
            Problem::Host(file, HostError::Transfer) => {
                write!(f, "the host failed to transfer {}", Printed(file))
            }
            Problem::Alignment(found) => {
                write!(f, "expected a power of two as alignment, found {found}")
            }
            Problem::Width(found) => {
                write!(f, "expected a pointer of 1, 2, 4 or 8 bytes, found {found}")
            }
            Problem::Outside {
                file,
                offset,
                length,
                size,
            } => write!(
                f,
                "{length} bytes at offset {offset:#x} are not inside {} of {size:#x} bytes",
                Printed(file)
            ),
            Problem::Overflow(value) => {
                write!(f, "the pointer {value:#x} does not fit its field")
            }
        }
    }
}

/// Carries the script out and returns the files it placed.
pub fn run<'a>(script: &'a [u8], host: &mut impl Host<'a>) -> Result<Files<'a>, Error<'a>> {
    let mut files = Files::default();
    for (index, command) in script.chunks(ENTRY).enumerate() {
        let command = Command::parse(command);
        command
            .and_then(|command| command.run(&mut files, host))
            .map_err(|problem| Error { index, problem })?;
    }
    Ok(files)
}

/// One command, names still inside the script.
enum Command<'a> {
    Allocate {
        file: &'a [u8],
        alignment: u64,
    },
    AddPointer {
        file: &'a [u8],
        source: &'a [u8],
        offset: u64,
        width: u64,
    },
    AddChecksum {
        file: &'a [u8],
        offset: u64,
        start: u64,
        length: u64,
    },
    WritePointer {
        file: &'a [u8],
        source: &'a [u8],
        offset: u64,
        source_offset: u64,
        width: u64,
    },
    /// A command this firmware does not know; hosts number them such that it
    /// can be passed over.
    Unknown,
}

impl<'a> Command<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Problem<'a>> {
        if bytes.len() < ENTRY {
            return Err(Problem::Truncated);
        }
        let number = |offset, width| get(bytes, offset, width).ok_or(Problem::Truncated);
        const FIRST: usize = 4;
        const SECOND: usize = FIRST + NAME;
        const THIRD: usize = SECOND + NAME;
        Ok(match number(0, 4)? {
            1 => Self::Allocate {
                file: name(bytes, FIRST)?,
                alignment: number(SECOND, 4)?,
            },
            2 => Self::AddPointer {
                file: name(bytes, FIRST)?,
                source: name(bytes, SECOND)?,
                offset: number(THIRD, 4)?,
                width: number(const { THIRD + 4 }, 1)?,
            },
            3 => Self::AddChecksum {
                file: name(bytes, FIRST)?,
                offset: number(SECOND, 4)?,
                start: number(const { SECOND + 4 }, 4)?,
                length: number(const { SECOND + 8 }, 4)?,
            },
            4 => Self::WritePointer {
                file: name(bytes, FIRST)?,
                source: name(bytes, SECOND)?,
                offset: number(THIRD, 4)?,
                source_offset: number(const { THIRD + 4 }, 4)?,
                width: number(const { THIRD + 8 }, 1)?,
            },
            _ => Self::Unknown,
        })
    }

    fn run(self, files: &mut Files<'a>, host: &mut impl Host<'a>) -> Result<(), Problem<'a>> {
        match self {
            Self::Allocate { file, alignment } => allocate(files, host, file, alignment),
            Self::AddPointer {
                file,
                source,
                offset,
                width,
            } => add_pointer(files, file, source, offset, width),
            Self::AddChecksum {
                file,
                offset,
                start,
                length,
            } => add_checksum(files, file, offset, start, length),
            Self::WritePointer {
                file,
                source,
                offset,
                source_offset,
                width,
            } => {
                let address = address_in(files, source, source_offset)?;
                let mut bytes = pointer_bytes(address, width)?;
                let used = bytes
                    .get_mut(..width_of(width)?)
                    .ok_or(Problem::Width(width))?;
                let offset = u32::try_from(offset).map_err(|_| Problem::Overflow(offset))?;
                host.write(file, offset, used)
                    .map_err(|error| Problem::Host(file, error))
            }
            Self::Unknown => Ok(()),
        }
    }
}

/// The NUL-terminated name at `offset` of a command.
fn name(bytes: &[u8], offset: usize) -> Result<&[u8], Problem<'_>> {
    let field = bytes.get(offset..offset.saturating_add(NAME));
    let end = field.and_then(|field| field.iter().position(|byte| *byte == 0));
    field
        .zip(end)
        .and_then(|(field, end)| field.get(..end))
        .ok_or(Problem::Name)
}

fn allocate<'a>(
    files: &mut Files<'a>,
    host: &mut impl Host<'a>,
    file: &'a [u8],
    alignment: u64,
) -> Result<(), Problem<'a>> {
    if !alignment.is_power_of_two() {
        return Err(Problem::Alignment(alignment));
    }
    if files.get(file).is_some() || files.0.len() >= MAX_FILES {
        return Err(Problem::Again(file));
    }
    let blob = host
        .place(file, alignment)
        .map_err(|error| Problem::Host(file, error))?;
    files.0.push((file, blob));
    Ok(())
}

fn blob<'f, 'a>(files: &'f mut Files<'a>, file: &'a [u8]) -> Result<&'f mut Blob<'a>, Problem<'a>> {
    files.get_mut(file).ok_or(Problem::NotAllocated(file))
}

fn outside(file: &[u8], offset: u64, length: u64, size: usize) -> Problem<'_> {
    Problem::Outside {
        file,
        offset,
        length,
        size,
    }
}

/// Offsets come as 32-bit numbers, so they fit.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn width_of(width: u64) -> Result<usize, Problem<'static>> {
    match width {
        1 | 2 | 4 | 8 => Ok(index(width)),
        _ => Err(Problem::Width(width)),
    }
}

/// `address` as the bytes of a pointer, if it fits `width` bytes.
fn pointer_bytes(address: u64, width: u64) -> Result<[u8; 8], Problem<'static>> {
    let bits = width_of(width)?.saturating_mul(8);
    let fits = u32::try_from(bits)
        .ok()
        .and_then(|bits| address.checked_shr(bits))
        .is_none_or(|rest| rest == 0);
    if !fits {
        return Err(Problem::Overflow(address));
    }
    Ok(address.to_le_bytes())
}

/// The address of byte `offset` of a file, which has to be inside it.
fn address_in<'a>(files: &mut Files<'a>, file: &'a [u8], offset: u64) -> Result<u64, Problem<'a>> {
    let blob = blob(files, file)?;
    if index(offset) >= blob.bytes.len() {
        return Err(outside(file, offset, 1, blob.bytes.len()));
    }
    blob.uses_table(index(offset));
    blob.address
        .checked_add(offset)
        .ok_or(Problem::Overflow(offset))
}

/// The field holds an offset into `source`; it becomes an address.
fn add_pointer<'a>(
    files: &mut Files<'a>,
    file: &'a [u8],
    source: &'a [u8],
    offset: u64,
    width: u64,
) -> Result<(), Problem<'a>> {
    let count = width_of(width)?;
    let target = blob(files, file)?;
    let size = target.bytes.len();
    let target_offset = get(target.bytes, index(offset), count)
        .ok_or_else(|| outside(file, offset, width, size))?;
    target.uses(index(offset).saturating_add(count));
    let address = address_in(files, source, target_offset)?;
    pointer_bytes(address, width)?;
    put(blob(files, file)?.bytes, index(offset), count, address)
        .ok_or_else(|| outside(file, offset, width, size))
}

fn add_checksum<'a>(
    files: &mut Files<'a>,
    file: &'a [u8],
    offset: u64,
    start: u64,
    length: u64,
) -> Result<(), Problem<'a>> {
    let blob = blob(files, file)?;
    let size = blob.bytes.len();
    let end = index(start).saturating_add(index(length));
    let covered = blob
        .bytes
        .get(index(start)..end)
        .ok_or_else(|| outside(file, start, length, size))?;
    // The old checksum byte is part of the sum, as the host's definition has it.
    let sum = u64::from(checksum(covered));
    put(blob.bytes, index(offset), 1, sum).ok_or_else(|| outside(file, offset, 1, size))?;
    blob.uses(end.max(index(offset).saturating_add(1)));
    Ok(())
}

#[cfg(test)]
mod tests;
