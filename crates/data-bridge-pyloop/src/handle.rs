//! `Handle` and `TimerHandle`: a callback, its arguments, its context, cancelled or not.
//!
//! Hand-written C types: made and freed once per callback, so with a free list and the arguments inline. What is
//! cold (repr, ordering, hashing) is asyncio's own Python code, put on these types at set-up by `_cold.py`.
//! They cannot inherit from asyncio's classes (those have `__slots__`): `__class__` answers `isinstance`.
//!
//! Who touches what: everything here belongs to whichever thread is attached; `position` belongs to the timer queue.
//!
//! Garbage: a handle that waits in a queue is not tracked by the collector, so that young collections never walk the queue.
//! It is tracked as soon as somebody else holds it when it is run, cancelled or dropped; and `track_queued` tracks all that wait
//! before a full collection, so that a loop left behind with its handles is found.

use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::ffi;

use crate::loop_impl::LoopCore;
use crate::py::cell::LoopCell;
use crate::py::object::{checked, clear, new_ref, raise, Obj, Raised, Raises};
use crate::timer_queue::{Timer, ABSENT};

/// Arguments kept in the handle itself; more go into a tuple.
pub const INLINE: usize = 3;

/// The layout of both classes.
#[repr(C)]
pub struct Handle {
    ob_base: ffi::PyObject,
    /// The callable; null once cancelled.
    pub callback: Obj,
    /// The inline arguments, when `more` is null.
    pub args: [Obj; INLINE],
    /// A tuple of all arguments when there are more than [`INLINE`], else null.
    pub more: Obj,
    /// The context to run in.
    pub context: Obj,
    /// The loop.
    pub owner: Obj,
    pub(crate) source_traceback: Obj,
    pub(crate) repr: Obj,
    pub(crate) weakrefs: Obj,
    /// The deadline as the caller gave it, when that was no exact float.
    pub(crate) when_given: Obj,
    /// The deadline in seconds.
    pub when: f64,
    /// Its place in the timer queue.
    position: u32,
    /// How many inline arguments.
    pub count: u8,
    /// Whether it was cancelled.
    pub cancelled: c_char,
    /// Whether it waits for its deadline (asyncio's `_scheduled`).
    pub scheduled: c_char,
}

pub(crate) static HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());
pub(crate) static TIMER_HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// How many handles are alive, for the leak checks of the tests.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Freed handles of one class, ready for use again. Each is an empty shell with its class and a count of one.
struct FreeList(Vec<*mut Handle>);

/// Most handles kept of each class (Handle, TimerHandle): bursts of callbacks come again, crowds of cancelled timers seldom do.
const MOST_FREE: [usize; 2] = [1 << 16, 1 << 12];
/// What is above this is given back while the loop is idle.
const IDLE_FREE: usize = 1 << 10;
/// Most given back at once, so that nobody waits for it.
const TRIM: usize = 1024;
static FREE: [LoopCell<FreeList>; 2] =
    [LoopCell::new(FreeList(Vec::new())), LoopCell::new(FreeList(Vec::new()))];

/// Gives back a part of what a past burst has left: for a loop that is about to sleep.
pub fn trim_free_lists() {
    for free in &FREE {
        let excess = free.with(|free| {
            let len = free.0.len();
            free.0.split_off(len.saturating_sub(TRIM).max(IDLE_FREE).min(len))
        });
        for h in excess {
            // SAFETY: attached, as every user of a LoopCell; the shell is empty and nobody else knows it.
            unsafe {
                let kind = ffi::Py_TYPE(h.cast());
                ffi::PyObject_GC_Del(h.cast());
                ffi::Py_DECREF(kind.cast());
            }
        }
    }
}

/// The callable with its arguments and context, on the way from a handle to the call.
pub struct Call {
    /// The callable, owned.
    pub callback: Obj,
    /// One free place, as `PY_VECTORCALL_ARGUMENTS_OFFSET` asks, then the arguments, owned.
    pub stack: [Obj; INLINE + 1],
    /// As [`Handle::more`], owned.
    pub more: Obj,
    /// As [`Handle::count`].
    pub count: u8,
    /// The context, owned.
    pub context: Obj,
}

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

