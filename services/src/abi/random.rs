//! Random numbers (UEFI 2.11 §37.5), from the processor's own generator; without
//! one there is no protocol.
//!
//! RDSEED gives what the specification calls raw; RDRAND's generator is that of
//! SP 800-90A with AES in counter mode (Intel SDM vol. 1 §7.3.17).
//!
//! Coverage, protocols:
//!
//! | EFI_RNG_PROTOCOL | 37.5 | a handle of its own, if the processor has RDRAND or RDSEED | RDRAND as SP 800-90 CTR-256, RDSEED as raw |

use super::{Alleged, machine, protocols, status, trace};
use crate::boot::Fill;
use crate::catalog::{self, Service};
use crate::guids::same;
use crate::handles::Interface;
use uefi_raw::Status;
use uefi_raw::protocol::rng::{RngAlgorithmType, RngProtocol};

static RANDOM: RngProtocol = RngProtocol { get_info, get_rng };

/// Puts the protocol into the handle database, if the processor has a generator.
pub fn publish() -> Result<(), Status> {
    if known()?.iter().all(Option::is_none) {
        return Ok(());
    }
    let random = trace::published(&raw const RANDOM, catalog::RNG, 2);
    let random = Interface(random.expose_provenance());
    protocols::publish(&[(RngProtocol::GUID, random)]).map(drop)
}

/// What [`Fill`]s there may be for, the default first.
static ALGORITHMS: [RngAlgorithmType; 2] = [
    RngAlgorithmType::ALGORITHM_SP800_90_CTR_256,
    RngAlgorithmType::ALGORITHM_RAW,
];

fn known() -> Result<[Option<Fill>; 2], Status> {
    machine(Service::Firmware).map(|machine| machine.random)
}

#[cold]
unsafe extern "efiapi" fn get_info(
    _this: *mut RngProtocol,
    size: *mut usize,
    list: *mut RngAlgorithmType,
) -> Status {
    // SAFETY: IN OUT, the caller's promise.
    let size = unsafe { Alleged::new(size) };
    // SAFETY: OUT, the caller's promise.
    let list = unsafe { Alleged::new(list) };
    status::of(size.read().and_then(|room| {
        let known = known()?;
        let count = known.iter().flatten().count();
        let needed = count.saturating_mul(size_of::<RngAlgorithmType>());
        size.write(needed)?;
        if room < needed {
            return Err(Status::BUFFER_TOO_SMALL);
        }
        let mut place = list;
        for (algorithm, fill) in ALGORITHMS.iter().zip(known) {
            if fill.is_some() {
                place.write(*algorithm)?;
                place = place.at(1)?;
            }
        }
        Ok(())
    }))
}

unsafe extern "efiapi" fn get_rng(
    _this: *mut RngProtocol,
    algorithm: *const RngAlgorithmType,
    length: usize,
    buffer: *mut u8,
) -> Status {
    // SAFETY: IN, the caller's promise.
    let algorithm = unsafe { Alleged::new(algorithm) };
    // SAFETY: OUT, the caller's promise.
    let buffer = unsafe { Alleged::new(buffer) };
    if length == 0 || buffer.is_null() {
        return Status::INVALID_PARAMETER;
    }
    let wanted = algorithm.read().ok();
    status::of(known().and_then(|known| {
        for (algorithm, fill) in ALGORITHMS.iter().zip(known) {
            let meant = wanted.is_none_or(|wanted| same(&wanted.0, &algorithm.0));
            if let Some(fill) = fill.filter(|_| meant) {
                let filled = fill(buffer.bytes_mut(length)?);
                return filled.then_some(()).ok_or(Status::NOT_READY);
            }
        }
        Err(Status::UNSUPPORTED)
    }))
}
