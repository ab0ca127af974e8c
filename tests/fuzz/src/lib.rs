//! What the fuzz targets share.

use std::cell::RefCell;

use ovmf_lite_services::physical::Physical;
use ovmf_lite_services::variables::{BLOCK, Failed, Storage};
use ovmf_lite_services::xen::Link;

/// All the memory there is: bytes from [`Memory::ADDRESS`] on.
#[derive(Debug)]
pub struct Memory<'b>(pub &'b [u8]);

impl Memory<'_> {
    /// Where the bytes start. Small, so that random pointers can hit them.
    pub const ADDRESS: u64 = 0x10;
}

/// Bytes at another address.
#[derive(Debug)]
pub struct At<'b>(pub u64, pub &'b [u8]);

impl Physical for At<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let offset = address.checked_sub(self.0)?;
        Memory(self.1).read(offset.checked_add(Memory::ADDRESS)?, buffer)
    }
}

/// A page shared with a back end that has written it once and died.
#[derive(Debug)]
pub struct Page(RefCell<Vec<u8>>);

impl Page {
    /// The page that begins with `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self::pages(bytes, 1)
    }

    /// Some pages in a row.
    pub fn pages(bytes: &[u8], count: usize) -> Self {
        let mut pages = bytes.to_vec();
        pages.resize(count * 4096, 0);
        Self(RefCell::new(pages))
    }
}

impl Link for Page {
    fn load(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0.borrow()[offset..][..buffer.len()]);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.0.borrow_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    fn notify(&self) {}

    fn wait(&self, ready: &dyn Fn() -> bool) -> bool {
        ready()
    }
}

impl Physical for Memory<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(Self::ADDRESS)?).ok()?;
        let source = self.0.get(start..start.checked_add(buffer.len())?)?;
        buffer.copy_from_slice(source);
        Some(())
    }
}

/// Whether `bytes` sum to 0, as sealed tables do.
pub fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        == 0
}

/// Flash: bits are cleared one by one, and set a block at a time.
#[derive(Debug)]
pub struct Flash(pub Vec<u8>);

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn program(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        let room = self.0.get_mut(offset..).ok_or(Failed)?;
        let room = room.get_mut(..bytes.len()).ok_or(Failed)?;
        for (to, from) in room.iter_mut().zip(bytes) {
            assert_eq!(from & !*to, 0, "a bit would have to be set");
            *to = *from;
        }
        Ok(())
    }

    fn erase(&mut self, offset: usize) -> Result<(), Failed> {
        let block = self.0.get_mut(offset..).ok_or(Failed)?;
        block.get_mut(..BLOCK).ok_or(Failed)?.fill(0xff);
        Ok(())
    }
}
