//! `call_soon` and its kin: from a callable to an entry in a queue.
//!
//! Raw METH_FASTCALL functions, put on the class as method descriptors: they run once per callback. Each has one short way,
//! open when nobody watches (`mode`), and one long way for everything else.

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::arguments::{call_by_name, Arguments};
use crate::clock;
use crate::handle::{new_handle, new_timer_handle, Handle, INLINE};
use crate::loop_impl::{mode, LoopCore};
use crate::py::errors::entry;
use crate::py::imports::{is_task_step, is_task_wakeup};
use crate::py::object::{checked, new_ref, none, raise, Obj, Owned, Raised, Raises};
use crate::py::types::keyword_row;
use crate::ready_queue::Entry;

/// Modes that close the short way of `call_soon`.
const NOT_PLAIN: u8 = mode::CLOSED | mode::DEBUG | mode::STOCK;
/// Modes that close the short way of `call_later`.
const NOT_PLAIN_TIMER: u8 = NOT_PLAIN | mode::CALL_AT;

/// A queue of so many entries is long: the garbage collector comes round before they have run.
const LONG: usize = 256;

#[cold]
fn closed() -> Raised {
    // SAFETY: as `missing`.
    unsafe { raise(ffi::PyExc_RuntimeError, "Event loop is closed") }
}

/// The end of a raw method: a reference, or null with an exception set.
#[inline(always)]
fn returned(result: Raises<Obj>) -> Obj {
    result.unwrap_or(null_mut())
}

unsafe extern "C" fn call_soon(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the interpreter's calling convention; the method descriptor has checked the type of `slf`.
    entry("call_soon", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let a = match Arguments::read("call_soon", &["callback"], args, count, keywords) {
            Ok(a) => a,
            Err(unread) => {
                let call = (slf, args, count, keywords);
                return call_by_name(unread, call_soon, "call_soon", &["callback"], call);
            }
        };
        let Ok(mode) = core.current_mode(slf) else {
            return null_mut();
        };
        if mode & NOT_PLAIN != 0 {
            return returned(core.call_soon_long(slf, &a, mode, "call_soon"));
        }
        let callback = a.get(0);
        // Steps and wake-ups of C tasks: asyncio's C code throws their handle away.
        if !a.context.is_null() && mode & mode::HANDLES == 0 {
            let step = match a.count {
                1 => is_task_step(callback),
                2 => is_task_wakeup(callback),
                _ => false,
            };
            if step && ffi::PyContext_CheckExact(a.context) != 0 {
                let argument = if a.count == 2 { new_ref(a.get(1)) } else { null_mut() };
                let entry =
                    Entry { callable: new_ref(callback), argument, context: new_ref(a.context) };
                return returned(core.publish(entry).map(|()| none()));
            }
        }
        let handle = a.context().and_then(|context| {
            new_handle(slf, callback, a.positional.add(1), a.count - 1, context)
        });
        match handle {
            Ok(h) => returned(core.publish_handle(h, &a).map(|()| h.cast())),
            Err(Raised) => null_mut(),
        }
    })
}

unsafe extern "C" fn call_soon_threadsafe(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as `call_soon`.
    entry("call_soon_threadsafe", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let name = "call_soon_threadsafe";
        let a = match Arguments::read(name, &["callback"], args, count, keywords) {
            Ok(a) => a,
            Err(unread) => {
                let call = (slf, args, count, keywords);
                return call_by_name(unread, call_soon_threadsafe, name, &["callback"], call);
            }
        };
        let Ok(mode) = core.current_mode(slf) else {
            return null_mut();
        };
        if mode & NOT_PLAIN != 0 {
            return returned(core.call_soon_long(slf, &a, mode, name));
        }
        let handle = a.context().and_then(|context| {
            new_handle(slf, a.get(0), a.positional.add(1), a.count - 1, context)
        });
        returned(handle.and_then(|h| {
            core.publish_handle(h, &a)?;
            Ok(h.cast())
        }))
    })
}

