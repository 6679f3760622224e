//! Who waits for a socket of the caller's, and how they are woken.
//!
//! One object for each descriptor, kept by the reactor between calls. It knows nothing of the socket: whether the number still stands
//! for the same open file is what the kernel answers when the registration is armed again.

use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use super::call::raise_system;
use crate::loop_impl::{mode, LoopCore};
use crate::py::call::method;
use crate::py::cell::LoopCell;
use crate::py::errors::{fetch, restore};
use crate::py::imports;
use crate::py::names;
use crate::py::object::{new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::{READ, WRITE};
use crate::sys;
use crate::watch::release_watcher;

/// The futures that wait for one descriptor.
#[pyclass(frozen, module = "data_bridge.pyloop._native")]
pub struct SockWatch {
    state: LoopCell<State>,
}

struct State {
    /// The futures that wait to read and to write, owned; the latest last.
    waiting: [Vec<Obj>; 2],
    /// The count of waits at which a receive has left nothing.
    drained: Option<u32>,
    /// Whether a short receive means that nothing is left.
    is_stream: bool,
    /// Whether the last receive was large.
    is_large: bool,
}

static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

fn side(direction: u8) -> usize {
    usize::from(direction == WRITE)
}

impl SockWatch {
    /// Whether `o` is one.
    ///
    /// # Safety
    /// `o` is alive.
    #[inline(always)]
    pub unsafe fn is(o: Obj) -> bool {
        // SAFETY: reads the type of a living object; the class is final.
        unsafe { ffi::Py_TYPE(o) == CLASS.load(Ordering::Relaxed) }
    }

    /// # Safety
    /// `o` is one, and stays alive as long as the result is used.
    #[inline(always)]
    unsafe fn from_ptr<'a>(o: Obj) -> &'a Self {
        // SAFETY: the caller's promise; a frozen class has no borrow flag, its contents never move.
        unsafe {
            let py = Python::assume_attached();
            let borrowed = Borrowed::<PyAny>::from_ptr(py, o);
            let watch: *const Self = borrowed.cast_unchecked::<Self>().get();
            &*watch
        }
    }

    /// A new one for an open descriptor.
    #[cold]
    fn create(py: Python<'_>, fd: RawFd) -> Raises<Owned> {
        CLASS.store(Self::type_object_raw(py), Ordering::Relaxed);
        let state = State {
            waiting: [Vec::new(), Vec::new()],
            drained: None,
            is_stream: sys::is_stream(fd),
            is_large: false,
        };
        let made = restore(py, Py::new(py, Self { state: LoopCell::new(state) }))?;
        // SAFETY: attached; the reference passes over.
        unsafe { Owned::from_new(made.into_ptr()) }
    }

    /// The directions that somebody waits for.
    fn directions(&self) -> u8 {
        self.state.with(|s| {
            let [read, write] = &s.waiting;
            u8::from(!read.is_empty()) * READ | u8::from(!write.is_empty()) * WRITE
        })
    }

    /// Wakes all who wait for a direction, the latest first: it is the one that asyncio would have woken, and the others find
    /// what it leaves. One that fails does not keep the others from it.
    fn resolve(&self, direction: u8) -> Raises<()> {
        let Some(future) = self.state.with(|s| s.waiting[side(direction)].pop()) else {
            return Ok(());
        };
        // SAFETY: attached, outside every cell; the list's reference is ours now.
        let set = unsafe {
            let set = method(future, &names::SET_RESULT, [ffi::Py_None()]).map(drop);
            ffi::Py_DECREF(future);
            set
        };
        match set {
            Ok(()) => self.resolve(direction),
            Err(Raised) => self.resolve_others(direction),
        }
    }

    #[cold]
    fn resolve_others(&self, direction: u8) -> Raises<()> {
        // SAFETY: attached, with an exception set.
        unsafe {
            if ffi::PyErr_ExceptionMatches(imports::INVALID_STATE.get()) != 0 {
                // Cancelled, and its call has not heard of that yet.
                ffi::PyErr_Clear();
                return self.resolve(direction);
            }
            let py = Python::assume_attached();
            let error = PyErr::fetch(py);
            if self.resolve(direction).is_err() {
                ffi::PyErr_Clear();
            }
            error.restore(py);
            Err(Raised)
        }
    }

    /// Nobody waits for a direction any more, as when a handler was replaced; whether somebody did.
    fn forget(&self, direction: u8) -> bool {
        let futures = self.state.with(|s| std::mem::take(&mut s.waiting[side(direction)]));
        let found = !futures.is_empty();
        for future in futures {
            // SAFETY: attached, outside every cell; the list's references are ours now.
            unsafe { ffi::Py_DECREF(future) };
        }
        found
    }

    fn add(&self, direction: u8, future: Obj) {
        // SAFETY: the caller's future is alive.
        let own = unsafe { new_ref(future) };
        self.state.with(|s| s.waiting[side(direction)].push(own));
    }
}

impl Drop for SockWatch {
    fn drop(&mut self) {
        // The interpreter drops it when the object dies: attached.
        self.forget(READ);
        self.forget(WRITE);
    }
}

#[pymethods]
impl SockWatch {
    /// Wake those who wait to read.
    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        fetch(slf.py(), slf.get().resolve(READ))
    }

    /// Wake those who wait to write.
    fn _write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        fetch(slf.py(), slf.get().resolve(WRITE))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.with(|s| {
            s.waiting.iter().flatten().try_for_each(|future| {
                // SAFETY: `Py` is a transparent non-null pointer; the reference is owned here and only looked at.
                visit.call(unsafe { &*std::ptr::from_ref(future).cast::<Py<PyAny>>() })
            })
        })
    }

    fn __clear__(&self) {
        self.forget(READ);
        self.forget(WRITE);
    }
}

