//! `_add_reader`, `_add_writer` and their removal: what asyncio's `add_reader` and its kin call.
//!
//! Descriptors may be given as numbers or as objects with `fileno()`, with the errors of the `selectors` module. An object is kept
//! alive while it is watched, and is known by its identity once it is closed.

use std::ffi::c_int;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::handle::{is_native, new_handle, Handle};
use crate::loop_impl::{mode, LoopCore};
use crate::py::errors::{fetch, raise_os};
use crate::py::object::{checked, new_ref, Obj, Raises};
use crate::reactor::{Reactor, READ, WRITE};
use crate::sock::watch::SockWatch;

/// The descriptor number of `fileobj`, as `selectors._fileobj_to_fd` finds it.
fn descriptor(fileobj: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let invalid = || PyValueError::new_err(format!("Invalid file object: {}", repr(fileobj)));
    let number = if fileobj.is_instance_of::<pyo3::types::PyInt>() {
        fileobj.clone()
    } else {
        let fileno = fileobj.call_method0("fileno").and_then(|n| {
            // As int(): whatever fileno() gives.
            n.py().get_type::<pyo3::types::PyInt>().call1((n,))
        });
        fileno.map_err(|error| {
            let py = fileobj.py();
            let converted = error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py);
            if converted {
                invalid()
            } else {
                error
            }
        })?
    };
    match number.extract::<c_int>() {
        Ok(fd) if fd >= 0 => Ok(fd),
        Ok(fd) => Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}"))),
        Err(error) => Err(error),
    }
}

fn repr(o: &Bound<'_, PyAny>) -> String {
    o.repr().map_or_else(|_| "<unprintable>".to_owned(), |text| text.to_string())
}

impl LoopCore {
    /// Watches one direction of a descriptor with a new handle, which is returned; a handle that stood there is cancelled.
    fn watch(
        slf: &Bound<'_, Self>,
        fileobj: &Bound<'_, PyAny>,
        direction: u8,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let core = slf.get();
        if core.has(mode::CLOSED) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        fetch(py, core.check_fork(py))?;
        let fd = descriptor(fileobj)?;
        let items: Vec<Obj> = args.iter_borrowed().map(|a| a.as_ptr()).collect();
        // SAFETY: attached; the arguments outlive the call, and the handle takes references of its own.
        let handle = unsafe {
            let made = checked(ffi::PyContext_CopyCurrent()).and_then(|context| {
                new_handle(slf.as_ptr(), callback.as_ptr(), items.as_ptr(), items.len(), context)
            });
            Bound::from_owned_ptr(py, fetch(py, made)?.cast())
        };
        let h: *mut Handle = handle.as_ptr().cast();
        if !fileobj.is_instance_of::<pyo3::types::PyInt>() {
            // SAFETY: a native handle, made just above; the object is alive.
            unsafe { (*h).keep_watched(fileobj.as_ptr()) };
        }
        if core.is_debug() {
            let stack = fetch(py, core.call_cold(c"extract_stack", &[]))?;
            // SAFETY: a native handle, made just above.
            unsafe {
                (*h).set_source_traceback(stack.into_ptr());
            }
        }
        core.register(py, fd, direction, &handle)?;
        Ok(handle.unbind())
    }

    /// Registers an existing native handle for one direction.
    fn register(
        &self,
        py: Python<'_>,
        fd: RawFd,
        direction: u8,
        handle: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // SAFETY: alive; the reactor gets a reference of its own.
        let own = unsafe { new_ref(handle.as_ptr()) };
        let set = self.reactor.with(|r| r.as_mut().map(|r| r.set(fd, direction, own)));
        match set {
            // SAFETY: the reactor's reference, now ours, keeps it alive.
            Some(Ok(Some(old))) if unsafe { SockWatch::is(old) } => {
                // SAFETY: attached, outside every cell; the reactor's reference, now ours.
                fetch(py, unsafe { self.displaced(fd, direction, old) })
            }
            Some(Ok(old)) => release_cancelled(py, old),
            Some(Err(error)) => {
                // SAFETY: the reference that the reactor did not take.
                unsafe { ffi::Py_DECREF(own) };
                Err(fetch::<()>(py, Err(raise_os(py, &error)))
                    .err()
                    .unwrap_or_else(|| PyErr::fetch(py)))
            }
            None => {
                // SAFETY: as above.
                unsafe { ffi::Py_DECREF(own) };
                Err(PyRuntimeError::new_err("Event loop is closed"))
            }
        }
    }

