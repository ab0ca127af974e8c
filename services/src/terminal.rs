//! A text output device on an ANSI terminal (UEFI 2.11 §12.4).
//!
//! Keeps the mode a program can read and turns each request into the bytes for
//! the terminal. One mode is offered, 80 by 25, which every terminal can show.

use crate::text;
use alloc::format;
use alloc::string::String;
use uefi_raw::Boolean;
use uefi_raw::protocol::console::SimpleTextOutputMode;

/// Columns of mode 0.
pub const COLUMNS: usize = 80;
/// Rows of mode 0.
pub const ROWS: usize = 25;
/// `EFI_TEXT_ATTR(EFI_LIGHTGRAY, EFI_BLACK)`.
const DEFAULT_ATTRIBUTE: i32 = 0x07;
/// Largest attribute: 16 foregrounds on 8 backgrounds.
const MAX_ATTRIBUTE: usize = 0x7f;
/// EFI orders colours blue-green-red by bit, ANSI red-green-blue.
const ANSI_COLOUR: [u8; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

/// The request is not one this device can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported;

/// The mode after [`Terminal::reset`].
#[must_use]
pub const fn initial_mode() -> SimpleTextOutputMode {
    SimpleTextOutputMode {
        max_mode: 1,
        mode: 0,
        attribute: DEFAULT_ATTRIBUTE,
        cursor_column: 0,
        cursor_row: 0,
        cursor_visible: Boolean::TRUE,
    }
}

/// The text output device, as a view on the mode that programs see.
pub struct Terminal<'a>(pub &'a mut SimpleTextOutputMode);

impl Terminal<'_> {
    /// Writes UCS-2 text and moves the cursor as the terminal will.
    pub fn output(&mut self, units: &[u16]) -> String {
        let text = text::decode(units);
        for character in text.chars() {
            self.advance(character);
        }
        text
    }

    fn advance(&mut self, character: char) {
        let mode = &mut *self.0;
        match character {
            '\r' => mode.cursor_column = 0,
            '\n' => mode.cursor_row = last(ROWS).min(mode.cursor_row.saturating_add(1)),
            '\u{8}' => mode.cursor_column = mode.cursor_column.saturating_sub(1).max(0),
            _ => mode.cursor_column = last(COLUMNS).min(mode.cursor_column.saturating_add(1)),
        }
    }

    /// Back to the initial mode, screen cleared.
    pub fn reset(&mut self) -> String {
        *self.0 = initial_mode();
        sequence("\x1b[0m\x1b[2J\x1b[H\x1b[?25h")
    }

    /// Selects a mode: 0 is the only one.
    pub fn set_mode(&mut self, mode: usize) -> Result<String, Unsupported> {
        if mode != 0 {
            return Err(Unsupported);
        }
        Ok(self.clear())
    }

    /// Clears the screen and homes the cursor.
    pub fn clear(&mut self) -> String {
        self.0.cursor_column = 0;
        self.0.cursor_row = 0;
        sequence("\x1b[2J\x1b[H")
    }

    /// Sets foreground (bits 0-3) and background (bits 4-6) colours.
    pub fn set_attribute(&mut self, attribute: usize) -> Result<String, Unsupported> {
        if attribute > MAX_ATTRIBUTE {
            return Err(Unsupported);
        }
        self.0.attribute = i32::try_from(attribute).map_err(|_| Unsupported)?;
        let bright = if attribute & 8 == 0 { 22 } else { 1 };
        Ok(format!(
            "\x1b[{bright};3{};4{}m",
            ansi_colour(attribute),
            ansi_colour(attribute >> 4)
        ))
    }

    /// Moves the cursor; the origin is column 0, row 0.
    pub fn set_cursor(&mut self, column: usize, row: usize) -> Result<String, Unsupported> {
        if column >= COLUMNS || row >= ROWS {
            return Err(Unsupported);
        }
        self.0.cursor_column = i32::try_from(column).map_err(|_| Unsupported)?;
        self.0.cursor_row = i32::try_from(row).map_err(|_| Unsupported)?;
        Ok(format!(
            "\x1b[{};{}H",
            row.saturating_add(1),
            column.saturating_add(1)
        ))
    }

    /// Shows or hides the cursor.
    pub fn enable_cursor(&mut self, visible: bool) -> String {
        self.0.cursor_visible = visible.into();
        sequence(if visible { "\x1b[?25h" } else { "\x1b[?25l" })
    }
}

#[inline(never)]
#[cold]
fn sequence(text: &str) -> String {
    String::from(text)
}

fn ansi_colour(attribute: usize) -> u8 {
    ANSI_COLOUR.get(attribute & 7).copied().unwrap_or_default()
}

fn last(size: usize) -> i32 {
    i32::try_from(size.saturating_sub(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_moves_the_cursor() {
        let mut mode = initial_mode();
        let text: Vec<u16> = "ab\r\nc\u{8}de".encode_utf16().collect();
        assert_eq!(Terminal(&mut mode).output(&text), "ab\r\nc\u{8}de");
        assert_eq!((mode.cursor_column, mode.cursor_row), (2, 1));
    }

    #[test]
    fn the_cursor_stays_on_the_screen() {
        let mut mode = initial_mode();
        let text: Vec<u16> = ["x".repeat(100), "\n".repeat(100)]
            .concat()
            .encode_utf16()
            .collect();
        Terminal(&mut mode).output(&text);
        assert_eq!((mode.cursor_column, mode.cursor_row), (79, 24));
        assert_eq!(Terminal(&mut mode).set_cursor(80, 0), Err(Unsupported));
        assert_eq!(Terminal(&mut mode).set_cursor(0, 25), Err(Unsupported));
    }

    #[test]
    fn attributes_become_ansi_colours() {
        let mut mode = initial_mode();
        // EFI_LIGHTRED on EFI_BLUE.
        let sequence = Terminal(&mut mode).set_attribute(0x1c);
        assert_eq!(sequence.as_deref(), Ok("\x1b[1;31;44m"));
        assert_eq!(mode.attribute, 0x1c);
        assert_eq!(Terminal(&mut mode).set_attribute(0x80), Err(Unsupported));
    }

    #[test]
    fn only_mode_zero_exists() {
        let mut mode = initial_mode();
        assert_eq!(Terminal(&mut mode).set_mode(1), Err(Unsupported));
        assert!(Terminal(&mut mode).set_mode(0).is_ok());
    }
}
