//! Variables that the host keeps, through a port and through registers: the same
//! services, at boot, after ExitBootServices and after SetVirtualAddressMap.

use super::address_map::{OURS, address_map};
use super::build::image;
use super::checks::{BS, BS_RT, NV_BS_RT, pointers_into};
use super::device;
use super::machine::Machine;
use ovmf_lite_services::resident::{Protocol, Store};
use r_efi::efi::{self, MemoryDescriptor, Status};

/// Each protocol, and each way of QEMU's device.
const HOSTS: [(Protocol, bool); 3] = [
    (Protocol::VARSTORED, true),
    (Protocol::UEFI_VARS, true),
    (Protocol::UEFI_VARS, false),
];

fn machine(protocol: Protocol, reads_memory: bool, silent: bool) -> Machine {
    let host = device::plug(protocol, reads_memory, silent);
    Machine::with(image(), |facts| facts.host = host)
}

/// Creates `name`, extends it, reads it in the sizes there are, and deletes it.
fn check_life(machine: &Machine, name: &str, attributes: u32) {
    let append = attributes | efi::VARIABLE_APPEND_WRITE;
    assert_eq!(machine.get(name), Err(Status::NOT_FOUND));
    assert_eq!(machine.set(name, attributes, b"one"), Status::SUCCESS);
    assert_eq!(machine.set(name, append, b"+two"), Status::SUCCESS);
    assert_eq!(machine.get(name), Ok((attributes, b"one+two".to_vec())));
    let (status, found, size, data) = machine.get_into(name, 3, Some(3));
    assert_eq!(
        (status, found, size),
        (Status::BUFFER_TOO_SMALL, attributes, 7)
    );
    assert_eq!(data, [0xa5; 3], "the buffer was written to");
    assert_eq!(machine.set(name, attributes, b""), Status::SUCCESS);
    assert_eq!(machine.set(name, attributes, b""), Status::NOT_FOUND);
}

#[test]
fn a_host_keeps_the_variables() {
    for (protocol, reads_memory) in HOSTS {
        let mut machine = machine(protocol, reads_memory, false);
        assert_eq!(machine.handoff.store, Store::HOST);
        check_life(&machine, "V", BS);
        for (name, attributes) in [("Boot", BS), ("Volatile", BS_RT), ("Kept", NV_BS_RT)] {
            assert_eq!(machine.set(name, attributes, b"x"), Status::SUCCESS);
        }
        assert_eq!(device::kept().0, 3);
        assert_eq!(machine.list(), ["Boot", "Volatile", "Kept"]);
        let [storage, remaining, largest] = machine.query(NV_BS_RT).expect("sizes");
        assert!(remaining < storage && largest < remaining);
        let data = vec![1; 64 << 10];
        assert_eq!(machine.set("V", BS, &data), Status::OUT_OF_RESOURCES);
        machine.ready_to_boot();
        machine.exit_boot_services();
        assert_eq!(machine.list(), ["Volatile", "Kept"]);
        assert_eq!(machine.get("Boot"), Err(Status::NOT_FOUND));
        check_life(&machine, "Late", NV_BS_RT);

        let (first, second) = (machine.views.first.addr(), machine.views.second.addr());
        let distance = second.wrapping_sub(first);
        let map = moved(&machine, distance);
        assert_eq!(machine.set_virtual_address_map(&map, 48), Status::SUCCESS);
        machine.views.remove_first();
        let system = machine.system.addr().wrapping_add(distance);
        machine.system = machine.views.second.with_addr(system).cast();
        assert_eq!(
            pointers_into(&machine, machine.views.first),
            0,
            "left behind"
        );
        check_life(&machine, "Later", NV_BS_RT);
        assert_eq!(machine.get("Kept"), Ok((NV_BS_RT, b"x".to_vec())));
        let events = match protocol {
            Protocol::UEFI_VARS => vec![5, 6],
            _ => vec![],
        };
        assert_eq!(device::kept(), (3, events));
    }
}

/// The address map with the host's registers, which move, too.
fn moved(machine: &Machine, distance: usize) -> Vec<MemoryDescriptor> {
    let mut map = address_map(machine);
    let registers = machine.handoff.machine.host.address;
    let virtual_start = device::moves(machine.views.first.addr(), distance);
    map.push(MemoryDescriptor {
        physical_start: registers,
        virtual_start,
        number_of_pages: 1,
        ..map[OURS]
    });
    map
}

#[test]
fn registers_have_to_be_mapped() {
    let machine = machine(Protocol::UEFI_VARS, true, false);
    machine.exit_boot_services();
    let map = address_map(&machine);
    let status = machine.set_virtual_address_map(&map, 48);
    assert_eq!(status, Status::NO_MAPPING);
    assert_eq!(machine.set("V", NV_BS_RT, b"v"), Status::SUCCESS);
    assert_eq!(device::kept().0, 1);
}

#[test]
fn a_host_that_does_not_answer_is_not_asked_again() {
    for (protocol, reads_memory) in HOSTS {
        let machine = machine(protocol, reads_memory, true);
        assert_eq!(machine.handoff.store, Store::SILENT_HOST);
        check_life(&machine, "V", NV_BS_RT);
        assert_eq!(device::kept().0, 0);
    }
}