/// How many native handles are alive.
pub fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// Plain load and store: the GIL orders them, and an atomic addition would cost as much as the rest of `create`.
#[inline(always)]
fn count_alive(change: isize) {
    ALIVE.store(ALIVE.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
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
        let h = match FREE[usize::from(timer)].with(|free| free.0.pop()) {
            Some(shell) => shell,
            None => {
                let kind = if timer { &TIMER_HANDLE } else { &HANDLE }.load(Ordering::Relaxed);
                let made = ffi::PyObject_GC_New::<Handle>(kind);
                if made.is_null() {
                    ffi::Py_DECREF(context);
                    return Err(Raised);
                }
                made
            }
        };
        count_alive(1);
        (*h).callback = new_ref(callback);
        (*h).args = [null_mut(); INLINE];
        (*h).more = null_mut();
        (*h).count = 0;
        (*h).context = context;
        (*h).owner = new_ref(owner);
        (*h).source_traceback = null_mut();
        (*h).repr = null_mut();
        (*h).weakrefs = null_mut();
        (*h).when_given = null_mut();
        (*h).when = 0.0;
        (*h).position = ABSENT;
        (*h).cancelled = 0;
        (*h).scheduled = 0;
        if count <= INLINE {
            (*h).count = count as u8;
            for i in 0..count {
                (*h).args[i] = new_ref(*args.add(i));
            }
        } else {
            (*h).more = tuple(args, count);
        }
        if count > INLINE && (*h).more.is_null() {
            ffi::Py_DECREF(h.cast());
            return Err(Raised);
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
        (*h).when_given = new_ref(given);
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
    /// Gives the handle the stack of its maker, as asyncio does in debug mode.
    ///
    /// # Safety
    /// Attached; `traceback` is an owned reference.
    pub unsafe fn set_source_traceback(&mut self, traceback: Obj) {
        // SAFETY: the caller's promise.
        unsafe { clear(&mut self.source_traceback) };
        self.source_traceback = traceback;
    }

    /// Lets the garbage collector see the handle; from here on it does.
    ///
    /// # Safety
    /// Attached; the handle is complete.
    #[inline]
    pub unsafe fn track(&mut self) {
        // SAFETY: the caller's promise.
        unsafe {
            let o: Obj = (&raw mut self.ob_base).cast();
            if ffi::PyObject_GC_IsTracked(o) == 0 {
                ffi::PyObject_GC_Track(o.cast());
            }
        }
    }

    /// Whether nobody but the holder of the one reference can reach this handle.
    #[inline(always)]
    pub fn is_private(&self) -> bool {
        // SAFETY: reads the count of a living object.
        self.weakrefs.is_null()
            && unsafe { ffi::Py_REFCNT((&raw const self.ob_base).cast_mut()) } == 1
    }

    /// What to call, leaving the handle without it: for a handle that is about to die.
    #[inline(always)]
    pub fn take_call(&mut self) -> Call {
        let [a, b, c] = std::mem::replace(&mut self.args, [null_mut(); INLINE]);
        Call {
            callback: std::mem::replace(&mut self.callback, null_mut()),
            stack: [null_mut(), a, b, c],
            more: std::mem::replace(&mut self.more, null_mut()),
            count: std::mem::take(&mut self.count),
            context: std::mem::replace(&mut self.context, null_mut()),
        }
    }

    /// What to call, with references of its own: the callback may cancel its handle while it runs.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn share_call(&self) -> Call {
        // SAFETY: the fields are null or alive.
        unsafe {
            let [a, b, c] = self.args.map(|a| new_ref(a));
            Call {
                callback: new_ref(self.callback),
                stack: [null_mut(), a, b, c],
                more: new_ref(self.more),
                count: self.count,
                context: new_ref(self.context),
            }
        }
    }
}

impl Call {
    /// Runs the callable in its context, and releases nothing.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`.
    #[inline(always)]
    pub unsafe fn run(&mut self) -> Raises<()> {
        // SAFETY: all pointers are owned by `self` and alive; the first place of the stack is free for the callee;
        // a tuple's items stay in place while we hold the tuple.
        unsafe {
            if self.callback.is_null() || self.context.is_null() {
                return Err(raise(ffi::PyExc_TypeError, "'NoneType' object is not callable"));
            }
            if ffi::PyContext_Enter(self.context) != 0 {
                return Err(Raised);
            }
            let result = if self.more.is_null() {
                let flagged = self.count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
                ffi::PyObject_Vectorcall(
                    self.callback,
                    self.stack.as_mut_ptr().add(1),
                    flagged,
                    null_mut(),
                )
            } else {
                ffi::PyObject_Call(self.callback, self.more, null_mut())
            };
            let left = ffi::PyContext_Exit(self.context);
            if result.is_null() || left != 0 {
                ffi::Py_XDECREF(result);
                return Err(Raised);
            }
            ffi::Py_DECREF(result);
        }
        Ok(())
    }

    /// Releases the references.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`.
    #[inline(always)]
    pub unsafe fn release(self) {
        // SAFETY: all pointers are owned or null.
        unsafe {
            ffi::Py_XDECREF(self.callback);
            for &argument in &self.stack[1..=self.count as usize] {
                ffi::Py_XDECREF(argument);
            }
            ffi::Py_XDECREF(self.more);
            ffi::Py_XDECREF(self.context);
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
            clear(&mut (*h).repr);
            (*h).repr = text;
        }
        drop_callback(h);
    }
    Ok(())
}

/// Empties the callback and its arguments.
pub(crate) unsafe fn drop_callback(h: *mut Handle) {
    // SAFETY: as `cancel`.
    unsafe {
        let callback = std::mem::replace(&mut (*h).callback, null_mut());
        let args = std::mem::replace(&mut (*h).args, [null_mut(); INLINE]);
        let more = std::mem::replace(&mut (*h).more, null_mut());
        (*h).count = 0;
        ffi::Py_XDECREF(callback);
        for argument in args {
            ffi::Py_XDECREF(argument);
        }
        ffi::Py_XDECREF(more);
    }
}

/// A handle for a call whose own handle is gone: for the report of its exception.
///
/// # Safety
/// Attached; the call's references are alive.
pub unsafe fn handle_for_call(owner: Obj, call: &Call) -> Raises<*mut Handle> {
    // SAFETY: the caller's promise; a tuple's items stay in place while the call holds it.
    unsafe {
        let context = new_ref(call.context);
        if call.more.is_null() {
            let args = call.stack.as_ptr().add(1);
            return new_handle(owner, call.callback, args, call.count as usize, context);
        }
        let h = new_handle(owner, call.callback, std::ptr::null(), 0, context)?;
        (*h).more = new_ref(call.more);
        Ok(h)
    }
}

/// Puts the empty shell of a dead handle into its free list.
#[inline(always)]
pub(crate) unsafe fn recycle(h: *mut Handle) {
    // SAFETY: nobody knows the object any more, and all its references are released.
    unsafe {
        count_alive(-1);
        let kind = ffi::Py_TYPE(h.cast());
        let timer = kind == TIMER_HANDLE.load(Ordering::Relaxed);
        if timer || kind == HANDLE.load(Ordering::Relaxed) {
            let kept = FREE[usize::from(timer)].with(|free| {
                let room = free.0.len() < MOST_FREE[usize::from(timer)];
                if room {
                    free.0.push(h);
                }
                room
            });
            if kept {
                return;
            }
        }
        ffi::PyObject_GC_Del(h.cast());
        ffi::Py_DECREF(kind.cast());
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
        let extras = [(*h).source_traceback, (*h).repr, (*h).when_given];
        if extras != [null_mut(); 3] || ffi::PyObject_GC_IsTracked(h.cast()) != 0 {
            ffi::Py_DECREF(h.cast());
            return;
        }
        let owner = std::mem::replace(&mut (*h).owner, null_mut());
        recycle(h);
        ffi::Py_DECREF(owner);
    }
}
