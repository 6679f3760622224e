//! Memory for crowds of handles: blocks the size of a huge page.
//!
//! A program that queues a million callbacks touches fresh memory for each, and most of the time goes to the kernel, small page by
//! small page. A block costs it little more than one of those; one whose last handle is gone is given back whole.

use std::mem::size_of;
use std::ptr::{null_mut, NonNull};

use pyo3::ffi;

use super::shells::alive;
use super::Handle;
use crate::py::cell::LoopCell;
use crate::sys;

/// So many living handles are a crowd.
const CROWD: usize = 1 << 16;

/// The size of a block and its alignment: that of a huge page.
const BLOCK: usize = 1 << 21;
/// The garbage collector's head before each object: two words, zero while it is not tracked.
const GC_HEAD: usize = 2 * size_of::<usize>();
/// Bytes from one object to the next.
const STRIDE: usize = (GC_HEAD + size_of::<Handle>()).next_multiple_of(16);
/// Where the first slot begins.
const FIRST: usize = size_of::<Block>().next_multiple_of(64);
/// Slots of a block.
const SLOTS: usize = (BLOCK - FIRST) / STRIDE;

/// What stands at the beginning of a block.
struct Block {
    /// The slot that was freed last, or null; each has the address of the next in its first word.
    free: *mut u8,
    /// Slots that were never used begin at this number.
    unused: usize,
    /// How many slots are in use.
    live: usize,
}

/// The blocks that have room. A full block is known to its handles alone: their addresses name it.
struct Blocks {
    open: Vec<NonNull<Block>>,
    /// Whether the interpreter's heads are as we know them; found out with the first block.
    known: Option<bool>,
}

// SAFETY: only reached through the LoopCell, by threads that are attached.
unsafe impl Send for Blocks {}

static BLOCKS: LoopCell<Blocks> = LoopCell::new(Blocks { open: Vec::new(), known: None });

/// Memory for one handle, with its head zeroed before it; `None` while there is no crowd, and where there are no blocks.
pub(super) fn take() -> Option<NonNull<Handle>> {
    if alive() < CROWD {
        return None;
    }
    BLOCKS.with(Blocks::take).map(NonNull::cast)
}

/// Takes the memory of a handle back.
///
/// # Safety
/// Attached; `h` came from `take`, and nobody knows it any more.
pub(super) unsafe fn give(h: *mut Handle) {
    // SAFETY: the caller's promise.
    BLOCKS.with(|blocks| unsafe { blocks.give(h.cast()) });
}

/// Gives blocks without handles back.
pub(super) fn trim() {
    BLOCKS.with(Blocks::trim);
}

impl Blocks {
    fn take(&mut self) -> Option<NonNull<u8>> {
        let mut block = match self.open.last() {
            Some(&block) => block,
            None => self.open_block()?,
        };
        // SAFETY: a block of ours that has room; each slot is in one place only, the chain of free ones or the hands of a handle.
        unsafe {
            let head = block.as_mut();
            let slot = if head.free.is_null() {
                head.unused += 1;
                block.as_ptr().cast::<u8>().add(FIRST + (head.unused - 1) * STRIDE)
            } else {
                let slot = head.free;
                head.free = slot.cast::<*mut u8>().read();
                slot
            };
            head.live += 1;
            if head.live == SLOTS {
                self.open.pop();
            }
            slot.write_bytes(0, GC_HEAD);
            NonNull::new(slot.add(GC_HEAD))
        }
    }

    #[cold]
    fn open_block(&mut self) -> Option<NonNull<Block>> {
        if !*self.known.get_or_insert_with(known_interpreter) {
            return None;
        }
        let block = sys::map_aligned(BLOCK)?.cast::<Block>();
        // SAFETY: fresh memory of ours, aligned for anything.
        unsafe { block.write(Block { free: null_mut(), unused: 0, live: 0 }) };
        self.open.push(block);
        Some(block)
    }

    /// # Safety
    /// `object` came from `take`, and nobody knows it any more.
    unsafe fn give(&mut self, object: *mut u8) {
        // SAFETY: the caller's promise: the slot lies in a block, which begins at a multiple of its size.
        unsafe {
            let slot = object.sub(GC_HEAD);
            let mut block = NonNull::new_unchecked(slot.sub(slot.addr() % BLOCK).cast::<Block>());
            let head = block.as_mut();
            slot.cast::<*mut u8>().write(head.free);
            head.free = slot;
            head.live -= 1;
            if head.live + 1 == SLOTS {
                self.open.push(block);
            }
            // In the midst of a crowd the last block stays, or one handle more and less would map and unmap it each time.
            if head.live == 0 && (self.open.len() > 1 || alive() < CROWD / 2) {
                self.open.retain(|&open| open != block);
                sys::unmap(block.cast(), BLOCK);
            }
        }
    }

    fn trim(&mut self) {
        self.open.retain(|block| {
            // SAFETY: a block of ours; if it is empty, nobody knows any of its slots.
            unsafe {
                let empty = block.as_ref().live == 0;
                if empty {
                    sys::unmap(block.cast(), BLOCK);
                }
                !empty
            }
        });
    }
}

/// Whether this interpreter's objects have the two-word head that is made here: CPython 3.11 to 3.13 with the GIL.
fn known_interpreter() -> bool {
    // SAFETY: a constant of the interpreter's.
    let version = unsafe { ffi::Py_Version } >> 16;
    // Free-threaded and tracing builds have larger objects.
    size_of::<ffi::PyObject>() == 2 * size_of::<usize>() && (0x30b..=0x30d).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_apart_come_back_and_empty_blocks_go() {
        let mut blocks = Blocks { open: Vec::new(), known: Some(true) };
        let mut taken: Vec<_> = (0..SLOTS + 10).map(|_| blocks.take().expect("memory")).collect();
        assert_eq!(blocks.open.len(), 1);
        for object in &taken {
            // SAFETY: the slot is ours from the head to the end of the handle.
            unsafe { object.sub(GC_HEAD).write_bytes(0xff, STRIDE) };
        }
        // Of the first block, which is full.
        let again = taken[5];
        taken.sort();
        assert!(taken.windows(2).all(|pair| pair[1].addr().get() - pair[0].addr().get() >= STRIDE));
        // SAFETY: taken above.
        unsafe { blocks.give(again.as_ptr()) };
        assert_eq!(blocks.open.len(), 2);
        assert_eq!(blocks.take(), Some(again));
        // SAFETY: the head of a slot of ours.
        assert_eq!(unsafe { again.sub(GC_HEAD).cast::<[usize; 2]>().read() }, [0, 0]);
        for object in taken {
            // SAFETY: as above.
            unsafe { blocks.give(object.as_ptr()) };
        }
        blocks.trim();
        assert!(blocks.open.is_empty());
    }
}
