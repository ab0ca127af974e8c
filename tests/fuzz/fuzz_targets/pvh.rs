//! What a PVH loader leaves: any start structure is read or refused with a word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_fuzz::Memory;
use ovmf_lite_services::pvh;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (version, mut bytes) = input;
    if bytes.len() >= 8 {
        bytes[..4].copy_from_slice(&0x336e_c578_u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&u32::from(version % 3).to_le_bytes());
    }
    match pvh::read(&Memory(&bytes), Memory::ADDRESS) {
        Ok(info) => assert!(info.modules.iter().all(|module| module.bytes > 0)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
