//! What an image leaves behind (UEFI 2.11 §7.4.2, §7.4.5). The images are two
//! instructions that jump into this application.

use crate::calls::Guest;
use crate::images::loaded;
use crate::pool;
use crate::programs::program;
use crate::report::{Area, Outcome, equal, holds, status};
use core::ptr;
use r_efi::efi::{self, Handle, Status, SystemTable};

pub const AREA: Area = Area {
    name: "7.4.5 Exit",
    checks: &[
        ("7.4.5 Exit's data come to StartImage", exit_data),
        ("7.4.5 Exit's data that nobody wants", unwanted),
        ("7.4.2 the level is what it was", level),
    ],
};

/// Runs as an image of its own.
type Entry = extern "efiapi" fn(Handle, *mut SystemTable) -> Status;

/// `mov rax, entry; jmp rax`
pub fn jump(entry: Entry) -> [u8; 12] {
    let mut code = [0; 12];
    code[..2].copy_from_slice(&[0x48, 0xb8]);
    code[2..10].copy_from_slice(&(entry as usize).to_le_bytes());
    code[10..].copy_from_slice(&[0xff, 0xe0]);
    code
}

/// What [`exits`] says. Not in pool memory, where it ought to be: a copy is made.
const WORDS: [u16; 5] = crate::text::utf16("told");

/// Leaves with data, from a raised level.
extern "efiapi" fn exits(handle: Handle, table: *mut SystemTable) -> Status {
    let guest = Guest::new(handle, table);
    let (mut data, size) = (ptr::null_mut(), size_of_val(&WORDS));
    if guest.allocate_pool(efi::LOADER_DATA, size, &mut data) != Status::SUCCESS {
        return Status::OUT_OF_RESOURCES;
    }
    guest.copy_mem(data, WORDS.as_ptr().cast(), size);
    guest.raise_tpl(efi::TPL_CALLBACK);
    guest.exit(handle, Status::ABORTED, size, data.cast())
}

fn exit_data(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &program(&jump(exits)))?;
    let (mut size, mut data) = (0, ptr::null_mut());
    let found = guest.start_image(handle, &mut size, &mut data);
    status("StartImage", found, Status::ABORTED)?;
    equal("size", size, size_of_val(&WORDS))?;
    holds("data", !data.is_null())?;
    // SAFETY: the firmware's buffer of that size.
    let words = unsafe { data.cast::<[u16; 5]>().read_unaligned() };
    pool::free(guest, data)?;
    equal("words", words, WORDS)
}

fn unwanted(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &program(&jump(exits)))?;
    let found = guest.start_image(handle, ptr::null_mut(), ptr::null_mut());
    status("StartImage", found, Status::ABORTED)
}

fn level(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &program(&jump(exits)))?;
    guest.start_image(handle, ptr::null_mut(), ptr::null_mut());
    let before = guest.raise_tpl(efi::TPL_CALLBACK);
    guest.restore_tpl(before);
    equal("level", before, efi::TPL_APPLICATION)
}
