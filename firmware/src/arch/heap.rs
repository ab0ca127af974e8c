//! The firmware's own heap.
//!
//! It is part of the image's bss, not a range out of the memory map, because
//! the memory map itself lives on it. Programs get their memory from the map
//! and the pool, never from here; what their calls can make the firmware keep
//! is bounded by the limits of each data structure.

use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null_mut};
use spin::Mutex;

/// Size of the heap in bytes.
const SIZE: usize = 512 * 1024;
const ORDERS: usize = SIZE.ilog2() as usize + 1;

#[repr(C, align(4096))]
struct Arena(UnsafeCell<MaybeUninit<[u8; SIZE]>>);

// SAFETY: only the allocator, behind its lock, touches the arena.
unsafe impl Sync for Arena {}

// Cleared by nobody: to clear it would be a third of the work of a whole start.
#[unsafe(link_section = ".bss.uncleared.heap")]
static ARENA: Arena = Arena(UnsafeCell::new(MaybeUninit::uninit()));

/// Blocks are powers of two, at multiples of their size.
struct Locked(Mutex<Heap<ORDERS>>);

#[global_allocator]
static HEAP: Locked = Locked(Mutex::new(Heap::new()));

/// Gives the arena to the allocator.
pub fn init() {
    let mut heap = HEAP.0.lock();
    // SAFETY: the arena is used by nothing else; called once, from `arch::init`.
    unsafe { heap.init(ARENA.0.get().expose_provenance(), SIZE) };
}

// SAFETY: the heap hands out disjoint blocks that stay valid until freed.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.0.lock().alloc(layout) {
            Ok(block) => block.as_ptr(),
            Err(()) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(pointer) {
            // SAFETY: the caller's promise: allocated here with this layout.
            unsafe { self.0.lock().dealloc(block, layout) };
        }
    }
}
