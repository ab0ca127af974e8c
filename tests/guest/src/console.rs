//! The consoles (UEFI 2.11 §12.3, §12.4).

use crate::calls::Guest;
use crate::report::{Area, Outcome, equal, gives, holds, status, success, works};
use crate::text::utf16;
use r_efi::efi::protocols::simple_text_input::InputKey;
use r_efi::efi::protocols::simple_text_output::Protocol as TextOutput;
use r_efi::efi::{self, Status};

pub const AREA: Area = Area {
    name: "12.4 EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL",
    checks: &[
        ("OutputString of nothing", |g| print(con_out(g).0, &EMPTY)),
        ("OutputString on StdErr", |g| {
            print(g.system().std_err, &EMPTY)
        }),
        ("TestString", test_string),
        ("QueryMode of mode 0 is 80 by 25", query_mode),
        ("QueryMode of a mode that is none", |g| {
            gives(Status::UNSUPPORTED, mode(g, 1000).0)
        }),
        ("SetMode of a mode that is none", |g| {
            let (this, console) = con_out(g);
            // SAFETY: the firmware's protocol.
            gives(Status::UNSUPPORTED, unsafe {
                (console.set_mode)(this, 1000)
            })
        }),
        ("Reset clears the screen", |g| {
            let (this, console) = con_out(g);
            // SAFETY: the firmware's protocol.
            cleared(g, unsafe { (console.reset)(this, efi::Boolean::FALSE) })
        }),
        ("SetMode clears the screen", |g| {
            let (this, console) = con_out(g);
            // SAFETY: the firmware's protocol.
            cleared(g, unsafe { (console.set_mode)(this, 0) })
        }),
        ("ClearScreen clears the screen", |g| {
            let (this, console) = con_out(g);
            // SAFETY: the firmware's protocol.
            cleared(g, unsafe { (console.clear_screen)(this) })
        }),
        ("EnableCursor changes Mode's", |g| {
            cursor_visible(g, efi::Boolean::FALSE)?;
            cursor_visible(g, efi::Boolean::TRUE)
        }),
        ("SetAttribute changes Mode's", attributes),
        ("SetAttribute of unknown bits", |g| {
            let (this, console) = con_out(g);
            // SAFETY: the firmware's protocol.
            gives(Status::UNSUPPORTED, unsafe {
                (console.set_attribute)(this, 0x100)
            })
        }),
        ("SetCursorPosition behind the last column", |g| {
            set_cursor(g, 1000, 0)
        }),
        ("SetCursorPosition behind the last row", |g| {
            set_cursor(g, 0, 1000)
        }),
        ("Mode is a mode that there is", current_mode),
        ("CursorColumn follows the text", cursor),
        ("a carriage return is to the first column", |g| {
            print(con_out(g).0, &WIPE)?;
            equal("column", column(g), 0)
        }),
        ("a backspace is a column back", |g| {
            print(con_out(g).0, &BACK)?;
            let found = column(g);
            print(con_out(g).0, &WIPE)?;
            equal("column", found, 3)
        }),
    ],
};

pub const INPUT: Area = Area {
    name: "12.3 EFI_SIMPLE_TEXT_INPUT_PROTOCOL",
    checks: &[
        ("Reset", |g| {
            let console = g.system().con_in;
            // SAFETY: the firmware's protocol, while there are boot services.
            let reset = unsafe { (*console).reset };
            // SAFETY: as above.
            works(unsafe { reset(console, efi::Boolean::FALSE) })
        }),
        ("no key is pressed", no_key),
    ],
};

const BACK: [u16; 7] = utf16("\rfour\u{8}");
const EMPTY: [u16; 1] = utf16("");
const NEW_LINE: [u16; 3] = utf16("\r\n");
/// Leaves nothing of [`FOUR`] on the line.
const WIPE: [u16; 7] = utf16("\r    \r");
/// Back to the first column, so that the text is written over.
const FOUR: [u16; 6] = utf16("\rfour");

fn con_out(guest: &Guest) -> (*mut TextOutput, &TextOutput) {
    let console = guest.system().con_out;
    // SAFETY: the firmware's protocol, while there are boot services.
    (console, unsafe { &*console })
}

