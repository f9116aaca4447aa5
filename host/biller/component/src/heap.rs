//! The memory of a bill.
//!
//! Most pieces are small: texts of prices and entries of maps. Small pieces have sizes of a few
//! classes, and one that is given back is the next of its class to be handed out; a general
//! allocator takes ten times as many instructions for both. All larger pieces, which grow and
//! shrink, are the general one's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Bytes by which classes differ; every piece is aligned to them.
const STEP: usize = 16;
const CLASSES: usize = 32;
/// Bytes of the largest small piece.
const SMALL: usize = STEP * CLASSES;
/// Bytes that are cut into small pieces at a time.
const CHUNK: usize = 16_384;

/// A piece that was given back.
struct Free {
    next: *mut Free,
}

/// The allocator of the component.
pub(crate) struct Heap {
    /// Pieces that were given back, by class.
    free: [Cell<*mut Free>; CLASSES],
    /// The uncut rest of the last chunk.
    rest: Cell<*mut u8>,
    rest_bytes: Cell<usize>,
}

impl Heap {
    pub(crate) const fn new() -> Self {
        Self {
            free: [const { Cell::new(null_mut()) }; CLASSES],
            rest: Cell::new(null_mut()),
            rest_bytes: Cell::new(0),
        }
    }

    /// Cuts a new piece of a class; null if there is no memory.
    #[inline(never)]
    fn cut(&self, class: usize) -> *mut u8 {
        let bytes = (class + 1) * STEP;
        if self.rest_bytes.get() < bytes {
            // SAFETY: the size is not 0 and the alignment is a power of two.
            let chunk = unsafe { System.alloc(Layout::from_size_align_unchecked(CHUNK, STEP)) };
            if chunk.is_null() {
                return chunk;
            }
            self.rest.set(chunk);
            self.rest_bytes.set(CHUNK);
        }
        let piece = self.rest.get();
        self.rest_bytes.set(self.rest_bytes.get() - bytes);
        // SAFETY: the rest holds `bytes` at least, so that this is inside it or its end.
        self.rest.set(unsafe { piece.add(bytes) });
        piece
    }
}

/// The class of a piece; none of one that is not small.
#[inline(always)]
fn class(layout: Layout) -> Option<usize> {
    let is_small = layout.size() <= SMALL && layout.align() <= STEP;
    is_small.then(|| layout.size().saturating_sub(1) / STEP)
}

// SAFETY: a component has one thread.
unsafe impl Sync for Heap {}

// SAFETY: a piece has the bytes of its class, which are no less than its layout's, and a class is
// found by the layout alone, so that a piece returns to the list that it came from. Pieces are cut
// once, from chunks that are never given back, and are in a list only while nobody has them.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(layout) else {
            // SAFETY: the caller vouches for the layout.
            return unsafe { System.alloc(layout) };
        };
        let piece = self.free[class].get();
        if piece.is_null() {
            return self.cut(class);
        }
        // SAFETY: a piece in a list was written by `dealloc`.
        self.free[class].set(unsafe { (*piece).next });
        piece.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some(class) = class(layout) else {
            // SAFETY: a piece that is not small came from there.
            return unsafe { System.dealloc(piece, layout) };
        };
        let piece: *mut Free = piece.cast();
        // SAFETY: every class has room for an address, and its alignment.
        unsafe { piece.write(Free { next: self.free[class].get() }) };
        self.free[class].set(piece);
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for `size` and the alignment's being sound together.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(new_layout)) {
            (Some(one), Some(other)) if one == other => piece,
            // SAFETY: a piece that is not small came from there.
            (None, None) => unsafe { System.realloc(piece, layout, size) },
            _ => {
                // SAFETY: as for `alloc`; both pieces hold the smaller of the two sizes, and a new
                // piece overlaps no other.
                unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        piece.copy_to_nonoverlapping(new, layout.size().min(size));
                        self.dealloc(piece, layout);
                    }
                    new
                }
            }
        }
    }
}
