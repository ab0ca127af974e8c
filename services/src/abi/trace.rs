//! Calls that are logged, and calls that fail because somebody wants to see what
//! happens then.
//!
//! Promises that a program sees no difference but in time: a slot that is looked
//! at leads to a thunk, which jumps to the real function with the caller's own
//! stack and registers, and gets hold of the end by way of the return address.
//! Slots that are neither logged nor denied hold the real functions. A line on the
//! log is `trace NUMBER DEPTH SERVICE(ARGUMENTS) = STATUS @START +DURATION`; it is
//! written at the end of the call, a number is given at its beginning. Times are
//! time stamps, the first since the firmware's start; the outer call's includes
//! what writing the inner ones' lines took.
//!
//! Runtime services are looked at until ExitBootServices. Then the firmware is
//! gone, and its runtime image's table gets its own pointers back; what was denied
//! without a condition is from then on a function of that image.

mod line;
mod thunks;

use super::Edge;
use crate::catalog::{self, SLOTS};
use crate::crc32;
use crate::guids::number;
use crate::options::Options;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{self, null_mut};
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use line::Call;
use spin::Mutex;
use uefi_raw::table::Header;
use uefi_raw::table::runtime::RuntimeServices;
use uefi_raw::{Guid, Status};

/// Most calls within each other that are logged; deeper ones are only made.
const MAX_DEPTH: usize = 64;
/// As many arguments are remembered.
const ARGUMENTS: usize = 8;
/// Most pairs in the arguments of a variadic service.
const MAX_PAIRS: usize = 64;
/// What RaiseTPL returns when it is denied: it has no status.
const TPL_APPLICATION: usize = 4;

/// What is wanted; null for nothing.
static WANTED: AtomicPtr<Wanted> = AtomicPtr::new(null_mut());
/// The functions that slots held before.
static REAL: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];
/// Logged calls that have not returned.
static CALLS: Mutex<Vec<Call>> = Mutex::new(Vec::new());
static NEXT: AtomicU32 = AtomicU32::new(1);
static RUNTIME_HOOKED: AtomicBool = AtomicBool::new(false);

struct Wanted {
    options: Options,
    start: u64,
}

/// Says what is wanted, before boot services are opened. `start` is the time
/// stamp from which times are counted.
pub fn configure(options: Options, start: u64) {
    if options == Options::default() {
        return;
    }
    let wanted = Box::leak(Box::new(Wanted { options, start }));
    WANTED.store(wanted, Ordering::Relaxed);
}

fn wanted() -> Option<&'static Wanted> {
    // SAFETY: null, or leaked by `configure` and never changed.
    unsafe { WANTED.load(Ordering::Relaxed).as_ref() }
}

impl Wanted {
    /// Whether something is wanted of a slot: one without arguments is no function.
    fn concerns(&self, slot: usize) -> bool {
        let mut denials = self.options.denials.iter();
        let named = self.denies(slot) || denials.any(|denial| denial.slot == slot);
        (self.options.trace || named) && !catalog::service(slot).1.is_empty()
    }

    /// Whether a service fails whatever it is asked.
    #[inline(never)]
    #[cold]
    fn denies(&self, slot: usize) -> bool {
        self.options.denied & catalog::bit(slot) != 0
    }

    /// What a call with the arguments at `arguments` fails with, if it has to.
    fn refusal(&self, slot: usize, arguments: usize) -> Option<Status> {
        if self.denies(slot) {
            return Some(Status::UNSUPPORTED);
        }
        let mut denials = self.options.denials.iter();
        let denial = denials.find(|denial| {
            let guid = denial.guid;
            denial.slot == slot && guid.is_none_or(|guid| names(slot, arguments, guid))
        })?;
        Some(denial.status)
    }
}

/// Whether `guid` is among the arguments of a call, which lie at `arguments`.
fn names(slot: usize, arguments: usize, guid: Guid) -> bool {
    let guid = number(&guid);
    let Some(first) = catalog::guid_argument(slot) else {
        return false;
    };
    let many = catalog::service(slot).1.ends_with('v');
    let mut argument = arguments.saturating_add(first.saturating_mul(8));
    for _ in 0..MAX_PAIRS {
        match line::read::<usize>(argument) {
            None | Some(0) => return false,
            Some(address) if line::read(address) == Some(guid) => return true,
            _ if !many => return false,
            _ => argument = argument.saturating_add(16),
        }
    }
    false
}

