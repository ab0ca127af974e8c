//! One piece of memory at two addresses, as an operating system maps the
//! firmware: once where it was placed, once where it shall be.

use std::ptr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Where first views are wanted, one behind the other: where a machine could have
/// memory, too, and at no number that code has use for.
static NEXT: AtomicUsize = AtomicUsize::new(0x67_89a0_0000);

/// Where the second view is wanted, far from anything `mmap` chooses.
const FAR_AWAY: usize = 0x2345_6789_0000;

/// Two readable, writable and executable mappings of the same memory.
pub struct Views {
    /// Where the image is placed: its "physical" address.
    pub first: *mut u8,
    /// Where the image moves to: its "virtual" address.
    pub second: *mut u8,
    /// Size of each view in bytes.
    pub size: usize,
}

impl Views {
    /// Maps `size` zeroed bytes, a multiple of 4 KiB, twice.
    pub fn new(size: usize) -> Self {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(c"runtime image".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(
            file >= 0,
            "memfd_create: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: plain numbers.
        let resized = unsafe { libc::ftruncate(file, size.try_into().expect("a file size")) };
        assert_eq!(resized, 0, "ftruncate: {}", std::io::Error::last_os_error());
        let views = Self {
            first: map(
                file,
                NEXT.fetch_add(size.next_multiple_of(1 << 20), Relaxed),
                size,
            ),
            second: map(file, FAR_AWAY, size),
            size,
        };
        // SAFETY: the descriptor is ours, and the mappings outlive it.
        unsafe { libc::close(file) };
        views
    }

    /// Makes every further access to the first view a SIGSEGV. The addresses
    /// stay taken, so nothing else appears there.
    pub fn remove_first(&self) {
        // SAFETY: the range is a mapping of ours, to which no reference exists.
        let result = unsafe { libc::mprotect(self.first.cast(), self.size, libc::PROT_NONE) };
        assert_eq!(result, 0, "mprotect: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        for view in [self.first, self.second] {
            // SAFETY: the range is a mapping of ours, and whoever used it is gone.
            unsafe { libc::munmap(view.cast(), self.size) };
        }
    }
}

fn map(file: i32, hint: usize, size: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let hint = ptr::without_provenance_mut(hint);
    // SAFETY: without MAP_FIXED nothing existing is replaced.
    let view = unsafe { libc::mmap(hint, size, access, libc::MAP_SHARED, file, 0) };
    assert_ne!(
        view,
        libc::MAP_FAILED,
        "mmap: {}",
        std::io::Error::last_os_error()
    );
    view.cast()
}
