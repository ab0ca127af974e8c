//! A value that is found out once.
//!
//! Without a lock, which in each place would be larger than all the rest: only one
//! processor runs this code, without interrupts.

use core::cell::UnsafeCell;

/// A value, as soon as somebody needs it.
pub struct Once<T>(UnsafeCell<Option<T>>);

// SAFETY: there is only one processor, and no reference to the value leaves a
// function.
unsafe impl<T> Sync for Once<T> {}

impl<T: Copy> Once<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<T> {
        // SAFETY: nobody writes meanwhile; see above.
        unsafe { *self.0.get() }
    }

    /// The value; `find` says what it is if there is none. It may ask for other
    /// values.
    pub fn get_or(&self, find: impl FnOnce() -> T) -> T {
        self.get().unwrap_or_else(|| {
            let found = find();
            // SAFETY: nobody reads meanwhile; see above.
            unsafe { *self.0.get() = Some(found) };
            found
        })
    }
}
