//! Where the lines go: ConOut while there are boot services, COM1 after.

use crate::ports;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use r_efi::efi;

/// The system table whose ConOut is used; null for COM1.
static CONSOLE: AtomicPtr<efi::SystemTable> = AtomicPtr::new(ptr::null_mut());

/// From here on lines go to ConOut.
pub fn use_console(system_table: *mut efi::SystemTable) {
    CONSOLE.store(system_table, Ordering::Relaxed);
}

/// From here on lines go to COM1.
pub fn use_serial() {
    CONSOLE.store(ptr::null_mut(), Ordering::Relaxed);
}

/// Whether lines go to ConOut.
pub fn has_console() -> bool {
    !CONSOLE.load(Ordering::Relaxed).is_null()
}

/// Writes one line.
pub fn line(message: fmt::Arguments<'_>) {
    // Neither output reports errors: there is no other place to say so.
    let _ = Output.write_fmt(message);
    let _ = Output.write_str("\r\n");
}

struct Output;

impl Write for Output {
    fn write_str(&mut self, string: &str) -> fmt::Result {
        let system_table = CONSOLE.load(Ordering::Relaxed);
        if system_table.is_null() {
            string.bytes().for_each(ports::serial);
        } else {
            console(system_table, string);
        }
        Ok(())
    }
}

fn console(system_table: *mut efi::SystemTable, string: &str) {
    // SAFETY: the firmware's table, before ExitBootServices.
    let con_out = unsafe { (*system_table).con_out };
    // SAFETY: likewise; the first check of all is that it is not null.
    let output_string = unsafe { (*con_out).output_string };
    for character in string.encode_utf16() {
        let mut terminated = [character, 0];
        // SAFETY: a NUL-terminated string of one character.
        unsafe { output_string(con_out, terminated.as_mut_ptr()) };
    }
}
