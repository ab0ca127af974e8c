//! SetVirtualAddressMap, and life after it (UEFI 2.11 §8.4.1).

use super::build::image;
use super::checks::{NV_BS_RT, POINTERS, check_everything_works, pointers_into};
use super::machine::Machine;
use ovmf_lite_services::resident::{Clock, Flash, Store};
use r_efi::efi::{self, MemoryDescriptor, Status, TableHeader};
use std::ptr;

#[test]
fn a_wrong_address_map_changes_nothing() {
    let machine = Machine::boot(image(), Clock::NONE);
    assert_eq!(
        machine.set_virtual_address_map(&address_map(&machine), 48),
        Status::UNSUPPORTED
    );
    machine.exit_boot_services();
    let before = machine.words();
    let mut map = address_map(&machine);
    let (size, pointer) = (size_of_val(map.as_slice()), map.as_mut_ptr());
    let invalid = [
        (size, 40, 0, pointer),
        (size, 40, 2, pointer),
        (size - 1, 40, 1, pointer),
        (size, 39, 1, pointer),
        (size, 0, 1, pointer),
        (size, 40, 1, ptr::null_mut()),
    ];
    for (size, stride, version, map) in invalid {
        let status = machine.raw_set_virtual_address_map(size, stride, version, map);
        assert_eq!(
            status,
            Status::INVALID_PARAMETER,
            "{size} {stride} {version}"
        );
    }
    for spoil in [drop_ours, drop_runtime_attribute, cut_off_the_last_page] {
        let mut map = address_map(&machine);
        spoil(&mut map[OURS]);
        assert_eq!(
            machine.set_virtual_address_map(&map, 48),
            Status::NO_MAPPING
        );
    }
    assert!(machine.words() == before, "the image has changed");
}

#[test]
fn life_goes_on_at_the_new_address() {
    for stride in [40, 48, 56, 41] {
        let mut machine = Machine::boot(image(), Clock::NONE);
        assert_eq!(machine.set("Before", NV_BS_RT, b"b"), Status::SUCCESS);
        machine.exit_boot_services();
        let map = address_map(&machine);
        assert_eq!(
            machine.set_virtual_address_map(&map, stride),
            Status::SUCCESS
        );

        let distance = machine
            .views
            .second
            .addr()
            .wrapping_sub(machine.views.first.addr());
        machine.views.remove_first();
        machine.system = machine
            .views
            .second
            .with_addr(machine.system.addr().wrapping_add(distance))
            .cast();
        assert_eq!(
            pointers_into(&machine, machine.views.first),
            0,
            "left behind"
        );
        assert_eq!(pointers_into(&machine, machine.views.second), POINTERS);
        check_everything_works(&machine);
        assert_eq!(
            machine.set_virtual_address_map(&map, stride),
            Status::UNSUPPORTED,
            "second call"
        );
    }
}

#[test]
fn an_address_map_may_leave_the_image_in_place() {
    let machine = Machine::exited(image());
    let before = machine.words();
    let mut map = address_map(&machine);
    map[OURS].virtual_start = map[OURS].physical_start;
    assert_eq!(machine.set_virtual_address_map(&map, 48), Status::SUCCESS);
    let changed = machine
        .words()
        .iter()
        .zip(&before)
        .filter(|(now, then)| now != then)
        .count();
    assert_eq!(changed, 1, "only the mark that it was called");
    assert_eq!(machine.set("V", NV_BS_RT, b"v"), Status::SUCCESS);
}

#[test]
fn a_hooked_service_is_left_to_its_owner() {
    let machine = Machine::exited(image());
    let hook = machine.views.first.wrapping_sub(1).addr();
    let slot =
        machine.services() as *const efi::RuntimeServices as usize + size_of::<TableHeader>();
    let slot = machine.views.first.with_addr(slot).cast::<usize>();
    // SAFETY: the first slot of the table, which is mapped.
    unsafe { slot.write(hook) };
    assert_eq!(
        machine.set_virtual_address_map(&address_map(&machine), 48),
        Status::SUCCESS
    );
    // SAFETY: as above.
    assert_eq!(unsafe { slot.read() }, hook);
}

#[test]
fn flash_has_to_be_mapped() {
    let (address, size) = (0x7000_0000, 2 * 4096);
    // Of a size that no store has, it is not touched.
    let machine = Machine::with(image(), |facts| facts.flash = Flash { address, size });
    assert_eq!(machine.handoff.store, Store::UNKNOWN_SIZE);
    assert_eq!(machine.set("V", NV_BS_RT, b"v"), Status::SUCCESS);
    machine.exit_boot_services();
    let mut map = address_map(&machine);
    let flash = MemoryDescriptor {
        physical_start: address,
        number_of_pages: 1,
        ..map[OURS]
    };
    map.push(flash);
    let status = machine.set_virtual_address_map(&map, 48);
    assert_eq!(status, Status::NO_MAPPING, "half of it is");
    map.push(MemoryDescriptor {
        number_of_pages: 2,
        ..flash
    });
    assert_eq!(machine.set_virtual_address_map(&map, 48), Status::SUCCESS);
}

/// Which descriptor of [`address_map`] is about the image.
const OURS: usize = 2;

/// What a kernel passes: its own memory, nonsense, and the image together with
/// the page on either side, as merging neighbours results in.
fn address_map(machine: &Machine) -> Vec<MemoryDescriptor> {
    let (first, second) = (
        machine.views.first.addr() as u64,
        machine.views.second.addr() as u64,
    );
    let pages = (machine.views.size / 4096) as u64;
    let descriptor = |physical_start, virtual_start, number_of_pages, attribute| MemoryDescriptor {
        r#type: 0xa5a5_a5a5,
        physical_start,
        virtual_start,
        number_of_pages,
        attribute,
    };
    let runtime = efi::MEMORY_RUNTIME | efi::MEMORY_WB;
    vec![
        descriptor(0, u64::MAX, u64::MAX, runtime),
        descriptor(first, 0xdead_0000, pages, efi::MEMORY_WB),
        descriptor(first - 4096, second - 4096, pages + 2, runtime),
        descriptor(u64::MAX, first, 1, runtime),
        descriptor(first + 4096, 0xdead_0000, pages, runtime),
    ]
}

fn drop_ours(descriptor: &mut MemoryDescriptor) {
    descriptor.number_of_pages = 0;
}

fn drop_runtime_attribute(descriptor: &mut MemoryDescriptor) {
    descriptor.attribute = efi::MEMORY_WB;
}

fn cut_off_the_last_page(descriptor: &mut MemoryDescriptor) {
    descriptor.number_of_pages -= 2;
}
