//! The memory of a component that lives for one call.
//!
//! Memory is handed out upwards and never taken back, only the last piece grows in place: the whole
//! instance is gone after the call, so a real allocator would be half of the component's code for
//! nothing. Giving back is nothing at all, so the compiler leaves out the code that would walk
//! every list to do so. The first pieces come from the initial memory behind the stack, which costs
//! no growth.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::ptr::{self, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 65_536;

unsafe extern "C" {
    /// End of the initial data and stack, placed by the linker. Only the symbol's address has a
    /// meaning.
    static __heap_base: u8;
}

/// The allocator of a policy; [`crate::policy!`] installs it.
#[derive(Debug)]
pub struct Heap {
    /// First free address; 0 before the first request.
    top: AtomicUsize,
}

impl Heap {
    /// Nothing handed out yet.
    pub const fn new() -> Self {
        Self { top: AtomicUsize::new(0) }
    }

    fn top(&self) -> usize {
        match self.top.load(Ordering::Relaxed) {
            0 => (&raw const __heap_base).addr(),
            top => top,
        }
    }

    /// Makes `end` the first free address, growing the memory if need be.
    fn raise(&self, end: usize) -> bool {
        let missing = end.saturating_sub(memory_size(0) * PAGE).div_ceil(PAGE);
        if missing > 0 && memory_grow(0, missing) == usize::MAX {
            return false;
        }
        self.top.store(end, Ordering::Relaxed);
        true
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// The methods are not inlined: their code is longer than a call at each of their callers.
//
// SAFETY: a component has one thread, so `top` is never contended. Pieces never overlap: each
// begins at or after `top`, which then moves to its end, and `top` moves back only when the piece
// that was handed out last shrinks.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.top().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if self.raise(end) => ptr::with_exposed_provenance_mut(start),
            _ => null_mut(),
        }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if piece.addr() + layout.size() == self.top() {
            return match piece.addr().checked_add(size) {
                Some(end) if self.raise(end) => piece,
                _ => null_mut(),
            };
        }
        // SAFETY: the caller vouches for `size` and the alignment's being sound together, as
        // `realloc` asks.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both pieces hold at least the smaller of the two sizes, and a new piece
            // overlaps no other.
            unsafe { ptr::copy_nonoverlapping(piece, new, layout.size().min(size)) };
        }
        new
    }
}
