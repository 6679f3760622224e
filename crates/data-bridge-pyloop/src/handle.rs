//! `Handle` and `TimerHandle`: a callback, its arguments, its context, cancelled or not.
//!
//! Hand-written C types: made and freed once per callback, so with a free list and the arguments inline. What is
//! cold (repr, ordering, hashing) is asyncio's own Python code, put on these types at set-up by `_cold.py`.
//! They cannot inherit from asyncio's classes (those have `__slots__`): `__class__` answers `isinstance`.
//!
//! Who touches what: everything here belongs to whichever thread is attached; `position` belongs to the timer queue.
//!
//! Garbage: a handle that waits in a queue is not tracked by the collector, so that young collections never walk the queue.
//! It is tracked as soon as somebody else holds it when it is run, cancelled or dropped; and `garbage.rs` tracks all that wait
//! before a full collection, so that a loop left behind with its handles is found.
//! In a long queue the same goes for the context that was copied for a handle and that nobody else knows: it is *hidden* from the
//! collector, and shown to it again before it is run in, handed out or released.

mod blocks;
mod call;
mod extras;
mod shells;

use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;

use crate::loop_impl::LoopCore;
use crate::py::object::{checked, clear, new_ref, Obj, Raised, Raises};
use crate::timer_queue::{Timer, ABSENT};

pub use call::{handle_for_call, Call};
use extras::Extras;
pub(crate) use shells::recycle;
pub use shells::{alive, trim_free_lists};

/// Arguments kept in the handle itself; more go into a tuple.
pub const INLINE: usize = 3;

/// The layout of both classes. What every call needs comes first: in a long queue each line of memory is a wait.
#[repr(C)]
pub struct Handle {
    ob_base: ffi::PyObject,
    /// Its place in the timer queue.
    position: u32,
    /// How many inline arguments.
    pub count: u8,
    /// Whether it was cancelled.
    pub cancelled: c_char,
    /// Whether it waits for its deadline (asyncio's `_scheduled`).
    pub scheduled: c_char,
    /// Bits of [`state`].
    state: u8,
    /// The callable; null once cancelled.
    pub callback: Obj,
    /// The context to run in.
    context: Obj,
    /// The loop.
    pub owner: Obj,
    pub(crate) weakrefs: Obj,
    /// What only few handles have, or null; owned.
    extras: *mut Extras,
    /// The inline arguments; null beyond `count`.
    pub args: [Obj; INLINE],
    /// The deadline in seconds.
    pub when: f64,
}

/// Bits of [`Handle::state`].
mod state {
    /// The garbage collector sees the handle.
    pub const TRACKED: u8 = 1;
    /// The garbage collector does not see the context.
    pub const HIDDEN: u8 = 2;
    /// The memory is part of a block (`blocks.rs`).
    pub const IN_BLOCK: u8 = 4;
}

pub(crate) static HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());
pub(crate) static TIMER_HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// A handle in the timer queue, which owns a reference to it.
#[derive(Clone, Copy)]
pub struct TimerRef(pub *mut Handle);

impl Timer for TimerRef {
    #[inline(always)]
    fn set_position(self, position: u32) {
        // SAFETY: the queue owns a reference, so the handle is alive; only the queue writes this field.
        unsafe { (*self.0).position = position };
    }
}

/// Releases a queue's reference to a handle, native or not. If somebody else still holds it, the garbage collector must see it.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller owns the reference.
pub unsafe fn let_go(o: Obj) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_native(o) && ffi::Py_REFCNT(o) > 1 {
            (*o.cast::<Handle>()).track();
        }
        ffi::Py_DECREF(o);
    }
}

/// Asks the processor to bring the memory of `handle` near, or of what a near one points at. Changes nothing.
///
/// # Safety
/// `handle` is alive; with `inner` its first lines should be near already.
#[inline(always)]
pub unsafe fn prefetch(handle: Obj, inner: bool) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: hints; with `inner` the context's address is read from a living native handle.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        if !inner {
            _mm_prefetch::<_MM_HINT_T0>(handle.cast());
            _mm_prefetch::<_MM_HINT_T0>(handle.cast::<i8>().wrapping_add(64));
        } else if is_native(handle) {
            _mm_prefetch::<_MM_HINT_T0>((*handle.cast::<Handle>()).context.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        _ = (handle, inner);
    }
}

