//! Pages lent to other domains: the grant table, version 1 (Xen
//! `xen/include/public/grant_table.h`).
//!
//! Promises that a page is ours again when [`Grants::end`] says so, and that
//! nothing of the table stays mapped.

use super::hypercall::Refused;
use super::{SHARED_INFO, Xen};
use core::sync::atomic::{AtomicU32, Ordering};
use ovmf_lite_services::memory::PAGE_SIZE;

/// The first reference that has no reserved meaning.
pub const FIRST: u32 = 8;

/// Where the table appears: behind the shared page, for the same reason.
pub const TABLE: u64 = SHARED_INFO + PAGE_SIZE;

/// `GTF_permit_access`: lent, to be read and written.
const PERMIT: u32 = 1;
/// `GTF_reading`, `GTF_writing`: mapped there.
const IN_USE: u32 = 0x18;
const ENTRY: usize = 8;
/// `XENMAPSPACE_grant_table`.
const SPACE: u32 = 1;

/// The first page of the table, mapped.
#[derive(Clone, Copy, Debug)]
pub struct Grants(Xen);

impl Grants {
    /// Maps it. No RAM is there.
    pub fn map(xen: Xen) -> Result<Self, Refused> {
        xen.map(SPACE, TABLE / PAGE_SIZE)?;
        Ok(Self(xen))
    }

    /// Unmaps it. What is lent stays lent.
    #[cold]
    pub fn unmap(self) {
        // It stays in nobody's way: Xen moves it where the kernel wants it.
        let _ = self.0.unmap(TABLE / PAGE_SIZE);
    }

    /// Lends the page at `address` to `domain`.
    pub fn lend(self, reference: u32, domain: u16, address: u64) {
        let frame = (address / PAGE_SIZE) as u32;
        field(reference, 4).store(frame, Ordering::SeqCst);
        field(reference, 0).store(u32::from(domain) << 16 | PERMIT, Ordering::SeqCst);
    }

    /// Takes it back, unless it is still in use.
    pub fn end(self, reference: u32) -> bool {
        let flags = field(reference, 0);
        let ended = flags.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |flags| {
            (flags & IN_USE == 0).then_some(0)
        });
        ended.is_ok()
    }
}

fn field(reference: u32, offset: usize) -> &'static AtomicU32 {
    let address = TABLE as usize + reference as usize * ENTRY + offset;
    let pointer = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: while there is a `Grants` the table is mapped there; references are
    // few, so that the field is in its first page, at a multiple of 4.
    unsafe { AtomicU32::from_ptr(pointer) }
}
