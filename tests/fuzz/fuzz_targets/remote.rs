//! Arbitrary bytes as what a host that keeps variables leaves in the buffer: what
//! a caller then gets is whole, and no more than it has room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_services::variables::remote::{BUFFER, Doorbell, Protocol, Remote, uefi_vars};
use ovmf_lite_services::variables::{Failed, Key, Name, Phase};
use uefi_raw::Guid;
use uefi_raw::table::runtime::VariableAttributes;

/// A host that answers with these, one after the other, and then fails.
struct Liar<'a>(&'a [(u8, Vec<u8>)]);

impl Doorbell for &mut Liar<'_> {
    fn ring(&mut self, buffer: &mut [u8], sent: usize, back: usize) -> Result<(), Failed> {
        assert!(sent <= buffer.len() && back <= buffer.len());
        let ((at, reply), rest) = self.0.split_first().ok_or(Failed)?;
        self.0 = rest;
        let room = buffer.get_mut(usize::from(*at)..).ok_or(Failed)?;
        let length = reply.len().min(room.len());
        room[..length].copy_from_slice(&reply[..length]);
        Ok(())
    }
}

fuzz_target!(|input: (bool, bool, u32, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (varstored, at_boot, number, data, replies) = input;
    let protocol = match varstored {
        true => Protocol::Varstored,
        false => Protocol::UefiVars,
    };
    let phase = match at_boot {
        true => Phase::Boot,
        false => Phase::Runtime,
    };
    let mut host = Liar(&replies);
    let mut buffer = vec![0; BUFFER];
    let name = [b'V', 0, 0, 0];
    let key = Key {
        vendor: Guid::ZERO,
        name: Name::from_buffer(&name).expect("a name that ends in NUL"),
    };
    let room = number as usize;
    let attributes = VariableAttributes::from_bits_retain(number & 0xff);
    for step in 0..=replies.len() {
        let remote = Remote {
            protocol,
            buffer: &mut buffer,
            bell: &mut host,
        };
        match step % 4 {
            0 => {
                if let Ok(found) = remote.get(phase, key, room) {
                    let shown = if found.size <= room { found.size } else { 0 };
                    assert_eq!(found.bytes.len(), shown);
                }
            }
            1 => {
                if let Ok(found) = remote.next(phase, key, room) {
                    let name = Name::from_buffer(found.bytes).map(|name| name.bytes().len());
                    assert_eq!(name, (found.size <= room).then_some(found.size));
                }
            }
            2 => {
                let _ = remote.set(phase, key, attributes, &data);
            }
            _ => {
                let _ = remote.info(phase, attributes);
            }
        }
    }
    let _ = uefi_vars::find(&data);
});
