//! SetVirtualAddressMap, and life after it (UEFI 2.11 §8.4.1).

use super::build::image;
use super::checks::{NV_BS_RT, POINTERS, check_everything_works, pointers_into};
use super::machine::Machine;
use ovmf_lite_services::resident::{Clock, Flash, Listener, MAX_LISTENERS, Store};
use r_efi::efi::{self, MemoryDescriptor, Status, TableHeader};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
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

thread_local! {
    /// The machine whose listener is called.
    static MACHINE: Cell<*const Machine> = const { Cell::new(ptr::null()) };
    /// With what it was called, and what it was answered.
    static HEARD: RefCell<Vec<(usize, Answers)>> = const { RefCell::new(Vec::new()) };
}

/// Of ConvertPointer: a pointer into the image, one elsewhere, null, null that is
/// right, and no pointer at all.
type Answers = [(Status, usize); 5];

fn answers(machine: &Machine) -> Answers {
    let convert = |disposition, pointer: *mut c_void| {
        let mut pointer = pointer;
        // SAFETY: the pointer is to a live local.
        let status = unsafe { (machine.services().convert_pointer)(disposition, &mut pointer) };
        (status, pointer.addr())
    };
    let inside = machine.views.first.wrapping_add(0x1234).cast();
    // SAFETY: null is what is to be refused.
    let none = unsafe { (machine.services().convert_pointer)(0, ptr::null_mut()) };
    [
        convert(0, inside),
        convert(0, ptr::without_provenance_mut(0x1000)),
        convert(0, ptr::null_mut()),
        convert(1, ptr::null_mut()),
        (none, 0),
    ]
}

unsafe extern "efiapi" fn listen(event: *mut c_void, context: *mut c_void) {
    // SAFETY: the test keeps its machine while there are calls.
    let machine = unsafe { &*MACHINE.get() };
    let called = event.addr() << 8 | context.addr();
    HEARD.with_borrow_mut(|heard| heard.push((called, answers(machine))));
}

#[test]
fn who_wants_to_know_of_the_new_addresses_can_convert_pointers() {
    let machine = Machine::boot(image(), Clock::NONE);
    let early = answers(&machine);
    let listener = |event, context| Listener {
        function: Some(listen),
        event,
        context,
    };
    let none = Listener {
        function: None,
        event: 0,
        context: 0,
    };
    // The last one is more than there may be.
    let mut listeners = vec![listener(1, 2), none, listener(3, 4)];
    listeners.resize(MAX_LISTENERS, none);
    listeners.push(listener(5, 6));
    machine.exit_boot_services_with(&listeners);
    MACHINE.set(&machine);
    let mut map = address_map(&machine);
    map[OURS].attribute = efi::MEMORY_WB;
    let status = machine.set_virtual_address_map(&map, 48);
    assert_eq!(status, Status::NO_MAPPING);
    assert!(HEARD.take().is_empty(), "told of what did not happen");
    let map = address_map(&machine);
    assert_eq!(machine.set_virtual_address_map(&map, 48), Status::SUCCESS);
    let moved = machine.views.second.addr() + 0x1234;
    let expected = [
        (Status::SUCCESS, moved),
        (Status::NOT_FOUND, 0x1000),
        (Status::INVALID_PARAMETER, 0),
        (Status::SUCCESS, 0),
        (Status::INVALID_PARAMETER, 0),
    ];
    let heard = HEARD.take();
    assert_eq!(heard, [(0x102, expected), (0x304, expected)]);
    for late in [early, answers(&machine)] {
        assert!(
            late.iter()
                .all(|(status, _)| *status == Status::UNSUPPORTED)
        );
    }
}

/// Which descriptor of [`address_map`] is about the image.
pub const OURS: usize = 2;

/// What a kernel passes: its own memory, nonsense, and the image together with
/// the page on either side, as merging neighbours results in.
pub fn address_map(machine: &Machine) -> Vec<MemoryDescriptor> {
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