unsafe extern "C" fn call_later(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as `call_soon`.
    entry("call_later", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let required = &["delay", "callback"];
        let a = match Arguments::read("call_later", required, args, count, keywords) {
            Ok(a) => a,
            Err(unread) => {
                let call = (slf, args, count, keywords);
                return call_by_name(unread, call_later, "call_later", required, call);
            }
        };
        let Ok(mode) = core.current_mode(slf) else {
            return null_mut();
        };
        let delay = a.get(0);
        if mode & NOT_PLAIN_TIMER == 0 {
            if let Some(delay) = plain_seconds(delay) {
                return returned(core.plain_timer(slf, clock::seconds() + delay, null_mut(), &a));
            }
        }
        returned(core.call_later_long(slf, &a, mode))
    })
}

unsafe extern "C" fn call_at(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as `call_soon`.
    entry("call_at", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let required = &["when", "callback"];
        let a = match Arguments::read("call_at", required, args, count, keywords) {
            Ok(a) => a,
            Err(unread) => {
                let call = (slf, args, count, keywords);
                return call_by_name(unread, call_at, "call_at", required, call);
            }
        };
        let Ok(mode) = core.current_mode(slf) else {
            return null_mut();
        };
        let when = a.get(0);
        if mode & NOT_PLAIN == 0 && ffi::PyFloat_CheckExact(when) != 0 {
            return returned(core.plain_timer(slf, ffi::PyFloat_AS_DOUBLE(when), null_mut(), &a));
        }
        returned(core.call_at_long(slf, &a, mode, "call_at"))
    })
}

unsafe extern "C" fn call_soon_batch(
    slf: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as `call_soon`.
    entry("call_soon_batch", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let a = match Arguments::read("call_soon_batch", &["callbacks"], args, count, keywords) {
            Ok(a) => a,
            Err(unread) => {
                let call = (slf, args, count, keywords);
                return call_by_name(
                    unread,
                    call_soon_batch,
                    "call_soon_batch",
                    &["callbacks"],
                    call,
                );
            }
        };
        if a.count > 1 {
            let text =
                format!("call_soon_batch() takes 1 positional argument but {} were given", a.count);
            raise(ffi::PyExc_TypeError, &text);
            return null_mut();
        }
        returned(core.queue_batch(slf, &a).map(|()| none()))
    })
}

impl LoopCore {
    /// Appends an entry, whose references it takes over, and wakes the loop if it sleeps: then this is another thread.
    #[inline(always)]
    fn publish(&self, entry: Entry) -> Raises<()> {
        self.ready.with(|ready| ready.push(entry));
        // SAFETY: every caller is attached.
        self.wake(unsafe { Python::assume_attached() })
    }

    /// The same for a new handle, which is borrowed. In a long queue the garbage collector shall not walk the contexts that were
    /// copied for its handles, again and again.
    ///
    /// # Safety
    /// Attached; `h` was just made from `a`, and nobody else knows it.
    #[inline(always)]
    unsafe fn publish_handle(&self, h: *mut Handle, a: &Arguments) -> Raises<()> {
        // SAFETY: the caller's promise: a context that was not given was copied for the handle.
        unsafe {
            if a.context.is_null() && self.ready.with(|ready| ready.len() >= LONG) {
                (*h).hide_context();
            }
            self.publish(Entry::handle(new_ref(h.cast())))
        }
    }