/// Whether `o` is exactly a native `Handle` or `TimerHandle`.
///
/// # Safety
/// `o` is alive.
#[inline(always)]
pub unsafe fn is_native(o: Obj) -> bool {
    // SAFETY: reads the type of a living object.
    let kind = unsafe { ffi::Py_TYPE(o) };
    kind == HANDLE.load(Ordering::Relaxed) || kind == TIMER_HANDLE.load(Ordering::Relaxed)
}

/// A new handle, not yet tracked by the garbage collector. Takes over the reference to `context`; borrows the rest.
///
/// # Safety
/// Attached; `args` points to `count` living objects; `timer` says which class.
#[inline(always)]
unsafe fn create(
    timer: bool,
    owner: Obj,
    callback: Obj,
    args: *const Obj,
    count: usize,
    context: Obj,
) -> Raises<*mut Handle> {
    // SAFETY: all fields are written before the collector learns of the object; each stored pointer is a new reference.
    unsafe {
        let Ok(h) = shells::take(timer) else {
            ffi::Py_DECREF(context);
            return Err(Raised);
        };
        (*h).callback = new_ref(callback);
        (*h).context = context;
        (*h).owner = new_ref(owner);
        if count <= INLINE {
            (*h).count = count as u8;
            for i in 0..count {
                (*h).args[i] = new_ref(*args.add(i));
            }
        } else {
            let more = tuple(args, count);
            if more.is_null() {
                ffi::Py_DECREF(h.cast());
                return Err(Raised);
            }
            (*h).extras_mut().more = more;
        }
        Ok(h)
    }
}

/// A new `Handle`. Takes over the reference to `context`; borrows the rest.
///
/// # Safety
/// Attached; `args` points to `count` living objects.
#[inline(always)]
pub unsafe fn new_handle(
    owner: Obj,
    callback: Obj,
    args: *const Obj,
    count: usize,
    context: Obj,
) -> Raises<*mut Handle> {
    // SAFETY: the caller's promise.
    unsafe { create(false, owner, callback, args, count, context) }
}

/// A new `TimerHandle` for `when` seconds; `given` is the caller's own object if it was no exact float, else null.
///
/// # Safety
/// As [`new_handle`]; `given` is null or alive.
#[inline(always)]
pub unsafe fn new_timer_handle(
    owner: Obj,
    when: f64,
    given: Obj,
    callback: Obj,
    args: *const Obj,
    count: usize,
    context: Obj,
) -> Raises<*mut Handle> {
    // SAFETY: the caller's promise.
    unsafe {
        let h = create(true, owner, callback, args, count, context)?;
        (*h).when = when;
        if !given.is_null() {
            (*h).extras_mut().when_given = new_ref(given);
        }
        Ok(h)
    }
}

pub(crate) unsafe fn tuple(items: *const Obj, count: usize) -> Obj {
    // SAFETY: a new tuple's items are set before anybody sees it; each is a new reference.
    unsafe {
        let tuple = ffi::PyTuple_New(count as isize);
        if !tuple.is_null() {
            for i in 0..count {
                ffi::PyTuple_SET_ITEM(tuple, i as isize, new_ref(*items.add(i)));
            }
        }
        tuple
    }
}

