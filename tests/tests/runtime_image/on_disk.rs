//! A store on a disk, which the firmware writes until ExitBootServices.

use super::build::image;
use super::checks::NV_BS_RT;
use super::machine::Machine;
use ovmf_lite_services::resident::{Disk, Store};
use r_efi::efi::Status;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the firmware has been told: offsets and lengths.
static TOLD: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
/// Whether the disk takes what is written.
static WORKS: AtomicBool = AtomicBool::new(true);

unsafe extern "efiapi" fn keep(offset: usize, length: usize) -> bool {
    TOLD.lock()
        .expect("no test has panicked")
        .push((offset, length));
    WORKS.load(Ordering::Relaxed)
}

fn told() -> Vec<(usize, usize)> {
    std::mem::take(&mut TOLD.lock().expect("no test has panicked"))
}

#[test]
fn what_is_on_a_disk_is_written_at_boot_and_read_from_memory_after() {
    let mut store = vec![0xff_u8; 0x2_0000];
    let start = store.as_mut_ptr();
    let disk = Disk {
        address: start.expose_provenance() as u64,
        size: store.len() as u64,
        keep: Some(keep),
    };
    let machine = Machine::given(image(), |handoff| handoff.disk = disk);
    assert_eq!(machine.handoff.store, Store::FORMATTED);
    assert_eq!(machine.handoff.out_of_room, 0);
    assert_eq!(told().last(), Some(&(0, 0)));
    // SAFETY: the table is in the image, which is mapped.
    let properties = unsafe { &*machine.handoff.rt_properties };
    assert_eq!(properties.runtime_services_supported, 0x25b0);

    assert_eq!(machine.set("Kept", NV_BS_RT, b"value"), Status::SUCCESS);
    let calls = told();
    assert_eq!(calls.last(), Some(&(0, 0)));
    // The data are written before the step that makes them count.
    let data = calls.iter().position(|call| call.1 == 5).expect("its data");
    assert_eq!(calls[data + 1], (0, 0));
    // SAFETY: nobody is writing.
    let found = unsafe { std::slice::from_raw_parts(start.wrapping_add(calls[data].0), 5) };
    assert_eq!(found, b"value");

    WORKS.store(false, Ordering::Relaxed);
    assert_eq!(machine.set("New", NV_BS_RT, b"new"), Status::DEVICE_ERROR);
    assert_eq!(machine.get("New"), Err(Status::NOT_FOUND));
    told();
    machine.exit_boot_services();
    store.fill(0);
    assert_eq!(machine.get("Kept"), Ok((NV_BS_RT, b"value".to_vec())));
    assert_eq!(machine.list(), ["Kept"]);
    assert_eq!(machine.set("Kept", NV_BS_RT, b"other"), Status::UNSUPPORTED);
    assert_eq!(machine.set("Kept", NV_BS_RT, b""), Status::UNSUPPORTED);
    assert_eq!(machine.get("Kept"), Ok((NV_BS_RT, b"value".to_vec())));
    assert_eq!(machine.query(NV_BS_RT).map(|info| info[1]), Ok(0));
    assert_eq!(told(), []);
}
