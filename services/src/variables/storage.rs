//! What a store lies on: flash, memory that behaves like it, or the image of a disk.
//!
//! A back end promises that what it returns as [`Storage::bytes`] is what was
//! programmed, and that a call that fails, or is cut off by a power failure,
//! has changed nothing beyond the bytes it was about.
//!
//! Flash has changed when a call returns. A disk has by the next
//! [`Storage::sync`], sector by sector in any order: those that the power failure
//! overtakes are old or new, or old up to some byte and new from there.

/// Size of what is erased at once. Of QEMU's flash, of EDK2's volumes, and of
/// everything else here.
pub const BLOCK: usize = 4096;

/// What an erased byte holds.
pub const ERASED: u8 = 0xff;

/// The storage did not take what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Bytes whose bits can be cleared one by one, and set a block at a time.
pub trait Storage {
    /// All there is.
    fn bytes(&self) -> &[u8];

    /// Makes what is at `offset` `bytes`. No bit is set in them that is clear
    /// there: real flash leaves such a bit clear, and QEMU's sets it.
    ///
    /// # Errors
    /// When it did not work.
    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed>;

    /// Sets all bits of the block at `offset`.
    ///
    /// # Errors
    /// When they are not all set afterwards.
    fn erase(&mut self, offset: usize) -> Result<(), Failed>;

    /// Makes all changes so far last, before any later one does.
    ///
    /// # Errors
    /// When they do not, or perhaps not all of them.
    fn sync(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    /// Whether it is still there after ExitBootServices.
    fn outlives_boot(&self) -> bool {
        true
    }

    /// The same bytes, where they may be changed at will: memory, which no power
    /// failure leaves half written.
    fn memory(&mut self) -> Option<&mut [u8]> {
        None
    }
}

/// Memory, or something else: what is written over one or the other is there once.
pub(super) enum Either<'a, S> {
    /// Memory, which is edited and never programmed.
    Memory(&'a mut [u8]),
    /// Something else.
    Other(&'a mut S),
}

impl<S: Storage> Storage for Either<'_, S> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(memory) => memory,
            Self::Other(other) => other.bytes(),
        }
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        match self {
            Self::Memory(_) => Err(Failed),
            Self::Other(other) => other.program(offset, bytes),
        }
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        match self {
            Self::Memory(_) => Err(Failed),
            Self::Other(other) => other.erase(offset),
        }
    }

    fn sync(&mut self) -> Result<(), Failed> {
        match self {
            Self::Memory(_) => Err(Failed),
            Self::Other(other) => other.sync(),
        }
    }

    fn memory(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Memory(memory) => Some(memory),
            Self::Other(_) => None,
        }
    }
}

/// Whether all of `bytes` is erased.
pub fn is_blank(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| *word == [ERASED; 8]) && rest.iter().all(|byte| *byte == ERASED)
}

/// `N` bytes of memory.
///
/// All of them zero at first, so that a static of it takes no room in an image
/// file.
pub struct Memory<const N: usize>([u8; N]);

impl<const N: usize> Memory<N> {
    /// Zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Default for Memory<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Storage for Memory<N> {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        let room = self.0.get_mut(offset..).ok_or(Failed)?;
        let room = room.get_mut(..bytes.len()).ok_or(Failed)?;
        for (to, from) in room.iter_mut().zip(bytes) {
            *to &= from;
        }
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        let block = self.0.get_mut(offset..).ok_or(Failed)?;
        block.get_mut(..BLOCK).ok_or(Failed)?.fill(ERASED);
        Ok(())
    }

    fn memory(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }
}
