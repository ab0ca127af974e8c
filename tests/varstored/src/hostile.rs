//! What no varstored does: answers that a firmware must not believe. They begin
//! with the first SetVariable: until then it has to take us for varstored.

use crate::protocol::{Command, Handled, SIZE, Writer};

/// A way to answer wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A value or a name that succeeds, one byte longer than the guest has room.
    Longer,
    /// The same with a length near 2^64.
    Endless,
    /// A value or a name that does not fit although there is room for more.
    Smaller,
    /// A status that UEFI does not know, for everything.
    Status,
    /// No answer: the request is still there.
    Silence,
    /// The same from the start.
    Mute,
}

impl Mode {
    /// The mode called `name`.
    pub fn named(name: &str) -> Option<Mode> {
        Some(match name {
            "longer" => Mode::Longer,
            "endless" => Mode::Endless,
            "smaller" => Mode::Smaller,
            "status" => Mode::Status,
            "silence" => Mode::Silence,
            "mute" => Mode::Mute,
            _ => return None,
        })
    }

    /// Whether wrong answers begin with this one.
    pub fn begins(self, handled: &Handled) -> bool {
        self == Mode::Mute || handled.command == Some(Command::Set)
    }

    /// Puts a wrong answer into `message`, which held `request`.
    pub fn spoil(self, request: &[u8; SIZE], handled: &Handled, message: &mut [u8; SIZE]) {
        let reads = matches!(handled.command, Some(Command::Get | Command::Next));
        let mut answer = Writer { message, at: 0 };
        match self {
            Mode::Silence | Mode::Mute => *message = *request,
            Mode::Status => answer.u64(0x8000_0000_1234_5678),
            _ if !reads => {}
            Mode::Smaller => {
                answer.u64(crate::store::BUFFER_TOO_SMALL);
                answer.u64(handled.room / 2);
            }
            Mode::Longer => success(&mut answer, handled, handled.room.wrapping_add(1)),
            Mode::Endless => success(&mut answer, handled, u64::MAX - 7),
        }
    }
}

fn success(answer: &mut Writer<'_>, handled: &Handled, length: u64) {
    answer.u64(0);
    if handled.command == Some(Command::Get) {
        answer.put(&7_u32.to_le_bytes());
    }
    answer.u64(length);
}
