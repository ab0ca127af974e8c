//! The hypercalls of this firmware, each a safe function (Xen
//! `xen/include/public/`: `memory.h`, `sched.h`, `event_channel.h`,
//! `hvm/hvm_op.h`).
//!
//! Called by a direct instruction; the hypercall page is left to the operating
//! system. No interrupt is needed for any of them.

use super::Xen;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::fmt;
use ovmf_lite_services::e820::{self, Region};
use ovmf_lite_services::resident::Hypercall;

/// Numbers of hypercalls (`xen.h`).
const MEMORY_OP: u64 = 12;
const SCHED_OP: u64 = 29;
const EVENT_CHANNEL_OP: u64 = 32;
const HVM_OP: u64 = 34;

const ADD_TO_PHYSMAP: u64 = 7;
const MEMORY_MAP: u64 = 9;
const REMOVE_FROM_PHYSMAP: u64 = 15;
const SCHEDOP_YIELD: u64 = 0;
const SCHEDOP_SHUTDOWN: u64 = 2;
const EVENT_CLOSE: u64 = 3;
const EVENT_SEND: u64 = 4;
const EVENT_ALLOC_UNBOUND: u64 = 6;
const SET_PARAMETER: u64 = 0;
const GET_PARAMETER: u64 = 1;

/// `DOMID_SELF`.
const SELF: u16 = 0x7ff0;
/// Most entries of a memory map: as many as Xen has (`E820_X86_MAX`).
const MAX_REGIONS: usize = 128;

/// Parameters of a domain (`hvm/params.h`).
#[repr(u32)]
#[derive(Clone, Copy, Debug)]
pub enum Parameter {
    /// How event channels interrupt; setting it latches the width of the caller.
    CallbackIrq = 0,
    /// The frame of xenstore's page.
    StoreFrame = 1,
    /// The event channel of xenstore.
    StorePort = 2,
    /// The frame of the console's page.
    ConsoleFrame = 17,
    /// The event channel of the console.
    ConsolePort = 18,
}

/// `SHUTDOWN_crash`: why the domain ends (`sched.h`).
const CRASH: u32 = 3;

/// A hypercall that Xen refused: its number, its command and the error.
#[derive(Clone, Copy, Debug)]
pub struct Refused(u64, u64, i64);

impl fmt::Display for Refused {
    #[cold]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, command, error) = self;
        write!(
            f,
            "hypercall {number}, command {command}: Xen answered error {}",
            error.unsigned_abs()
        )
    }
}

impl Xen {
    /// The value of a parameter of this domain.
    #[cold]
    pub fn parameter(&self, parameter: Parameter) -> Result<u64, Refused> {
        let mut argument = HvmParameter::of(parameter, 0);
        self.call(HVM_OP, GET_PARAMETER, &mut argument)?;
        Ok(argument.value)
    }

    /// Tells Xen that from now on this domain runs 64-bit code: what it writes
    /// into shared memory is laid out for that. The operating system does the
    /// same for its own width.
    pub fn be_64_bit(&self) -> Result<(), Refused> {
        let mut no_interrupt = HvmParameter::of(Parameter::CallbackIrq, 0);
        self.call(HVM_OP, SET_PARAMETER, &mut no_interrupt)
    }

    /// The domain's memory map. Under hvmloader it is not what hvmloader made
    /// of it.
    pub fn memory_map(&self) -> Result<Vec<Region>, Refused> {
        let mut table = vec![0; MAX_REGIONS * e820::FW_CFG_ENTRY];
        let mut argument = MemoryMap {
            entries: MAX_REGIONS as u32,
            _padding: 0,
            buffer: table.as_mut_ptr(),
        };
        self.call(MEMORY_OP, MEMORY_MAP, &mut argument)?;
        table.truncate(argument.entries as usize * e820::FW_CFG_ENTRY);
        Ok(e820::parse(&table, e820::FW_CFG_ENTRY))
    }

    /// Ends the domain as one that has failed. Comes back when Xen refuses.
    pub fn crash(&self) {
        // There is nothing else to try.
        let _ = self.call(SCHED_OP, SCHEDOP_SHUTDOWN, &mut { CRASH });
    }

