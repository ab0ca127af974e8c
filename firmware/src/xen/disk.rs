//! The disk on which a domain keeps its variables.
//!
//! Looks for it among all disks of the domain: the first one that begins with a
//! store of variables, or is blank and of the size of one. Promises that all others
//! are given back as they were, and this one when boot services end, so that the
//! kernel can connect to them; that nothing is written behind the store; and
//! that every page lent is ours again, or else says so.

use super::Xen;
use super::grants::{self, Grants};
use super::hypercall::Parameter;
use super::link::Page;
use crate::arch::ram;
use crate::console::warning;
use alloc::string::String;
use core::fmt::Display;
use ovmf_lite_services::e820::{Region, is_hole};
use ovmf_lite_services::memory::{MemoryMap, PAGE_SIZE, Placement};
use ovmf_lite_services::resident;
use ovmf_lite_services::variables::Layout;
use ovmf_lite_services::xen::disk::{self, Changes, Channel, Disk, Error, Found, PAGES, SECTOR};
use ovmf_lite_services::xen::xenstore::Store;
use spin::Mutex;
use uefi_raw::table::boot::MemoryType;

/// The ring's page and those for data.
const LENT: u32 = 1 + PAGES as u32;

/// The disk in use.
static IN_USE: Mutex<Option<InUse>> = Mutex::new(None);

struct InUse {
    host: Host,
    found: Found,
    port: u32,
    disk: Disk<Page>,
    /// The store in memory, which the runtime image changes.
    image: resident::Disk,
    changes: Changes,
}

/// What it takes to talk to back ends.
struct Host {
    xen: Xen,
    store: Store<Page>,
    grants: Grants,
    /// Where the pages are that are lent to one back end at a time.
    pages: u64,
}

/// Looks for the disk and reads the store on it into memory. Returns that, and
/// what the disk is called.
#[cold]
pub fn open(
    xen: Xen,
    regions: &[Region],
    memory: &mut MemoryMap,
) -> Option<(resident::Disk, String)> {
    let page = Page::find(xen, Parameter::StoreFrame, Parameter::StorePort)?;
    let store = Store::new(page);
    let all = disk::all(&store).map_err(|error| complain("all", &error));
    let all = all.ok().filter(|all| !all.is_empty())?;
    if !is_hole(regions, grants::TABLE) {
        return None;
    }
    let pages = allocate(memory, LENT as usize * PAGE_SIZE as usize)?;
    let grants = Grants::map(xen).map_err(|error| complain("all", &error));
    let host = Host {
        xen,
        store,
        grants: grants.ok()?,
        pages: pages.as_ptr().addr() as u64,
    };
    let found = host.search(all, memory);
    let Some((found, port, disk, image)) = found else {
        host.grants.unmap();
        return None;
    };
    let name = found.name.clone();
    *IN_USE.lock() = Some(InUse {
        host,
        found,
        port,
        disk,
        image,
        changes: Changes::none(image.size as usize),
    });
    Some((image, name))
}

/// Boot services end: gives the disk back.
pub fn close() {
    let Some(mut used) = IN_USE.lock().take() else {
        return;
    };
    if let Err(error) = used.write_back() {
        complain(&used.found.name, &error);
    }
    used.host.give_back(&used.found, used.port);
    used.host.grants.unmap();
}

impl Host {
    /// The first disk with a store, connected, its event channel, and the store.
    fn search(
        &self,
        all: alloc::vec::Vec<Found>,
        memory: &mut MemoryMap,
    ) -> Option<(Found, u32, Disk<Page>, resident::Disk)> {
        for found in all {
            let port = self.lend(found.domain)?;
            match self.look(&found, port, memory) {
                Ok(Some((disk, image))) => return Some((found, port, disk, image)),
                Ok(None) => {}
                Err(error) => complain(&found.name, &error),
            }
            if !self.give_back(&found, port) {
                return None;
            }
        }
        None
    }

    /// Lends all pages to `domain`; returns an event channel for it.
    fn lend(&self, domain: u16) -> Option<u32> {
        let port = self.xen.open_event_channel(domain);
        let port = port.map_err(|error| complain("all", &error)).ok()?;
        for at in 0..LENT {
            let page = self.pages + u64::from(at) * PAGE_SIZE;
            self.grants.lend(grants::FIRST + at, domain, page);
        }
        Some(port)
    }

    /// Gives the disk `found` back, and takes back what was lent for it. Whether
    /// that can be lent again.
    #[cold]
    fn give_back(&self, found: &Found, port: u32) -> bool {
        if let Err(error) = disk::release(&self.store, found) {
            complain(&found.name, &error);
        }
        self.xen.close_event_channel(port);
        let ended = (0..LENT).filter(|at| self.grants.end(grants::FIRST + at));
        let kept = LENT as usize - ended.count();
        if kept > 0 {
            complain(&found.name, &"its back end keeps pages of this domain");
        }
        kept == 0
    }

    /// The store on the disk, if there is one.
    fn look(
        &self,
        found: &Found,
        port: u32,
        memory: &mut MemoryMap,
    ) -> Result<Option<(Disk<Page>, resident::Disk)>, Error> {
        let link = Page::new(self.xen, self.pages, port);
        let grant = grants::FIRST;
        let mut disk = Disk::connect(&self.store, found, link, Channel { port, grant })?;
        let mut sector = [0; SECTOR];
        disk.read(0, &mut sector)?;
        let bytes = disk.sectors.saturating_mul(SECTOR as u64);
        let store = Layout::of_volume(&sector).filter(|layout| layout.size as u64 <= bytes);
        let Some(layout) = store.or(Layout::of_flash(bytes as usize)) else {
            return Ok(None);
        };
        let Some(image) = allocate(memory, layout.size) else {
            return Ok(None);
        };
        disk.read(0, image)?;
        if store.is_none() && !is_blank(image) {
            complain(&found.name, &"expected a store of variables, found none");
            return Ok(None);
        }
        let image = resident::Disk {
            address: image.as_ptr().addr() as u64,
            size: layout.size as u64,
            keep: Some(keep),
        };
        Ok(Some((disk, image)))
    }
}

impl InUse {
    #[cold]
    fn write_back(&mut self) -> Result<(), Error> {
        let start = core::ptr::with_exposed_provenance(self.image.address as usize);
        // SAFETY: allocated for this. The runtime image, which changes it, has
        // called us and waits.
        let image = unsafe { core::slice::from_raw_parts(start, self.image.size as usize) };
        self.changes.store(&mut self.disk, image)
    }
}

/// Called by the runtime image: see [`resident::Disk::keep`].
#[cold]
unsafe extern "efiapi" fn keep(offset: usize, length: usize) -> bool {
    let mut used = IN_USE.lock();
    let Some(used) = used.as_mut() else {
        return false;
    };
    if length > 0 {
        used.changes.add(offset, length);
        return true;
    }
    let written = used.write_back();
    let written = written.map_err(|error| complain(&used.found.name, &error));
    written.is_ok()
}

#[cold]
fn allocate(memory: &mut MemoryMap, bytes: usize) -> Option<&'static mut [u8]> {
    let ty = MemoryType::BOOT_SERVICES_DATA;
    ram::allocate(memory, Placement::Any, ty, bytes).ok()
}

/// Whether nothing was ever written to it.
#[cold]
fn is_blank(image: &[u8]) -> bool {
    [0, 0xff].contains(&image[0]) && image.iter().all(|byte| *byte == image[0])
}

#[cold]
fn complain(name: &str, error: &dyn Display) {
    warning!("Xen disk {name}: {error}");
}
