//! Pages that are shared with a back end, which writes to them whenever it
//! likes: every access is volatile or atomic.

use super::Xen;
use super::hypercall::Parameter;
use crate::arch::{self, MAPPED_AT_ENTRY};
use core::sync::atomic::{AtomicU32, Ordering};
use ovmf_lite_services::memory::PAGE_SIZE;
use ovmf_lite_services::physical::Physical;
use ovmf_lite_services::xen::Link;

/// How long a living back end may take, in milliseconds.
const PATIENCE: u64 = 5_000;

/// A shared page, or some in a row, and the event channel that belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    xen: Xen,
    address: usize,
    port: u32,
}

impl Page {
    /// The page and the channel that these two parameters name, if there are any.
    #[cold]
    pub fn find(xen: Xen, frame: Parameter, port: Parameter) -> Option<Self> {
        let address = xen.parameter(frame).ok()?.checked_mul(PAGE_SIZE)?;
        let port = u32::try_from(xen.parameter(port).ok()?).ok()?;
        (address != 0 && port != 0 && address < MAPPED_AT_ENTRY).then_some(Self {
            xen,
            address: address as usize,
            port,
        })
    }

    /// Pages of ours at `address`, lent to whoever listens to `port`.
    pub fn new(xen: Xen, address: u64, port: u32) -> Self {
        let address = address as usize;
        Self { xen, address, port }
    }

    fn field(&self, offset: usize) -> &AtomicU32 {
        let pointer = core::ptr::with_exposed_provenance_mut(self.address + offset);
        // SAFETY: a field inside of a page that Xen set aside for this, mapped
        // one to one; offsets of fields are multiples of 4.
        unsafe { AtomicU32::from_ptr(pointer) }
    }
}

impl Link for Page {
    fn load(&self, offset: usize) -> u32 {
        self.field(offset).load(Ordering::SeqCst)
    }

    fn store(&self, offset: usize, value: u32) {
        self.field(offset).store(value, Ordering::SeqCst);
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        copy_out(self.address + offset, buffer);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let target = core::ptr::with_exposed_provenance_mut::<u8>(self.address + offset);
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: the caller stays inside the page.
            unsafe { target.wrapping_add(at).write_volatile(*byte) };
        }
    }

    fn notify(&self) {
        self.xen.notify(self.port);
    }

    fn wait(&self, ready: &dyn Fn() -> bool) -> bool {
        let start = arch::time::tsc();
        let ticks = PATIENCE * u64::from(self.xen.tsc_khz);
        loop {
            if ready() {
                return true;
            }
            if arch::time::tsc().wrapping_sub(start) > ticks {
                return false;
            }
            self.xen.give_way();
        }
    }
}

/// Memory that Xen writes while we read, below 4 GiB.
pub struct Shared;

impl Physical for Shared {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let end = address.checked_add(buffer.len() as u64)?;
        if end > MAPPED_AT_ENTRY {
            return None;
        }
        copy_out(address as usize, buffer);
        Some(())
    }
}

fn copy_out(address: usize, buffer: &mut [u8]) {
    let source = core::ptr::with_exposed_provenance::<u8>(address);
    for (at, byte) in buffer.iter_mut().enumerate() {
        // SAFETY: below 4 GiB everything is mapped, and nobody holds a reference
        // into a page that is shared.
        *byte = unsafe { source.wrapping_add(at).read_volatile() };
    }
}
