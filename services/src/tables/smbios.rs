//! SMBIOS entry points: both forms, told where their structure table lies (DMTF
//! DSP0134 3.7 §5.2).

use super::{checksum, get, put};
use core::fmt;
use uefi_raw::{Guid, guid};

/// `SMBIOS_TABLE_GUID`: the 32-bit entry point, `_SM_`.
const SMBIOS_TABLE: Guid = guid!("eb9d2d31-2d88-11d3-9a16-0090273fc14d");
/// `SMBIOS3_TABLE_GUID`: the 64-bit entry point, `_SM3_`.
const SMBIOS3_TABLE: Guid = guid!("f2fd1544-9794-4a2c-992e-e5bbcf20e394");

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
    // The intermediate anchor `_DMI_`, 15 bytes, has a checksum of its own.
    seal(anchor.get_mut(16..31)?, 5)?;
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
