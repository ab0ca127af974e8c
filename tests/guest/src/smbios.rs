//! The SMBIOS entry points (SMBIOS 3.7 §5.2) and the structures behind them. On a
//! machine that has none the load options say `no-smbios`.

use crate::calls::Guest;
use crate::configuration;
use crate::images::has_option;
use crate::report::{Area, Failure, Outcome, equal, holds};
use core::ptr;
use r_efi::efi;

pub const AREA: Area = Area {
    name: "4.6 SMBIOS",
    checks: &[("entry points", entry_points), ("structures", structures)],
};

/// An entry point, as 32 bytes: the longest there is.
struct Anchor {
    bytes: [u8; 32],
}

impl Anchor {
    fn find(guest: &Guest, guid: &efi::Guid) -> Option<Self> {
        let table = configuration::find(guest, guid)?;
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: inside the page of the firmware's entry point or the next:
            // 24 bytes at least are its own, all memory is mapped.
            *byte = unsafe { table.cast::<u8>().wrapping_add(i).read() };
        }
        Some(Self { bytes })
    }

    fn sums_up(&self, from: usize, to: usize) -> bool {
        let bytes = self.bytes.get(from..to).unwrap_or(&[1]);
        bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    fn u32(&self, offset: usize) -> u32 {
        let bytes = self.bytes[offset..].first_chunk();
        u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
    }

    fn is_64_bit(&self) -> bool {
        self.bytes.starts_with(b"_SM3_")
    }

    fn check(&self) -> Outcome {
        if self.is_64_bit() {
            return holds("a checksum", self.sums_up(0, self.bytes[6].into()));
        }
        equal("anchor", &self.bytes[..4], b"_SM_")?;
        holds("a checksum", self.sums_up(0, self.bytes[5].into()))?;
        equal("intermediate anchor", &self.bytes[16..21], b"_DMI_")?;
        holds("an intermediate checksum", self.sums_up(16, 31))
    }

    /// Where the structures are, and their size in bytes.
    fn structures(&self) -> (u64, usize) {
        if self.is_64_bit() {
            let address = u64::from(self.u32(16)) | u64::from(self.u32(20)) << 32;
            return (address, self.u32(12) as usize);
        }
        let size = u16::from_le_bytes([self.bytes[22], self.bytes[23]]);
        (self.u32(24).into(), size.into())
    }
}

/// The entry points that are there.
fn anchors(guest: &Guest) -> Result<[Option<Anchor>; 2], Failure> {
    let guids = [efi::SMBIOS_TABLE_GUID, efi::SMBIOS3_TABLE_GUID];
    let anchors = guids.map(|guid| Anchor::find(guest, &guid));
    let found = anchors.iter().any(Option::is_some);
    equal("SMBIOS tables", found, !has_option(guest, "no-smbios"))?;
    Ok(anchors)
}

fn entry_points(guest: &Guest) -> Outcome {
    anchors(guest)?.iter().flatten().try_for_each(Anchor::check)
}

fn structures(guest: &Guest) -> Outcome {
    for anchor in anchors(guest)?.iter().flatten() {
        let (address, size) = anchor.structures();
        holds("structures of some size", size > 4)?;
        let start = ptr::with_exposed_provenance::<[u8; 4]>(address as usize);
        // SAFETY: the first structure's header, in the firmware's memory.
        let [ty, length, ..] = unsafe { start.read() };
        holds("a first structure of a known type", ty <= 127 || ty == 221)?;
        holds(
            "a header in the first structure",
            (4..=size).contains(&length.into()),
        )?;
    }
    Ok(())
}
