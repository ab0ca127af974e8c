//! A page in the test's own memory, or some in a row, and a back end that runs
//! whenever the front end waits.

use super::Link;
use std::cell::{Cell, RefCell};

/// A page, and what the back end does when it gets to run.
pub struct Page<'b> {
    bytes: RefCell<Vec<u8>>,
    /// `None` is a back end that has died.
    back_end: Option<&'b dyn Fn(&Page<'b>)>,
    /// How often the front end has notified.
    pub notified: Cell<usize>,
}

impl Default for Page<'_> {
    fn default() -> Self {
        Self {
            bytes: RefCell::new(vec![0; 4096]),
            back_end: None,
            notified: Cell::new(0),
        }
    }
}

impl<'b> Page<'b> {
    /// As many pages, with `back_end`.
    pub fn pages(count: usize, back_end: &'b dyn Fn(&Page<'b>)) -> Self {
        Self {
            bytes: RefCell::new(vec![0x5a; count.saturating_mul(4096)]),
            ..Self::with(back_end)
        }
    }

    /// A page whose back end does this when it gets to run.
    pub fn with(back_end: &'b dyn Fn(&Page<'b>)) -> Self {
        Self {
            back_end: Some(back_end),
            ..Self::default()
        }
    }
}

/// How often a wait lets the back end run before it gives up.
const PATIENCE: usize = 100;

impl Link for Page<'_> {
    fn load(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) {
        let bytes = self.bytes.borrow();
        let source = bytes.get(offset..).unwrap_or_default();
        for (to, from) in buffer.iter_mut().zip(source) {
            *to = *from;
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let mut page = self.bytes.borrow_mut();
        let target = page.get_mut(offset..).unwrap_or_default();
        for (to, from) in target.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    fn notify(&self) {
        self.notified.set(self.notified.get().saturating_add(1));
    }

    fn wait(&self, ready: &dyn Fn() -> bool) -> bool {
        for _ in 0..PATIENCE {
            if ready() {
                return true;
            }
            if let Some(back_end) = self.back_end {
                back_end(self);
            }
        }
        ready()
    }
}
