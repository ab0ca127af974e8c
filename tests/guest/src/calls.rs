//! The firmware's services as methods of [`Guest`].
//!
//! A service does with a pointer what the specification says; what it does
//! with a wrong one is what this application is here to find out. So the
//! methods take raw pointers and are not marked unsafe: a check passes the
//! address of its own variable, what the firmware gave it, or null. They are
//! of use to nobody else.

use core::ffi::c_void;
use r_efi::efi;
use r_efi::efi::protocols::device_path::Protocol as DevicePath;
use r_efi::efi::{
    AllocateType, Boolean, BootServices, Event, EventNotify, Guid, Handle, MemoryDescriptor,
    MemoryType, OpenProtocolInformationEntry, ResetType, RuntimeServices, Status, SystemTable,
    Time, TimeCapabilities, Tpl,
};

/// This application, and the firmware that runs it.
pub struct Guest {
    /// The handle of this application's image.
    pub handle: Handle,
    system_table: *mut SystemTable,
    /// The services promised for the time after ExitBootServices, once the
    /// table that says so is out of reach.
    pub promised: Option<u32>,
}

impl Guest {
    /// With the arguments of the entry point.
    pub const fn new(handle: Handle, system_table: *mut SystemTable) -> Self {
        Self::at(handle, system_table, None)
    }

    /// With the system table at another place, and what was promised there.
    pub const fn at(handle: Handle, system_table: *mut SystemTable, promised: Option<u32>) -> Self {
        Self {
            handle,
            system_table,
            promised,
        }
    }

    /// Where the system table is.
    pub const fn system_table(&self) -> *mut SystemTable {
        self.system_table
    }

    /// Whether the firmware has moved to virtual addresses.
    pub const fn is_virtual(&self) -> bool {
        self.promised.is_some()
    }

    /// The system table as it is now.
    pub const fn system(&self) -> &SystemTable {
        // SAFETY: the firmware's table, which stays where it is until
        // SetVirtualAddressMap, and then where that put it. It changes only
        // inside calls, across which no check keeps a reference.
        unsafe { &*self.system_table }
    }

    /// The boot services table; not to be used after ExitBootServices.
    pub const fn boot(&self) -> &BootServices {
        // SAFETY: the firmware's table, while there are boot services.
        unsafe { &*self.system().boot_services }
    }

    /// The runtime services table.
    pub const fn runtime(&self) -> &RuntimeServices {
        // SAFETY: the firmware's table, which stays for good; the system table
        // says where.
        unsafe { &*self.system().runtime_services }
    }

    /// The interface of a protocol on a handle.
    pub fn interface<T>(&self, handle: Handle, protocol: &Guid) -> Result<*mut T, Status> {
        let mut interface = core::ptr::null_mut();
        match self.handle_protocol(handle, protocol, &mut interface) {
            Status::SUCCESS => Ok(interface.cast()),
            status => Err(status),
        }
    }
}

/// Defines a method for each service of a table. The casts only drop `const`,
/// which the specification has for input and r-efi does not.
macro_rules! services {
    ($table:ident: $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl Guest {
            $(
                /// The service of this name.
                pub fn $name(&self, $($argument: $type),*) $(-> $result)? {
                    let service = self.$table().$name;
                    // SAFETY: a function of the firmware with this signature;
                    // about its arguments see the top of this file.
                    unsafe { service($($argument as _),*) }
                }
            )*
        }
    };
}

