//! `get_extra_info()`: for accepted connections made only when somebody asks.

use std::ptr::null_mut;

use pyo3::ffi;

use super::base::{has, or_none, state, Base};
use super::stream::{local_address, stream, STREAM};
use crate::py::imports::call_cold;
use crate::py::object::{checked, new_ref, none, Obj, Owned, Raised, Raises};

/// The value of one name, or the default.
///
/// # Safety
/// Attached, outside every `LoopCell`; all are alive.
pub unsafe fn get(t: *mut Base, name: Obj, default: Obj) -> Raises<Obj> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).extra.is_null() && is_stream(t) && ffi::PyUnicode_CheckExact(name) != 0 {
            let is = |text: &std::ffi::CStr| {
                ffi::PyUnicode_CompareWithASCIIString(name, text.as_ptr()) == 0
            };
            if is(c"peername") {
                return (*stream(t)).peer.to_python();
            }
            if is(c"sockname") {
                return local(t);
            }
            if !is(c"socket") {
                return Ok(new_ref(default));
            }
        }
        let dict = Owned::from_new(dict(t)?)?;
        let found = ffi::PyDict_GetItemWithError(dict.as_ptr(), name);
        if !found.is_null() {
            return Ok(new_ref(found));
        }
        if ffi::PyErr_Occurred().is_null() {
            Ok(new_ref(default))
        } else {
            Err(Raised)
        }
    }
}

/// Whether it is a stream; others have their dict from the start, until the collector takes it.
unsafe fn is_stream(t: *mut Base) -> bool {
    // SAFETY: as [`get`].
    unsafe { std::ptr::eq((*t).kind, &STREAM) }
}

unsafe fn local(t: *mut Base) -> Raises<Obj> {
    // SAFETY: as [`get`]; only a stream has no dict from the start.
    unsafe {
        let s = stream(t);
        match &(*s).local {
            Some(address) => address.to_python(),
            None if has(t, state::GONE) => Ok(none()),
            None => local_address(s).to_python(),
        }
    }
}

/// asyncio's `_extra`, made now if it has to be.
///
/// # Safety
/// As [`get`].
pub unsafe fn dict(t: *mut Base) -> Raises<Obj> {
    // SAFETY: as [`get`].
    unsafe {
        if (*t).extra.is_null() && !is_stream(t) {
            (*t).extra = checked(ffi::PyDict_New())?;
        }
        if (*t).extra.is_null() {
            let sockname = Owned::from_new(local(t)?)?;
            let peername = Owned::from_new((*stream(t)).peer.to_python()?)?;
            let socket = Owned::from_new(file(t)?)?;
            let args = [socket.as_ptr(), sockname.as_ptr(), peername.as_ptr()];
            let made = call_cold(c"extra_information", &args)?.into_ptr();
            if (*t).extra.is_null() {
                (*t).extra = made;
            } else {
                ffi::Py_DECREF(made);
            }
        }
        Ok(new_ref((*t).extra))
    }
}

unsafe fn detach(socket: &Owned) -> Raises<Owned> {
    // SAFETY: attached; the socket is ours.
    unsafe {
        Owned::from_new(ffi::PyObject_CallMethod(
            socket.as_ptr(),
            c"detach".as_ptr(),
            std::ptr::null(),
        ))
    }
}

/// asyncio's `_sock` or `_pipe`: the Python object that owns the descriptor, made now if it has to be; None when it is closed.
///
/// # Safety
/// As [`get`].
pub unsafe fn file(t: *mut Base) -> Raises<Obj> {
    // SAFETY: as [`get`]; the new socket object takes over the descriptor.
    unsafe {
        if (*t).file.is_null() && !has(t, state::GONE) && is_stream(t) {
            let fd = Owned::from_new(ffi::PyLong_FromLong((*t).fd.into()))?;
            let proto = Owned::from_new(ffi::PyLong_FromLong((*stream(t)).proto.into()))?;
            let family = Owned::from_new(ffi::PyLong_FromLong((*stream(t)).peer.family().into()))?;
            let args = [fd.as_ptr(), family.as_ptr(), proto.as_ptr()];
            let made = call_cold(c"socket_of", &args)?;
            if (*t).file.is_null() && !has(t, state::GONE) {
                (*t).file = made.into_ptr();
            } else {
                // Another thread was faster, or the connection has ended: this one must not close the descriptor.
                drop(detach(&made)?);
            }
        }
        Ok(or_none(if has(t, state::GONE) { null_mut() } else { (*t).file }))
    }
}
