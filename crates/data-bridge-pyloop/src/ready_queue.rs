//! What is ready to run, in order.
//!
//! Other threads push here too: only an attached thread reaches the queue, and one thread at a time is attached. An inbox of
//! their own behind a mutex came first; the function that pushed to it took 11 % of the samples of a profile at full rate, and the
//! order between it and the queue was harder to keep. Free-threaded builds will need one.

use std::collections::VecDeque;
use std::ptr::null_mut;

use pyo3::ffi;

use crate::handle;
use crate::py::object::Obj;

/// A queue that has grown beyond this many entries gives its memory back when it runs empty.
const KEEP: usize = 1 << 16;

/// One thing to run: a handle, or a bare callable whose handle nobody will see.
///
/// Owns its references, but has no destructor: a queue must be able to let go of entries without running Python.
#[derive(Clone, Copy)]
pub struct Entry {
    /// A handle if `context` is null, else the callable.
    pub callable: Obj,
    /// The one argument of a bare callable, or null.
    pub argument: Obj,
    /// The context of a bare callable.
    pub context: Obj,
}

impl Entry {
    /// An entry that owns one reference to `handle`.
    #[inline(always)]
    pub fn handle(handle: Obj) -> Self {
        Self { callable: handle, argument: null_mut(), context: null_mut() }
    }

    /// Releases the references.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`; the entry is in no queue any more.
    #[inline(always)]
    pub unsafe fn release(self) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.context.is_null() {
                handle::let_go(self.callable);
            } else {
                ffi::Py_DECREF(self.callable);
                ffi::Py_XDECREF(self.argument);
                ffi::Py_DECREF(self.context);
            }
        }
    }

    /// The references, for the garbage collector.
    pub fn references(&self) -> [Obj; 3] {
        [self.callable, self.argument, self.context]
    }
}

/// How many entries ahead handles are fetched, and then their contexts.
const AHEAD: usize = 8;
const NEARER: usize = 4;

/// The FIFO of one loop.
#[derive(Default)]
pub struct ReadyQueue {
    entries: VecDeque<Entry>,
}

impl ReadyQueue {
    /// Appends an entry.
    #[inline(always)]
    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Takes the oldest entry, and asks the processor for later ones: in a long queue their memory is cold by now.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Entry> {
        for (ahead, inner) in [(AHEAD, false), (NEARER, true)] {
            if let Some(later) = self.entries.get(ahead) {
                // SAFETY: the queue's own reference keeps it alive.
                unsafe { handle::prefetch(later.callable, inner) };
            }
        }
        self.entries.pop_front()
    }

    /// How many entries wait.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends all of `batch`, and leaves it empty.
    pub fn append(&mut self, batch: &mut Vec<Entry>) {
        self.entries.extend(batch.drain(..));
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes everything out.
    pub fn take_all(&mut self) -> VecDeque<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Gives the memory of a past burst back, once the queue is empty.
    #[inline]
    pub fn shrink(&mut self) {
        if self.entries.capacity() > KEEP && self.entries.is_empty() {
            self.entries.shrink_to(KEEP / 4);
        }
    }
}
