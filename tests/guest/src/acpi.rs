//! The ACPI tables, from the RSDP down (ACPI 6.5 §5.2).

use crate::calls::Guest;
use crate::configuration;
use crate::map::Map;
use crate::report::{Area, Failure, Outcome, equal, holds};
use core::ptr;
use r_efi::efi;

pub const AREA: Area = Area {
    name: "4.6 ACPI",
    checks: &[
        ("RSDP", rsdp),
        ("root table and all tables in it", root_table),
        ("FADT, and the DSDT it names", fadt),
        ("the tables stay after boot", in_memory_map),
    ],
};

/// Size of the header that all tables but the RSDP begin with.
const HEADER: usize = 36;

/// A table at an address; every read is of bytes that its length covers.
#[derive(Clone, Copy)]
struct Table(*const u8);

impl Table {
    fn at(address: u64) -> Self {
        Self(ptr::with_exposed_provenance(address as usize))
    }

    fn bytes<const N: usize>(self, offset: usize) -> [u8; N] {
        // SAFETY: the tables are the firmware's, mapped, and long enough for
        // their headers; beyond, callers stay below `length`.
        unsafe { self.0.wrapping_add(offset).cast::<[u8; N]>().read() }
    }

    fn u32(self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    fn u64(self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }

    fn length(self) -> usize {
        self.u32(4) as usize
    }

    /// Whether the first `length` bytes sum up to 0.
    fn sums_up(self, length: usize) -> bool {
        (0..length).fold(0_u8, |sum, i| sum.wrapping_add(self.bytes::<1>(i)[0])) == 0
    }

    /// Checks length and checksum of a table with the usual header.
    fn check(self) -> Outcome {
        let name = self.bytes::<4>(0);
        let name = core::str::from_utf8(&name).unwrap_or("????");
        let length = self.length();
        if !(HEADER..0x10_0000).contains(&length) {
            return Err(Failure::new(format_args!(
                "{name}: found length {length:#x}"
            )));
        }
        if !self.sums_up(length) {
            return Err(Failure::new(format_args!("{name}: found a wrong checksum")));
        }
        Ok(())
    }
}

/// The RSDP, and the root table it leads to with the size of its entries.
struct Root {
    rsdp: Table,
    table: Table,
    width: usize,
    signature: [u8; 4],
}

/// The RSDP of ACPI 2.0 with its XSDT or, where the host has none, that of ACPI
/// 1.0 with its RSDT (UEFI 2.11 §4.6.1).
fn root(guest: &Guest) -> Result<Root, Failure> {
    if let Some(rsdp) = configuration::find(guest, &efi::ACPI_20_TABLE_GUID) {
        let rsdp = Table(rsdp.cast());
        return Ok(Root {
            rsdp,
            table: Table::at(rsdp.u64(24)),
            width: 8,
            signature: *b"XSDT",
        });
    }
    let Some(rsdp) = configuration::find(guest, &efi::ACPI_10_TABLE_GUID) else {
        return Err(Failure::new(format_args!("expected an RSDP, found none")));
    };
    let rsdp = Table(rsdp.cast());
    Ok(Root {
        rsdp,
        table: Table::at(rsdp.u32(16).into()),
        width: 4,
        signature: *b"RSDT",
    })
}

impl Root {
    /// The tables that the root table lists.
    fn listed(&self) -> impl Iterator<Item = Table> {
        let (table, width) = (self.table, self.width);
        (HEADER..table.length())
            .step_by(width)
            .map(move |offset| match width {
                8 => Table::at(table.u64(offset)),
                _ => Table::at(table.u32(offset).into()),
            })
    }
}

/// The RSDP is there and whole.
pub fn rsdp(guest: &Guest) -> Outcome {
    let Root { rsdp, width, .. } = root(guest)?;
    equal("signature", rsdp.bytes(0), *b"RSD PTR ")?;
    holds("a checksum over 20 bytes", rsdp.sums_up(20))?;
    let revision = rsdp.bytes::<1>(15)[0];
    if width == 4 {
        return equal("revision", revision, 0);
    }
    holds("revision 2 or later", revision >= 2)?;
    let length = rsdp.u32(20);
    equal("length", length, 36)?;
    holds("a checksum over all", rsdp.sums_up(length as usize))
}

fn root_table(guest: &Guest) -> Outcome {
    let root = root(guest)?;
    equal("signature", root.table.bytes(0), root.signature)?;
    root.table.check()?;
    holds("one table or more", root.table.length() > HEADER)?;
    root.listed().try_for_each(Table::check)
}

fn fadt(guest: &Guest) -> Outcome {
    const DSDT: usize = 40;
    const X_DSDT: usize = 140;
    let Some(fadt) = root(guest)?.listed().find(|t| t.bytes(0) == *b"FACP") else {
        return Err(Failure::new(format_args!("expected a FADT, found none")));
    };
    let wide = if fadt.length() >= X_DSDT + 8 {
        fadt.u64(X_DSDT)
    } else {
        0
    };
    let address = if wide == 0 {
        u64::from(fadt.u32(DSDT))
    } else {
        wide
    };
    let dsdt = Table::at(address);
    equal("signature", dsdt.bytes(0), *b"DSDT")?;
    dsdt.check()
}

fn in_memory_map(guest: &Guest) -> Outcome {
    let mut map = Map::new();
    map.fetch(guest)?;
    let kept = |table: Table| {
        let ty = map.at(table.0.addr() as u64).map(|d| d.r#type);
        let lost = matches!(
            ty,
            Some(efi::LOADER_CODE..=efi::BOOT_SERVICES_DATA | efi::CONVENTIONAL_MEMORY)
        );
        holds("memory that the OS does not take", !lost)
    };
    let root = root(guest)?;
    kept(root.rsdp)?;
    kept(root.table)?;
    root.listed().try_for_each(kept)
}
