//! Interrupt pins to interrupt lines, as the boards QEMU emulates are wired.
//!
//! The line is what legacy software uses with the 8259; an ACPI system takes
//! the wiring from `_PRT`.

/// Lines of the four PCI interrupt links: what QEMU's ACPI tables allow and
/// SeaBIOS chooses (QEMU `hw/i386/acpi-build.c`, `build_link_dev`).
pub const LINES: [u8; 4] = [10, 10, 11, 11];

/// How the root bus is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// QEMU's `pc`: the link of a pin moves on by one from slot to slot, and
    /// slot 1 begins (QEMU `hw/isa/piix3.c`).
    Piix3,
    /// QEMU's `q35`: slots 0 to 24 alternate, the ones behind do not (QEMU
    /// `hw/isa/lpc_ich9.c`).
    Ich9,
}

impl Routing {
    /// The line of a pin, 0 for INTA, of a device on the root bus.
    pub(super) fn line(self, device: u8, pin: u8) -> u8 {
        let shift = match self {
            Self::Piix3 => device.wrapping_sub(1),
            Self::Ich9 if device < 25 => device,
            Self::Ich9 => 0,
        };
        let [a, b, c, d] = LINES;
        match swizzle(shift, pin) {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }
}

/// The pin at which a bridge shows the interrupt of a device behind it
/// (PCI-to-PCI Bridge 1.2 §9.1).
pub(super) fn swizzle(device: u8, pin: u8) -> u8 {
    device.wrapping_add(pin) & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pc_begins_with_slot_1() {
        let lines: Vec<u8> = (1..5).map(|slot| Routing::Piix3.line(slot, 0)).collect();
        assert_eq!(lines, LINES);
        assert_eq!(Routing::Piix3.line(3, 1), LINES[3]);
        assert_eq!(Routing::Piix3.line(0, 0), LINES[3]);
    }

    #[test]
    fn q35_alternates_up_to_slot_24() {
        assert_eq!(Routing::Ich9.line(2, 0), LINES[2]);
        assert_eq!(Routing::Ich9.line(3, 1), LINES[0]);
        assert_eq!(Routing::Ich9.line(31, 2), LINES[2]);
        assert_eq!(Routing::Ich9.line(26, 0), LINES[0]);
    }
}
