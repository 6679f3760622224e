//! Writing to a byte stream: at once, at the end of the iteration, or when the descriptor takes more.
//!
//! A write that is made while the loop runs callbacks waits for the end of the iteration, so that many leave in one system call;
//! from [`AT_ONCE`] bytes on nothing waits. What the kernel does not take waits until the descriptor is writable.

use pyo3::ffi;

use super::base::{
    call_connection_lost, core, fatal_error, has, maybe_pause, maybe_resume, set, state, unwatch,
    watch, Base,
};
use super::outgoing::{Sent, Write};
use super::stream::{retry, stream};
use crate::py::bytes;
use crate::py::call::method;
use crate::py::errors::raise_os;
use crate::py::names;
use crate::py::object::{checked, clear, new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::WRITE;
use crate::sys;

/// From this many bytes on nothing waits for the end of the iteration.
///
/// Measured: gathering wins at 1 KiB (the peer is woken once) and loses at 64 KiB.
const AT_ONCE: usize = 16 * 1024;

/// Writes after the end before they are worth a warning, as asyncio's constant.
const LOG_THRESHOLD: u32 = 5;

/// `write(data)`.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds the transport, a stream, and `data`.
pub unsafe fn write(t: *mut Base, data: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let exact = ffi::PyBytes_CheckExact(data) != 0;
        if !exact && !is_bytes_like(data) {
            return Err(not_bytes_like(data));
        }
        if has(t, state::EOF) {
            return Err(raise(ffi::PyExc_RuntimeError, "Cannot call write() after write_eof()"));
        }
        if !(*stream(t)).empty_waiter.is_null() {
            return Err(raise(ffi::PyExc_RuntimeError, "unable to write; sendfile is in progress"));
        }
        let empty = if exact { ffi::Py_SIZE(data) } else { ffi::PyObject_Size(data) };
        match empty {
            -1 => return Err(Raised),
            0 => return Ok(()),
            _ => {}
        }
        if (*t).conn_lost != 0 {
            return after_the_end(t, SEND_FAILED);
        }
        if exact {
            write_bytes(t, data)
        } else {
            write_buffer(t, data)
        }
    }
}

/// Whether asyncio's transports take it.
///
/// # Safety
/// `data` is alive.
pub unsafe fn is_bytes_like(data: Obj) -> bool {
    // SAFETY: reads the type of a living object.
    unsafe {
        ffi::PyBytes_Check(data) != 0
            || ffi::PyByteArray_Check(data) != 0
            || ffi::PyMemoryView_Check(data) != 0
    }
}

/// asyncio's TypeError for data of a wrong type.
///
/// # Safety
/// Attached; `data` is alive.
#[cold]
pub unsafe fn not_bytes_like(data: Obj) -> Raised {
    // SAFETY: the caller's promise; types are alive as long as their instances.
    unsafe {
        let class: Obj = ffi::Py_TYPE(data).cast();
        let name = Owned::from_new(ffi::PyObject_GetAttrString(class, c"__name__".as_ptr()));
        if let Ok(name) = name {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"data argument must be a bytes-like object, not %R".as_ptr(),
                name.as_ptr(),
            );
        }
    }
    Raised
}

/// What is said of writes to a socket after its end.
pub const SEND_FAILED: &std::ffi::CStr = c"socket.send() raised exception.";

/// A write after the end: counted, and worth a warning from the sixth on.
///
/// # Safety
/// As [`write`].
#[cold]
pub unsafe fn after_the_end(t: *mut Base, text: &std::ffi::CStr) -> Raises<()> {
    // SAFETY: the caller's promise; the functions of the cold half need no loop.
    unsafe {
        if (*t).conn_lost >= LOG_THRESHOLD {
            let text = Owned::from_new(ffi::PyUnicode_FromString(text.as_ptr()))?;
            crate::py::imports::call_cold(c"log_warning", &[text.as_ptr()])?;
        }
        (*t).conn_lost += 1;
    }
    Ok(())
}

unsafe fn write_bytes(t: *mut Base, data: Obj) -> Raises<()> {
    // SAFETY: as [`write`]; `data` is a bytes object that is not empty.
    unsafe {
        let s = stream(t);
        let size = bytes::len(data);
        if (*s).outgoing.size() == 0 && (size >= AT_ONCE || !core(t).gathering()) {
            return match send_now(t, bytes::contents(data))? {
                Some(sent) if sent < size => {
                    (*s).outgoing.push(new_ref(data), sent);
                    wait_for_room(t)?;
                    maybe_pause(t)
                }
                _ => Ok(()),
            };
        }
        (*s).outgoing.push(new_ref(data), 0);
        put_aside(t)
    }
}

