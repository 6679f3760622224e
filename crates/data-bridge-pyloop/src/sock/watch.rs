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

use super::call::{raise_system, Call};
use crate::loop_impl::{mode, LoopCore};
use crate::py::call::method;
use crate::py::cell::LoopCell;
use crate::py::errors::{fetch, restore};
use crate::py::imports;
use crate::py::names;
use crate::py::object::{clear, new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::{LASTING, READ, WRITE};
use crate::sys;
use crate::watch::release_watcher;

/// The futures that wait for one descriptor.
#[pyclass(frozen, module = "data_bridge.pyloop._native")]
pub struct SockWatch {
    state: LoopCell<State>,
}

/// One who waits.
struct Waiter {
    /// Owned.
    future: Obj,
    /// Borrowed: a call strikes itself off before it dies.
    call: *mut Call,
}

struct State {
    /// Who waits to read and to write; the latest last.
    waiting: [Vec<Waiter>; 2],
    /// The socket that was armed last, by a weak reference; or null.
    socket: Obj,
    /// The pass in which a receive has left nothing, as far as can be told.
    drained: Option<u32>,
    /// The pass in which that was certain.
    empty: Option<u32>,
    /// The pass whose events told of the open file, and of nothing that would not be told again.
    heard: Option<u32>,
    /// Whether a short receive means that nothing is left.
    is_stream: bool,
    /// Whether that is certain, but for urgent data. (A Unix socket also ends a receive where descriptors were sent, SCTP at the end of
    /// each message.)
    is_tcp: bool,
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
            socket: null_mut(),
            drained: None,
            empty: None,
            heard: None,
            is_stream: sys::is_stream(fd),
            is_tcp: sys::is_tcp(fd),
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
            (u8::from(!read.is_empty()) * READ) | (u8::from(!write.is_empty()) * WRITE)
        })
    }

    /// Wakes all who wait for a direction, the latest first: it is the one that asyncio would have woken, and the others find
    /// what it leaves. One that fails does not keep the others from it.
    fn resolve(&self, direction: u8) -> Raises<()> {
        let mut first = None;
        let mut left = self.state.with(|s| s.waiting[side(direction)].len());
        while left != 0 {
            left -= 1;
            let waiter = self.state.with(|s| s.waiting[side(direction)].pop());
            let Some(Waiter { future, call }) = waiter else { break };
            // SAFETY: attached, outside every cell; the list's reference is ours now, and who was on the list lives.
            unsafe {
                ffi::Py_INCREF(call.cast());
                let set = method(future, &names::SET_RESULT, [ffi::Py_None()]).map(drop);
                (*call).woken = set.is_ok() && (*call).future == future;
                if set.is_err() {
                    if ffi::PyErr_ExceptionMatches(imports::INVALID_STATE.get()) != 0 {
                        // Cancelled, and its call has not heard of that yet.
                        ffi::PyErr_Clear();
                    } else {
                        first.get_or_insert(PyErr::fetch(Python::assume_attached()));
                    }
                }
                ffi::Py_DECREF(call.cast());
                ffi::Py_DECREF(future);
            }
        }
        match first {
            // SAFETY: attached.
            Some(error) => restore(unsafe { Python::assume_attached() }, Err(error)),
            None => Ok(()),
        }
    }

    /// Nobody waits for a direction any more, as when a handler was replaced; whether somebody did.
    fn forget(&self, direction: u8) -> bool {
        let waiting = self.state.with(|s| std::mem::take(&mut s.waiting[side(direction)]));
        let found = !waiting.is_empty();
        for Waiter { future, .. } in waiting {
            // SAFETY: attached, outside every cell; the list's references are ours now.
            unsafe { ffi::Py_DECREF(future) };
        }
        found
    }

    /// Whether `socket` is the one that was armed last.
    #[inline]
    fn is_of(&self, socket: Obj) -> bool {
        let reference = self.state.with(|s| s.socket);
        if reference.is_null() {
            return false;
        }
        let mut found = null_mut();
        // SAFETY: attached; a weak reference that is ours. What it finds has another reference, or it would not be found.
        unsafe {
            ffi::compat::PyWeakref_GetRef(reference, &mut found);
            ffi::Py_XDECREF(found);
        }
        found == socket
    }

    /// The socket is armed: from here on the loop hears of it.
    fn armed(&self, socket: Obj) {
        if self.is_of(socket) {
            return;
        }
        // SAFETY: attached, outside every cell; both references are ours.
        unsafe {
            let new = ffi::PyWeakref_NewRef(socket, null_mut());
            if new.is_null() {
                // Not everything that looks like a socket can be referred to.
                ffi::PyErr_Clear();
            }
            let old = self.state.with(|s| {
                s.drained = None;
                s.empty = None;
                s.heard = None;
                std::mem::replace(&mut s.socket, new)
            });
            ffi::Py_XDECREF(old);
        }
    }

    fn add(&self, direction: u8, future: Obj, call: *mut Call) {
        // SAFETY: the caller's future is alive.
        let future = unsafe { new_ref(future) };
        self.state.with(|s| s.waiting[side(direction)].push(Waiter { future, call }));
    }
}