/// Puts thunks into those of `slots`, the first of which has the number `first`,
/// that something is wanted of.
pub(super) fn exchange(first: usize, slots: &mut [usize]) {
    let Some(wanted) = wanted() else {
        return;
    };
    for (pointer, slot) in slots.iter_mut().zip(first..) {
        if *pointer != 0
            && wanted.concerns(slot)
            && let Some(real) = REAL.get(slot)
        {
            real.store(*pointer, Ordering::Relaxed);
            *pointer = thunks::address(slot);
        }
    }
}

/// The structure to publish instead of `table`, which begins with `count`
/// functions: the same one, or a copy with thunks.
pub(super) fn published<T>(table: *const T, first: usize, count: usize) -> *const T {
    if wanted().is_none() {
        return table;
    }
    // SAFETY: a protocol of ours: words, all of them function or data pointers.
    let words = unsafe { slice::from_raw_parts(table.cast::<usize>(), size_of::<T>() / 8) };
    copied(words, first, count).cast()
}

#[inline(never)]
#[cold]
fn copied(words: &[usize], first: usize, count: usize) -> *const usize {
    let copy = words.to_vec().leak();
    if let Some(functions) = copy.get_mut(..count) {
        exchange(first, functions);
    }
    copy.as_ptr()
}

/// The slots of a service table, which has a header before them.
///
/// # Safety
/// `table` is one of the two service tables, nobody else is using it, and it is
/// not used otherwise while the result lives.
pub(super) unsafe fn slots<'a, T>(table: *mut T) -> &'a mut [usize] {
    let words = size_of::<T>().saturating_sub(size_of::<Header>()) / 8;
    let start = table.wrapping_byte_add(size_of::<Header>()).cast();
    // SAFETY: pointers without padding follow the header.
    unsafe { slice::from_raw_parts_mut(start, words) }
}

impl Edge {
    /// Puts thunks into the runtime image's table, and takes what is denied for
    /// good out of what it says to support.
    pub(super) fn hook_runtime(&mut self) {
        let Some(wanted) = wanted() else {
            return;
        };
        self.change_runtime(|slots| exchange(catalog::RUNTIME, slots));
        RUNTIME_HOOKED.store(true, Ordering::Relaxed);
        let properties = self.resident.0.rt_properties.cast_mut();
        for slot in (catalog::RUNTIME..catalog::OUTPUT).filter(|slot| wanted.denies(*slot)) {
            // SAFETY: the table lies in the runtime image; only this edge changes it.
            let supported = unsafe { &mut (*properties).runtime_services_supported };
            *supported &= !property(slot);
        }
    }

    fn change_runtime(&mut self, change: impl FnOnce(&mut [usize])) {
        // SAFETY: `start` was promised a placed image; `&mut self` is the only way
        // to its table.
        let table = unsafe { (*self.resident.0.system_table).runtime_services };
        // SAFETY: as above.
        change(unsafe { slots(table) });
        // SAFETY: a header and pointers leave no padding.
        let bytes = unsafe { slice::from_raw_parts(table.cast(), size_of::<RuntimeServices>()) };
        let crc = crc32::of_table(bytes);
        // SAFETY: the table, as above; the bytes are read.
        unsafe { (*table).header.crc = crc };
    }

    /// ExitBootServices is about to succeed: logs that, and what will never
    /// return, and takes the firmware out of the runtime image's table.
    pub(super) fn end_trace(&mut self) {
        if !RUNTIME_HOOKED.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(mut calls) = CALLS.try_lock() {
            let mut status = Some(Status::SUCCESS);
            while let Some(call) = calls.pop() {
                call.log(calls.len(), status.take());
                if catalog::service(call.slot).0 == "ExitBootServices" {
                    // SAFETY: the call is active, so its return address is there.
                    unsafe {
                        ptr::with_exposed_provenance_mut::<usize>(call.frame).write(call.back)
                    };
                }
            }
        }
        let unsupported = self.resident.0.unsupported.addr();
        self.change_runtime(|slots| {
            for (pointer, slot) in slots.iter_mut().zip(catalog::RUNTIME..) {
                *pointer = match real(slot) {
                    _ if wanted().is_some_and(|wanted| wanted.denies(slot)) => unsupported,
                    0 => *pointer,
                    real => real,
                };
            }
        });
    }
}

