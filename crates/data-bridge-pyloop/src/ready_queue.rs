//! What is ready to run: the loop's own FIFO, and the inbox into which other threads push.

use std::collections::VecDeque;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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

// SAFETY: plain pointers; they are followed only by threads that are attached.
unsafe impl Send for Entry {}

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
    pub unsafe fn release(self) {
        // SAFETY: the caller's promise.
        unsafe {
            handle::let_go(self.callable);
            ffi::Py_XDECREF(self.argument);
            ffi::Py_XDECREF(self.context);
        }
    }

    /// The references, for the garbage collector.
    pub fn references(&self) -> [Obj; 3] {
        [self.callable, self.argument, self.context]
    }
}

/// The FIFO of the loop's thread.
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

    /// Takes the oldest entry.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Entry> {
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

/// Entries from other threads, in the order of their arrival.
#[derive(Default)]
pub struct Inbox {
    entries: Mutex<Vec<Entry>>,
    waiting: AtomicBool,
}

impl Inbox {
    /// Appends entries; from any thread. The caller then asks the waker.
    pub fn push(&self, batch: impl IntoIterator<Item = Entry>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.extend(batch);
        if !self.waiting.load(Ordering::Relaxed) {
            self.waiting.store(true, Ordering::SeqCst);
        }
    }

    /// Whether something waits: one load, for the loop to look on each pass.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Swaps what waits with the empty `spare`.
    pub fn take(&self, spare: &mut Vec<Entry>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *entries, spare);
        self.waiting.store(false, Ordering::SeqCst);
    }

    /// Looks at what waits, for the garbage collector and the views.
    pub fn peek<R>(&self, f: impl FnOnce(&[Entry]) -> R) -> R {
        f(&self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
