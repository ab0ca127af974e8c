//! Protocols as a program installs, opens and removes them (UEFI 2.11 §7.3).

use super::*;
use core::ptr::without_provenance_mut;
use uefi_raw::table::boot::{InterfaceType, OpenProtocolInformationEntry};

const B: Guid = guid!("00000002-0000-0000-0000-000000000000");
const PATH: Guid = DevicePathProtocol::GUID;
const GET: u32 = 0x02;
const BY_DRIVER: u32 = 0x10;

type Pointer = *mut c_void;

/// The variadic services, called with two pairs and a null: four arguments in
/// registers, two on the stack.
type InstallTwo = unsafe extern "efiapi" fn(
    *mut Handle,
    *const Guid,
    Pointer,
    *const Guid,
    Pointer,
    *const Guid,
) -> Status;
type UninstallTwo = unsafe extern "efiapi" fn(
    Handle,
    *const Guid,
    Pointer,
    *const Guid,
    Pointer,
    *const Guid,
) -> Status;

/// An interface that nobody looks behind.
fn some(address: usize) -> Pointer {
    without_provenance_mut(address)
}

impl World {
    fn install(&self, handle: &mut Handle, protocol: &Guid, interface: Pointer) -> Status {
        let install = self.services.install_protocol_interface;
        // SAFETY: room for a handle.
        unsafe { install(handle, protocol, InterfaceType::NATIVE_INTERFACE, interface) }
    }

    fn installed(&self, protocol: &Guid, interface: Pointer) -> Handle {
        let mut handle = null_mut();
        let status = self.install(&mut handle, protocol, interface);
        assert_eq!(status, Status::SUCCESS);
        handle
    }

    fn uninstall(&self, handle: Handle, protocol: &Guid, interface: Pointer) -> Status {
        // SAFETY: the GUID outlives the call.
        unsafe { (self.services.uninstall_protocol_interface)(handle, protocol, interface) }
    }

    fn install_two(
        &self,
        handle: *mut Handle,
        first: (&Guid, Pointer),
        second: (&Guid, Pointer),
    ) -> Status {
        let slot = self.services.install_multiple_protocol_interfaces as *const c_void;
        // SAFETY: the slot is variadic, in the EFI convention.
        let install = unsafe { core::mem::transmute::<*const c_void, InstallTwo>(slot) };
        // SAFETY: GUIDs that outlive the call, and the null at the end.
        unsafe { install(handle, first.0, first.1, second.0, second.1, null()) }
    }

    fn uninstall_two(
        &self,
        handle: Handle,
        first: (&Guid, Pointer),
        second: (&Guid, Pointer),
    ) -> Status {
        let slot = self.services.uninstall_multiple_protocol_interfaces as *const c_void;
        // SAFETY: the slot is variadic, in the EFI convention.
        let uninstall = unsafe { core::mem::transmute::<*const c_void, UninstallTwo>(slot) };
        // SAFETY: GUIDs that outlive the call, and the null at the end.
        unsafe { uninstall(handle, first.0, first.1, second.0, second.1, null()) }
    }

    /// HandleProtocol; what it leaves behind when it fails, too.
    fn interface(&self, handle: Handle, protocol: &Guid) -> (Status, Pointer) {
        let mut interface = some(0xdead);
        // SAFETY: room for one pointer.
        let status = unsafe { (self.services.handle_protocol)(handle, protocol, &mut interface) };
        (status, interface)
    }

    fn open(
        &self,
        handle: Handle,
        agent: Handle,
        controller: Handle,
        attributes: u32,
    ) -> (Status, Pointer) {
        let mut interface = some(0xdead);
        let open = self.services.open_protocol;
        // SAFETY: room for one pointer.
        let status = unsafe { open(handle, &A, &mut interface, agent, controller, attributes) };
        (status, interface)
    }

