//! What the image remembers between calls.
//!
//! Promises that no call waits for another: [`lock`] fails instead. An
//! operating system may call from a panic or NMI handler while the interrupted
//! code holds the lock, and would hang for ever.

use crate::disk::{Image, Place};
use crate::flash::Flash;
use crate::remote::Bell;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use ovmf_lite_services::resident::{self, Handoff, Listener, MAX_LISTENERS, Machine, Reset, Store};
use ovmf_lite_services::variables::remote::Event;
use ovmf_lite_services::variables::{Layout, Opened, Phase, Storage, Variables, Volume};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use uefi_raw::Status;
use uefi_raw::table::runtime::VariableAttributes;
use uefi_raw::time::{Daylight, Time};

/// Bytes of variable storage in memory: 64 KiB and the headers. Linux refuses to
/// write a variable that leaves less than 5 KiB free (`EFI_MIN_RESERVE`); `db`
/// and `dbx` take some 20 KiB.
pub const STORAGE: usize = 68 * 1024;

/// What services change, one at a time.
pub struct State {
    /// All variables, unless it is the host that keeps them.
    pub variables: Variables<Place, STORAGE>,
    /// How the host that keeps them is told to look: at the memory that
    /// `variables` then has no use for.
    pub host: Option<Bell>,
    /// What SetTime said and the clock has no registers for.
    pub zone: Option<Zone>,
    /// The high half of the monotonic counter; 0 when nobody has asked yet.
    pub high: u32,
    /// The low half of the next count; none where the high half has to grow first.
    pub low: Option<u32>,
}

/// The part of a time that says how it relates to UTC.
#[derive(Clone, Copy)]
pub struct Zone {
    /// `EFI_TIME.TimeZone`.
    pub time_zone: i16,
    /// `EFI_TIME.Daylight`.
    pub daylight: Daylight,
}

impl From<&Time> for Zone {
    fn from(time: &Time) -> Self {
        Self {
            time_zone: time.time_zone,
            daylight: time.daylight,
        }
    }
}

/// What the firmware told.
#[derive(Clone, Copy)]
struct Told {
    machine: Machine,
    image_size: u64,
}

/// A value that is written at boot and by SetVirtualAddressMap only.
///
/// All bytes are zero at first, so that it takes no room in the image file.
#[repr(transparent)]
pub struct Resident<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: both writers run alone. The firmware enters the image on one processor
// before it shows anybody a table, and the caller of SetVirtualAddressMap
// guarantees that no other runtime service is active (UEFI 2.11 §8.1).
unsafe impl<T> Sync for Resident<T> {}

impl<T> Resident<T> {
    /// All bytes zero.
    pub const fn zeroed() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    /// Where it lies, in the mapping this code runs in.
    pub const fn get(&self) -> *mut T {
        self.0.get().cast()
    }
}

static STATE: SpinMutex<State> = SpinMutex::new(State {
    variables: Variables::new(),
    host: None,
    zone: None,
    high: 0,
    low: None,
});
static TOLD: Resident<Told> = Resident::zeroed();
static LISTENERS: Resident<[Listener; MAX_LISTENERS]> = Resident::zeroed();
static AT_RUNTIME: AtomicBool = AtomicBool::new(false);

/// Remembers what the firmware told, and opens the store for variables.
pub fn init(handoff: &mut Handoff) {
    let Handoff {
        machine,
        image_size,
        ..
    } = *handoff;
    let told = Told {
        machine,
        image_size,
    };
    // SAFETY: only the entry point calls this, before any table is public.
    unsafe { TOLD.get().write(told) };
    if let Ok(mut state) = lock() {
        handoff.store = open(&mut state, &machine, handoff.disk);
        handoff.out_of_room = state.variables.out_of_room();
        handoff.crowded = state.variables.crowded();
    }
}

