//! What Xen says about the time, in the page it shares with each domain (Xen
//! `xen/include/public/xen.h`, `struct shared_info` of 64-bit guests).
//!
//! The wall clock there is the time at which the domain's system time was 0; the
//! system time follows from the time stamp counter. Refuses a page that is being
//! written, and one that nobody has written.

use crate::physical::Physical;
use crate::resident::Moment;
use crate::tables::get;

/// Offset of `vcpu_info[0].time`, and the length of a `vcpu_time_info`.
const VCPU_TIME: (u64, usize) = (32, 32);
/// Offset of `wc_version`, and the length up to `wc_sec_hi`.
const WALLCLOCK: (u64, usize) = (0xc00, 16);
const NANOSECONDS: u64 = 1_000_000_000;
/// How often a structure is read before it is given up as never quiet.
const TRIES: u32 = 1000;

/// The time now, in the domain whose shared information lies at `address` of
/// `memory`. `tsc` reads the time stamp counter, which counts `tsc_khz`.
pub fn moment(
    memory: &dyn Physical,
    address: u64,
    tsc_khz: u32,
    tsc: impl Fn() -> u64,
) -> Option<Moment> {
    let wallclock = quiet(memory, address.checked_add(WALLCLOCK.0)?, WALLCLOCK.1)?;
    let time = quiet(memory, address.checked_add(VCPU_TIME.0)?, VCPU_TIME.1)?;
    let seconds = get(&wallclock, 4, 4)? | get(&wallclock, 12, 4)? << 32;
    let now = tsc();
    let passed = system_time(&time, now)?.checked_add(get(&wallclock, 8, 4)?)?;
    // Nobody has written the wall clock: it does not start in 1970.
    if seconds == 0 {
        return None;
    }
    Some(Moment {
        seconds: seconds.checked_add(passed / NANOSECONDS)?,
        nanoseconds: u32::try_from(passed % NANOSECONDS).ok()?,
        tsc: now,
        tsc_khz,
    })
}

/// The bytes of a structure that begins with its version: one that is odd while
/// somebody writes, and another after.
#[cold]
fn quiet(memory: &dyn Physical, address: u64, length: usize) -> Option<alloc::vec::Vec<u8>> {
    (0..TRIES).find_map(|_| {
        let bytes = memory.bytes(address, length)?;
        let after = memory.bytes(address, 4)?;
        let version = get(&bytes, 0, 4)?;
        (version % 2 == 0 && get(&after, 0, 4)? == version).then_some(bytes)
    })
}

/// The system time at time stamp `tsc`, in nanoseconds, by a `vcpu_time_info`.
#[cold]
fn system_time(time: &[u8], tsc: u64) -> Option<u64> {
    // A stamp from before the domain began, whose counter started at 0, is below
    // 0, and that is a large number here.
    let delta = tsc.wrapping_sub(get(time, 8, 8)?);
    let delta = u128::from(u64::try_from(delta.cast_signed()).ok()?);
    let shift = i32::from(i8::from_le_bytes([u8::try_from(get(time, 28, 1)?).ok()?]));
    let scaled = match u32::try_from(shift) {
        Ok(left) if left < 32 => delta.checked_shl(left)?,
        Ok(_) => return None,
        Err(_) => delta.checked_shr(shift.unsigned_abs()).unwrap_or_default(),
    };
    let nanoseconds = scaled.checked_mul(u128::from(get(time, 24, 4)?))? >> 32;
    get(time, 16, 8)?.checked_add(u64::try_from(nanoseconds).ok()?)
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use crate::physical::Bytes;

    const PAGE: u64 = 0xfef0_0000;

    /// A page of a machine with 2 GHz: scaled by 1/2, as Xen does it.
    fn page() -> Vec<u8> {
        let mut page = vec![0; 4096];
        let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
        put(40, &1_000_u64.to_le_bytes());
        put(48, &7_500_000_000_u64.to_le_bytes());
        put(56, &0x8000_0000_u32.to_le_bytes());
        put(0xc00, &2_u32.to_le_bytes());
        put(0xc04, &1_800_000_000_u32.to_le_bytes());
        put(0xc08, &600_000_000_u32.to_le_bytes());
        page
    }

    fn read(page: &[u8], tsc: u64) -> Option<Moment> {
        let bytes = Bytes {
            address: PAGE,
            bytes: page,
        };
        moment(&bytes, PAGE, 2_000_000, || tsc)
    }

    #[test]
    fn wall_clock_and_system_time_add_up() {
        let found = read(&page(), 1_000 + 2_000_000_000).unwrap();
        let expected = Moment {
            seconds: 1_800_000_009,
            nanoseconds: 100_000_000,
            tsc: 2_000_001_000,
            tsc_khz: 2_000_000,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn scales_go_both_ways() {
        let mut page = page();
        page[60] = 0xff; // a shift by -1
        page[56..60].copy_from_slice(&0xffff_ffff_u32.to_le_bytes());
        let slower = read(&page, 1_000 + 2_000_000_000).unwrap();
        assert_eq!(
            (slower.seconds, slower.nanoseconds),
            (1_800_000_009, 99_999_999)
        );
        page[60] = 1;
        let faster = read(&page, 1_000 + 2_000_000_000).unwrap();
        assert_eq!(faster.seconds, 1_800_000_012);
    }

    #[test]
    fn the_second_century_after_1970_has_more_bits() {
        let mut page = page();
        page[0xc0c] = 1;
        assert_eq!(
            read(&page, 1_000).unwrap().seconds,
            (1 << 32) + 1_800_000_008
        );
    }

    #[test]
    fn stamps_may_be_older_than_the_domain() {
        let mut page = page();
        page[40..48].copy_from_slice(&(-2_000_000_000_i64).to_le_bytes());
        let found = read(&page, 0).unwrap();
        assert_eq!(
            (found.seconds, found.nanoseconds),
            (1_800_000_009, 100_000_000)
        );
    }

    #[test]
    fn pages_that_are_written_or_never_were_are_refused() {
        let mut busy = page();
        busy[0xc00] = 1;
        assert_eq!(read(&busy, 1_000), None);
        assert_eq!(read(&[0; 4096], 1_000), None);
        assert_eq!(read(&page(), 999), None);
        let mut wild = page();
        wild[60] = 0x7f;
        assert_eq!(read(&wild, 2_000), None);
    }
}
