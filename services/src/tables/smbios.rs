//! SMBIOS entry points: both forms, told where their structure table lies (DMTF
//! DSP0134 3.7 §5.2).
//!
//! Coverage, configuration tables:
//!
//! | SMBIOS or SMBIOS 3.0 | 4.6.1 | fw_cfg, or what is found in 0xE0000 to 0xFFFFF after a PVH loader or hvmloader; Xen PVH domains have none |

use super::{BIOS_AREA_ALIGNMENT, checksum, get, put};
use core::fmt;
use core::ops::Range;
use uefi_raw::{Guid, guid};

/// `SMBIOS_TABLE_GUID`: the 32-bit entry point, `_SM_`.
const SMBIOS_TABLE: Guid = guid!("eb9d2d31-2d88-11d3-9a16-0090273fc14d");
/// `SMBIOS3_TABLE_GUID`: the 64-bit entry point, `_SM3_`.
const SMBIOS3_TABLE: Guid = guid!("f2fd1544-9794-4a2c-992e-e5bbcf20e394");
/// Length of a 64-bit entry point in bytes.
const LENGTH_64: usize = 24;
/// The intermediate anchor `_DMI_` of a 32-bit one, with its own checksum.
const INTERMEDIATE: Range<usize> = 16..31;

/// Why an entry point cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither `_SM_` nor `_SM3_`, or shorter than its own length.
    Anchor,
    /// A 32-bit entry point cannot name this address.
    Address(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchor => write!(f, "expected an SMBIOS entry point, _SM_ or _SM3_"),
            Self::Address(address) => {
                write!(f, "expected a table below 4 GiB, found it at {address:#x}")
            }
        }
    }
}

/// Finds an entry point whose checksums are right in `area`, a copy of
/// [`BIOS_AREA`](super::BIOS_AREA) (§5.2.1); its offset, and the GUID it is
/// published under. The 64-bit one comes first where there are two.
#[must_use]
#[cold]
pub fn find(area: &[u8]) -> Option<(usize, Guid)> {
    let find = |valid: fn(&[u8]) -> Option<bool>| {
        let mut offsets = (0..area.len()).step_by(BIOS_AREA_ALIGNMENT);
        offsets.find(|at| area.get(*at..).and_then(valid) == Some(true))
    };
    let first = find(valid_64).map(|at| (at, SMBIOS3_TABLE));
    first.or_else(|| find(valid_32).map(|at| (at, SMBIOS_TABLE)))
}

/// Whether `bytes` begin with a 64-bit entry point.
#[cold]
fn valid_64(bytes: &[u8]) -> Option<bool> {
    let length = usize::from(*bytes.get(6)?);
    let anchor = bytes.get(..length)?;
    Some(anchor.starts_with(b"_SM3_") && length >= LENGTH_64 && checksum(anchor) == 0)
}

/// Whether `bytes` begin with a 32-bit entry point and its intermediate one.
#[cold]
fn valid_32(bytes: &[u8]) -> Option<bool> {
    let length = usize::from(*bytes.get(5)?);
    let (anchor, inner) = (bytes.get(..length)?, bytes.get(INTERMEDIATE)?);
    let known = anchor.starts_with(b"_SM_") && inner.starts_with(b"_DMI_");
    // Version 2.1 of the specification says 30 where there are 31 bytes.
    Some(known && length >= 30 && checksum(anchor) == 0 && checksum(inner) == 0)
}

/// Points the entry point in `anchor` to a structure table at `address`,
/// renews its checksums and returns the GUID it is published under.
pub fn relocate(anchor: &mut [u8], address: u64) -> Result<Guid, Error> {
    if anchor.starts_with(b"_SM3_") {
        relocate_64(anchor, address).ok_or(Error::Anchor)?;
        return Ok(SMBIOS3_TABLE);
    }
    if !anchor.starts_with(b"_SM_") {
        return Err(Error::Anchor);
    }
    if address > u64::from(u32::MAX) {
        return Err(Error::Address(address));
    }
    relocate_32(anchor, address).ok_or(Error::Anchor)?;
    Ok(SMBIOS_TABLE)
}

