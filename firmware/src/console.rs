//! Where text goes: the first serial port, the host's debug console and Xen's
//! paravirtual console, each if it is there. Also the sink of the `log` crate.
//!
//! Never waits for ever: a device that does not take a byte in bounded time
//! loses it.

use crate::arch::once::Once;
use crate::ports::{read, write, write_string};
use crate::xen::{self, Page};
use alloc::boxed::Box;
use core::fmt::{self, Write};
use log::{Level, LevelFilter, Log, Metadata, Record};
use ovmf_lite_services::xen::console::Console as XenConsole;

/// COM1, a 16550 or better.
const SERIAL: u16 = 0x3f8;
const SERIAL_LCR: u16 = SERIAL + 3;
const SERIAL_MCR: u16 = SERIAL + 4;
const SERIAL_LSR: u16 = SERIAL + 5;
const SERIAL_SCRATCH: u16 = SERIAL + 7;
/// FIFO control when written, interrupt identification when read, where both
/// upper bits say that there are FIFOs.
const SERIAL_FIFO: u16 = SERIAL + 2;
const FIFO_ON_AND_EMPTY: u8 = 0x07;
const FIFO_IS_ON: u8 = 0xc0;
/// Bytes that fit into an empty FIFO: of a 16550A, and as good as without one.
const FIFO: u8 = 16;
const NO_FIFO: u8 = 1;
const LSR_DATA_READY: u8 = 1 << 0;
const LSR_TRANSMIT_EMPTY: u8 = 1 << 5;
/// How often the transmitter is asked before a byte is given up: far more than
/// the time of one character at 115200 baud.
const MAX_POLLS: u32 = 100_000;

/// QEMU's debugcon at its two usual addresses; reads back its own number.
const DEBUG_PORTS: [u16; 2] = [0x402, XEN_DEBUG_PORT];
/// Xen's, which does not read back and is always there
/// (`XEN_HVM_DEBUGCONS_IOPORT`).
const XEN_DEBUG_PORT: u16 = 0xe9;
const DEBUG_PRESENT: u8 = 0xe9;

/// Which of the consoles are there. Asked once: each port access leaves the guest.
#[derive(Clone, Copy)]
struct Present {
    /// Bytes that the serial port takes at once; 0 without one.
    serial: u8,
    debug: [bool; 2],
}

static PRESENT: Once<Present> = Once::new();

#[inline(never)]
fn present() -> Present {
    PRESENT.get_or(|| Present {
        serial: set_serial_up(),
        debug: DEBUG_PORTS.map(debug_present),
    })
}

/// Xen's paravirtual console, if this is a domain that has one.
static XEN_CONSOLE: Once<Option<&'static XenConsole<Page>>> = Once::new();

/// Sends log lines to the consoles.
pub fn init() {
    // Fails only when a logger is set already, and this is the only caller.
    let _ = log::set_logger(&Console);
    log::set_max_level(LevelFilter::Info);
}

/// Sets the serial port up. Returns [`Present::serial`].
fn set_serial_up() -> u8 {
    write(SERIAL_SCRATCH, 0x5au8);
    if read::<u8>(SERIAL_SCRATCH) != 0x5a {
        return 0;
    }
    write(SERIAL_LCR, 0x80u8); // divisor latch
    write(SERIAL, 1u8); // 115200 baud
    write(SERIAL + 1, 0u8);
    write(SERIAL_LCR, 0x03u8); // 8n1, latch off
    write(SERIAL + 1, 0u8); // no interrupts
    write(SERIAL_FIFO, FIFO_ON_AND_EMPTY);
    write(SERIAL_MCR, 0x03u8); // DTR, RTS
    match read::<u8>(SERIAL_FIFO) & FIFO_IS_ON {
        FIFO_IS_ON => FIFO,
        _ => NO_FIFO,
    }
}

/// Writes text as it is to the serial port, where there is none to Xen's console,
/// and to the debug consoles.
pub fn write_text(text: &str) {
    let Present { serial, debug } = present();
    if serial != 0 {
        text.as_bytes().chunks(serial.into()).for_each(write_serial);
    }
    for (port, _) in DEBUG_PORTS
        .iter()
        .zip(debug)
        .filter(|(_, present)| *present)
    {
        write_string(*port, text.as_bytes());
    }
    if let Some(console) = xen_console().filter(|_| serial == 0) {
        console.write(text);
    }
}

fn debug_present(port: u16) -> bool {
    let under_xen = port == XEN_DEBUG_PORT && xen::get().is_some();
    under_xen || read::<u8>(port) == DEBUG_PRESENT
}

fn xen_console() -> Option<&'static XenConsole<Page>> {
    XEN_CONSOLE.get_or(|| Some(Box::leak(Box::new(xen::get()?.console()?))))
}

/// Writes as many bytes as an empty transmitter takes.
fn write_serial(bytes: &[u8]) {
    for _ in 0..MAX_POLLS {
        if read::<u8>(SERIAL_LSR) & LSR_TRANSMIT_EMPTY != 0 {
            return write_string(SERIAL, bytes);
        }
    }
}

/// Takes one byte that came in on the serial port or on Xen's console.
#[cold]
pub fn read_byte() -> Option<u8> {
    let ready = present().serial != 0 && read::<u8>(SERIAL_LSR) & LSR_DATA_READY != 0;
    if ready {
        return Some(read(SERIAL));
    }
    xen_console()?.read_byte()
}

/// The consoles as a formatter's target, with line ends as terminals want them.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    write_text(line);
                    write_text("\r\n");
                }
                None => write_text(line),
            }
        }
        Ok(())
    }
}

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        say(record.level(), *record.args());
    }

    fn flush(&self) {}
}

/// Writes a line of the log, unless the domain's options leave its level out.
#[inline(never)]
pub fn say(level: Level, line: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let kind = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        _ => "",
    };
    let _ = writeln!(Console, "ovmf-lite: {kind}{line}");
}

/// `log`'s macros without what its records hold beside level and text.
macro_rules! error {
    ($($line:tt)+) => { $crate::console::say(log::Level::Error, format_args!($($line)+)) };
}
/// See [`error`].
macro_rules! warning {
    ($($line:tt)+) => { $crate::console::say(log::Level::Warn, format_args!($($line)+)) };
}
/// See [`error`].
macro_rules! info {
    ($($line:tt)+) => { $crate::console::say(log::Level::Info, format_args!($($line)+)) };
}
pub(crate) use {error, info, warning};