fn open(state: &mut State, machine: &Machine, disk: resident::Disk) -> Store {
    let Some(host) = Bell::new(machine.host, &mut state.variables) else {
        return open_local(state, machine.flash, disk);
    };
    state.host = Some(host);
    // It has to understand one question before it gets the others.
    let attributes = VariableAttributes::BOOTSERVICE_ACCESS;
    if host.open().is_ok() && state.info(Phase::Boot, attributes).is_ok() {
        return Store::HOST;
    }
    state.host = None;
    let _ = state.variables.open(None);
    state.variables.publish();
    Store::SILENT_HOST
}

fn open_local(state: &mut State, flash: resident::Flash, disk: resident::Disk) -> Store {
    let flash = Flash::new(flash).map(Place::Flash);
    let place = flash.or_else(|| Image::new(disk).map(Place::Disk));
    let size = place.as_ref().map(|place| place.bytes().len());
    let layout = size.and_then(Layout::of_flash);
    let volume = place.zip(layout);
    let used = volume.is_some();
    let volume = volume.map(|(place, layout)| Volume::new(place, layout));
    let opened = state.variables.open(volume);
    state.variables.publish();
    match opened {
        _ if size.is_none() => Store::MEMORY,
        _ if !used => Store::UNKNOWN_SIZE,
        Ok(Opened::Kept) => Store::KEPT,
        Ok(Opened::Resumed) => Store::RESUMED,
        Ok(Opened::Formatted) => Store::FORMATTED,
        Err(_) => Store::READ_ONLY,
    }
}

fn told() -> Told {
    // SAFETY: written by the entry point and by SetVirtualAddressMap, which runs
    // alone.
    unsafe { TOLD.get().read() }
}

/// The machine.
pub fn machine() -> Machine {
    told().machine
}

/// Size of this image in memory, in bytes.
pub fn image_size() -> u64 {
    told().image_size
}

/// SetVirtualAddressMap says where the registers of `reset`, the flash and the
/// host that keeps variables are from now on.
///
/// # Safety
/// Only SetVirtualAddressMap calls this: see [`Resident`].
pub unsafe fn move_devices(reset: Reset, flash: u64, host: u64) {
    let mut told = told();
    told.machine.reset = reset;
    told.machine.flash.address = flash;
    told.machine.host.address = host;
    if let Ok(mut state) = lock() {
        if let Some(Place::Flash(used)) = state.variables.flash_mut() {
            used.move_to(flash);
        }
        if let Some(used) = &mut state.host {
            used.move_to(host);
        }
    }
    // SAFETY: the caller runs alone.
    unsafe { TOLD.get().write(told) };
}

/// The state, if nobody else is using it.
pub fn lock() -> Result<SpinMutexGuard<'static, State>, Status> {
    STATE.try_lock().ok_or(Status::DEVICE_ERROR)
}

/// Whether ExitBootServices has succeeded.
pub fn phase() -> Phase {
    if AT_RUNTIME.load(Ordering::Relaxed) {
        Phase::Runtime
    } else {
        Phase::Boot
    }
}

/// The firmware says that ExitBootServices has succeeded, and who wants to know of
/// SetVirtualAddressMap.
pub unsafe extern "efiapi" fn exit_boot_services(listeners: *const Listener, count: usize) {
    for index in 0..count.min(MAX_LISTENERS) {
        // SAFETY: the firmware has so many, and calls this once, on the one
        // processor that runs.
        let listener = unsafe { listeners.wrapping_add(index).read() };
        let place = LISTENERS.get().cast::<Listener>().wrapping_add(index);
        // SAFETY: inside the array, by the limit above.
        unsafe { place.write(listener) };
    }
    if let Ok(mut state) = lock() {
        state.variables.exit_boot_services();
    }
    AT_RUNTIME.store(true, Ordering::Relaxed);
    tell(Event::ExitBootServices);
}

/// The firmware says that an operating system is about to be started.
pub unsafe extern "efiapi" fn ready_to_boot() {
    tell(Event::ReadyToBoot);
}

fn tell(event: Event) {
    if let Ok(mut state) = lock() {
        state.tell(event);
    }
}

/// Who wants to know of SetVirtualAddressMap.
pub fn listeners() -> [Listener; MAX_LISTENERS] {
    // SAFETY: written by `exit_boot_services` only; zero is none.
    unsafe { LISTENERS.get().read() }
}