    /// `call_soon` and `call_soon_threadsafe` in debug mode, in stock mode, on a closed loop.
    #[cold]
    unsafe fn call_soon_long(
        &self,
        slf: Obj,
        a: &Arguments,
        mode: u8,
        name: &'static str,
    ) -> Raises<Obj> {
        // SAFETY: the arguments of a living call.
        unsafe {
            if mode & mode::CLOSED != 0 {
                return Err(closed());
            }
            if mode & mode::DEBUG != 0 {
                self.check_debug(slf, a.get(0), name, name == "call_soon")?;
            }
            let h = new_handle(slf, a.get(0), a.positional.add(1), a.count - 1, a.context()?)?;
            let handle = Owned::from_new(h.cast())?;
            if mode & mode::DEBUG != 0 {
                self.trace(h)?;
            }
            if mode & mode::STOCK != 0 {
                self.stock_push(handle.as_ptr())?;
                self.wake(Python::assume_attached())?;
            } else {
                self.publish(Entry::handle(new_ref(handle.as_ptr())))?;
            }
            Ok(handle.into_ptr())
        }
    }

    /// asyncio's checks of debug mode: the right thread, a callable that is no coroutine function.
    unsafe fn check_debug(&self, slf: Obj, callback: Obj, name: &str, thread: bool) -> Raises<()> {
        // SAFETY: attached; both are alive.
        unsafe {
            let name = ffi::PyUnicode_FromStringAndSize(name.as_ptr().cast(), name.len() as isize);
            let name = Owned::from_new(name)?;
            let thread = if thread { ffi::Py_True() } else { ffi::Py_False() };
            self.call_cold(c"check_debug", &[slf, callback, name.as_ptr(), thread]).map(drop)
        }
    }

    /// Gives a handle the stack of the code that is making it.
    unsafe fn trace(&self, h: *mut Handle) -> Raises<()> {
        let stack = self.call_cold(c"extract_stack", &[])?;
        // SAFETY: the handle is new and ours alone.
        unsafe { (*h).set_source_traceback(stack.into_ptr()) };
        Ok(())
    }

    /// A timer by the short way. `given` is the deadline as the caller gave it, if that was no exact float.
    #[inline(always)]
    unsafe fn plain_timer(&self, slf: Obj, when: f64, given: Obj, a: &Arguments) -> Raises<Obj> {
        // SAFETY: the arguments of a living call.
        unsafe {
            let context = a.context()?;
            let args = a.positional.add(2);
            let h = new_timer_handle(slf, when, given, a.get(1), args, a.count - 2, context)?;
            self.enqueue_timer(h);
            self.wake(Python::assume_attached())?;
            Ok(h.cast())
        }
    }

    #[cold]
    unsafe fn call_later_long(&self, slf: Obj, a: &Arguments, mode: u8) -> Raises<Obj> {
        // SAFETY: the arguments of a living call.
        unsafe {
            let delay = a.get(0);
            if delay == ffi::Py_None() {
                return Err(raise(ffi::PyExc_TypeError, "delay must not be None"));
            }
            // As asyncio: `self.call_at(self.time() + delay, callback, *args, context=context)`.
            let now = if mode & (mode::CALL_AT | mode::STOCK) != 0 {
                Owned::from_new(ffi::PyObject_CallMethod(slf, c"time".as_ptr(), std::ptr::null()))?
            } else {
                Owned::from_new(ffi::PyFloat_FromDouble(clock::seconds()))?
            };
            let when = Owned::from_new(ffi::PyNumber_Add(now.as_ptr(), delay))?;
            let mut stack = Vec::with_capacity(a.count + 2);
            stack.push(slf);
            stack.push(when.as_ptr());
            stack.extend((1..a.count).map(|i| a.get(i)));
            if mode & mode::CALL_AT == 0 {
                let at = Arguments {
                    positional: stack.as_ptr().add(1),
                    count: a.count,
                    context: a.context,
                };
                return self.call_at_long(slf, &at, mode, "call_at");
            }
            let name = Owned::from_new(ffi::PyUnicode_InternFromString(c"call_at".as_ptr()))?;
            let mut keywords = null_mut();
            let positional = stack.len();
            if !a.context.is_null() {
                keywords = ffi::PyTuple_New(1);
                checked(keywords)?;
                let context = ffi::PyUnicode_InternFromString(c"context".as_ptr());
                ffi::PyTuple_SET_ITEM(keywords, 0, context);
                stack.push(a.context);
            }
            let timer =
                ffi::PyObject_VectorcallMethod(name.as_ptr(), stack.as_ptr(), positional, keywords);
            ffi::Py_XDECREF(keywords);
            checked(timer)
        }
    }