/// Anything that may change afterwards: sent at once, or copied.
unsafe fn write_buffer(t: *mut Base, data: Obj) -> Raises<()> {
    // SAFETY: as [`write`]; the buffer is released before Python runs again.
    unsafe {
        let s = stream(t);
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(data, &mut view, ffi::PyBUF_SIMPLE) != 0 {
            return fatal_error(t, (*t).kind.write_error);
        }
        if view.len == 0 || (*t).conn_lost != 0 {
            // A view of several dimensions, one of them empty; or its owner has ended the connection.
            ffi::PyBuffer_Release(&mut view);
            return Ok(());
        }
        let bytes = std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize);
        let at_once = bytes.len() >= AT_ONCE || !core(t).gathering();
        let mut failed = Ok(());
        let mut start = Some(0);
        if (*s).outgoing.size() == 0 && at_once {
            match retry_send(t, bytes) {
                Ok(sent) => start = Some(sent).filter(|&sent| sent < bytes.len()),
                Err(error) => {
                    start = None;
                    failed = Err(error);
                }
            }
        }
        if let Some(start) = start {
            (*s).outgoing.push_copy(&bytes[start..]);
        }
        ffi::PyBuffer_Release(&mut view);
        if let Err(error) = failed {
            raise_os(pyo3::Python::assume_attached(), &error);
            return fatal_error(t, (*t).kind.write_error);
        }
        if start.is_none() || (*t).conn_lost != 0 {
            return Ok(());
        }
        if start == Some(0) && !at_once {
            return put_aside(t);
        }
        if has(t, state::BLOCKED | state::LISTED) {
            return put_aside(t);
        }
        wait_for_room(t)?;
        maybe_pause(t)
    }
}

/// Sends until the kernel takes no more: `Ok` with how much it took.
unsafe fn retry_send(t: *mut Base, bytes: &[u8]) -> std::io::Result<usize> {
    // SAFETY: the transport is alive.
    let fd = unsafe { (*t).fd };
    match retry(|| sys::send(fd, bytes)) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// As [`retry_send`]; `None` if the connection has broken, which is dealt with then.
unsafe fn send_now(t: *mut Base, bytes: &[u8]) -> Raises<Option<usize>> {
    // SAFETY: as [`write`].
    unsafe {
        match retry_send(t, bytes) {
            Ok(sent) => Ok(Some(sent)),
            Err(error) => {
                raise_os(pyo3::Python::assume_attached(), &error);
                fatal_error(t, (*t).kind.write_error).map(|()| None)
            }
        }
    }
}

/// After something was appended: sees to it that it leaves in time.
unsafe fn put_aside(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        if has(t, state::BLOCKED) {
            return maybe_pause(t);
        }
        let size = (*stream(t)).outgoing.size();
        if size >= AT_ONCE || size > (*t).high || !core(t).gathering() {
            flush(t)?;
            if (*t).owner.is_null() || has(t, state::CLOSING) {
                return Ok(());
            }
            return maybe_pause(t);
        }
        if (*t).write_context.is_null() {
            (*t).write_context = new_ref(core(t).running.get());
        }
        if !has(t, state::LISTED) {
            set(t, state::LISTED, true);
            core(t).write_later(t.cast());
        }
        Ok(())
    }
}

/// Asks to be told when the descriptor takes more.
unsafe fn wait_for_room(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        set(t, state::BLOCKED, true);
        // At the end of an iteration nobody's context is current: then that of the callback that wrote.
        let context = if has(t, state::LISTED) && !(*t).write_context.is_null() {
            ffi::PyContext_Copy((*t).write_context)
        } else {
            ffi::PyContext_CopyCurrent()
        };
        let mut old = std::mem::replace(&mut (*t).write_context, checked(context)?);
        clear(&mut old);
        watch(t, WRITE)
    }
}

/// Sends what waits, unless it waits for room already.
///
/// # Safety
/// As [`write`].
pub unsafe fn flush(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let nothing = (*stream(t)).outgoing.size() == 0;
        if nothing || has(t, state::BLOCKED | state::GONE) || (*t).conn_lost != 0 {
            return Ok(());
        }
        match send_pieces(t) {
            Ok(Sent::All) => {
                clear(&mut (*t).write_context);
                Ok(())
            }
            Ok(Sent::Blocked) => wait_for_room(t),
            Err(error) => {
                drop_pieces(t);
                raise_os(pyo3::Python::assume_attached(), &error);
                fatal_error(t, (*t).kind.write_error)
            }
        }
    }
}

