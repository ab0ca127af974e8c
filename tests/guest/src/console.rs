//! The consoles (UEFI 2.11 §12.3, §12.4).

use crate::calls::Guest;
use crate::report::{Area, Outcome, equal, holds, status, success};
use crate::text::utf16;
use r_efi::efi::Status;
use r_efi::efi::protocols::simple_text_input::InputKey;
use r_efi::efi::protocols::simple_text_output::Protocol as TextOutput;

pub const AREA: Area = Area {
    name: "console",
    checks: &[
        ("OutputString", output_string),
        ("TestString", test_string),
        ("mode 0 has a size", query_mode),
        ("a mode that does not exist", no_such_mode),
        ("attributes and the cursor", attributes),
        ("the cursor follows the text", cursor),
        ("standard error", standard_error),
        ("no key is pressed", no_key),
    ],
};

const EMPTY: [u16; 1] = utf16("");
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

fn output_string(guest: &Guest) -> Outcome {
    print(con_out(guest).0, &EMPTY)
}

fn test_string(guest: &Guest) -> Outcome {
    let (this, console) = con_out(guest);
    let text = FOUR.as_ptr().cast_mut();
    // SAFETY: the firmware's protocol and a NUL-terminated string.
    success("TestString", unsafe { (console.test_string)(this, text) })
}

fn query_mode(guest: &Guest) -> Outcome {
    let (this, console) = con_out(guest);
    let (mut columns, mut rows) = (0, 0);
    // SAFETY: the firmware's protocol; the results are locals.
    let found = unsafe { (console.query_mode)(this, 0, &mut columns, &mut rows) };
    success("QueryMode", found)?;
    // UEFI 2.11 §12.4: mode 0 is 80x25.
    equal("columns and rows", (columns, rows), (80, 25))
}

fn no_such_mode(guest: &Guest) -> Outcome {
    let (this, console) = con_out(guest);
    // SAFETY: the firmware's protocol.
    let found = unsafe { (console.set_mode)(this, 1000) };
    status("SetMode", found, Status::UNSUPPORTED)
}

fn attributes(guest: &Guest) -> Outcome {
    const LIGHT_GRAY_ON_BLACK: usize = 7;
    let (this, console) = con_out(guest);
    // SAFETY: the firmware's protocol.
    let found = unsafe { (console.set_attribute)(this, LIGHT_GRAY_ON_BLACK) };
    success("SetAttribute", found)?;
    // SAFETY: the firmware's mode, in a block of the firmware's.
    let mode = unsafe { *console.mode };
    equal("attribute", mode.attribute, LIGHT_GRAY_ON_BLACK as i32)?;
    holds(
        "a current mode",
        mode.mode >= 0 && mode.mode < mode.max_mode,
    )
}

fn cursor(guest: &Guest) -> Outcome {
    let (this, console) = con_out(guest);
    print(this, &FOUR)?;
    // SAFETY: the firmware's mode.
    let column = unsafe { (*console.mode).cursor_column };
    print(this, &WIPE)?;
    equal("column after four characters", column, 4)
}

fn standard_error(guest: &Guest) -> Outcome {
    print(guest.system().std_err, &EMPTY)
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