    /// Stops watching one direction; the handle is cancelled. False if nothing was watched.
    fn forget(slf: &Bound<'_, Self>, fileobj: &Bound<'_, PyAny>, direction: u8) -> PyResult<bool> {
        let py = slf.py();
        let core = slf.get();
        if core.has(mode::CLOSED) {
            return Ok(false);
        }
        fetch(py, core.check_fork(py))?;
        let fd = match descriptor(fileobj) {
            // Closed meanwhile: known by what it is, as to the `selectors` module.
            Err(error) if error.is_instance_of::<PyValueError>(py) => {
                core.watched_object(fileobj.as_ptr()).ok_or(error)?
            }
            other => other?,
        };
        if let Some(found) = core.forget_waiting(fd, direction) {
            return Ok(found);
        }
        let old = core.reactor.with(|r| r.as_mut().and_then(|r| r.unset(fd, direction)));
        let found = old.is_some();
        release_cancelled(py, old)?;
        Ok(found)
    }

    /// The descriptor that `object` had when it was given to be watched.
    #[cold]
    fn watched_object(&self, object: Obj) -> Option<RawFd> {
        self.reactor.with(|r| {
            let mut rows = r.iter().flat_map(Reactor::iter);
            let found = rows.find(|(_, _, callbacks)| {
                callbacks.iter().flatten().any(|&o| {
                    // SAFETY: the reactor's reference keeps it alive.
                    unsafe { is_native(o) && (*o.cast::<Handle>()).extras().watched == object }
                })
            });
            found.map(|(fd, ..)| fd)
        })
    }

    /// Stops watching one direction, and cancels the handle.
    fn unwatch_cancelled(&self, py: Python<'_>, fd: RawFd, direction: u8) -> PyResult<()> {
        if self.forget_waiting(fd, direction).is_some() {
            return Ok(());
        }
        let old = self.reactor.with(|r| r.as_mut().and_then(|r| r.unset(fd, direction)));
        release_cancelled(py, old)
    }

    /// Stops watching one direction of a descriptor whose handle is cancelled already.
    #[cold]
    pub(crate) fn unwatch(&self, fd: RawFd, direction: u8) {
        if self.forget_waiting(fd, direction).is_some() {
            return;
        }
        let old = self.reactor.with(|r| r.as_mut().and_then(|r| r.unset(fd, direction)));
        if let Some(old) = old {
            // SAFETY: the reference that the reactor held; attached, outside the cell.
            unsafe { ffi::Py_DECREF(old) };
        }
    }
}

/// Cancels and releases a handle that the reactor gave up.
fn release_cancelled(_py: Python<'_>, old: Option<Obj>) -> PyResult<()> {
    // SAFETY: attached, as the token shows; the reactor's reference, now ours.
    unsafe { release_watcher(old) };
    Ok(())
}

/// Releases what the reactor gave up: a handle is cancelled, a transport or listener only let go.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller owns the reference.
pub(crate) unsafe fn release_watcher(old: Option<Obj>) {
    if let Some(old) = old {
        // SAFETY: the caller's promise.
        unsafe {
            if is_native(old) && crate::handle::cancel(old.cast()).is_err() {
                ffi::PyErr_Clear();
            }
            ffi::Py_DECREF(old);
        }
    }
}

/// A watcher as Python is shown it: a new reference to a handle.
unsafe fn shown_as(owner: Obj, o: Obj, direction: u8) -> Raises<Obj> {
    // SAFETY: attached; the caller holds both.
    unsafe {
        if is_native(o) {
            return Ok(new_ref(o));
        }
        crate::watcher::handle(owner, o, direction)
    }
}

/// Who watches each direction: a registration that is armed has one for both.
fn by_direction(events: u8, [read, write]: [Option<Obj>; 2]) -> [Option<Obj>; 2] {
    [read.filter(|_| events & READ != 0), write.or(read).filter(|_| events & WRITE != 0)]
}

/// What the `_selector` façade shows of one descriptor: (fd, events, reader or None, writer or None).
type Watched = (RawFd, u8, Option<Py<PyAny>>, Option<Py<PyAny>>);