fn print(console: *mut TextOutput, text: &[u16]) -> Outcome {
    // SAFETY: the firmware's protocol.
    let output_string = unsafe { (*console).output_string };
    // SAFETY: `text` ends in NUL.
    success("OutputString", unsafe {
        output_string(console, text.as_ptr().cast_mut())
    })
}

fn test_string(guest: &Guest) -> Outcome {
    let (this, console) = con_out(guest);
    let text = FOUR.as_ptr().cast_mut();
    // SAFETY: the firmware's protocol and a NUL-terminated string.
    success("TestString", unsafe { (console.test_string)(this, text) })
}

/// The size of a mode.
fn mode(guest: &Guest, number: usize) -> (Status, (usize, usize)) {
    let (this, console) = con_out(guest);
    let (mut columns, mut rows) = (0, 0);
    // SAFETY: the firmware's protocol; the results are locals.
    let found = unsafe { (console.query_mode)(this, number, &mut columns, &mut rows) };
    (found, (columns, rows))
}

fn query_mode(guest: &Guest) -> Outcome {
    equal("mode", mode(guest, 0), (Status::SUCCESS, (80, 25)))
}

fn set_cursor(guest: &Guest, column: usize, row: usize) -> Outcome {
    let (this, console) = con_out(guest);
    // SAFETY: the firmware's protocol.
    let found = unsafe { (console.set_cursor_position)(this, column, row) };
    gives(Status::UNSUPPORTED, found)
}

fn current_mode(guest: &Guest) -> Outcome {
    // SAFETY: the firmware's mode, in a block of the firmware's.
    let found = unsafe { *con_out(guest).1.mode };
    holds(
        "a number below MaxMode",
        (0..found.max_mode).contains(&found.mode),
    )?;
    gives(Status::SUCCESS, mode(guest, found.mode as usize).0)
}

/// What cleared the screen returned `found`, and the cursor is home. What is
/// printed next is in a line of its own.
fn cleared(guest: &Guest, found: Status) -> Outcome {
    // SAFETY: the firmware's mode, in a block of the firmware's.
    let mode = unsafe { *con_out(guest).1.mode };
    print(con_out(guest).0, &NEW_LINE)?;
    success("it", found)?;
    equal("cursor", (mode.cursor_column, mode.cursor_row), (0, 0))
}

/// A device may have no such cursor (UEFI 2.11 §12.4.10).
fn cursor_visible(guest: &Guest, visible: efi::Boolean) -> Outcome {
    let (this, console) = con_out(guest);
    // SAFETY: the firmware's protocol.
    let found = unsafe { (console.enable_cursor)(this, visible) };
    if found == Status::UNSUPPORTED {
        return Ok(());
    }
    success("EnableCursor", found)?;
    // SAFETY: the firmware's mode, in a block of the firmware's.
    let mode = unsafe { *console.mode };
    equal("CursorVisible", mode.cursor_visible, visible)
}

fn column(guest: &Guest) -> i32 {
    // SAFETY: the firmware's mode.
    unsafe { (*con_out(guest).1.mode).cursor_column }
}

fn attributes(guest: &Guest) -> Outcome {
    const LIGHT_GRAY_ON_BLACK: usize = 7;
    let (this, console) = con_out(guest);
    // SAFETY: the firmware's protocol.
    let found = unsafe { (console.set_attribute)(this, LIGHT_GRAY_ON_BLACK) };
    success("SetAttribute", found)?;
    // SAFETY: the firmware's mode, in a block of the firmware's.
    let mode = unsafe { *console.mode };
    equal("attribute", mode.attribute, LIGHT_GRAY_ON_BLACK as i32)
}

fn cursor(guest: &Guest) -> Outcome {
    print(con_out(guest).0, &FOUR)?;
    let found = column(guest);
    print(con_out(guest).0, &WIPE)?;
    equal("column after four characters", found, 4)
}

fn no_key(guest: &Guest) -> Outcome {
    let console = guest.system().con_in;
    let mut key = InputKey::default();
    // SAFETY: the firmware's protocol, while there are boot services.
    let read_key_stroke = unsafe { (*console).read_key_stroke };
    // SAFETY: `key` is a local.
    let found = unsafe { read_key_stroke(console, &mut key) };
    status("ReadKeyStroke", found, Status::NOT_READY)
}
