//! The host's table loader script: any sequence of commands is carried out or
//! refused, and touches nothing but the files it allocated.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ovmf_lite_services::tables::loader::{Blob, Host, HostError, run};

/// Size of a file, and how many of them there is room for.
const SIZE: usize = 256;
const FILES: usize = 3;
/// More names than room.
const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b""];

/// A command whose names have a chance to be known.
#[derive(Arbitrary, Debug)]
struct Command {
    number: u8,
    files: [u8; 2],
    numbers: [u8; 16],
}

impl Command {
    fn bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[0] = self.number % 6;
        let [first, second] = self
            .files
            .map(|file| NAMES[usize::from(file) % NAMES.len()]);
        bytes[4..4 + first.len()].copy_from_slice(first);
        // Commands 2 and 4 name a second file; the others go on with numbers.
        let numbers = if matches!(self.number % 6, 2 | 4) {
            bytes[60..60 + second.len()].copy_from_slice(second);
            116
        } else {
            60
        };
        let room = &mut bytes[numbers..];
        let length = room.len().min(self.numbers.len());
        room[..length].copy_from_slice(&self.numbers[..length]);
        bytes
    }
}

struct Memory<'a> {
    free: Vec<&'a mut [u8]>,
    address: u64,
}

impl<'a> Host<'a> for Memory<'a> {
    fn place(&mut self, _: &[u8], alignment: u64) -> Result<Blob<'a>, HostError> {
        assert!(alignment.is_power_of_two());
        let bytes = self.free.pop().ok_or(HostError::NoMemory)?;
        self.address += 0x1000;
        Ok(Blob {
            address: self.address,
            bytes,
            used: 0,
        })
    }

    fn write(&mut self, _: &[u8], _: u32, bytes: &mut [u8]) -> Result<(), HostError> {
        assert!(matches!(bytes.len(), 1 | 2 | 4 | 8));
        Ok(())
    }
}

fuzz_target!(|input: (Vec<Command>, Vec<u8>)| {
    let (commands, tail) = input;
    let mut script: Vec<u8> = commands.iter().flat_map(Command::bytes).collect();
    script.extend(tail);
    let mut files = vec![[0; SIZE]; FILES];
    let mut host = Memory {
        free: files.iter_mut().map(|file| &mut file[..]).collect(),
        address: 0,
    };
    if let Err(error) = run(&script, &mut host) {
        assert!(error.index <= script.len() / 128);
        assert!(!error.to_string().is_empty());
    }
});