    fn information(
        &self,
        handle: Handle,
        protocol: &Guid,
    ) -> Result<Vec<(Handle, Handle, u32, u32)>, Status> {
        let (mut entries, mut count): (*mut OpenProtocolInformationEntry, _) = (null_mut(), 0);
        let information = self.services.open_protocol_information;
        // SAFETY: room for a pointer and a count.
        let status = unsafe { information(handle, protocol, &mut entries, &mut count) };
        if status != Status::SUCCESS {
            assert!(entries.is_null());
            return Err(status);
        }
        // SAFETY: the service allocated that many.
        let list = unsafe { core::slice::from_raw_parts(entries, count) };
        let flat = list.iter().map(|e| {
            (
                e.agent_handle,
                e.controller_handle,
                e.attributes,
                e.open_count,
            )
        });
        let found = flat.collect();
        self.free(entries.cast());
        Ok(found)
    }

    fn free(&self, buffer: *mut u8) {
        // SAFETY: allocated by a service for its caller.
        let freed = unsafe { (self.services.free_pool)(buffer) };
        assert_eq!(freed, Status::SUCCESS);
    }
}

#[test]
fn a_protocol_is_installed_replaced_and_uninstalled() {
    let world = open(false);
    let handle = world.installed(&A, some(1));
    assert_eq!(world.interface(handle, &A), (Status::SUCCESS, some(1)));
    assert_eq!(
        world.install(&mut { handle }, &A, some(2)),
        Status::INVALID_PARAMETER
    );
    // A protocol without an interface is a tag.
    assert_eq!(
        world.install(&mut { handle }, &B, null_mut()),
        Status::SUCCESS
    );
    assert_eq!(world.interface(handle, &B), (Status::SUCCESS, null_mut()));
    let replace = |old| {
        // SAFETY: the GUID outlives the call.
        unsafe { (world.services.reinstall_protocol_interface)(handle, &A, some(old), some(3)) }
    };
    assert_eq!(
        [replace(2), replace(1)],
        [Status::NOT_FOUND, Status::SUCCESS]
    );
    assert_eq!(world.interface(handle, &A), (Status::SUCCESS, some(3)));
    assert_eq!(world.uninstall(handle, &A, some(1)), Status::NOT_FOUND);
    assert_eq!(world.uninstall(handle, &A, some(3)), Status::SUCCESS);
    assert_eq!(
        world.interface(handle, &A),
        (Status::UNSUPPORTED, null_mut())
    );
    assert_eq!(world.uninstall(handle, &B, null_mut()), Status::SUCCESS);
    assert_eq!(
        world.interface(handle, &B),
        (Status::INVALID_PARAMETER, some(0xdead))
    );
}

#[test]
fn what_is_missing_is_an_invalid_parameter() {
    let world = open(false);
    let (native, mut handle) = (InterfaceType::NATIVE_INTERFACE, null_mut());
    let install = |handle: *mut Handle, protocol: *const Guid, kind| {
        // SAFETY: null, or room for a handle.
        let found =
            unsafe { (world.services.install_protocol_interface)(handle, protocol, kind, null()) };
        assert_eq!(found, Status::INVALID_PARAMETER);
    };
    install(null_mut(), &A, native);
    install(&mut handle, null(), native);
    install(&mut handle, &A, InterfaceType(1));
    assert!(handle.is_null());
    let handle = world.installed(&A, some(1));
    let open = |protocol: *const Guid, interface: *mut Pointer, mode| {
        let open = world.services.open_protocol;
        // SAFETY: null, or room for a pointer.
        let found = unsafe { open(handle, protocol, interface, null_mut(), null_mut(), mode) };
        assert_eq!(found, Status::INVALID_PARAMETER);
    };
    open(&A, null_mut(), GET);
    open(&A, &mut null_mut(), 0);
    open(null(), &mut null_mut(), GET);
}

#[test]
fn a_test_needs_no_room_for_an_interface() {
    let world = open(false);
    let handle = world.installed(&A, some(1));
    let test = |protocol: &Guid, interface| {
        // SAFETY: no interface is written in this mode.
        unsafe {
            (world.services.open_protocol)(handle, protocol, interface, null_mut(), null_mut(), 4)
        }
    };
    let mut untouched = some(0xdead);
    assert_eq!(test(&A, null_mut()), Status::SUCCESS);
    assert_eq!(test(&B, &mut untouched), Status::UNSUPPORTED);
    assert_eq!(untouched, some(0xdead));
}