/// What is known of the last receive on a descriptor.
#[derive(Clone, Copy, Default)]
pub struct Hint {
    /// The last receive left nothing, and the loop has not looked for events since.
    pub drained: bool,
    /// The last receive was large.
    pub large: bool,
}

/// Takes the watches out of what an event makes ready, with references of their own.
///
/// # Safety
/// Attached; the callbacks are alive.
#[inline(always)]
pub unsafe fn take_watches(callbacks: &mut [Option<Obj>; 2]) -> [Option<Obj>; 2] {
    let mut watches = [None; 2];
    for (callback, watch) in callbacks.iter_mut().zip(&mut watches) {
        // SAFETY: the caller's promise.
        unsafe {
            if callback.is_some_and(|o| SockWatch::is(o)) {
                *watch = callback.take().map(|o| new_ref(o));
            }
        }
    }
    watches
}

impl LoopCore {
    /// Has `future` be resolved when the descriptor is ready. Returns what [`stop_waiting`] wants to have.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`; `future` is alive.
    pub(crate) unsafe fn start_waiting(
        &self,
        fd: RawFd,
        direction: u8,
        future: Obj,
    ) -> Raises<Owned> {
        // SAFETY: the caller's promise.
        unsafe {
            let py = Python::assume_attached();
            if self.has(mode::CLOSED) {
                return Err(raise(ffi::PyExc_RuntimeError, "Event loop is closed"));
            }
            self.check_fork(py)?;
            if fd < 0 {
                let text = format!("Invalid file descriptor: {fd}");
                return Err(raise(ffi::PyExc_ValueError, &text));
            }
            let (once, others) = self.reactor.with(|r| {
                let r = r.as_ref();
                (r.and_then(|r| r.once(fd)), r.and_then(|r| r.get(fd)))
            });
            if let Some(o) = once.filter(|&o| SockWatch::is(o)) {
                let own = Owned::from_new(new_ref(o))?;
                let watch = SockWatch::from_ptr(o);
                let wanted = watch.directions() | direction;
                let armed = self.reactor.with(|r| r.as_mut().map(|r| r.rearm(fd, wanted, o)));
                match armed {
                    Some(Ok(true)) => {
                        watch.add(direction, future);
                        return Ok(own);
                    }
                    Some(Err(error)) => return Err(raise_system(&error)),
                    // Another file has the number now: whoever waited for the old one goes on waiting.
                    _ => {}
                }
            } else if let Some(callbacks) = others {
                return self.wait_beside(fd, direction, future, callbacks[side(direction)]);
            }
            let made = SockWatch::create(py, fd)?;
            let own = new_ref(made.as_ptr());
            let armed = self.reactor.with(|r| r.as_mut().map(|r| r.arm(fd, direction, own)));
            self.registered(armed, own)?;
            SockWatch::from_ptr(made.as_ptr()).add(direction, future);
            Ok(made)
        }
    }