fn relocate_64(anchor: &mut [u8], address: u64) -> Option<()> {
    put(anchor, 16, 8, address)?;
    let length = usize::try_from(get(anchor, 6, 1)?).ok()?;
    seal(anchor.get_mut(..length)?, 5)
}

fn relocate_32(anchor: &mut [u8], address: u64) -> Option<()> {
    put(anchor, 24, 4, address)?;
    seal(anchor.get_mut(INTERMEDIATE)?, 5)?;
    let length = usize::try_from(get(anchor, 5, 1)?).ok()?;
    seal(anchor.get_mut(..length)?, 4)
}

/// Sets the checksum byte at `offset` so that all of `bytes` sum to 0.
fn seal(bytes: &mut [u8], offset: usize) -> Option<()> {
    *bytes.get_mut(offset)? = 0;
    let sum = checksum(bytes);
    *bytes.get_mut(offset)? = sum;
    Some(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    fn sums_to_zero(bytes: &[u8]) -> bool {
        checksum(bytes) == 0
    }

    #[test]
    fn both_entry_points_are_relocated_and_sealed() {
        let mut anchor = [0u8; 31];
        anchor[..4].copy_from_slice(b"_SM_");
        anchor[5] = 31;
        anchor[16..21].copy_from_slice(b"_DMI_");
        assert_eq!(relocate(&mut anchor, 0x1234_5678), Ok(SMBIOS_TABLE));
        assert_eq!(anchor[24..28], 0x1234_5678u32.to_le_bytes());
        assert!(sums_to_zero(&anchor) && sums_to_zero(&anchor[16..31]));

        let mut anchor = [0u8; 24];
        anchor[..5].copy_from_slice(b"_SM3_");
        anchor[6] = 24;
        assert_eq!(relocate(&mut anchor, 0x1_2345_6789), Ok(SMBIOS3_TABLE));
        assert_eq!(anchor[16..24], 0x1_2345_6789u64.to_le_bytes());
        assert!(sums_to_zero(&anchor));
    }

    /// An entry point of each kind, sealed.
    fn anchors() -> ([u8; 31], [u8; 24]) {
        let (mut first, mut second) = ([0u8; 31], [0u8; 24]);
        first[..4].copy_from_slice(b"_SM_");
        first[5] = 31;
        first[16..21].copy_from_slice(b"_DMI_");
        second[..5].copy_from_slice(b"_SM3_");
        second[6] = 24;
        assert!(relocate(&mut first, 0xe_0000).is_ok());
        assert!(relocate(&mut second, 0xe_0000).is_ok());
        (first, second)
    }

    #[test]
    fn entry_points_are_found_at_paragraphs() {
        let (first, second) = anchors();
        let mut area = vec![0; 0x400];
        area.splice(0x3e0..0x3e0 + 24, second);
        assert_eq!(find(&area), Some((0x3e0, SMBIOS3_TABLE)));
        area.splice(0x20..0x20 + 31, first);
        assert_eq!(find(&area), Some((0x3e0, SMBIOS3_TABLE)));
        area[0x3ea] ^= 1;
        assert_eq!(find(&area), Some((0x20, SMBIOS_TABLE)));
        area[0x3a] ^= 1;
        assert_eq!(find(&area), None);
    }

    #[test]
    fn one_that_is_cut_off_or_shifted_is_none() {
        let (first, second) = anchors();
        for anchor in [&first[..], &second] {
            assert!(find(anchor).is_some());
            assert_eq!(find(&anchor[..anchor.len() - 1]), None);
            assert_eq!(find(&[&[0; 8], anchor].concat()), None);
        }
    }

    #[test]
    fn what_is_no_entry_point_is_refused() {
        assert_eq!(relocate(&mut [], 0), Err(Error::Anchor));
        assert_eq!(
            relocate(&mut *b"_SM_".to_owned().as_mut(), 0),
            Err(Error::Anchor)
        );
        let mut long = [0u8; 31];
        long[..4].copy_from_slice(b"_SM_");
        long[5] = 200;
        assert_eq!(relocate(&mut long, 0), Err(Error::Anchor));
        assert_eq!(relocate(&mut long, 1 << 32), Err(Error::Address(1 << 32)));
    }
}