/// One attempt to send all.
unsafe fn send_pieces(t: *mut Base) -> std::io::Result<Sent> {
    // SAFETY: as [`write`]; no Python code runs in `send`.
    unsafe { (*stream(t)).outgoing.send((*t).fd, Write::Socket) }
}

/// At the end of an iteration: what the protocol wrote in `resume_writing()`, after `close()` or `write_eof()`, was the last.
///
/// # Safety
/// As [`write`].
pub unsafe fn end_if_drained(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let ending = has(t, state::CLOSING | state::EOF) && !has(t, state::BLOCKED);
        if ending && (*t).conn_lost == 0 && (*stream(t)).outgoing.size() == 0 {
            return drained(t);
        }
    }
    Ok(())
}

/// Forgets what waits to be sent; what waited for the end of the iteration is tried once before.
///
/// # Safety
/// As [`write`].
pub unsafe fn discard(t: *mut Base) {
    // SAFETY: the caller's promise; releasing bytes runs no Python code, and the queue is empty by then anyway.
    unsafe {
        if has(t, state::LISTED) && !has(t, state::BLOCKED | state::GONE) {
            // The connection ends in any case.
            drop(send_pieces(t));
        }
        drop_pieces(t);
    }
}

unsafe fn drop_pieces(t: *mut Base) {
    // SAFETY: as [`discard`].
    unsafe {
        for bytes in (*stream(t)).outgoing.take_all() {
            ffi::Py_DECREF(bytes);
        }
    }
}

/// The descriptor takes more.
///
/// # Safety
/// As [`write`].
pub unsafe fn write_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).conn_lost != 0 || !has(t, state::BLOCKED) {
            if !has(t, state::BLOCKED) && !(*t).owner.is_null() {
                unwatch(t, WRITE);
            }
            return Ok(());
        }
        let s = stream(t);
        match send_pieces(t) {
            Ok(Sent::Blocked) => return maybe_resume(t),
            Ok(Sent::All) => {}
            Err(error) => return broken(t, &error),
        }
        set(t, state::BLOCKED, false);
        // May write more.
        if let Err(Raised) = maybe_resume(t) {
            // It leaves the loop. What would come now comes at the end of the iteration.
            if !(*t).owner.is_null() && !has(t, state::LISTED) {
                set(t, state::LISTED, true);
                core(t).write_later(t.cast());
            }
            return Err(Raised);
        }
        if (*s).outgoing.size() != 0 || (*t).owner.is_null() || (*t).conn_lost != 0 {
            return Ok(());
        }
        unwatch(t, WRITE);
        let mut context = std::mem::replace(&mut (*t).write_context, std::ptr::null_mut());
        let ended = drained(t);
        clear(&mut context);
        ended
    }
}

/// All is sent: whoever waited for that goes on.
unsafe fn drained(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        let s = stream(t);
        if !(*s).empty_waiter.is_null() {
            let waiter = Owned::from_new(new_ref((*s).empty_waiter))?;
            if is_pending(waiter.as_ptr())? {
                method(waiter.as_ptr(), &names::SET_RESULT, [ffi::Py_None()])?;
            }
        }
        if has(t, state::CLOSING) {
            return call_connection_lost(t, ffi::Py_None());
        }
        if has(t, state::EOF) && !has(t, state::SHUT) {
            return shutdown(t);
        }
    }
    Ok(())
}

#[cold]
unsafe fn broken(t: *mut Base, error: &std::io::Error) -> Raises<()> {
    // SAFETY: as [`write`].
    unsafe {
        let py = pyo3::Python::assume_attached();
        let waiter = (*stream(t)).empty_waiter;
        let waiter = (!waiter.is_null()).then(|| Owned::from_new(new_ref(waiter))).transpose()?;
        raise_os(py, error);
        fatal_error(t, (*t).kind.write_error)?;
        if let Some(waiter) = waiter {
            raise_os(py, error);
            let exception = crate::py::call::take_exception()?;
            if is_pending(waiter.as_ptr())? {
                method(waiter.as_ptr(), &names::SET_EXCEPTION, [exception.as_ptr()])?;
            }
        }
        Ok(())
    }
}

