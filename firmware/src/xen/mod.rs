//! Xen, as far as its guest sees it: found by CPUID (Xen
//! `xen/include/public/arch-x86/cpuid.h`), called by [`hypercall`].
//!
//! Nothing here is set up that would have to be torn down, but for a [`disk`] with
//! variables: no interrupt, no page of our own, no watch. Console and xenstore
//! are left as rings on which the operating system goes on.

pub mod disk;
mod grants;
mod hypercall;
mod link;

pub use hypercall::Refused;
pub use link::Page;

use crate::arch::once::Once;
use crate::arch::{self, time};
use core::arch::x86_64::__cpuid;
use core::fmt;
use hypercall::Parameter;
use link::Shared;
use ovmf_lite_services::e820::{Region, is_hole};
use ovmf_lite_services::memory::PAGE_SIZE;
use ovmf_lite_services::resident::{Hypercall, Moment};
use ovmf_lite_services::xen::console::Console;
use ovmf_lite_services::xen::domain::{self, Domain};
use ovmf_lite_services::xen::xenstore::{self, Store};

/// Xen's leaves start at one of these: further up where it also poses as another
/// hypervisor.
const LEAVES: core::ops::Range<u32> = 0x4000_0000..0x4001_0000;
const LEAF_STEP: usize = 0x100;
/// "XenVMMXenVMM" in EBX, ECX, EDX.
const SIGNATURE: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];
/// "AuthenticAMD" and "HygonGenuine", as in EBX.
const VMMCALL_VENDORS: [u32; 2] = [0x6874_7541, 0x6f67_7948];

/// Where the page shared with Xen appears while it is read: behind the local
/// APIC, where neither the domain builder nor hvmloader puts anything.
const SHARED_INFO: u64 = 0xfef0_0000;

/// The Xen that runs us.
#[derive(Clone, Copy, Debug)]
pub struct Xen {
    /// Major and minor version.
    version: (u16, u16),
    /// How it is called.
    pub hypercall: Hypercall,
    /// Frequency of the time stamp counter in kHz.
    pub tsc_khz: u32,
}

impl fmt::Display for Xen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "Xen {major}.{minor}")
    }
}

/// `XENMAPSPACE_shared_info`.
const SHARED_INFO_SPACE: u32 = 0;

static FOUND: Once<Option<Xen>> = Once::new();

/// The Xen that runs us, if one does.
#[inline(never)]
pub fn get() -> Option<Xen> {
    FOUND.get_or(detect)
}

fn detect() -> Option<Xen> {
    if !arch::has_hypervisor() {
        return None;
    }
    // Each CPUID leaves the guest. A hypervisor's first leaf names its last one,
    // so where none is named there is no further hypervisor.
    let leaves = LEAVES.step_by(LEAF_STEP).map(|leaf| (leaf, __cpuid(leaf)));
    let (leaf, _) = leaves
        .take_while(|(leaf, found)| found.eax >= *leaf)
        .find(|(_, found)| [found.ebx, found.ecx, found.edx] == SIGNATURE)?;
    let version = __cpuid(leaf + 1).eax;
    Some(Xen {
        version: ((version >> 16) as u16, version as u16),
        hypercall: match VMMCALL_VENDORS.contains(&__cpuid(0).ebx) {
            true => Hypercall::VMMCALL,
            false => Hypercall::VMCALL,
        },
        tsc_khz: match __cpuid(leaf + 3).ecx {
            0 => (time::FALLBACK_HZ / 1000) as u32,
            khz => khz,
        },
    })
}

impl Xen {
    /// The paravirtual console, if the domain has one.
    pub fn console(self) -> Option<Console<Page>> {
        let page = Page::find(self, Parameter::ConsoleFrame, Parameter::ConsolePort)?;
        Some(Console::new(page))
    }

    /// What the toolstack has written about this domain; nothing where there is
    /// no xenstore.
    pub fn domain(self) -> Result<Domain, xenstore::Error> {
        match Page::find(self, Parameter::StoreFrame, Parameter::StorePort) {
            Some(page) => domain::read(&Store::new(page)),
            None => Ok(Domain::default()),
        }
    }

    /// The time of day. `regions` is the memory map: nothing may be where the
    /// page that tells it is made to appear for a moment.
    pub fn now(self, regions: &[Region]) -> Option<Moment> {
        if !is_hole(regions, SHARED_INFO) {
            return None;
        }
        let frame = SHARED_INFO / PAGE_SIZE;
        self.be_64_bit().ok()?;
        self.map(SHARED_INFO_SPACE, frame).ok()?;
        let shared =
            ovmf_lite_services::xen::time::moment(&Shared, SHARED_INFO, self.tsc_khz, time::tsc);
        // It stays in nobody's way: Xen moves it where the kernel wants it.
        let _ = self.unmap(frame);
        shared
    }
}