#[pymethods]
impl LoopCore {
    /// Call *callback(\*args)* whenever *fd* is readable, until removed; replaces what was there.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        Self::watch(slf, fd, READ, callback, args)
    }

    /// Call *callback(\*args)* whenever *fd* is writable, until removed; replaces what was there.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        Self::watch(slf, fd, WRITE, callback, args)
    }

    /// Stop watching *fd* for reading; whether it was watched.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::forget(slf, fd, READ)
    }

    /// Stop watching *fd* for writing; whether it was watched.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::forget(slf, fd, WRITE)
    }

    /// All watched descriptors, or *only* one, for the `_selector` façade.
    #[pyo3(signature = (only=None))]
    fn _watched(slf: &Bound<'_, Self>, only: Option<RawFd>) -> PyResult<Vec<Watched>> {
        let py = slf.py();
        let rows: Vec<(RawFd, u8, [Option<Obj>; 2])> = slf.get().reactor.with(|r| {
            let rows = r.iter().flat_map(Reactor::iter).filter(|(_, events, _)| *events != 0);
            let rows = rows.filter(|(fd, ..)| only.is_none_or(|only| only == *fd));
            let rows =
                rows.map(|(fd, events, callbacks)| (fd, events, by_direction(events, callbacks)));
            // SAFETY: alive, as the reactor owns them; the copies are references of their own.
            rows.inspect(|(_, _, c)| c.iter().flatten().for_each(|&c| unsafe { ffi::Py_INCREF(c) }))
                .collect()
        });
        let mut shown = Vec::with_capacity(rows.len());
        for (fd, events, callbacks) in rows {
            // SAFETY: the references made just above.
            let mut held = callbacks.map(|c| c.map(|c| unsafe { Bound::from_owned_ptr(py, c) }));
            for (held, direction) in held.iter_mut().zip([READ, WRITE]) {
                if let Some(o) = held.as_mut() {
                    // SAFETY: attached; the object is held.
                    let handle = unsafe { shown_as(slf.as_ptr(), o.as_ptr(), direction) };
                    let handle = fetch(py, handle)?;
                    // SAFETY: a reference that is ours.
                    *o = unsafe { Bound::from_owned_ptr(py, handle) };
                }
            }
            let [reader, writer] = held.map(|held| held.map(Bound::unbind));
            shown.push((fd, events, reader, writer));
        }
        Ok(shown)
    }

    /// Register handles made by this loop for *fd*, as the façade's register() and modify() are asked.
    #[pyo3(signature = (fd, reader, writer))]
    fn _watch_handles(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        reader: Option<&Bound<'_, PyAny>>,
        writer: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        fetch(py, core.check_fork(py))?;
        for (direction, handle) in [(READ, reader), (WRITE, writer)] {
            let side = usize::from(direction == WRITE);
            let now = core.reactor.with(|r| r.as_ref().and_then(|r| r.get(fd)?[side]));
            match handle {
                Some(handle) if now == Some(handle.as_ptr()) => {}
                // SAFETY: reads the type of a living object.
                Some(handle) if unsafe { is_native(handle.as_ptr()) } => {
                    core.register(py, fd, direction, handle)?;
                }
                Some(_) => {
                    return Err(PyTypeError::new_err(
                        "PyLoop watches descriptors for its own handles: use loop.add_reader() or add_writer()",
                    ))
                }
                None => core.unwatch_cancelled(py, fd, direction)?,
            }
        }
        Ok(())
    }

    /// Stop watching *fd* in both directions; KeyError if it is not watched.
    fn _unwatch(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<()> {
        let core = slf.get();
        fetch(slf.py(), core.check_fork(slf.py()))?;
        let known = core.reactor.with(|r| r.as_ref().and_then(|r| r.get(fd)).is_some());
        if !known {
            return Err(PyKeyError::new_err(format!("{fd} is not registered")));
        }
        core.unwatch(fd, READ);
        core.unwatch(fd, WRITE);
        Ok(())
    }

    /// The descriptor of the kernel object that the loop waits on, or -1.
    fn _reactor_fileno(&self) -> RawFd {
        self.reactor.with(|r| r.as_ref().map_or(-1, Reactor::as_raw_fd))
    }
}