    /// As [`LoopCore::start_waiting`] where handles or a transport watch the descriptor: level-triggered as theirs, until woken.
    /// A handle in the same direction gives way, as on asyncio.
    #[cold]
    unsafe fn wait_beside(
        &self,
        fd: RawFd,
        direction: u8,
        future: Obj,
        there: Option<Obj>,
    ) -> Raises<Owned> {
        // SAFETY: as `start_waiting`; what is there is held by the reactor.
        unsafe {
            let watch = match there {
                Some(o) if SockWatch::is(o) => Owned::from_new(new_ref(o))?,
                _ => SockWatch::create(Python::assume_attached(), fd)?,
            };
            let own = new_ref(watch.as_ptr());
            let set = self.reactor.with(|r| r.as_mut().map(|r| r.set(fd, direction, own)));
            self.registered(set.map(|set| set.map(|old| [old, None])), own)?;
            SockWatch::from_ptr(watch.as_ptr()).add(direction, future);
            Ok(watch)
        }
    }

    /// Releases what a registration has replaced, or the reference that the reactor did not take.
    unsafe fn registered(
        &self,
        result: Option<std::io::Result<[Option<Obj>; 2]>>,
        own: Obj,
    ) -> Raises<()> {
        // SAFETY: as `start_waiting`.
        unsafe {
            match result {
                Some(Ok(replaced)) => {
                    replaced.into_iter().for_each(|old| release_watcher(old));
                    return Ok(());
                }
                Some(Err(error)) => raise_system(&error),
                None => raise(ffi::PyExc_RuntimeError, "Event loop is closed"),
            };
            ffi::Py_DECREF(own);
            Err(Raised)
        }
    }

    /// A call no longer waits for the future that it gave to [`LoopCore::start_waiting`].
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`; all are alive.
    pub(crate) unsafe fn stop_waiting(&self, fd: RawFd, direction: u8, o: Obj, future: Obj) {
        // SAFETY: the caller's promise; the list's reference, now ours, is released outside the cell.
        unsafe {
            let watch = SockWatch::from_ptr(o);
            let found = watch.state.with(|s| {
                let waiting = &mut s.waiting[side(direction)];
                let place = waiting.iter().position(|&f| f == future)?;
                Some(waiting.remove(place))
            });
            let Some(future) = found else { return };
            let left = watch.directions();
            let old = self.reactor.with(|r| {
                let r = r.as_mut()?;
                r.note(fd, left, o);
                let here = r.get(fd)?[side(direction)] == Some(o) && r.once(fd).is_none();
                if here && left & direction == 0 {
                    r.unset(fd, direction)
                } else {
                    None
                }
            });
            release_watcher(old);
            ffi::Py_DECREF(future);
        }
    }

    /// Wakes all who wait for descriptors that are ready; an exception that leaves is that of the first failure.
    #[inline(never)]
    pub(crate) fn wake_all(&self, ready: Vec<(RawFd, u8, [Option<Obj>; 2])>) -> Raises<()> {
        let mut failed = None;
        for (fd, readiness, watches) in ready {
            // SAFETY: every caller is attached, outside every cell, and gives its references up.
            if unsafe { self.wake_waiting(fd, readiness, watches) }.is_err() {
                // SAFETY: as above, with an exception set.
                let error = PyErr::fetch(unsafe { Python::assume_attached() });
                failed.get_or_insert(error);
            }
        }
        match failed {
            // SAFETY: as above.
            Some(error) => restore(unsafe { Python::assume_attached() }, Err(error)),
            None => Ok(()),
        }
    }

    /// Wakes those who wait for a descriptor that is ready. Takes over the references to the watches.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`.
    pub(crate) unsafe fn wake_waiting(
        &self,
        fd: RawFd,
        readiness: u8,
        watches: [Option<Obj>; 2],
    ) -> Raises<()> {
        let mut result = Ok(());
        for (direction, o) in [READ, WRITE].into_iter().zip(watches) {
            let Some(o) = o else { continue };
            // SAFETY: the caller's promise.
            unsafe {
                let held = Owned::from_new(o)?;
                let watch = SockWatch::from_ptr(o);
                if self.reactor.with(|r| r.as_ref().and_then(|r| r.once(fd))) != Some(o) {
                    // Beside a handle or a transport.
                    let old = self.reactor.with(|r| {
                        let r = r.as_mut()?;
                        let is_here = r.get(fd)?[side(direction)] == Some(o);
                        if is_here {
                            r.unset(fd, direction)
                        } else {
                            None
                        }
                    });
                    release_watcher(old);
                    result = result.and(watch.resolve(direction));
                    continue;
                }
                // The kernel tells once: the direction that is not ready is armed again.
                let left = watch.directions() & !readiness;
                self.reactor.with(|r| {
                    if let Some(r) = r.as_mut() {
                        // A failure means that the file is closed: no event will come.
                        if left == 0 || !matches!(r.rearm(fd, left, o), Ok(true)) {
                            r.note(fd, left, o);
                        }
                    }
                });
                for direction in [READ, WRITE] {
                    if readiness & direction != 0 {
                        result = result.and(watch.resolve(direction));
                    }
                }
                drop(held);
            }
        }
        result
    }