impl Drop for SockWatch {
    fn drop(&mut self) {
        // The interpreter drops it when the object dies: attached.
        self.forget(READ);
        self.forget(WRITE);
        let mut socket = self.state.with(|s| std::mem::replace(&mut s.socket, null_mut()));
        // SAFETY: as above; the reference is ours.
        unsafe { clear(&mut socket) };
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
            s.waiting.iter().flatten().try_for_each(|waiter| {
                // SAFETY: `Py` is a transparent non-null pointer; the reference is owned here and only looked at.
                visit.call(unsafe { &*(&raw const waiter.future).cast::<Py<PyAny>>() })
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
    /// The last receive was in this pass, and left nothing.
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
    /// Attached, outside every `LoopCell`; `future` is alive; `call` is until [`LoopCore::stop_waiting`] is told.
    pub(crate) unsafe fn start_waiting(
        &self,
        socket: Obj,
        fd: RawFd,
        direction: u8,
        future: Obj,
        call: *mut Call,
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
            let (edge, others) = self.reactor.with(|r| {
                let r = r.as_ref();
                (r.and_then(|r| r.edge(fd)), r.and_then(|r| r.get(fd)))
            });
            if let Some(o) = edge.filter(|&o| SockWatch::is(o)) {
                let own = Owned::from_new(new_ref(o))?;
                let watch = SockWatch::from_ptr(o);
                if cfg!(target_os = "macos") && !watch.is_of(socket) {
                    // That kernel does not tell whether the number is another file's now.
                    watch.forget(READ);
                    watch.forget(WRITE);
                }
                let wanted = watch.directions() | direction;
                if direction == READ && self.will_hear(watch, socket) {
                    let live = self.reactor.with(|r| r.as_mut().map(|r| r.resume(fd, wanted, o)));
                    if live == Some(true) {
                        watch.add(direction, future, call);
                        return Ok(own);
                    }
                }
                let armed = self.reactor.with(|r| r.as_mut().map(|r| r.rearm(fd, wanted, o)));
                match armed {
                    Some(Ok(true)) => {
                        watch.armed(socket);
                        watch.add(direction, future, call);
                        return Ok(own);
                    }
                    Some(Err(error)) => return Err(raise_system(&error)),
                    // Another file has the number now: whoever waited for the old one goes on waiting.
                    _ => {}
                }
            } else if let Some(callbacks) = others {
                let there = callbacks[side(direction)];
                return self.wait_beside(fd, direction, future, call, there);
            }
            let made = SockWatch::create(py, fd)?;
            let own = new_ref(made.as_ptr());
            let armed = self.reactor.with(|r| r.as_mut().map(|r| r.arm(fd, direction, own)));
            self.registered(armed, own)?;
            SockWatch::from_ptr(made.as_ptr()).armed(socket);
            SockWatch::from_ptr(made.as_ptr()).add(direction, future, call);
            Ok(made)
        }
    }

    /// Whether whatever comes next will be told without arming again: this pass began with an event of this very socket, and
    /// all has been received since. Whoever puts another file under the number in between, with the same socket object, is not seen.
    #[inline]
    fn will_hear(&self, watch: &SockWatch, socket: Obj) -> bool {
        let now = Some(self.passes.load(Ordering::Relaxed));
        watch.state.with(|s| s.empty == now && s.heard == now) && watch.is_of(socket)
    }

    /// As [`LoopCore::start_waiting`] where handles or a transport watch the descriptor: level-triggered as theirs, until woken.
    /// A handle in the same direction gives way, as on asyncio.
    #[cold]
    unsafe fn wait_beside(
        &self,
        fd: RawFd,
        direction: u8,
        future: Obj,
        call: *mut Call,
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
            SockWatch::from_ptr(watch.as_ptr()).add(direction, future, call);
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
                let place = waiting.iter().position(|w| w.future == future)?;
                Some(waiting.remove(place).future)
            });
            let Some(future) = found else { return };
            let left = watch.directions();
            let old = self.reactor.with(|r| {
                let r = r.as_mut()?;
                r.note(fd, left, o);
                let here = r.get(fd)?[side(direction)] == Some(o) && r.edge(fd).is_none();
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
                if self.reactor.with(|r| r.as_ref().and_then(|r| r.edge(fd))) != Some(o) {
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
                let left = watch.directions() & !readiness;
                self.reactor.with(|r| r.as_mut().map(|r| r.note(fd, left, o)));
                let now = self.passes.load(Ordering::Relaxed);
                watch.state.with(|s| s.heard = Some(now).filter(|_| readiness & LASTING == 0));
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
        let o = self.reactor.with(|r| r.as_ref()?.edge(fd))?;
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
    pub(crate) fn hint(&self, fd: RawFd, socket: Obj) -> Hint {
        let now = self.passes.load(Ordering::Relaxed);
        let hint = |watch: &SockWatch| {
            let (drained, large) = watch.state.with(|s| (s.drained == Some(now), s.is_large));
            Hint { drained: drained && watch.is_of(socket), large }
        };
        self.with_watch(fd, hint).unwrap_or_default()
    }

    /// Notes how a receive went.
    #[inline]
    pub(crate) fn note_receive(&self, fd: RawFd, short: bool, large: bool) {
        let now = self.passes.load(Ordering::Relaxed);
        self.with_watch(fd, |watch| {
            watch.state.with(|s| {
                s.drained = Some(now).filter(|_| short && s.is_stream);
                s.empty = s.drained.filter(|_| s.is_tcp);
                s.is_large = large;
            });
        });
    }

    /// Notes that there was nothing to receive.
    #[inline]
    pub(crate) fn note_empty(&self, fd: RawFd) {
        let now = self.passes.load(Ordering::Relaxed);
        self.with_watch(fd, |watch| watch.state.with(|s| s.empty = Some(now)));
    }

    #[inline]
    fn with_watch<T>(&self, fd: RawFd, f: impl FnOnce(&SockWatch) -> T) -> Option<T> {
        let o = self.reactor.with(|r| r.as_ref()?.edge(fd))?;
        // SAFETY: attached; the reactor holds the watch, and `f` runs no Python code.
        unsafe { SockWatch::is(o).then(|| f(SockWatch::from_ptr(o))) }
    }
}