unsafe fn shutdown(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`write`].
    let fd = unsafe {
        set(t, state::SHUT, true);
        (*t).fd
    };
    // SAFETY: every caller is attached.
    sys::shutdown_write(fd)
        .map_err(|error| raise_os(unsafe { pyo3::Python::assume_attached() }, &error))
}

/// `write_eof()`.
///
/// # Safety
/// As [`write`].
pub unsafe fn write_eof(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::CLOSING | state::EOF | state::GONE) {
            return Ok(());
        }
        flush(t)?;
        if has(t, state::CLOSING) {
            return Ok(());
        }
        set(t, state::EOF, true);
        if (*stream(t)).outgoing.size() == 0 {
            return shutdown(t);
        }
    }
    Ok(())
}

/// `writelines(list_of_data)`: all pieces, in one system call with what waits already.
///
/// # Safety
/// As [`write`].
pub unsafe fn writelines(t: *mut Base, list: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::EOF) {
            return Err(raise(
                ffi::PyExc_RuntimeError,
                "Cannot call writelines() after write_eof()",
            ));
        }
        if !(*stream(t)).empty_waiter.is_null() {
            return Err(raise(
                ffi::PyExc_RuntimeError,
                "unable to writelines; sendfile is in progress",
            ));
        }
        match ffi::PyObject_IsTrue(list) {
            -1 => return Err(Raised),
            0 => return Ok(()),
            _ => {}
        }
        // All are turned into bytes before any is queued: a wrong one leaves nothing behind.
        let items = Owned::from_new(ffi::PySequence_Tuple(list))?;
        let count = ffi::PyTuple_GET_SIZE(items.as_ptr());
        let mut pieces = Vec::with_capacity(count as usize);
        for index in 0..count {
            pieces.push(immutable(ffi::PyTuple_GET_ITEM(items.as_ptr(), index))?);
        }
        if (*t).conn_lost != 0 {
            return after_the_end(t, SEND_FAILED);
        }
        for piece in pieces {
            if bytes::len(piece.as_ptr()) != 0 {
                (*stream(t)).outgoing.push(piece.into_ptr(), 0);
            }
        }
        if (*stream(t)).outgoing.size() == 0 {
            return Ok(());
        }
        put_aside(t)
    }
}

/// A bytes object with the contents of any buffer.
///
/// # Safety
/// Attached; `data` is alive.
pub unsafe fn immutable(data: Obj) -> Raises<Owned> {
    // SAFETY: attached; `data` is alive.
    unsafe {
        if ffi::PyBytes_CheckExact(data) != 0 {
            return Owned::from_new(new_ref(data));
        }
        // As asyncio: whatever a memoryview takes, and its TypeError.
        let view = Owned::from_new(ffi::PyMemoryView_FromObject(data))?;
        Owned::from_new(ffi::PyBytes_FromObject(view.as_ptr()))
    }
}

/// Whether a future can still be given a result: it may have been cancelled.
///
/// # Safety
/// Attached, outside every `LoopCell`; `future` is alive.
pub unsafe fn is_pending(future: Obj) -> Raises<bool> {
    // SAFETY: the caller's promise.
    unsafe {
        let done =
            Owned::from_new(ffi::PyObject_CallMethod(future, c"done".as_ptr(), std::ptr::null()))?;
        Ok(ffi::PyObject_IsTrue(done.as_ptr()) == 0)
    }
}

/// `_make_empty_waiter()`: a future that is done when nothing waits to be sent; no writes until it is reset.
///
/// # Safety
/// As [`write`].
pub unsafe fn make_empty_waiter(t: *mut Base) -> Raises<Obj> {
    // SAFETY: the caller's promise.
    unsafe {
        let s = stream(t);
        if !(*s).empty_waiter.is_null() {
            return Err(raise(ffi::PyExc_RuntimeError, "Empty waiter is already set"));
        }
        flush(t)?;
        if (*t).owner.is_null() {
            return Err(raise(ffi::PyExc_RuntimeError, "Transport is closing"));
        }
        let waiter = Owned::from_new(ffi::PyObject_CallMethod(
            (*t).owner,
            c"create_future".as_ptr(),
            std::ptr::null(),
        ))?;
        (*s).empty_waiter = new_ref(waiter.as_ptr());
        if (*s).outgoing.size() == 0 {
            method(waiter.as_ptr(), &names::SET_RESULT, [ffi::Py_None()])?;
        }
        Ok(waiter.into_ptr())
    }
}
