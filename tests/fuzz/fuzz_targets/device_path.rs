//! Device paths: a prefix is one byte by byte and leaves a whole path behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_services::device_path::match_prefix;

fuzz_target!(|input: (Vec<u8>, usize, Vec<u8>)| {
    let (prefix, kept, other) = input;
    // Half of the time a path that begins as the prefix does.
    let mut path = prefix.clone();
    path.truncate(kept % (2 * prefix.len() + 1));
    path.extend(other);
    if let Some(matched) = match_prefix(&prefix, &path) {
        assert_eq!(prefix[..matched], path[..matched]);
        assert_eq!(prefix[matched..][..2], [0x7f, 0xff]);
    }
});
