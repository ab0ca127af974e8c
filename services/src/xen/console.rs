//! The paravirtual console: two byte rings in a page (Xen
//! `xen/include/public/io/console.h`).
//!
//! Promises that nothing is lost while somebody reads, and that a console
//! nobody reads is waited for once only. The operating system goes on with the
//! ring as it is left.

use super::Link;
use super::ring::Ring;
use core::sync::atomic::{AtomicBool, Ordering};

/// What is typed into the console.
const INPUT: Ring = Ring {
    data: 0,
    size: 1024,
    consumer: 0xc00,
    producer: 0xc04,
};
/// What it shows.
const OUTPUT: Ring = Ring {
    data: 0x400,
    size: 2048,
    consumer: 0xc08,
    producer: 0xc0c,
};

/// A console over its page.
#[derive(Debug)]
pub struct Console<L> {
    link: L,
    /// Nobody has read in time; until somebody does, text is dropped.
    deserted: AtomicBool,
}

impl<L: Link> Console<L> {
    /// The console over `link`.
    pub const fn new(link: L) -> Self {
        Self {
            link,
            deserted: AtomicBool::new(false),
        }
    }

    /// Shows `text` as it is.
    pub fn write(&self, text: &str) {
        let mut rest = text.as_bytes();
        loop {
            let pushed = OUTPUT.push(&self.link, rest).unwrap_or(rest.len());
            rest = rest.get(pushed..).unwrap_or_default();
            self.link.notify();
            if rest.is_empty() || !self.has_room() {
                return;
            }
        }
    }

    /// Waits for room, unless that has been in vain before.
    fn has_room(&self) -> bool {
        let room = || OUTPUT.used(&self.link).is_ok_and(|used| used < OUTPUT.size);
        let found = match self.deserted.load(Ordering::Relaxed) {
            true => room(),
            false => self.link.wait(&room),
        };
        self.deserted.store(!found, Ordering::Relaxed);
        found
    }

    /// Takes one byte that was typed.
    pub fn read_byte(&self) -> Option<u8> {
        let mut byte = [0];
        let pulled = INPUT.pull(&self.link, &mut byte).unwrap_or(0);
        if pulled == 0 {
            return None;
        }
        self.link.notify();
        let [byte] = byte;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::simulated::Page;
    use super::*;
    use std::cell::RefCell;

    fn drain(page: &Page<'_>, shown: &RefCell<Vec<u8>>) {
        let mut buffer = [0; 300];
        let pulled = OUTPUT.pull(page, &mut buffer).unwrap();
        shown.borrow_mut().extend(buffer.get(..pulled).unwrap());
    }

    #[test]
    fn more_than_a_ring_is_shown_whole() {
        let shown = RefCell::new(Vec::new());
        let back_end = |page: &Page<'_>| drain(page, &shown);
        let page = Page::with(&back_end);
        let text = "0123456789".repeat(1000);
        let console = Console::new(page);
        console.write(&text);
        while OUTPUT.used(&console.link).unwrap() > 0 {
            drain(&console.link, &shown);
        }
        assert_eq!(shown.borrow().as_slice(), text.as_bytes());
        assert!(console.link.notified.get() > 1);
    }

    #[test]
    fn a_deserted_console_is_waited_for_once() {
        let waits = RefCell::new(0);
        let back_end = |_: &Page<'_>| *waits.borrow_mut() += 1;
        let page = Page::with(&back_end);
        let console = Console::new(page);
        console.write(&"x".repeat(3000));
        let first = *waits.borrow();
        assert!(first > 0);
        console.write(&"y".repeat(3000));
        assert_eq!(*waits.borrow(), first);
        // Somebody reads again: what is written from now on is shown.
        OUTPUT.pull(&console.link, &mut [0; 2048]).unwrap();
        console.write("z");
        assert_eq!(OUTPUT.used(&console.link), Ok(1));
    }

    #[test]
    fn nonsense_in_the_page_drops_text_instead_of_hanging() {
        let page = Page::default();
        page.store(OUTPUT.consumer, 7);
        page.store(INPUT.consumer, 7);
        let console = Console::new(page);
        console.write("text");
        assert_eq!(console.read_byte(), None);
    }

    #[test]
    fn bytes_are_read_one_by_one() {
        let page = Page::default();
        INPUT.push(&page, b"ab").unwrap();
        let console = Console::new(page);
        let read: Vec<_> = std::iter::from_fn(|| console.read_byte()).collect();
        assert_eq!(read, b"ab");
    }
}