    /// Takes the place of those who wait in one direction, as a handle does; whether there were any. `None` where the
    /// descriptor is watched in another way.
    pub(crate) fn forget_waiting(&self, fd: RawFd, direction: u8) -> Option<bool> {
        let o = self.reactor.with(|r| r.as_ref()?.once(fd))?;
        // SAFETY: attached; the reactor holds the watch, and our own reference while Python code may run.
        unsafe {
            let held = Owned::from_new(new_ref(o)).ok()?;
            let watch = SockWatch::from_ptr(held.as_ptr());
            let found = watch.forget(direction);
            let left = watch.directions();
            self.reactor.with(|r| r.as_mut().map(|r| r.note(fd, left, o)));
            Some(found)
        }
    }

    /// A handle has taken the place of a watch in one direction: those who wait in the other go on beside it. Takes over the
    /// reference.
    ///
    /// # Safety
    /// As [`LoopCore::wake_waiting`]; `o` is a watch.
    #[cold]
    pub(crate) unsafe fn displaced(&self, fd: RawFd, direction: u8, o: Obj) -> Raises<()> {
        // SAFETY: the caller's promise.
        unsafe {
            let held = Owned::from_new(o)?;
            let watch = SockWatch::from_ptr(o);
            watch.forget(direction);
            let other = READ + WRITE - direction;
            if watch.directions() & other == 0 {
                return Ok(());
            }
            let own = new_ref(held.as_ptr());
            let set = self.reactor.with(|r| r.as_mut().map(|r| r.set(fd, other, own)));
            self.registered(set.map(|set| set.map(|old| [old, None])), own)
        }
    }

    /// What is known of the last receive on a descriptor.
    #[inline]
    pub(crate) fn hint(&self, fd: RawFd) -> Hint {
        let now = self.waits.load(Ordering::Relaxed);
        self.with_state(fd, |s| Hint { drained: s.drained == Some(now), large: s.is_large })
            .unwrap_or_default()
    }

    /// Notes how a receive went.
    #[inline]
    pub(crate) fn note_receive(&self, fd: RawFd, short: bool, large: bool) {
        let now = self.waits.load(Ordering::Relaxed);
        self.with_state(fd, |s| {
            s.drained = Some(now).filter(|_| short && s.is_stream);
            s.is_large = large;
        });
    }

    #[inline]
    fn with_state<T>(&self, fd: RawFd, f: impl FnOnce(&mut State) -> T) -> Option<T> {
        let o = self.reactor.with(|r| r.as_ref()?.once(fd))?;
        // SAFETY: attached; the reactor holds the watch, and no Python code runs here.
        unsafe { SockWatch::is(o).then(|| SockWatch::from_ptr(o).state.with(f)) }
    }
}
