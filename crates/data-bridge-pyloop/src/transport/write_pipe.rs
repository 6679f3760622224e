//! The writing end of a pipe, a FIFO, a terminal or a socket, as `asyncio.unix_events._UnixWritePipeTransport`.
//!
//! A write goes out at once, never at the end of the iteration: others write to the same pipe or terminal (`print()`, children),
//! and the order is seen. The end of the reader is seen by watching for something to read.

use pyo3::ffi;
use pyo3::prelude::*;

use super::base::{
    begin, call_connection_lost, call_method_soon, has, init, maybe_pause, maybe_resume, set,
    state, unwatch, watch, Base, Kind,
};
use super::outgoing::{Outgoing, Sent, Write};
use super::read_pipe::log_closed_by_peer;
use super::stream::retry;
use super::writing::{after_the_end, immutable, is_bytes_like};
use crate::loop_impl::LoopCore;
use crate::py::bytes;
use crate::py::call::{leaves_the_loop, take_exception};
use crate::py::errors::{fetch, raise_os};
use crate::py::imports::{self, call_cold};
use crate::py::names;
use crate::py::object::{checked, clear, new_ref, Obj, Owned, Raised, Raises};
use crate::reactor::{READ, WRITE};
use crate::sys;

/// A transport that writes to a pipe.
#[repr(C)]
pub struct WritePipe {
    base: Base,
    outgoing: Outgoing,
}

/// The behaviour of a write pipe. One that is not watched for its reader's end counts as paused.
pub static WRITE_PIPE: Kind = Kind {
    read_ready,
    write_ready,
    // Nothing waits for the end of an iteration.
    flush: |_| Ok(()),
    buffered,
    discard,
    release: discard,
    lost: |_| Ok(()),
    references: |_, _| {},
    drop: |t| {
        // SAFETY: the object's memory is about to be freed, and what the queue held was released.
        unsafe { std::ptr::drop_in_place(&raw mut (*pipe(t)).outgoing) }
    },
    deaf: state::PAUSED | state::ENDING | state::GONE,
    foreign: true,
    write_error: c"Fatal write error on pipe transport",
};

/// The whole transport behind its head.
fn pipe(t: *mut Base) -> *mut WritePipe {
    t.cast()
}

unsafe fn buffered(t: *mut Base) -> usize {
    // SAFETY: the transport is alive, and of this kind.
    unsafe { (*pipe(t)).outgoing.size() }
}

unsafe fn discard(t: *mut Base) {
    // SAFETY: as above; attached.
    unsafe {
        for bytes in (*pipe(t)).outgoing.take_all() {
            ffi::Py_DECREF(bytes);
        }
    }
}

/// The reader has closed its end.
unsafe fn read_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: attached, outside every `LoopCell`; the loop holds the transport for the call.
    unsafe {
        if has(t, state::ENDING | state::GONE) {
            return Ok(());
        }
        log_closed_by_peer(t)?;
        if buffered(t) == 0 {
            return end(t, ffi::Py_None());
        }
        let broken = Owned::from_new(ffi::PyObject_CallNoArgs(ffi::PyExc_BrokenPipeError))?;
        end(t, broken.as_ptr())
    }
}

/// `write(data)`.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds the transport, a write pipe, and `data`.
pub unsafe fn write(t: *mut Base, data: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let exact = ffi::PyBytes_CheckExact(data) != 0;
        if !exact && !is_bytes_like(data) {
            return Err(not_bytes_like(data));
        }
        match ffi::PyObject_Size(data) {
            -1 => return Err(Raised),
            0 => return Ok(()),
            _ => {}
        }
        if (*t).conn_lost != 0 || has(t, state::CLOSING) {
            let text = c"pipe closed by peer or os.write(pipe, data) raised exception.";
            return after_the_end(t, text);
        }
        if buffered(t) != 0 {
            // Nobody may change what waits.
            return keep(t, immutable(data)?, 0);
        }
        let left = if exact { write_bytes(t, data) } else { write_buffer(t, data) };
        match left {
            Ok((left, start)) if start < bytes::len(left.as_ptr()) => keep(t, left, start),
            Ok(_) => Ok(()),
            Err(Raised) => write_failed(t),
        }
    }
}

/// asyncio's assertion.
#[cold]
unsafe fn not_bytes_like(data: Obj) -> Raised {
    // SAFETY: as [`write`].
    unsafe {
        if let Ok(shown) = Owned::from_new(ffi::PyObject_Repr(data)) {
            ffi::PyErr_SetObject(ffi::PyExc_AssertionError, shown.as_ptr());
        }
    }
    Raised
}

/// One attempt to write all: how many bytes the kernel took.
unsafe fn write_now(t: *mut Base, bytes: &[u8]) -> Raises<usize> {
    // SAFETY: the transport is alive.
    let fd = unsafe { (*t).fd };
    match retry(|| sys::write(fd, bytes)) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
        // SAFETY: every caller is attached.
        other => other.map_err(|error| raise_os(unsafe { Python::assume_attached() }, &error)),
    }
}

/// Writes a bytes object, and returns where the rest of it begins.
unsafe fn write_bytes(t: *mut Base, data: Obj) -> Raises<(Owned, usize)> {
    // SAFETY: as [`write`].
    unsafe {
        let sent = write_now(t, bytes::contents(data))?;
        Ok((Owned::from_new(new_ref(data))?, sent))
    }
}

