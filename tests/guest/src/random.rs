//! Random numbers (UEFI 2.11 §37.5), where the processor has some.

use crate::calls::Guest;
use crate::report::{Area, Failure, Outcome, equal, holds, status, success};
use crate::tables;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ptr;
use r_efi::efi::protocols::rng::{self, Algorithm, Protocol};
use r_efi::efi::{Guid, Status};

pub const AREA: Area = Area {
    name: "37.5 EFI_RNG_PROTOCOL",
    checks: &[
        ("37.5.1 there is a list of algorithms", list),
        ("37.5.2 numbers differ", differ),
        ("37.5.2 wrong parameters", wrong_parameters),
    ],
};

const RDRAND: u32 = 1 << 30;
const RDSEED: u32 = 1 << 18;
const ROOM: usize = 8;
const NONE: Algorithm = Guid::from_bytes(&[0; 16]);

/// The protocol; none where the processor has no random numbers, or the firmware
/// is another one's, which may do without.
fn protocol(guest: &Guest) -> Result<Option<*mut Protocol>, Failure> {
    let mut interface = ptr::null_mut();
    let guid = &rng::PROTOCOL_GUID;
    let found = guest.locate_protocol(guid, ptr::null_mut(), &mut interface);
    let has = __cpuid(1).ecx & RDRAND != 0 || __cpuid_count(7, 0).ebx & RDSEED != 0;
    if tables::is_ours(guest) {
        holds(
            "a protocol if the processor can",
            has == (found == Status::SUCCESS),
        )?;
    }
    Ok((found == Status::SUCCESS).then_some(interface.cast()))
}

/// The algorithms, and how many there are.
fn algorithms(this: *mut Protocol) -> Result<([Algorithm; ROOM], usize), Failure> {
    let mut list = [NONE; ROOM];
    let mut size = size_of_val(&list);
    // SAFETY: the firmware's protocol.
    let get_info = unsafe { (*this).get_info };
    // SAFETY: as much room as said.
    success("GetInfo", unsafe {
        get_info(this, &mut size, list.as_mut_ptr())
    })?;
    Ok((list, size / size_of::<Algorithm>()))
}

fn get(this: *mut Protocol, algorithm: *const Algorithm, bytes: &mut [u8]) -> Status {
    // SAFETY: the firmware's protocol.
    let get_rng = unsafe { (*this).get_rng };
    // SAFETY: as much room as said.
    unsafe { get_rng(this, algorithm.cast_mut(), bytes.len(), bytes.as_mut_ptr()) }
}

fn list(guest: &Guest) -> Outcome {
    let Some(this) = protocol(guest)? else {
        return Ok(());
    };
    let mut size = 0;
    // SAFETY: the firmware's protocol.
    let get_info = unsafe { (*this).get_info };
    // SAFETY: no room, as said.
    let found = unsafe { get_info(this, &mut size, ptr::null_mut()) };
    status("no room", found, Status::BUFFER_TOO_SMALL)?;
    let (_, count) = algorithms(this)?;
    equal("size", size, count * size_of::<Algorithm>())?;
    holds("an algorithm", count > 0)
}

fn differ(guest: &Guest) -> Outcome {
    let Some(this) = protocol(guest)? else {
        return Ok(());
    };
    let (list, count) = algorithms(this)?;
    let all = list.iter().take(count).map(ptr::from_ref);
    for algorithm in all.chain([ptr::null()]) {
        // No multiple of a word, and one byte that stays.
        let (mut one, mut two) = ([0_u8; 38], [0_u8; 38]);
        success("GetRNG", get(this, algorithm, &mut one[..37]))?;
        success("GetRNG", get(this, algorithm, &mut two[..37]))?;
        holds("numbers that differ", one[..16] != two[..16])?;
        holds("no repetition", one[..8] != one[8..16])?;
        holds("a last byte, in one of them", one[36] != 0 || two[36] != 0)?;
        equal("the byte behind", one[37], 0)?;
    }
    Ok(())
}

fn wrong_parameters(guest: &Guest) -> Outcome {
    let Some(this) = protocol(guest)? else {
        return Ok(());
    };
    let refused = Status::INVALID_PARAMETER;
    status("no bytes", get(this, ptr::null(), &mut []), refused)?;
    let unknown = get(this, &NONE, &mut [0; 8]);
    status("an unknown algorithm", unknown, Status::UNSUPPORTED)?;
    // SAFETY: the firmware's protocol.
    let get_rng = unsafe { (*this).get_rng };
    // SAFETY: null is what is to be refused.
    let found = unsafe { get_rng(this, ptr::null_mut(), 8, ptr::null_mut()) };
    status("no buffer", found, refused)
}