services! { boot:
    raise_tpl(new: Tpl) -> Tpl;
    restore_tpl(old: Tpl);
    allocate_pages(kind: AllocateType, ty: MemoryType, pages: usize, memory: *mut u64) -> Status;
    free_pages(memory: u64, pages: usize) -> Status;
    get_memory_map(size: *mut usize, map: *mut MemoryDescriptor, key: *mut usize, stride: *mut usize, version: *mut u32) -> Status;
    allocate_pool(ty: MemoryType, size: usize, buffer: *mut *mut c_void) -> Status;
    free_pool(buffer: *mut c_void) -> Status;
    create_event(kind: u32, tpl: Tpl, notify: Option<EventNotify>, context: *mut c_void, event: *mut Event) -> Status;
    create_event_ex(kind: u32, tpl: Tpl, notify: Option<EventNotify>, context: *const c_void, group: *const Guid, event: *mut Event) -> Status;
    set_timer(event: Event, delay: efi::TimerDelay, time: u64) -> Status;
    wait_for_event(count: usize, events: *mut Event, index: *mut usize) -> Status;
    signal_event(event: Event) -> Status;
    close_event(event: Event) -> Status;
    check_event(event: Event) -> Status;
    install_protocol_interface(handle: *mut Handle, protocol: *const Guid, kind: efi::InterfaceType, interface: *mut c_void) -> Status;
    reinstall_protocol_interface(handle: Handle, protocol: *const Guid, old: *mut c_void, new: *mut c_void) -> Status;
    uninstall_protocol_interface(handle: Handle, protocol: *const Guid, interface: *mut c_void) -> Status;
    handle_protocol(handle: Handle, protocol: *const Guid, interface: *mut *mut c_void) -> Status;
    register_protocol_notify(protocol: *const Guid, event: Event, registration: *mut *mut c_void) -> Status;
    locate_handle(kind: efi::LocateSearchType, protocol: *const Guid, key: *mut c_void, size: *mut usize, handles: *mut Handle) -> Status;
    locate_handle_buffer(kind: efi::LocateSearchType, protocol: *const Guid, key: *mut c_void, count: *mut usize, handles: *mut *mut Handle) -> Status;
    locate_protocol(protocol: *const Guid, registration: *mut c_void, interface: *mut *mut c_void) -> Status;
    locate_device_path(protocol: *const Guid, path: *mut *mut DevicePath, handle: *mut Handle) -> Status;
    install_configuration_table(guid: *const Guid, table: *mut c_void) -> Status;
    load_image(policy: Boolean, parent: Handle, path: *mut DevicePath, source: *mut c_void, size: usize, handle: *mut Handle) -> Status;
    start_image(handle: Handle, size: *mut usize, data: *mut *mut u16) -> Status;
    exit(handle: Handle, status: Status, size: usize, data: *mut u16) -> Status;
    unload_image(handle: Handle) -> Status;
    exit_boot_services(handle: Handle, key: usize) -> Status;
    get_next_monotonic_count(count: *mut u64) -> Status;
    stall(microseconds: usize) -> Status;
    set_watchdog_timer(timeout: usize, code: u64, size: usize, data: *mut u16) -> Status;
    connect_controller(handle: Handle, drivers: *mut Handle, path: *mut DevicePath, recursive: Boolean) -> Status;
    disconnect_controller(handle: Handle, driver: Handle, child: Handle) -> Status;
    open_protocol(handle: Handle, protocol: *const Guid, interface: *mut *mut c_void, agent: Handle, controller: Handle, attributes: u32) -> Status;
    close_protocol(handle: Handle, protocol: *const Guid, agent: Handle, controller: Handle) -> Status;
    open_protocol_information(handle: Handle, protocol: *const Guid, entries: *mut *mut OpenProtocolInformationEntry, count: *mut usize) -> Status;
    protocols_per_handle(handle: Handle, protocols: *mut *mut *mut Guid, count: *mut usize) -> Status;
    install_multiple_protocol_interfaces(handle: *mut Handle, protocol: *mut c_void, interface: *mut c_void) -> Status;
    uninstall_multiple_protocol_interfaces(handle: Handle, protocol: *mut c_void, interface: *mut c_void) -> Status;
    calculate_crc32(data: *const c_void, size: usize, crc: *mut u32) -> Status;
    copy_mem(destination: *mut c_void, source: *const c_void, size: usize);
    set_mem(buffer: *mut c_void, size: usize, value: u8);
}

services! { runtime:
    get_time(time: *mut Time, capabilities: *mut TimeCapabilities) -> Status;
    set_time(time: *mut Time) -> Status;
    set_virtual_address_map(size: usize, stride: usize, version: u32, map: *mut MemoryDescriptor) -> Status;
    get_variable(name: *const u16, vendor: *const Guid, attributes: *mut u32, size: *mut usize, data: *mut c_void) -> Status;
    get_next_variable_name(size: *mut usize, name: *mut u16, vendor: *mut Guid) -> Status;
    set_variable(name: *const u16, vendor: *const Guid, attributes: u32, size: usize, data: *const c_void) -> Status;
    query_variable_info(attributes: u32, maximum: *mut u64, remaining: *mut u64, largest: *mut u64) -> Status;
    get_next_high_mono_count(count: *mut u32) -> Status;
    reset_system(kind: ResetType, status: Status, size: usize, data: *mut c_void);
}
