//! The platform: what kind of machine this is and what the host gave us.
//!
//! [`discover`] fills one plain struct; everything after it is the same on
//! every host.

pub mod chipset;
pub mod fw_cfg;
pub mod payload;
pub mod tables;

use crate::arch;
use crate::arch::ram::{self, Found};
use crate::arch::time;
use crate::console::warning;
use crate::phases;
use crate::ports;
use crate::xen::{self, Xen};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use chipset::Chipset;
use core::fmt;
use fw_cfg::FwCfg;
use log::LevelFilter;
use ovmf_lite_services::e820::{self, Region};
use ovmf_lite_services::memory::{self, MemoryMap, PAGE_SIZE, PhysAddr};
use ovmf_lite_services::pvh::{self, Module, StartInfo};
use ovmf_lite_services::resident::{
    self, Clock, Disk, Flash, Hypercall, Machine, Moment, Protocol, Reset,
};
use ovmf_lite_services::variables::remote::{uefi_vars, varstored};
use ovmf_lite_services::xen::domain::{Domain, Level};
use ovmf_lite_services::xen::hvmloader;
use payload::Payload;
use uefi_raw::table::boot::MemoryType;

/// The legacy hole: VGA memory, option ROMs and the BIOS area. Never offered as
/// memory, even where the host has RAM there: Linux takes conventional memory
/// at 0xA0000 for "there is no VGA" and fails without a console.
const LEGACY_HOLE: (u64, u64) = (0xa_0000, 0x6_0000);

/// What [`chipset::identify`] finds on a machine without PCI at ports 0xCF8 and
/// 0xCFC: a bus on which nobody answers.
const NO_HOST_BRIDGE: u32 = u32::MAX;

/// Everything the host told us.
pub struct Platform {
    /// How we came to run, and who has set the machine up.
    pub host: Host,
    /// The Xen that runs us, and the domain we are in.
    pub xen: Option<(Xen, Domain)>,
    /// Physical memory as the host describes it.
    pub regions: &'static [Region],
    /// The kernel's command line, as bytes.
    pub command_line: Vec<u8>,
    /// The kernel, still with the host, and its initrd.
    pub kernel: Option<Payload>,
}

