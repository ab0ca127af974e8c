//! SMBIOS entry points: what is found can be relocated, and is sealed then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_fuzz::sums_to_zero;
use ovmf_lite_services::tables::smbios;

fuzz_target!(|input: (bool, u64, Vec<u8>)| {
    let (new, address, mut area) = input;
    let anchor: &[u8] = if new { b"_SM3_" } else { b"_SM_" };
    if area.len() >= anchor.len() {
        area[..anchor.len()].copy_from_slice(anchor);
    }
    if let Some((at, _)) = smbios::find(&area) {
        assert!(area[at..].starts_with(b"_SM"));
    }
    if smbios::relocate(&mut area, address).is_ok() {
        let length = usize::from(area[if new { 6 } else { 5 }]);
        assert!(sums_to_zero(&area[..length]));
    }
});
