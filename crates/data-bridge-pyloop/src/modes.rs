//! What happens when somebody replaces a part of the loop.
//!
//! Debuggers, notebooks and test tools patch asyncio's loop (nest_asyncio `_run_once`, looptime `_selector.select`, freezegun
//! and subclasses `time`). The short ways would pass such a patch by. So each of them compares the version of
//! the loop's class, one load, with that for which nothing was found replaced; when it differs, `_cold.classify` looks.
//! If a part of the iteration itself was replaced, the loop goes into *stock mode*: ready handles and timers move
//! into asyncio's own deque and heap, and asyncio's own Python `_run_once` works on them.

use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::handle::{is_native, new_timer_handle, Handle, TimerRef};
use crate::loop_impl::{mode, release_all, Kept, LoopCore, UNCHECKED};
use crate::py::imports::COLD;
use crate::py::object::{checked, new_ref, raise, Obj, Owned, Raised, Raises};
use crate::ready_queue::{Entry, ReadyQueue};
use crate::schedule::seconds_of;

/// The bits that `_cold.classify` decides.
const FOUND_OUT: u8 = mode::STOCK | mode::CALL_AT | mode::HANDLES;

/// A handle in one of asyncio's containers is on its own before the garbage collector.
///
/// # Safety
/// Attached; `o` is alive.
unsafe fn track(o: Obj) {
    // SAFETY: the caller's promise.
    unsafe {
        if is_native(o) {
            (*o.cast::<Handle>()).track();
        }
    }
}

impl LoopCore {
    /// The mode, up to date with patches of the class, its bases and the instance.
    #[inline(always)]
    pub(crate) fn current_mode(&self, slf: Obj) -> Raises<u8> {
        // SAFETY: `slf` is this loop, alive.
        let version = unsafe { (*ffi::Py_TYPE(slf)).tp_version_tag };
        if version == self.checked_version.load(Ordering::Relaxed) {
            return Ok(self.mode.load(Ordering::Relaxed));
        }
        self.find_out(slf)
    }

    #[cold]
    fn find_out(&self, slf: Obj) -> Raises<u8> {
        let found = self.call_cold(c"classify", &[slf])?;
        // SAFETY: attached; an int, or an exception is set.
        let bits = unsafe { ffi::PyLong_AsLong(found.as_ptr()) };
        let bits = u8::try_from(bits).map_err(|_| Raised)? & FOUND_OUT;
        let stock = bits & mode::STOCK != 0;
        // asyncio's iteration may be at work on its containers just now: they stay until it has ended.
        let leave_later =
            self.has(mode::STOCK) && !stock && self.stock_depth.load(Ordering::Relaxed) != 0;
        match (self.has(mode::STOCK), stock) {
            (false, true) => self.enter_stock(slf)?,
            (true, false) if !leave_later => self.leave_stock(slf)?,
            _ => {}
        }
        let others = FOUND_OUT & !mode::STOCK;
        self.set_mode(others & !bits, false);
        self.set_mode(others & bits, true);
        // Last, so that whatever fails above is tried again. The look-ups of `classify` gave the class a version, if it can have one.
        // SAFETY: as above.
        let version = unsafe { (*ffi::Py_TYPE(slf)).tp_version_tag };
        let version = if version == 0 || leave_later { UNCHECKED } else { version };
        self.checked_version.store(version, Ordering::Relaxed);
        Ok(self.mode.load(Ordering::Relaxed))
    }

    fn enter_stock(&self, slf: Obj) -> Raises<()> {
        // SAFETY: attached; all pointers are alive, and each reference has one owner at each step.
        unsafe {
            // All that can fail or run Python code comes first; from then on other threads push to the new containers.
            let pair = self.call_cold(c"stock_containers", &[])?;
            let deque = new_ref(ffi::PyTuple_GET_ITEM(pair.as_ptr(), 0));
            let heap = new_ref(ffi::PyTuple_GET_ITEM(pair.as_ptr(), 1));
            let old = self.kept.with(|k| {
                vec![
                    std::mem::replace(&mut k.ready, deque),
                    std::mem::replace(&mut k.scheduled, heap),
                ]
            });
            self.set_mode(mode::STOCK, true);
            release_all(Python::assume_attached(), old);
            for entry in self.ready.with(ReadyQueue::take_all) {
                let handle = Owned::from_new(self.handle_of(slf, entry)?)?;
                self.stock_push(handle.as_ptr())?;
            }
            // In order of their deadlines: a sorted list is a heap.
            for timer in self.take_timers() {
                (*timer.cast::<Handle>()).scheduled = 1;
                let timer = Owned::from_new(timer)?;
                track(timer.as_ptr());
                ffi::PyList_Append(heap, timer.as_ptr());
            }
        }
        Ok(())
    }