/// The function that a slot held before; 0 if nothing was done to it.
fn real(slot: usize) -> usize {
    REAL.get(slot)
        .map_or(0, |real| real.load(Ordering::Relaxed))
}

/// The bit in `RuntimeServicesSupported` of a slot of the runtime services: those
/// from SetVirtualAddressMap to SetVariable are in another order (UEFI 2.11
/// §4.5.1, §4.6.2).
fn property(slot: usize) -> u32 {
    let bit = match slot.saturating_sub(catalog::RUNTIME) {
        4 => 7,
        5 => 8,
        index @ 6..=8 => index.saturating_sub(2),
        index => index,
    };
    u32::try_from(bit).map_or(0, |bit| 1u32.checked_shl(bit).unwrap_or(0))
}

/// How many logged calls are active, for [`unwind`].
pub(super) fn depth() -> usize {
    CALLS.try_lock().map_or(MAX_DEPTH, |calls| calls.len())
}

/// Forgets the calls from `depth` on: an image has left by Exit, and nobody
/// returns from them any more.
pub(super) fn unwind(depth: usize) {
    if let Some(mut calls) = CALLS.try_lock() {
        while calls.len() > depth {
            if let Some(call) = calls.pop() {
                call.log(calls.len(), None);
            }
        }
    }
}

/// A thunk has been called. `arguments` is where its caller's arguments lie, in a
/// row, right behind the return address. Returns what to jump to.
#[cold]
unsafe extern "efiapi" fn enter(slot: usize, arguments: *mut usize) -> usize {
    let Some(wanted) = wanted() else {
        return thunks::refusal();
    };
    let refusal = wanted.refusal(slot, arguments.expose_provenance());
    if wanted.options.trace {
        note(slot, arguments, wanted.start);
    }
    let Some(status) = refusal else {
        return real(slot);
    };
    let result = if slot == catalog::BOOT {
        TPL_APPLICATION
    } else {
        status.0
    };
    // SAFETY: the caller left room for an argument there (see `thunks`).
    unsafe { arguments.write(result) };
    thunks::refusal()
}

/// Remembers a call, and sees to it that its return is seen.
fn note(slot: usize, arguments: *mut usize, start: u64) {
    let frame = arguments.wrapping_sub(1);
    let Some(mut calls) = CALLS.try_lock().filter(|calls| calls.len() < MAX_DEPTH) else {
        return;
    };
    // SAFETY: the caller's return address lies below its arguments.
    let back = unsafe { frame.read() };
    let mut call = Call {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        slot,
        frame: frame.expose_provenance(),
        back,
        arguments: [0; ARGUMENTS],
        start,
        entered: 0,
    };
    let known = call.known();
    for (index, argument) in call.arguments.iter_mut().enumerate().take(known) {
        // SAFETY: an argument, in a row with the others.
        *argument = unsafe { arguments.wrapping_add(index).read() };
    }
    call.entered = line::now();
    if catalog::service(slot).1.ends_with('!') {
        return call.log(calls.len(), None);
    }
    // SAFETY: as above; `leave` returns to where this led.
    unsafe { frame.write(thunks::end()) };
    calls.push(call);
}

/// A remembered call has returned `result` to where its return address was, at
/// `frame`. Returns where to go on.
#[cold]
unsafe extern "efiapi" fn leave(result: usize, frame: *mut usize) -> usize {
    let mut calls = CALLS.lock();
    let is_it = |call: &Call| call.frame == frame.addr();
    // What was called later has been left by a jump.
    while calls.last().is_some_and(|call| !is_it(call)) && calls.iter().any(is_it) {
        calls.pop();
    }
    let Some(call) = calls.pop() else {
        lost();
    };
    let depth = calls.len();
    drop(calls);
    call.log(depth, Some(Status(result)));
    call.back
}

#[expect(clippy::panic, reason = "there is no address to return to")]
fn lost() -> ! {
    panic!("a traced call returns that was never made");
}

#[cfg(test)]
mod tests;