#[test]
fn who_has_a_protocol_open_is_told_until_it_is_closed() {
    let world = open(false);
    let (handle, agent) = (world.installed(&A, some(1)), world.installed(&B, some(2)));
    assert_eq!(world.information(handle, &A), Ok(vec![]));
    assert_eq!(world.information(handle, &B), Err(Status::NOT_FOUND));
    let (nobody, success) = (null_mut(), (Status::SUCCESS, some(1)));
    assert_eq!(world.open(handle, nobody, nobody, GET), success);
    assert_eq!(world.open(handle, agent, nobody, GET), success);
    assert_eq!(world.open(handle, agent, nobody, GET), success);
    assert_eq!(world.open(handle, agent, handle, BY_DRIVER), success);
    let expected = vec![(agent, nobody, GET, 2), (agent, handle, BY_DRIVER, 1)];
    assert_eq!(world.information(handle, &A), Ok(expected));
    let again = world.open(handle, agent, handle, BY_DRIVER);
    assert_eq!(again, (Status::ALREADY_STARTED, some(1)));
    let other = world.open(handle, handle, handle, BY_DRIVER);
    assert_eq!(other, (Status::ACCESS_DENIED, some(0xdead)));
    assert_eq!(world.uninstall(handle, &A, some(1)), Status::ACCESS_DENIED);
    let close = |controller| {
        // SAFETY: the GUID outlives the call.
        unsafe { (world.services.close_protocol)(handle, &A, agent, controller) }
    };
    assert_eq!(
        [close(handle), close(handle)],
        [Status::SUCCESS, Status::NOT_FOUND]
    );
    assert_eq!(
        world.information(handle, &A),
        Ok(vec![(agent, nobody, GET, 2)])
    );
    assert_eq!(world.uninstall(handle, &A, some(1)), Status::SUCCESS);
}

