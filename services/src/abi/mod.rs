//! The edge: EFI calling convention outside, data structures inside.
//!
//! Promises: every slot of the boot services table is callable; a caller's
//! pointers are read only through [`Alleged`]; no lock is held while foreign
//! code runs. Refuses: re-entry while the lock is held, which can only be a bug
//! in this firmware and stops it with both services named. `Status` exists at
//! this edge and nowhere deeper.

mod alleged;
pub mod console;
mod drivers;
mod events;
pub mod images;
pub mod initrd;
mod input;
mod install;
mod memory;
mod multiple;
mod open;
pub mod protection;
mod protocols;
pub mod random;
mod status;
mod system;
mod table;
mod timers;
mod trace;

pub use alleged::Alleged;
pub use events::ready_to_boot;
pub use memory::{give_back, map as memory_map};
pub use system::{install_configuration_tables, power_off, set_volatile};
pub use trace::configure as configure_trace;

use crate::boot::{Boot, Machine};
use crate::catalog::Service;
use crate::resident::Handoff;
use spin::{Mutex, MutexGuard};
use uefi_raw::Status;
use uefi_raw::table::system::SystemTable;

/// Boot services from [`start`] to ExitBootServices; `None` before and after.
static EDGE: Mutex<Option<Edge>> = Mutex::new(None);
/// The service that holds [`EDGE`], for the message about a re-entry.
static HOLDER: Mutex<Service> = Mutex::new(Service::Firmware);

/// The state and what it stands on.
struct Edge {
    boot: Boot,
    machine: Machine,
    resident: Resident,
}

/// The runtime image, as its entry point described it.
struct Resident(Handoff);

// SAFETY: the pointers lead into the runtime image, which is placed once, never
// moves while boot services exist and is only written under the edge's lock.
unsafe impl Send for Resident {}

/// Opens boot services over `boot`.
///
/// # Safety
/// The output fields of `resident` describe a placed runtime image that stays
/// where it is, and nothing else writes to its system table before
/// ExitBootServices.
pub unsafe fn start(boot: Boot, machine: Machine, resident: Handoff) {
    *EDGE.lock() = Some(Edge {
        boot,
        machine,
        resident: Resident(resident),
    });
    table::publish();
}

/// Runs `call` on the whole edge, for the boot service named `service`.
///
/// `UNSUPPORTED` before [`start`] and after ExitBootServices.
fn with_edge<R>(
    service: Service,
    call: impl FnOnce(&mut Edge) -> Result<R, Status>,
) -> Result<R, Status> {
    call(lock(service)?.0)
}

/// The lock and what it protects: one pointer, where a guard and what is in it
/// would be looked at in each service.
struct Held(&'static mut Edge);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the guard was leaked by `lock`, and the reference ends here.
        unsafe { EDGE.force_unlock() };
    }
}

/// The lock for `service`. Not generic, and so not copied into each of them.
#[inline(never)]
fn lock(service: Service) -> Result<Held, Status> {
    let Some(edge) = EDGE.try_lock() else {
        reentered(service);
    };
    if let Some(mut holder) = HOLDER.try_lock() {
        *holder = service;
    }
    if edge.is_none() {
        return Err(Status::UNSUPPORTED);
    }
    MutexGuard::leak(edge)
        .as_mut()
        .map(Held)
        .ok_or(Status::UNSUPPORTED)
}

#[expect(
    clippy::panic,
    reason = "a re-entry is a bug of this firmware; going on would corrupt its state"
)]
fn reentered(service: Service) -> ! {
    let holder = HOLDER
        .try_lock()
        .map_or("another service", |holder| holder.name());
    let service = service.name();
    panic!("{service} called while {holder} is at work: the lock was held over foreign code");
}

/// Runs `call` on the state behind the boot services.
fn with<R>(
    service: Service,
    call: impl FnOnce(&mut Boot) -> Result<R, Status>,
) -> Result<R, Status> {
    with_edge(service, |edge| call(&mut edge.boot))
}

/// The machine's few functions, to be called without the lock.
fn machine(service: Service) -> Result<Machine, Status> {
    with_edge(service, |edge| Ok(edge.machine))
}

/// The system table, inside the runtime image.
fn system_table(service: Service) -> Result<*mut SystemTable, Status> {
    with_edge(service, |edge| Ok(edge.resident.0.system_table))
}

#[cfg(test)]
mod tests;
