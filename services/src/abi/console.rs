//! The consoles of the system table, and text output (UEFI 2.11 §12.4). Standard
//! error is the same device as standard output; text input is in `input.rs`.
//!
//! Coverage, protocols:
//!
//! | EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL | 12.4 | ConOut and StdErr | serial port or Xen's console, and debug consoles; mode 0, 80 by 25, ANSI |

use super::{Alleged, input, machine, protocols, status, trace, with_edge};
use crate::catalog;
use crate::catalog::Service;
use crate::handles::Interface;
use crate::terminal::{COLUMNS, ROWS, Terminal, Unsupported, initial_mode};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use spin::Mutex;
use uefi_raw::protocol::console::{SimpleTextOutputMode, SimpleTextOutputProtocol};
use uefi_raw::{Boolean, Char16, Status};

/// Longest string that one OutputString call writes, in characters: beyond it
/// the missing terminator is taken for the caller's mistake.
const MAX_STRING: usize = 64 * 1024;

/// A protocol structure at a fixed address.
struct Fixed<T>(T);

// SAFETY: programs only read these structures; `mode` is written through MODE.
unsafe impl<T> Sync for Fixed<T> {}

/// The mode that programs read, written under its lock.
static MODE: Mutex<()> = Mutex::new(());
static MODE_DATA: Fixed<UnsafeCell<SimpleTextOutputMode>> = Fixed(UnsafeCell::new(initial_mode()));

static OUTPUT: Fixed<SimpleTextOutputProtocol> = Fixed(SimpleTextOutputProtocol {
    reset,
    output_string,
    test_string,
    query_mode,
    set_mode,
    set_attribute,
    clear_screen,
    set_cursor_position,
    enable_cursor,
    mode: MODE_DATA.0.get(),
});

/// Puts the consoles into the handle database and the system table.
pub fn publish() -> Result<(), Status> {
    let output = trace::published(&raw const OUTPUT.0, catalog::OUTPUT, 9).cast_mut();
    let (input_handle, input) = input::publish()?;
    let interface = Interface(output.expose_provenance());
    let output_handle = protocols::publish(&[(SimpleTextOutputProtocol::GUID, interface)])?;
    with_edge(Service::Firmware, |edge| {
        edge.update_table(|table| {
            table.stdin_handle = input_handle;
            table.stdin = input;
            table.stdout_handle = output_handle.to_raw();
            table.stdout = output;
            table.stderr_handle = output_handle.to_raw();
            table.stderr = output;
        });
        Ok(())
    })
}

/// Runs `call` on the terminal and writes what it returns.
#[inline(never)]
fn terminal(
    service: Service,
    call: &mut dyn FnMut(&mut Terminal<'_>) -> Result<String, Unsupported>,
) -> Status {
    status::of(machine(service).and_then(|machine| {
        let _lock = MODE.try_lock().ok_or(Status::DEVICE_ERROR)?;
        // SAFETY: written under the lock only; programs read it between calls.
        let mode = unsafe { &mut *MODE_DATA.0.get() };
        let text = call(&mut Terminal(mode)).map_err(|_| Status::UNSUPPORTED)?;
        (machine.write_console)(&text);
        Ok(())
    }))
}

/// The characters of a caller's string, up to its NUL.
fn characters(string: Alleged<Char16>) -> Result<Vec<u16>, Status> {
    let mut units = Vec::new();
    while units.len() < MAX_STRING {
        match string.at(units.len())?.read()? {
            0 => return Ok(units),
            unit => units.push(unit),
        }
    }
    Err(Status::INVALID_PARAMETER)
}

unsafe extern "efiapi" fn reset(
    _this: *mut SimpleTextOutputProtocol,
    _extended: Boolean,
) -> Status {
    terminal(Service::Firmware, &mut |terminal| Ok(terminal.reset()))
}

unsafe extern "efiapi" fn output_string(
    _this: *mut SimpleTextOutputProtocol,
    string: *const Char16,
) -> Status {
    // SAFETY: IN, a NUL-terminated string, the caller's promise.
    match characters(unsafe { Alleged::new(string) }) {
        Ok(units) => terminal(Service::Firmware, &mut |terminal| {
            Ok(terminal.output(&units))
        }),
        Err(status) => status,
    }
}

#[cold]
unsafe extern "efiapi" fn test_string(
    _this: *mut SimpleTextOutputProtocol,
    string: *const Char16,
) -> Status {
    // SAFETY: IN, a NUL-terminated string, the caller's promise.
    status::of(characters(unsafe { Alleged::new(string) }).map(drop))
}

#[cold]
unsafe extern "efiapi" fn query_mode(
    _this: *const SimpleTextOutputProtocol,
    mode: usize,
    columns: *mut usize,
    rows: *mut usize,
) -> Status {
    // SAFETY: OUT, the caller's promise.
    let columns = unsafe { Alleged::new(columns) };
    // SAFETY: OUT, the caller's promise.
    let rows = unsafe { Alleged::new(rows) };
    if mode != 0 {
        return Status::UNSUPPORTED;
    }
    status::of(columns.write(COLUMNS).and_then(|()| rows.write(ROWS)))
}

unsafe extern "efiapi" fn set_mode(_this: *mut SimpleTextOutputProtocol, mode: usize) -> Status {
    terminal(Service::Firmware, &mut |terminal| terminal.set_mode(mode))
}

unsafe extern "efiapi" fn set_attribute(
    _this: *mut SimpleTextOutputProtocol,
    attribute: usize,
) -> Status {
    terminal(Service::Firmware, &mut |terminal| {
        terminal.set_attribute(attribute)
    })
}

unsafe extern "efiapi" fn clear_screen(_this: *mut SimpleTextOutputProtocol) -> Status {
    terminal(Service::Firmware, &mut |terminal| Ok(terminal.clear()))
}

#[cold]
unsafe extern "efiapi" fn set_cursor_position(
    _this: *mut SimpleTextOutputProtocol,
    column: usize,
    row: usize,
) -> Status {
    terminal(Service::Firmware, &mut |terminal| {
        terminal.set_cursor(column, row)
    })
}

unsafe extern "efiapi" fn enable_cursor(
    _this: *mut SimpleTextOutputProtocol,
    visible: Boolean,
) -> Status {
    terminal(Service::Firmware, &mut |terminal| {
        Ok(terminal.enable_cursor(visible.is_true()))
    })
}
