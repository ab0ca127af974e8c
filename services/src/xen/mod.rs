//! What Xen and its toolstack offer a guest, without the hypercalls: byte rings,
//! the console, xenstore, and what shared memory says about the time.
//!
//! A back end in another domain reads and writes the same pages at the same
//! time. It is trusted with its own data, never with our memory: indices that
//! make no sense are an error, a back end that says nothing is given up after a
//! bounded wait.

pub mod console;
pub mod disk;
pub mod domain;
pub mod hvmloader;
mod ring;
#[cfg(test)]
mod simulated;
pub mod time;
pub mod xenstore;

/// A page shared with a back end, or some in a row, and the event channel that both
/// listen to.
pub trait Link {
    /// Reads a field of 32 bits. What the back end wrote before it wrote this
    /// field can be read after.
    fn load(&self, offset: usize) -> u32;
    /// Writes a field of 32 bits. Who sees it also sees what was written before.
    fn store(&self, offset: usize, value: u32);
    /// Copies bytes out of the page. The caller stays inside.
    fn read(&self, offset: usize, buffer: &mut [u8]);
    /// Copies bytes into the page. The caller stays inside.
    fn write(&self, offset: usize, bytes: &[u8]);
    /// Tells the back end that the page has changed.
    fn notify(&self);
    /// Lets others run until `ready` says yes; `false` when it has not after as
    /// long as a living back end may take.
    fn wait(&self, ready: &dyn Fn() -> bool) -> bool;
}