    fn leave_stock(&self, slf: Obj) -> Raises<()> {
        // SAFETY: as `enter_stock`.
        unsafe {
            let null = std::ptr::null_mut();
            let (ready, scheduled) = self.kept.with(|k| {
                (std::mem::replace(&mut k.ready, null), std::mem::replace(&mut k.scheduled, null))
            });
            self.set_mode(mode::STOCK, false);
            let ready = Owned::from_new(ready)?;
            let scheduled = Owned::from_new(scheduled)?;
            let entries = Owned::from_new(ffi::PySequence_List(ready.as_ptr()))?;
            for i in 0..ffi::PyList_GET_SIZE(entries.as_ptr()) {
                let handle = new_ref(ffi::PyList_GET_ITEM(entries.as_ptr(), i));
                self.ready.with(|q| q.push(Entry::handle(handle)));
            }
            let timers = Owned::from_new(ffi::PySequence_List(scheduled.as_ptr()))?;
            for i in 0..ffi::PyList_GET_SIZE(timers.as_ptr()) {
                let timer = ffi::PyList_GET_ITEM(timers.as_ptr(), i);
                if is_native(timer) && (*timer.cast::<Handle>()).owner == slf {
                    let h: *mut Handle = timer.cast();
                    (*h).scheduled = 0;
                    if (*h).cancelled == 0 {
                        self.enqueue_timer(h);
                    }
                } else {
                    // A TimerHandle of asyncio's own or of another loop, which somebody put there.
                    self.adopt_timer(slf, timer)?;
                }
            }
        }
        Ok(())
    }

    /// Schedules a TimerHandle that is not ours. Runs no Python code, so that no interrupt comes between.
    fn adopt_timer(&self, slf: Obj, timer: Obj) -> Raises<()> {
        // SAFETY: attached; all are alive, and the new handle takes references of its own.
        unsafe {
            let when = Owned::from_new(ffi::PyObject_GetAttrString(timer, c"_when".as_ptr()))?;
            let when = seconds_of(when.as_ptr())?;
            let run = ffi::PyObject_GetAttrString(COLD.get(), c"run_foreign".as_ptr());
            let run = Owned::from_new(run)?;
            let args = [slf, timer];
            let context = checked(ffi::PyContext_CopyCurrent())?;
            let null = std::ptr::null_mut();
            let h = new_timer_handle(slf, when, null, run.as_ptr(), args.as_ptr(), 2, context)?;
            let own = Owned::from_new(h.cast())?;
            self.enqueue_timer(own.as_ptr().cast());
        }
        Ok(())
    }

    /// Puts a timer that is in no queue into the native one.
    ///
    /// # Safety
    /// Attached; `h` is an alive native TimerHandle with its deadline set.
    #[inline(always)]
    pub(crate) unsafe fn enqueue_timer(&self, h: *mut Handle) {
        // SAFETY: the caller's promise; the queue gets a reference of its own.
        unsafe {
            new_ref(h.cast());
            (*h).scheduled = 1;
            self.timers.with(|timers| timers.insert((*h).when, TimerRef(h)));
        }
    }

    /// One of asyncio's containers, borrowed; gone only when the garbage collector has cleared the loop.
    fn container_or_raise(&self, pick: impl FnOnce(&mut Kept) -> Obj) -> Raises<Obj> {
        let container = self.kept.with(pick);
        if container.is_null() {
            // SAFETY: attached.
            return Err(unsafe { raise(ffi::PyExc_RuntimeError, "Event loop is closed") });
        }
        Ok(container)
    }

    /// Appends a handle to asyncio's deque. Borrows it.
    pub(crate) fn stock_push(&self, handle: Obj) -> Raises<()> {
        // SAFETY: attached; the containers exist in stock mode, a reference of our own keeps the deque.
        unsafe {
            track(handle);
            let deque = Owned::from_new(new_ref(self.container_or_raise(|k| k.ready)?))?;
            let name = Owned::from_new(ffi::PyUnicode_InternFromString(c"append".as_ptr()))?;
            let args = [deque.as_ptr(), handle];
            let result = ffi::PyObject_VectorcallMethod(
                name.as_ptr(),
                args.as_ptr(),
                2,
                std::ptr::null_mut(),
            );
            Owned::from_new(result).map(drop)
        }
    }

    /// Puts a timer into asyncio's heap. Borrows it.
    pub(crate) fn stock_push_timer(&self, h: *mut Handle) -> Raises<()> {
        // SAFETY: as `stock_push`; the timer is alive and in no native queue.
        unsafe {
            track(h.cast());
            let heap = Owned::from_new(new_ref(self.container_or_raise(|k| k.scheduled)?))?;
            self.call_cold(c"heappush", &[heap.as_ptr(), h.cast()])?;
            (*h).scheduled = 1;
        }
        Ok(())
    }

    /// asyncio's own count of cancelled timers in its heap.
    ///
    /// # Safety
    /// Attached; both are alive.
    pub(crate) unsafe fn timer_handle_cancelled(&self, slf: Obj, handle: Obj) -> Raises<()> {
        // SAFETY: the caller's promise.
        unsafe {
            let name = Owned::from_new(ffi::PyUnicode_InternFromString(
                c"_timer_handle_cancelled".as_ptr(),
            ))?;
            let args = [slf, handle];
            let result = checked(ffi::PyObject_VectorcallMethod(
                name.as_ptr(),
                args.as_ptr(),
                2,
                std::ptr::null_mut(),
            ))?;
            ffi::Py_DECREF(result);
        }
        Ok(())
    }
}