    #[cold]
    unsafe fn call_at_long(&self, slf: Obj, a: &Arguments, mode: u8, name: &str) -> Raises<Obj> {
        // SAFETY: the arguments of a living call.
        unsafe {
            let given = a.get(0);
            if given == ffi::Py_None() {
                return Err(raise(ffi::PyExc_TypeError, "when cannot be None"));
            }
            if mode & mode::CLOSED != 0 {
                return Err(closed());
            }
            if mode & mode::DEBUG != 0 {
                self.check_debug(slf, a.get(1), name, true)?;
            }
            let when = seconds_of(given)?;
            let exact = ffi::PyFloat_CheckExact(given) != 0;
            let kept = if exact { null_mut() } else { given };
            let context = a.context()?;
            let args = a.positional.add(2);
            let h = new_timer_handle(slf, when, kept, a.get(1), args, a.count - 2, context)?;
            let handle = Owned::from_new(h.cast())?;
            if mode & mode::DEBUG != 0 {
                self.trace(h)?;
            }
            if mode & mode::STOCK != 0 {
                self.stock_push_timer(h)?;
            } else {
                self.enqueue_timer(h);
                self.wake(Python::assume_attached())?;
            }
            Ok(handle.into_ptr())
        }
    }

    unsafe fn queue_batch(&self, slf: Obj, a: &Arguments) -> Raises<()> {
        // SAFETY: the arguments of a living call; `items` keeps the callables alive.
        unsafe {
            let mode = self.current_mode(slf)?;
            if mode & mode::CLOSED != 0 {
                return Err(closed());
            }
            let items = Owned::from_new(ffi::PySequence_Fast(
                a.get(0),
                c"call_soon_batch() needs an iterable of callables".as_ptr(),
            ))?;
            // A copy: the caller's own list could change while the checks below run Python code.
            let items = Owned::from_new(ffi::PySequence_Tuple(items.as_ptr()))?;
            let count = ffi::PyTuple_GET_SIZE(items.as_ptr());
            let mut looked = null_mut();
            for i in 0..count {
                let callback = ffi::PyTuple_GET_ITEM(items.as_ptr(), i);
                if mode & mode::DEBUG != 0 || !is_plain_function(callback, &mut looked)? {
                    self.check_debug(slf, callback, "call_soon_batch", false)?;
                }
            }
            // Iterating or checking may have closed the loop.
            let mode = self.current_mode(slf)?;
            if mode & mode::CLOSED != 0 {
                return Err(closed());
            }
            let mut entries = Vec::with_capacity(count as usize);
            for i in 0..count {
                let callback = ffi::PyTuple_GET_ITEM(items.as_ptr(), i);
                match self.batch_entry(slf, callback, a, mode) {
                    Ok(entry) => entries.push(entry),
                    Err(Raised) => {
                        entries.into_iter().for_each(|entry| entry.release());
                        return Err(Raised);
                    }
                }
            }
            if mode & mode::STOCK != 0 {
                for entry in entries {
                    let pushed = self.stock_push(entry.callable);
                    entry.release();
                    pushed?;
                }
            } else {
                self.ready.with(|ready| ready.append(&mut entries));
            }
            self.wake(Python::assume_attached())
        }
    }