impl Handle {
    /// Lets the garbage collector see the handle; from here on it does.
    ///
    /// # Safety
    /// Attached; the handle is complete.
    #[inline]
    pub unsafe fn track(&mut self) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.state & state::TRACKED == 0 {
                self.state |= state::TRACKED;
                ffi::PyObject_GC_Track((&raw mut self.ob_base).cast());
            }
            self.show_context();
        }
    }

    /// Hides the context from the garbage collector as long as the handle waits.
    ///
    /// # Safety
    /// Attached; the context was just copied for this handle, which is not tracked itself: nobody else knows either.
    #[inline(always)]
    pub unsafe fn hide_context(&mut self) {
        // SAFETY: the caller's promise; CPython asks of a context only that it is tracked when it dies, and `show_context` sees to it.
        unsafe { ffi::PyObject_GC_UnTrack(self.context.cast()) };
        self.state |= state::HIDDEN;
    }

    /// Shows the collector a context that was hidden.
    ///
    /// # Safety
    /// Attached.
    #[inline(always)]
    unsafe fn show_context(&mut self) {
        if self.state & state::HIDDEN != 0 {
            self.state &= !state::HIDDEN;
            // SAFETY: a hidden context is owned by this handle, hence alive; nobody else knows it, so it is still not tracked.
            unsafe { ffi::PyObject_GC_Track(self.context.cast()) };
        }
    }

    /// The context to run in, borrowed; null for a handle that the collector has cleared.
    ///
    /// # Safety
    /// Attached.
    pub(crate) unsafe fn context(&mut self) -> Obj {
        // SAFETY: the caller's promise.
        unsafe { self.show_context() };
        self.context
    }

    /// The same for the collector itself, which changes nothing while it looks.
    pub(crate) fn context_unshown(&self) -> Obj {
        self.context
    }

    /// Releases the context.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`; the handle is about to die.
    pub(crate) unsafe fn drop_context(&mut self) {
        // SAFETY: the caller's promise; a context must be tracked when it dies.
        unsafe {
            self.show_context();
            clear(&mut self.context);
        }
    }

    /// Whether nobody but the holder of the one reference can reach this handle.
    #[inline(always)]
    pub fn is_private(&self) -> bool {
        // SAFETY: reads the count of a living object.
        self.weakrefs.is_null()
            && unsafe { ffi::Py_REFCNT((&raw const self.ob_base).cast_mut()) } == 1
    }

    /// Takes the handle from the garbage collector.
    ///
    /// # Safety
    /// Attached.
    pub(crate) unsafe fn untrack(&mut self) {
        if self.state & state::TRACKED != 0 {
            self.state &= !state::TRACKED;
            // SAFETY: the caller's promise; tracked, as nobody but `track` does that.
            unsafe { ffi::PyObject_GC_UnTrack((&raw mut self.ob_base).cast()) };
        }
    }
}

/// Cancels: idempotent; the callback, its arguments and the place in the timer queue are given up at once.
///
/// # Safety
/// Attached, outside every `LoopCell`; `h` is alive.
pub(crate) unsafe fn cancel(h: *mut Handle) -> Raises<()> {
    // SAFETY: the caller holds a reference to `h` for the whole call; each field is emptied before its old value is released.
    unsafe {
        if (*h).cancelled != 0 {
            return Ok(());
        }
        let core = LoopCore::from_ptr((*h).owner);
        if (*h).position != ABSENT {
            let queued = core.timers.with(|timers| {
                let found = timers.get((*h).position).is_some_and(|timer| timer.0 == h);
                found.then(|| timers.remove((*h).position))
            });
            (*h).scheduled = 0;
            if let Some(queued) = queued {
                ffi::Py_DECREF(queued.0.cast());
            }
        } else if (*h).scheduled != 0 {
            // In one of asyncio's own lists: asyncio counts it.
            core.timer_handle_cancelled((*h).owner, h.cast())?;
        }
        (*h).cancelled = 1;
        // Out of its queue: whoever holds it now may hold it in a cycle.
        (*h).track();
        if core.is_debug() {
            // Kept for messages about a handle that has lost its callback.
            let text = checked(ffi::PyObject_Repr(h.cast()))?;
            (*h).set_repr(text);
        }
        drop_callback(h);
    }
    Ok(())
}

/// Empties the callback and its arguments. Where there is no callback there are no arguments either.
pub(crate) unsafe fn drop_callback(h: *mut Handle) {
    // SAFETY: as `cancel`.
    unsafe {
        let callback = std::mem::replace(&mut (*h).callback, null_mut());
        if callback.is_null() {
            return;
        }
        let args = (*h).args;
        let count = std::mem::take(&mut (*h).count) as usize;
        if count != 0 {
            (*h).args = [null_mut(); INLINE];
        }
        let more = (*h).take_more();
        ffi::Py_DECREF(callback);
        for argument in &args[..count] {
            ffi::Py_DECREF(*argument);
        }
        ffi::Py_XDECREF(more);
    }
}

/// Releases a private handle whose call was taken out: a short cut for `Py_DECREF` with the same effect.
///
/// # Safety
/// Attached; `h.is_private()` holds, the caller owns the one reference, and `take_call` has emptied it.
#[inline(always)]
pub unsafe fn retire(h: *mut Handle) {
    // SAFETY: the caller's promise. An untracked handle without extras holds nothing but its owner.
    unsafe {
        if !(*h).extras.is_null() || (*h).state & state::TRACKED != 0 {
            ffi::Py_DECREF(h.cast());
            return;
        }
        let owner = std::mem::replace(&mut (*h).owner, null_mut());
        recycle(h);
        ffi::Py_DECREF(owner);
    }
}