/// How we came to run.
pub enum Host {
    /// From the reset vector of a QEMU machine, so the machine is as its reset
    /// left it but for what [`discover`] did.
    Reset {
        /// Where everything else comes from.
        fw_cfg: FwCfg,
        /// The chipset; none on a machine without PCI, such as `microvm`.
        chipset: Option<Chipset>,
    },
    /// From a PVH loader. It, or a firmware that ran before us, has set the
    /// machine up and left tables in memory.
    Pvh {
        /// Where the loader says the RSDP is.
        rsdp: Option<u64>,
    },
    /// From hvmloader, in an HVM domain. It has set the machine up.
    Hvmloader {
        /// Where a kernel comes from, if the domain is given one.
        fw_cfg: Option<FwCfg>,
    },
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset { fw_cfg, chipset } => {
                write!(f, "from the reset vector, ")?;
                match chipset {
                    Some(chipset) => chipset.fmt(f),
                    None => write!(f, "no PCI host bridge"),
                }?;
                write!(f, ", {}", fw_cfg.transport())
            }
            Self::Pvh { .. } => write!(f, "from a PVH loader"),
            Self::Hvmloader { fw_cfg } => {
                write!(f, "from hvmloader")?;
                match fw_cfg {
                    Some(fw_cfg) => write!(f, ", {}", fw_cfg.transport()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Why the machine cannot be used.
#[derive(Debug)]
pub enum Error {
    /// No host interface that we know answers.
    NoHost,
    /// The chipset is none we know: device and vendor of the host bridge.
    Chipset(u32),
    /// fw_cfg does not do what it should.
    FwCfg(fw_cfg::Error),
    /// The loader's structure is not as it should be.
    StartInfo(pvh::Error),
    /// Xen does not tell the memory map.
    Xen(xen::Refused),
    /// hvmloader's structure is not as it should be.
    Hvmloader(hvmloader::Error),
    /// The host describes no memory.
    NoMemoryMap,
    /// The module lies on us, on another one, or outside of RAM.
    Module(Module),
    /// The memory map cannot be made.
    Memory(memory::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => write!(
                f,
                "expected QEMU's fw_cfg device at port 0x510, found none: start the firmware \
                 with QEMU's -bios, or its ELF file with a PVH loader"
            ),
            Self::Chipset(id) => write!(
                f,
                "expected a host bridge 8086:1237 (pc) or 8086:29c0 (q35), or none (microvm), \
                 found {:04x}:{:04x}: use -machine pc, q35 or microvm",
                id & 0xffff,
                id >> 16
            ),
            Self::FwCfg(error) => error.fmt(f),
            Self::StartInfo(error) => error.fmt(f),
            Self::Xen(error) => write!(f, "memory map: {error}"),
            Self::Hvmloader(error) => error.fmt(f),
            Self::NoMemoryMap => write!(
                f,
                "expected fw_cfg file etc/e820 to describe memory, found no RAM in it"
            ),
            Self::Module(module) => write!(
                f,
                "expected {} bytes of RAM for the module at {:#x}, found something else there",
                module.bytes, module.start
            ),
            Self::Memory(error) => write!(f, "memory: {error}"),
        }
    }
}

impl From<fw_cfg::Error> for Error {
    fn from(error: fw_cfg::Error) -> Self {
        Self::FwCfg(error)
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Self {
        Self::Memory(error)
    }
}

/// Finds out where we are. `start_info` is the address of what a PVH loader
/// tells us; 0 when we come from the reset vector.
pub fn discover(start_info: u64) -> Result<Platform, Error> {
    let xen = xen::get();
    if start_info != 0 {
        return from_pvh(start_info, xen);
    }
    let fw_cfg = FwCfg::open()?;
    match xen {
        Some(xen) if comes_from_hvmloader(fw_cfg.as_ref()) => from_hvmloader(xen, fw_cfg),
        _ => from_reset(fw_cfg.ok_or(Error::NoHost)?),
    }
}

/// Whether it was hvmloader that started us under this Xen, and no reset: QEMU
/// can pose as Xen, and then has a memory map.
fn comes_from_hvmloader(fw_cfg: Option<&FwCfg>) -> bool {
    let memory = Found { regions: None };
    let qemu = fw_cfg.is_some_and(FwCfg::has_memory);
    hvmloader::is_there(&memory) || !qemu
}

#[cold]
fn from_hvmloader(xen: Xen, fw_cfg: Option<FwCfg>) -> Result<Platform, Error> {
    let memory = Found { regions: None };
    let mut regions = hvmloader::read(&memory).map_err(Error::Hvmloader)?;
    // hvmloader leaves tables there, but does not say so.
    regions.push(Region {
        start: LEGACY_HOLE.0,
        bytes: LEGACY_HOLE.1,
        ty: MemoryType::RESERVED,
    });
    xen.be_64_bit().map_err(Error::Xen)?;
    let domain = domain_of(xen);
    let (kernel, line) = match &fw_cfg {
        Some(fw_cfg) => (fw_cfg.payload()?, fw_cfg.command_line()?),
        None => (None, Vec::new()),
    };
    Ok(Platform {
        regions: regions.leak(),
        command_line: appended(line, domain.append.as_ref()),
        kernel,
        host: Host::Hvmloader { fw_cfg },
        xen: Some((xen, domain)),
    })
}

/// Sets the chipset up as far as the host's tables will describe it.
fn from_reset(fw_cfg: FwCfg) -> Result<Platform, Error> {
    let chipset = match chipset::identify() {
        Ok(chipset) => Some(chipset),
        Err(NO_HOST_BRIDGE) => None,
        Err(other) => return Err(Error::Chipset(other)),
    };
    let mut regions = fw_cfg.memory()?;
    if !regions.iter().any(Region::is_ram) {
        return Err(Error::NoMemoryMap);
    }
    if fw_cfg.file(phases::ASKED.as_bytes()).is_some() {
        phases::show();
    }
    chipset::set_up(chipset, &fw_cfg, &mut regions)?;
    Ok(Platform {
        regions: regions.leak(),
        command_line: fw_cfg.command_line()?,
        kernel: fw_cfg.payload()?,
        host: Host::Reset { fw_cfg, chipset },
        xen: None,
    })
}

/// QEMU has an fw_cfg here, too, but as its kernel it offers us to ourselves.
#[cold]
fn from_pvh(address: u64, xen: Option<Xen>) -> Result<Platform, Error> {
    let info = pvh::read(&Found { regions: None }, address).map_err(Error::StartInfo)?;
    let regions = pvh_regions(&info, xen)?;
    let xen = xen.map(|xen| (xen, domain_of(xen)));
    let append = xen.as_ref().and_then(|(_, domain)| domain.append.as_ref());
    let mut modules = info.modules.into_iter();
    let kernel = modules.next();
    Ok(Platform {
        regions: regions.leak(),
        command_line: appended(info.command_line, append),
        kernel: kernel.map(|kernel| Payload::Modules(kernel, modules.next())),
        host: Host::Pvh { rsdp: info.rsdp },
        xen,
    })
}

/// The memory map: of the loader, or else of Xen, whose first version of the
/// structure had none.
fn pvh_regions(info: &StartInfo, xen: Option<Xen>) -> Result<Vec<Region>, Error> {
    let regions = match (&info.regions, xen) {
        (Some(regions), _) => regions.clone(),
        (None, Some(xen)) => xen.memory_map().map_err(Error::Xen)?,
        (None, None) => Vec::new(),
    };
    if !regions.iter().any(Region::is_ram) {
        let error = pvh::Error::NoMemoryMap(info.version);
        return Err(Error::StartInfo(error));
    }
    Ok(regions)
}

/// What xenstore says of this domain, the options in it obeyed. A domain runs as
/// well without.
#[cold]
fn domain_of(xen: Xen) -> Domain {
    time::counts_at(u64::from(xen.tsc_khz) * 1000);
    let domain = xen.domain().unwrap_or_else(|error| {
        warning!("{error}; going on without");
        Domain::default()
    });
    match &domain.log {
        None => {}
        Some(Level::Filter(level)) => log::set_max_level((*level).min(LevelFilter::Info)),
        Some(Level::Unknown(found)) => {
            warning!("option log: expected off, error, warn or info, found {found}");
        }
    }
    domain
}

/// `line`, which may end in a NUL, with more words at its end.
#[cold]
fn appended(mut line: Vec<u8>, words: Option<&String>) -> Vec<u8> {
    if let Some(words) = words {
        line.truncate(
            line.iter()
                .position(|byte| *byte == 0)
                .unwrap_or(line.len()),
        );
        line.push(b' ');
        line.extend_from_slice(words.as_bytes());
    }
    line
}

impl Platform {
    /// The memory map before any allocation: what the host described, less the
    /// legacy hole, `occupied`, which is the firmware itself (start and
    /// length), and what a loader put into memory for us.
    pub fn memory_map(&self, occupied: (u64, u64)) -> Result<MemoryMap, Error> {
        let mut map = MemoryMap::new();
        e820::describe(self.regions, &mut map)?;
        let (start, bytes) = LEGACY_HOLE;
        map.describe(PhysAddr(start), bytes, MemoryType::RESERVED)?;
        let (start, bytes) = occupied;
        map.describe(PhysAddr(start), bytes, MemoryType::BOOT_SERVICES_CODE)?;
        if let Some(Payload::Modules(kernel, initrd)) = self.kernel {
            for module in [Some(kernel), initrd].into_iter().flatten() {
                ram::reserve(&mut map, &module).map_err(|_| Error::Module(module))?;
            }
        }
        Ok(map)
    }

    /// What runtime services have to know; `reset` is what the tables say.
    pub fn facts(&self, reset: Reset) -> Machine {
        let host = self.variable_host();
        let (clock, moment) = self.clock();
        let xen = self.xen.as_ref().map(|(xen, _)| xen.hypercall);
        Machine {
            clock,
            hypercall: xen.unwrap_or(Hypercall::NONE),
            reset,
            moment,
            flash: match host.protocol {
                Protocol::NONE => self.flash(),
                _ => Flash::default(),
            },
            host,
        }
    }

    /// The disk with variables, in memory, and its name, where there is one and no
    /// host that keeps them.
    pub fn disk(&self, machine: &Machine, memory: &mut MemoryMap) -> Option<(Disk, String)> {
        let (xen, _) = self.xen.as_ref()?;
        if machine.host.protocol != Protocol::NONE {
            return None;
        }
        xen::disk::open(*xen, self.regions, memory)
    }

    /// Flash for variables: only after a reset there can be some that is ours.
    fn flash(&self) -> Flash {
        match self.host {
            Host::Reset { .. } => ports::flash::find().unwrap_or_default(),
            Host::Pvh { .. } | Host::Hvmloader { .. } => Flash::default(),
        }
    }

    /// A host that keeps the variables. Nothing else is at varstored's port in an
    /// HVM domain; of a port that nobody has, all bits are read as 1.
    fn variable_host(&self) -> resident::Host {
        let found = match &self.host {
            Host::Reset { fw_cfg, .. } => {
                self.uefi_vars(fw_cfg).map(|at| (Protocol::UEFI_VARS, at))
            }
            Host::Hvmloader { .. } if ports::read::<u32>(varstored::PORT) != u32::MAX => {
                Some((Protocol::VARSTORED, varstored::PORT.into()))
            }
            _ => None,
        };
        found.map_or_else(resident::Host::default, |(protocol, address)| {
            resident::Host { protocol, address }
        })
    }

    /// The registers of QEMU's device for variables, on a page that is no RAM.
    fn uefi_vars(&self, fw_cfg: &FwCfg) -> Option<u64> {
        let list = fw_cfg.read_file("etc/hardware-info").ok()?;
        let address = uefi_vars::find(&list)?;
        let end = address.checked_add(PAGE_SIZE)?;
        let usable = address % PAGE_SIZE == 0 && end <= arch::MAPPED_AT_ENTRY;
        (usable && e820::is_hole(self.regions, address)).then_some(address)
    }

    /// The clock, and where it counts from. Xen's PVH domains have none but the
    /// wall clock.
    fn clock(&self) -> (Clock, Moment) {
        match (&self.host, &self.xen) {
            (Host::Pvh { .. }, Some((xen, _))) => match xen.now(self.regions) {
                Some(moment) => (Clock::TSC, moment),
                None => (Clock::NONE, Moment::default()),
            },
            _ => (time::clock(), Moment::default()),
        }
    }

    /// The Xen and the domain we are in, if any, for the first line of the log.
    pub fn under(&self) -> String {
        let Some((xen, domain)) = &self.xen else {
            return String::new();
        };
        let mut text = format!(" under {xen}");
        for part in [&domain.name, &domain.uuid].into_iter().flatten() {
            text.push(' ');
            text.push_str(part);
        }
        text
    }

    /// Bytes of RAM the host gave, for the first line of the log.
    pub fn ram_bytes(&self) -> u64 {
        let ram = self.regions.iter().filter(|region| region.is_ram());
        ram.map(|region| region.bytes).sum()
    }

    /// The fw_cfg device, where it is ours to use.
    pub fn fw_cfg(&self) -> Option<&FwCfg> {
        match &self.host {
            Host::Reset { fw_cfg, .. } => Some(fw_cfg),
            Host::Hvmloader { fw_cfg } => fw_cfg.as_ref(),
            Host::Pvh { .. } => None,
        }
    }
}