    /// Nobody gets the handles of a batch, so in plain mode there are none.
    unsafe fn batch_entry(
        &self,
        slf: Obj,
        callback: Obj,
        a: &Arguments,
        mode: u8,
    ) -> Raises<Entry> {
        // SAFETY: attached; all are alive.
        unsafe {
            let context = a.context()?;
            if mode & (mode::DEBUG | mode::STOCK) == 0 {
                return Ok(Entry { callable: new_ref(callback), argument: null_mut(), context });
            }
            let h = new_handle(slf, callback, std::ptr::null(), 0, context)?;
            if mode & mode::DEBUG != 0 {
                self.trace(h)?;
            }
            Ok(Entry::handle(h.cast()))
        }
    }

    /// A handle for an entry: its own, or one made for a bare callable. Takes over the entry, returns a reference.
    pub(crate) fn handle_of(&self, slf: Obj, entry: Entry) -> Raises<Obj> {
        if entry.context.is_null() {
            return Ok(entry.callable);
        }
        // SAFETY: the entry's references are ours; the new handle takes its own and takes over the context.
        unsafe {
            let args = [entry.argument];
            let count = usize::from(!entry.argument.is_null());
            let h = new_handle(slf, entry.callable, args.as_ptr(), count, entry.context);
            ffi::Py_DECREF(entry.callable);
            ffi::Py_XDECREF(entry.argument);
            let h = h?;
            // In no queue, so the collector must see it.
            (*h).track();
            Ok(h.cast())
        }
    }
}

/// Whether `callback` is a Python function that is no coroutine function: the one kind that needs no closer look.
/// `looked` is the code that was looked at last.
unsafe fn is_plain_function(callback: Obj, looked: &mut Obj) -> Raises<bool> {
    const COROUTINE: std::ffi::c_long = (ffi::CO_COROUTINE | ffi::CO_ITERABLE_COROUTINE) as _;
    // SAFETY: attached; `callback` is alive, and its code is only borrowed.
    unsafe {
        if ffi::Py_TYPE(callback) != &raw mut ffi::PyFunction_Type {
            return Ok(false);
        }
        let code = ffi::PyFunction_GetCode(callback);
        if code == *looked {
            return Ok(true);
        }
        let flags = Owned::from_new(ffi::PyObject_GetAttrString(code, c"co_flags".as_ptr()))?;
        let plain = ffi::PyLong_AsLong(flags.as_ptr()) & COROUTINE == 0;
        if plain {
            *looked = code;
        }
        Ok(plain)
    }
}

/// A delay that is exactly a float, or an int of moderate size. The sum of the clock and either is a float in Python too.
#[inline(always)]
unsafe fn plain_seconds(delay: Obj) -> Option<f64> {
    // SAFETY: attached; `delay` is alive, and each reading follows its check.
    unsafe {
        if ffi::PyFloat_CheckExact(delay) != 0 {
            return Some(ffi::PyFloat_AS_DOUBLE(delay));
        }
        if ffi::PyLong_CheckExact(delay) != 0 {
            let mut overflow = 0;
            let whole = ffi::PyLong_AsLongAndOverflow(delay, &mut overflow);
            return (overflow == 0).then_some(whole as f64);
        }
        None
    }
}

/// A deadline that is no exact float, in seconds. An int beyond all floats is as good as infinite.
pub(crate) unsafe fn seconds_of(given: Obj) -> Raises<f64> {
    // SAFETY: attached; `given` is alive.
    unsafe {
        let seconds = ffi::PyFloat_AsDouble(given);
        if seconds != -1.0 || ffi::PyErr_Occurred().is_null() {
            return Ok(seconds);
        }
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_OverflowError) == 0 {
            return Err(Raised);
        }
        ffi::PyErr_Clear();
        let zero = Owned::from_new(ffi::PyLong_FromLong(0))?;
        match ffi::PyObject_RichCompareBool(given, zero.as_ptr(), ffi::Py_LT) {
            0 => Ok(f64::INFINITY),
            1 => Ok(f64::NEG_INFINITY),
            _ => Err(Raised),
        }
    }
}

