//! ConvertPointer (UEFI 2.11 §8.4.2), from the only place where it is allowed: a
//! notification of SetVirtualAddressMap, in a page of runtime services code, for
//! everything else an operating system may have taken by then.

use crate::calls::Guest;
use crate::memory::PAGE;
use crate::report::{Failure, Outcome, equal, gives, success};
use core::mem::transmute;
use core::ptr;
use r_efi::efi::{self, EventNotify, Status};

/// ```text
/// push rbx; sub rsp, 0x20; mov rbx, rdx
/// mov rcx, [rbx + 8]; lea rdx, [rbx + 16]; call [rbx]; mov [rbx + 24], rax
/// add rsp, 0x20; pop rbx; ret
/// ```
const CODE: [u8; 28] = [
    0x53, 0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0xd3, 0x48, 0x8b, 0x4b, 0x08, 0x48, 0x8d, 0x53, 0x10,
    0xff, 0x13, 0x48, 0x89, 0x43, 0x18, 0x48, 0x83, 0xc4, 0x20, 0x5b, 0xc3,
];

/// What the code above gets for its context, and leaves there.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    service: u64,
    disposition: u64,
    pointer: u64,
    status: u64,
}

/// `EFI_OPTIONAL_PTR`
const OPTIONAL: u64 = 1;
/// Nothing is there, and nothing will be.
const NOWHERE: u64 = 0x0000_7654_3210_0000;

/// The page with the code and behind it the calls, and events that make them.
pub struct Listener {
    page: u64,
}

impl Listener {
    /// One event each for a pointer into the page, one to nowhere, null, and null
    /// that may be.
    pub fn new(guest: &Guest) -> Result<Self, Failure> {
        let mut page = 0;
        let (any, ty) = (efi::ALLOCATE_ANY_PAGES, efi::RUNTIME_SERVICES_CODE);
        success("AllocatePages", guest.allocate_pages(any, ty, 1, &mut page))?;
        let listener = Self { page };
        let code = ptr::with_exposed_provenance_mut::<[u8; CODE.len()]>(page as usize);
        // SAFETY: the page that was just allocated.
        unsafe { code.write(CODE) };
        // SAFETY: a notification's code, by its own comment.
        let notify = unsafe { transmute::<*mut [u8; CODE.len()], EventNotify>(code) };
        let service = guest.runtime().convert_pointer as usize as u64;
        let cases = [(0, page + 0x123), (0, NOWHERE), (0, 0), (OPTIONAL, 0)];
        for (i, (disposition, pointer)) in cases.into_iter().enumerate() {
            let call = Call {
                service,
                disposition,
                pointer,
                status: u64::MAX,
            };
            // SAFETY: in the page, behind the code.
            unsafe { listener.call(i).write(call) };
            let (kind, tpl) = (efi::EVT_SIGNAL_VIRTUAL_ADDRESS_CHANGE, efi::TPL_NOTIFY);
            let context = listener.call(i).cast();
            let found = guest.create_event(kind, tpl, Some(notify), context, &mut ptr::null_mut());
            success("CreateEvent", found)?;
        }
        Ok(listener)
    }

    fn call(&self, index: usize) -> *mut Call {
        let address = self.page as usize + 0x100 + index * size_of::<Call>();
        ptr::with_exposed_provenance_mut(address)
    }

    /// What a call has left, before the page goes.
    fn outcome(&self, index: usize) -> (Status, u64) {
        // SAFETY: one of the calls.
        let call = unsafe { self.call(index).read_volatile() };
        (Status::from_usize(call.status as usize), call.pointer)
    }

    /// A pointer is what the map says.
    pub fn converted(&self, virtual_address: impl Fn(u64) -> u64) -> Outcome {
        let expected = virtual_address(self.page) + 0x123;
        equal("outcome", self.outcome(0), (Status::SUCCESS, expected))
    }

    /// A pointer that no region of the map contains.
    pub fn not_in_map(&self) -> Outcome {
        equal("outcome", self.outcome(1), (Status::NOT_FOUND, NOWHERE))
    }

    /// A pointer that must not be null.
    pub fn null(&self) -> Outcome {
        gives(Status::INVALID_PARAMETER, self.outcome(2).0)
    }

    /// A pointer that may be null.
    pub fn optional(&self) -> Outcome {
        equal("outcome", self.outcome(3), (Status::SUCCESS, 0))
    }
}

const _: () = assert!(PAGE as usize > 0x100 + 4 * size_of::<Call>());
