//! PCI configuration space through ports 0xCF8 and 0xCFC (PCI Local Bus 3.0
//! §3.2.2.3.2), bus 0 only.

use super::{read, write};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// A function on bus 0.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl Function {
    fn select(self, register: u8) {
        let address = 0x8000_0000
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(register & !3);
        write(ADDRESS, address);
    }

    /// Reads the 4 bytes at `register`, a multiple of 4.
    pub fn read(self, register: u8) -> u32 {
        self.select(register);
        read(DATA)
    }

    /// Writes the 4 bytes at `register`, a multiple of 4.
    pub fn write(self, register: u8, value: u32) {
        self.select(register);
        write(DATA, value);
    }

    /// Writes one byte at `register`.
    pub fn write_u8(self, register: u8, value: u8) {
        self.select(register);
        write(DATA + u16::from(register & 3), value);
    }

    /// Vendor in the low half, device in the high half; all ones when absent.
    pub fn id(self) -> u32 {
        self.read(0)
    }
}
