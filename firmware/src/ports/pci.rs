//! PCI configuration space through ports 0xCF8 and 0xCFC (PCI Local Bus 3.0
//! §3.2.2.3.2).

use super::{read, write};
use ovmf_lite_services::pci::{Configuration, Function};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

/// The way to configuration space that every PC has.
pub struct Ports;

fn select(at: Function, register: u8) {
    let address = 0x8000_0000
        | u32::from(at.bus) << 16
        | u32::from(at.device) << 11
        | u32::from(at.function) << 8
        | u32::from(register & !3);
    write(ADDRESS, address);
}

impl Configuration for Ports {
    #[inline(never)]
    fn read(&mut self, at: Function, register: u8) -> u32 {
        select(at, register);
        read(DATA)
    }

    #[inline(never)]
    fn write(&mut self, at: Function, register: u8, value: u32) {
        select(at, register);
        write(DATA, value);
    }
}

impl Ports {
    /// Reads one byte.
    pub fn read_u8(&mut self, at: Function, register: u8) -> u8 {
        select(at, register);
        read(DATA + u16::from(register & 3))
    }

    /// Writes one byte.
    #[inline(never)]
    pub fn write_u8(&mut self, at: Function, register: u8, value: u8) {
        select(at, register);
        write(DATA + u16::from(register & 3), value);
    }
}