#[test]
fn the_protocols_of_a_handle_are_listed_with_their_guids() {
    let world = open(false);
    let handle = world.installed(&B, some(1));
    assert_eq!(world.install(&mut { handle }, &A, some(1)), Status::SUCCESS);
    let (mut list, mut count): (*mut *const Guid, _) = (null_mut(), 0);
    let list_protocols = world.services.protocols_per_handle;
    // SAFETY: room for a pointer and a count.
    let status = unsafe { list_protocols(handle, &mut list, &mut count) };
    assert_eq!((status, count), (Status::SUCCESS, 2));
    assert_eq!(world.uninstall(handle, &A, some(1)), Status::SUCCESS);
    // SAFETY: the service allocated that many.
    let pointers = unsafe { core::slice::from_raw_parts(list, count) };
    // SAFETY: GUIDs that last as long as the list.
    let guids: Vec<_> = pointers.iter().map(|guid| unsafe { guid.read() }).collect();
    assert_eq!(guids, [A, B]);
    world.free(list.cast());
    // SAFETY: room for a pointer and a count.
    let status = unsafe { list_protocols(null_mut(), &mut list, &mut count) };
    assert_eq!((status, count), (Status::INVALID_PARAMETER, 0));
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly, which Miri does not run")]
fn several_protocols_are_installed_and_uninstalled_as_one() {
    let world = open(false);
    let (one, two) = ((&A, some(1)), (&B, some(2)));
    let mut handle = null_mut();
    assert_eq!(world.install_two(&mut handle, one, two), Status::SUCCESS);
    assert_eq!(world.interface(handle, &A), (Status::SUCCESS, some(1)));
    assert_eq!(world.interface(handle, &B), (Status::SUCCESS, some(2)));
    let wrong = world.uninstall_two(handle, one, (&B, some(3)));
    assert_eq!(wrong, Status::INVALID_PARAMETER);
    assert_eq!(world.interface(handle, &A), (Status::SUCCESS, some(1)));
    assert_eq!(world.uninstall_two(handle, one, two), Status::SUCCESS);
    assert_eq!(world.interface(handle, &A).0, Status::INVALID_PARAMETER);
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly, which Miri does not run")]
fn of_several_protocols_none_is_installed_when_one_cannot_be() {
    let world = open(false);
    let handle = world.installed(&B, some(1));
    let found = world.install_two(&mut { handle }, (&A, some(2)), (&B, some(2)));
    assert_eq!(found, Status::INVALID_PARAMETER);
    assert_eq!(world.interface(handle, &A).0, Status::UNSUPPORTED);
    let found = world.install_two(null_mut(), (&A, some(2)), (&B, some(2)));
    assert_eq!(found, Status::INVALID_PARAMETER);
    // The null in the first place: nothing to install, on no handle.
    let slot = world.services.install_multiple_protocol_interfaces as *const c_void;
    type InstallNone = unsafe extern "efiapi" fn(*mut Handle, *const Guid) -> Status;
    // SAFETY: the slot is variadic, in the EFI convention.
    let install_none = unsafe { core::mem::transmute::<*const c_void, InstallNone>(slot) };
    let mut none = null_mut();
    // SAFETY: room for a handle; the list is empty.
    let found = unsafe { install_none(&mut none, null()) };
    assert_eq!((found, none), (Status::SUCCESS, null_mut()));
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly, which Miri does not run")]
fn a_list_that_does_not_end_is_refused() {
    let world = open(false);
    let slot = world.services.install_multiple_protocol_interfaces as *const c_void;
    let (mut handle, guid) = (null_mut(), A);
    // SAFETY: the arguments are as below, pairs on the stack without a null.
    let found = unsafe { call_with_pairs(slot, &mut handle, &guid) };
    assert_eq!((found, handle), (Status::OUT_OF_RESOURCES, null_mut()));
}

/// Calls `slot` with a handle and a hundred times `guid`.
///
/// # Safety
/// `slot` is variadic, in the EFI convention.
#[unsafe(naked)]
unsafe extern "C" fn call_with_pairs(
    slot: *const c_void,
    handle: *mut Handle,
    guid: *const Guid,
) -> Status {
    core::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "mov ecx, 200",
        "2: push rdx",
        "dec ecx",
        "jnz 2b",
        "mov rcx, rsi",
        "mov r8, rdx",
        "mov r9, rdx",
        "sub rsp, 32",
        "mov rax, rdi",
        // What the EFI convention has the callee preserve covers the C one.
        "call rax",
        "leave",
        "ret",
    )
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly, which Miri does not run")]
fn a_device_path_names_one_handle_only() {
    let world = open(true);
    let path = || (&PATH, INITRD_PATH.as_ptr().cast_mut().cast());
    let mut handle = null_mut();
    let found = world.install_two(&mut handle, (&A, some(1)), path());
    assert_eq!((found, handle), (Status::ALREADY_STARTED, null_mut()));
    let longer: Vec<u8> = [&INITRD_PATH[..20], &INITRD_PATH[..]].concat();
    let longer = (&PATH, longer.leak().as_mut_ptr().cast());
    let found = world.install_two(&mut handle, (&A, some(1)), longer);
    assert_eq!(found, Status::SUCCESS);
    assert!(!handle.is_null());
}

#[test]
#[cfg_attr(miri, ignore = "calls assembly, which Miri does not run")]
fn a_device_path_that_is_none_hides_no_other() {
    let world = open(false);
    world.installed(&PATH, null_mut());
    let broken: &[u8] = &[4, 3, 0, 0];
    let both = [(&PATH, broken.as_ptr()), (&PATH, INITRD_PATH.as_ptr())];
    for (path, bytes) in both {
        let guid = LoadFile2Protocol::GUID;
        let mut handle = null_mut();
        let found = world.install_two(
            &mut handle,
            (path, bytes.cast_mut().cast()),
            (&guid, some(1)),
        );
        assert_eq!(found, Status::SUCCESS);
    }
    let mut path = INITRD_PATH.as_ptr().cast();
    assert_eq!(world.locate_initrd(&mut path).0, Status::SUCCESS);
}

#[test]
fn an_image_that_goes_closes_what_it_has_open() {
    let world = open(false);
    let image = images::load(&image::application(), images::Origin::default()).unwrap();
    let handle = world.installed(&A, some(1));
    let found = world.open(handle, image.to_raw(), handle, BY_DRIVER);
    assert_eq!(found.0, Status::SUCCESS);
    assert_eq!(images::start(image), Ok(Status::ABORTED));
    assert_eq!(world.information(handle, &A), Ok(vec![]));
    assert_eq!(world.uninstall(handle, &A, some(1)), Status::SUCCESS);
}
