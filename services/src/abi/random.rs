//! Random numbers (UEFI 2.11 §37.5), from the processor's own generator; without
//! one there is no protocol.
//!
//! RDSEED gives what the specification calls raw; RDRAND's generator is that of
//! SP 800-90A with AES in counter mode (Intel SDM vol. 1 §7.3.17).
//!
//! Coverage, protocols:
//!
//! | EFI_RNG_PROTOCOL | 37.5 | a handle of its own, if the processor has RDRAND or RDSEED | RDRAND as SP 800-90 CTR-256, RDSEED as raw |

use super::{Alleged, machine, status, with_edge};
use crate::boot::Fill;
use crate::handles::Interface;
use alloc::vec::Vec;
use uefi_raw::Status;
use uefi_raw::protocol::rng::{RngAlgorithmType, RngProtocol};

static RANDOM: RngProtocol = RngProtocol { get_info, get_rng };

/// Puts the protocol into the handle database, if the processor has a generator.
pub fn publish() -> Result<(), Status> {
    let address = (&raw const RANDOM).expose_provenance();
    with_edge("random numbers", |edge| {
        if algorithms(&edge.machine.random).is_empty() {
            return Ok(());
        }
        let handles = &mut edge.boot.handles;
        let handle = handles.install(None, RngProtocol::GUID, Interface(address));
        handle.map(drop).map_err(status::from)
    })
}

type Algorithm = (RngAlgorithmType, Fill);

/// What there is, the default first.
fn algorithms([generator, raw]: &[Option<Fill>; 2]) -> Vec<Algorithm> {
    let generator = generator.map(|fill| (RngAlgorithmType::ALGORITHM_SP800_90_CTR_256, fill));
    let raw = raw.map(|fill| (RngAlgorithmType::ALGORITHM_RAW, fill));
    [generator, raw].into_iter().flatten().collect()
}

fn known() -> Result<Vec<Algorithm>, Status> {
    machine("random numbers").map(|machine| algorithms(&machine.random))
}

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
        let needed = known.len().saturating_mul(size_of::<RngAlgorithmType>());
        size.write(needed)?;
        if room < needed {
            return Err(Status::BUFFER_TOO_SMALL);
        }
        list.write_all(known.iter().map(|(algorithm, _)| *algorithm))
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
        let mut all = known.iter();
        let found = all.find(|(algorithm, _)| wanted.is_none_or(|wanted| wanted == *algorithm));
        let (_, fill) = found.ok_or(Status::UNSUPPORTED)?;
        let filled = fill(buffer.bytes_mut(length)?);
        filled.then_some(()).ok_or(Status::NOT_READY)
    }))
}