    /// Lets other domains run.
    pub fn give_way(&self) {
        // Xen does not refuse it; and if, waiting goes on without.
        let _ = self.call(SCHED_OP, SCHEDOP_YIELD, &mut 0_u32);
    }

    /// Sends an event.
    pub fn notify(&self, mut port: u32) {
        // A port that is not connected has nobody who waits for it.
        let _ = self.call(EVENT_CHANNEL_OP, EVENT_SEND, &mut port);
    }

    /// Opens an event channel to `domain`; returns its port.
    pub(super) fn open_event_channel(&self, domain: u16) -> Result<u32, Refused> {
        let mut argument = AllocUnbound {
            domain: SELF,
            remote: domain,
            port: 0,
        };
        self.call(EVENT_CHANNEL_OP, EVENT_ALLOC_UNBOUND, &mut argument)?;
        Ok(argument.port)
    }

    /// Closes it.
    pub(super) fn close_event_channel(&self, mut port: u32) {
        // One that is open can be closed.
        let _ = self.call(EVENT_CHANNEL_OP, EVENT_CLOSE, &mut port);
    }

    /// Makes the first page that Xen has in `space` appear at `frame`, where no
    /// RAM is: Xen would free it.
    pub(super) fn map(&self, space: u32, frame: u64) -> Result<(), Refused> {
        let mut argument = AddToPhysmap {
            domain: SELF,
            size: 0,
            space,
            index: 0,
            frame,
        };
        self.call(MEMORY_OP, ADD_TO_PHYSMAP, &mut argument)
    }

    /// Makes it vanish from there.
    pub(super) fn unmap(&self, frame: u64) -> Result<(), Refused> {
        let mut argument = RemoveFromPhysmap {
            domain: SELF,
            _padding: [0; 3],
            frame,
        };
        self.call(MEMORY_OP, REMOVE_FROM_PHYSMAP, &mut argument)
    }

    /// Every hypercall here takes a command and a structure that Xen reads and
    /// may write.
    fn call<T>(&self, number: u64, command: u64, argument: &mut T) -> Result<(), Refused> {
        self.call_with(number, command, (&raw mut *argument).cast())
    }

    #[inline(never)]
    #[cold]
    fn call_with(&self, number: u64, command: u64, argument: *mut u8) -> Result<(), Refused> {
        let result: i64;
        // SAFETY: each caller passes the structure of its command, and no command
        // here changes memory in use but that. Xen may spoil the registers that
        // carry the arguments, no others.
        unsafe {
            asm!(
                "cmp {instruction:e}, {vmmcall}",
                "je 2f",
                "vmcall",
                "jmp 3f",
                "2: vmmcall",
                "3:",
                instruction = in(reg) self.hypercall.0,
                vmmcall = const Hypercall::VMMCALL.0,
                inout("rax") number => result,
                inout("rdi") command => _,
                inout("rsi") argument => _,
                options(nostack)
            );
        }
        if result < 0 {
            return Err(Refused(number, command, result));
        }
        Ok(())
    }
}

/// `struct xen_hvm_param`.
#[repr(C)]
struct HvmParameter {
    domain: u16,
    _padding: u16,
    index: u32,
    value: u64,
}

impl HvmParameter {
    fn of(parameter: Parameter, value: u64) -> Self {
        Self {
            domain: SELF,
            _padding: 0,
            index: parameter as u32,
            value,
        }
    }
}

/// `struct xen_memory_map`.
#[repr(C)]
struct MemoryMap {
    entries: u32,
    _padding: u32,
    buffer: *mut u8,
}

/// `struct evtchn_alloc_unbound`.
#[repr(C)]
struct AllocUnbound {
    domain: u16,
    remote: u16,
    port: u32,
}

/// `struct xen_add_to_physmap`.
#[repr(C)]
struct AddToPhysmap {
    domain: u16,
    size: u16,
    space: u32,
    index: u64,
    frame: u64,
}

/// `struct xen_remove_from_physmap`.
#[repr(C)]
struct RemoveFromPhysmap {
    domain: u16,
    _padding: [u16; 3],
    frame: u64,
}
