//! What Xen's other domains write: hvmloader's information, the shared page with
//! the time, the rings of xenstore, console and disk. All is read or refused, nothing
//! is waited for without end, and no access leaves its page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovmf_lite_fuzz::{At, Page};
use ovmf_lite_services::xen::console::Console;
use ovmf_lite_services::xen::disk::{self, Disk};
use ovmf_lite_services::xen::xenstore::Store;
use ovmf_lite_services::xen::{domain, hvmloader, time};

const SHARED: u64 = 0xfef0_0000;

fuzz_target!(|input: (bool, u64, Vec<u8>)| {
    let (sealed, tsc, mut bytes) = input;
    if sealed && bytes.len() >= 40 {
        bytes[..16].copy_from_slice(b"XenHVMOVMF\0\0\0\0\x28\0");
        bytes[15] = bytes[..40]
            .iter()
            .fold(0, |sum, byte| sum.wrapping_sub(*byte));
    }
    match hvmloader::read(&At(hvmloader::ADDRESS, &bytes)) {
        Ok(regions) => assert!(regions.iter().any(|region| region.is_ram())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(moment) = time::moment(&At(SHARED, &bytes), SHARED, 1_000_000, || tsc) {
        assert!(moment.nanoseconds < 1_000_000_000 && moment.seconds != 0);
    }
    if let Err(error) = domain::read(&Store::new(Page::new(&bytes))) {
        assert!(!error.to_string().is_empty());
    }
    if let Err(error) = disk::all(&Store::new(Page::new(&bytes))) {
        assert!(!error.to_string().is_empty());
    }
    let link = Page::pages(&bytes, 1 + disk::PAGES);
    let mut disk = Disk::new(link, 8, 100, Some(3));
    for sector in [tsc, 1, 2] {
        let _ = disk.read(sector, &mut [0; 8192]);
        let _ = disk.write(sector, &[0; 512]);
    }
    // Of pages that nobody changes at most one request finds its answer.
    assert!(disk.flush().is_err());
    let console = Console::new(Page::new(&bytes));
    console.write(&"text".repeat(1000));
    let typed = std::iter::from_fn(|| console.read_byte()).count();
    assert!(typed <= 1024);
});