#[pymethods]
impl LoopCore {
    /// asyncio's `_add_callback`: queue a handle, native or made in Python, unless it was cancelled.
    fn _add_callback(slf: &Bound<'_, Self>, handle: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        if handle.getattr("_cancelled")?.is_truthy()? {
            return Ok(());
        }
        let mode = crate::py::errors::fetch(py, core.current_mode(slf.as_ptr()))?;
        let queued = if mode & mode::STOCK != 0 {
            core.stock_push(handle.as_ptr())
        } else {
            core.publish(Entry::handle(handle.into_ptr()))
        };
        crate::py::errors::fetch(py, queued)
    }
}

/// The raw methods of the class.
pub fn methods() -> [ffi::PyMethodDef; 5] {
    [
        keyword_row(
            c"call_soon",
            call_soon,
            c"call_soon($self, callback, *args, context=None)\n--\n\n\
Run *callback(\\*args)* on the loop in its next iteration, in order of scheduling.\n\n\
*context* is the contextvars.Context to run in; by default a copy of the current one. Returns a Handle with cancel().\n\
Raises RuntimeError if the loop is closed. Not thread-safe: from other threads use call_soon_threadsafe().\n\
Source: asyncio.BaseEventLoop.call_soon.",
        ),
        keyword_row(
            c"call_soon_threadsafe",
            call_soon_threadsafe,
            c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\n\
Like call_soon(), from any thread; wakes the loop if it sleeps. Callbacks of one thread keep their order.\n\n\
Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.call_soon_threadsafe.",
        ),
        keyword_row(
            c"call_later",
            call_later,
            c"call_later($self, delay, callback, *args, context=None)\n--\n\n\
Run *callback(\\*args)* once, *delay* seconds from now on the loop's clock; never early.\n\n\
A negative delay is already due and keeps its place by deadline. Returns a TimerHandle with cancel() and when().\n\
Raises RuntimeError if the loop is closed. Not thread-safe.\n\
Source: asyncio.BaseEventLoop.call_later.",
        ),
        keyword_row(
            c"call_at",
            call_at,
            c"call_at($self, when, callback, *args, context=None)\n--\n\n\
Run *callback(\\*args)* once, when the loop's clock (time(), in seconds) reaches *when*; never early.\n\n\
Timers run in order of their deadlines, equal deadlines in order of scheduling. Returns a TimerHandle.\n\
Raises RuntimeError if the loop is closed. Not thread-safe. Source: asyncio.BaseEventLoop.call_at.",
        ),
        keyword_row(
            c"call_soon_batch",
            call_soon_batch,
            c"call_soon_batch($self, callbacks, *, context=None)\n--\n\n\
Queue an iterable of callables without arguments at once, in order, with one wake-up; from any thread.\n\n\
All are checked before any is queued: TypeError for one that is not callable or is a coroutine function. Each runs in *context*, or in\n\
a copy of the current one. Returns None. Raises RuntimeError if the loop is closed. An extension of PyLoop's.",
        ),
    ]
}

/// Keeps the number of inline arguments and this room's expectations together.
const _: () = assert!(INLINE >= 2);

/// Puts raw methods on a class as method descriptors of that very class, which the interpreter's specialised calls ask for.
///
/// # Safety
/// Attached; `class` is a type whose instances are `LoopCore`s; the table lives for good.
pub unsafe fn put_methods(class: Obj, table: &'static mut [ffi::PyMethodDef]) -> Raises<()> {
    for definition in table {
        // SAFETY: the caller's promise.
        unsafe {
            let descriptor = Owned::from_new(ffi::PyDescr_NewMethod(class.cast(), definition))?;
            if ffi::PyObject_SetAttrString(class, definition.ml_name, descriptor.as_ptr()) != 0 {
                return Err(Raised);
            }
        }
    }
    Ok(())
}

/// Whether somebody asked the loop to stop; used by the iteration.
impl LoopCore {
    #[inline(always)]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