/// Writes anything that may change afterwards, and returns a copy of the rest.
unsafe fn write_buffer(t: *mut Base, data: Obj) -> Raises<(Owned, usize)> {
    // SAFETY: as [`write`]; the buffer is released before Python runs again.
    unsafe {
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(data, &mut view, ffi::PyBUF_SIMPLE) != 0 {
            return Err(Raised);
        }
        let bytes = std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize);
        // A class may have its own way to give a buffer (3.12), and that any effect.
        let sent = if has(t, state::GONE) { Ok(bytes.len()) } else { write_now(t, bytes) };
        let left = sent.and_then(|sent| {
            let left = &bytes[sent..];
            let copy = ffi::PyBytes_FromStringAndSize(left.as_ptr().cast(), left.len() as isize);
            Owned::from_new(copy)
        });
        ffi::PyBuffer_Release(&mut view);
        Ok((left?, 0))
    }
}

/// Puts a bytes object, without what was sent of it, aside until the pipe takes more.
unsafe fn keep(t: *mut Base, data: Owned, sent: usize) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        (*pipe(t)).outgoing.push(data.into_ptr(), sent);
        if !has(t, state::BLOCKED) {
            set(t, state::BLOCKED, true);
            let context = checked(ffi::PyContext_CopyCurrent())?;
            let mut old = std::mem::replace(&mut (*t).write_context, context);
            clear(&mut old);
            watch(t, WRITE)?;
        }
        maybe_pause(t)
    }
}

/// `_fatal_error()` for the exception that is set, after a write.
#[cold]
unsafe fn write_failed(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        if leaves_the_loop() {
            return Err(Raised);
        }
        let exception = take_exception()?;
        (*t).conn_lost += 1;
        let text = Owned::from_new(ffi::PyUnicode_FromString((*t).kind.write_error.as_ptr()))?;
        call_cold(c"fatal_error", &[t.cast(), exception.as_ptr(), text.as_ptr()])?;
        end(t, exception.as_ptr())
    }
}

/// The pipe takes more.
unsafe fn write_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`read_ready`].
    unsafe {
        if !has(t, state::BLOCKED) || has(t, state::ENDING) {
            return Ok(());
        }
        let fd = (*t).fd;
        match (*pipe(t)).outgoing.send(fd, Write::Pipe) {
            // As asyncio, which goes by the marks only when all has left.
            Ok(Sent::Blocked) => return Ok(()),
            Ok(Sent::All) => {}
            Err(error) => {
                raise_os(Python::assume_attached(), &error);
                return write_failed(t);
            }
        }
        set(t, state::BLOCKED, false);
        unwatch(t, WRITE);
        let mut context = std::mem::replace(&mut (*t).write_context, std::ptr::null_mut());
        // May write more, or end it.
        let mut result = maybe_resume(t);
        let ends = has(t, state::CLOSING) && !has(t, state::ENDING | state::GONE);
        if result.is_ok() && ends && buffered(t) == 0 {
            result = call_connection_lost(t, ffi::Py_None());
        }
        clear(&mut context);
        result
    }
}

/// `_close(exception)`: what waits is lost.
unsafe fn end(t: *mut Base, exception: Obj) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        if has(t, state::ENDING) || (*t).owner.is_null() {
            return Ok(());
        }
        set(t, state::CLOSING, true);
        if has(t, state::BLOCKED) {
            set(t, state::BLOCKED, false);
            unwatch(t, WRITE);
        }
        discard(t);
        schedule_end(t, exception)
    }
}

unsafe fn schedule_end(t: *mut Base, exception: Obj) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        if !has(t, state::PAUSED) {
            unwatch(t, READ);
        }
        set(t, state::ENDING, true);
        call_method_soon((*t).owner, t.cast(), &names::CALL_CONNECTION_LOST, exception)
    }
}

/// `abort()`.
///
/// # Safety
/// As [`write`].
pub unsafe fn abort(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe { end(t, ffi::Py_None()) }
}

/// `write_eof()`, which is `close()` as well: what waits is still sent.
///
/// # Safety
/// As [`write`].
pub unsafe fn write_eof(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::CLOSING | state::GONE) || (*t).owner.is_null() {
            return Ok(());
        }
        set(t, state::CLOSING, true);
        if buffered(t) == 0 {
            return schedule_end(t, ffi::Py_None());
        }
    }
    Ok(())
}

#[pymethods]
impl LoopCore {
    /// A transport that writes to a non-blocking pipe; *numbers* are its descriptor and whether to watch for the reader's end,
    /// *extra* is its complete extra information.
    fn _new_write_pipe_transport(
        slf: &Bound<'_, Self>,
        pipe: &Bound<'_, PyAny>,
        numbers: (i32, bool),
        protocol: &Bound<'_, PyAny>,
        waiter: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: attached; all are alive for the call; the memory of a new object is zero, and the field that may not be zero is
        // written first.
        let made = unsafe {
            let class: *mut ffi::PyTypeObject = imports::WRITE_PIPE_TRANSPORT.get().cast();
            Owned::from_new(ffi::PyType_GenericAlloc(class, 0)).and_then(|made| {
                let t: *mut Base = made.as_ptr().cast();
                let (fd, listens) = numbers;
                (&raw mut (*t.cast::<WritePipe>()).outgoing).write(Outgoing::default());
                (*t).extra = new_ref(extra.as_ptr());
                (*t).file = new_ref(pipe.as_ptr());
                init(t, &WRITE_PIPE, slf.as_ptr(), fd, protocol.as_ptr());
                set(t, state::PAUSED, !listens);
                begin(t, waiter.as_ptr())?;
                Ok(made.into_ptr())
            })
        };
        let made = fetch(slf.py(), made)?;
        // SAFETY: a reference that is ours.
        Ok(unsafe { Bound::from_owned_ptr(slf.py(), made) }.unbind())
    }
}
