//! The reading end of a pipe, a FIFO, a terminal or a socket, as `asyncio.unix_events._UnixReadPipeTransport`.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;

use super::base::{self, begin, call_method_soon, core, has, init, set, state, Base, Kind};
use super::stream::{hold_protocol, receive, Received};
use crate::loop_impl::LoopCore;
use crate::py::call::{method, take_exception};
use crate::py::errors::fetch;
use crate::py::imports::{self, call_cold};
use crate::py::names;
use crate::py::object::{new_ref, Obj, Owned, Raised, Raises};
use crate::reactor::READ;
use crate::sys;

/// A transport that reads from a pipe.
#[repr(C)]
pub struct ReadPipe {
    base: Base,
    /// How many bytes to make room for at the next read; 0 for the shared room.
    expected: u32,
}

/// The behaviour of a read pipe.
pub static READ_PIPE: Kind = Kind {
    read_ready,
    write_ready: |_| Ok(()),
    flush: |_| Ok(()),
    buffered: |_| 0,
    discard: |_| {},
    release: |_| {},
    lost: |_| Ok(()),
    references: |_, _| {},
    drop: |_| {},
    deaf: state::UNREADING,
    foreign: true,
    write_error: c"Fatal error on pipe transport",
};

unsafe fn read_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: attached, outside every `LoopCell`; the loop holds the transport for the call.
    unsafe {
        if has(t, state::UNREADING) {
            return Ok(());
        }
        let expected = &mut (*t.cast::<ReadPipe>()).expected;
        match receive(core(t), (*t).fd, expected, sys::read) {
            Received::Data(data) => {
                // What it raises is reported by the loop, and reading goes on.
                let protocol = hold_protocol(t)?;
                method(protocol.as_ptr(), &names::DATA_RECEIVED, [data.as_ptr()]).map(drop)
            }
            Received::Nothing => Ok(()),
            Received::End => {
                log_closed_by_peer(t)?;
                set(t, state::CLOSING, true);
                base::unwatch(t, READ);
                let (owner, none) = ((*t).owner, ffi::Py_None());
                call_method_soon(owner, (*t).protocol, &names::EOF_RECEIVED, std::ptr::null_mut())?;
                call_method_soon(owner, t.cast(), &names::CALL_CONNECTION_LOST, none)
            }
            Received::Failed => fatal_error(t, c"Fatal read error on pipe transport"),
        }
    }
}

/// Says in debug mode that the other end was closed.
///
/// # Safety
/// Attached, outside every `LoopCell`; the transport is alive and has its loop.
pub unsafe fn log_closed_by_peer(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if core(t).is_debug() {
            call_cold(c"log_closed_by_peer", &[t.cast()])?;
        }
    }
    Ok(())
}

/// The end for the exception that is set, if it is the kernel's; any other is the loop's to report.
#[cold]
unsafe fn fatal_error(t: *mut Base, message: &CStr) -> Raises<()> {
    // SAFETY: as [`read_ready`].
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_OSError) == 0 {
            return Err(Raised);
        }
        let exception = take_exception()?;
        let text = Owned::from_new(ffi::PyUnicode_FromString(message.as_ptr()))?;
        let args = [t.cast(), exception.as_ptr(), text.as_ptr()];
        call_cold(c"fatal_read_error", &args)?;
        end(t, exception.as_ptr())
    }
}

/// `_close(exception)`.
unsafe fn end(t: *mut Base, exception: Obj) -> Raises<()> {
    // SAFETY: as [`read_ready`].
    unsafe {
        if has(t, state::CLOSING) || (*t).owner.is_null() {
            return Ok(());
        }
        set(t, state::CLOSING, true);
        base::unwatch(t, READ);
        call_method_soon((*t).owner, t.cast(), &names::CALL_CONNECTION_LOST, exception)
    }
}

/// `close()`.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds the transport, a read pipe.
pub unsafe fn close(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe { end(t, ffi::Py_None()) }
}

#[pymethods]
impl LoopCore {
    /// A transport that reads from a non-blocking pipe; *extra* is its complete extra information.
    fn _new_read_pipe_transport(
        slf: &Bound<'_, Self>,
        pipe: &Bound<'_, PyAny>,
        fd: i32,
        protocol: &Bound<'_, PyAny>,
        waiter: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: attached; all are alive for the call; the memory of a new object is zero, as its own fields may be.
        let made = unsafe {
            let class: *mut ffi::PyTypeObject = imports::READ_PIPE_TRANSPORT.get().cast();
            Owned::from_new(ffi::PyType_GenericAlloc(class, 0)).and_then(|made| {
                let t: *mut Base = made.as_ptr().cast();
                (*t).extra = new_ref(extra.as_ptr());
                (*t).file = new_ref(pipe.as_ptr());
                init(t, &READ_PIPE, slf.as_ptr(), fd, protocol.as_ptr());
                begin(t, waiter.as_ptr())?;
                Ok(made.into_ptr())
            })
        };
        let made = fetch(slf.py(), made)?;
        // SAFETY: a reference that is ours.
        Ok(unsafe { Bound::from_owned_ptr(slf.py(), made) }.unbind())
    }
}
