//! One `sock_*` call: a coroutine in all but its type.
//!
//! Raw pointers all through, as in the transports: whoever holds the call may come back to it from any call into Python.

use std::os::fd::RawFd;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::attempt::{is_plain, Attempt};
use crate::loop_impl::LoopCore;
use crate::py::call::{method, take_exception};
use crate::py::errors::raise_os;
use crate::py::imports;
use crate::py::names;
use crate::py::object::{clear, new_ref, raise, Obj, Owned, Raised, Raises};

/// What differs between the calls.
pub struct Kind {
    /// The method's name.
    pub name: &'static std::ffi::CStr,
    /// With that of the class.
    pub qualified: &'static std::ffi::CStr,
    /// What it waits for.
    pub direction: u8,
    /// Tries once. No exception is set unless it says so.
    pub attempt: unsafe fn(*mut Call) -> Attempt,
}

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Nothing was done yet.
    New,
    /// A step is under way.
    Running,
    /// It waits for its future.
    Waiting,
    /// The end.
    Done,
}

/// The object.
#[repr(C)]
pub struct Call {
    pub(crate) ob_base: ffi::PyObject,
    pub(crate) weakrefs: Obj,
    pub(crate) kind: &'static Kind,
    /// The loop.
    pub(crate) owner: Obj,
    pub(crate) socket: Obj,
    pub(crate) args: [Obj; 2],
    /// asyncio's `cr_origin`, or null.
    pub(crate) origin: Obj,
    /// The future that it waits for, or null.
    pub(crate) future: Obj,
    /// Where that waits, or null.
    pub(crate) watch: Obj,
    /// The contents of what is sent, where they are not those of a bytes object; null or a box.
    pub(crate) view: *mut ffi::Py_buffer,
    /// How much was sent.
    pub(crate) sent: usize,
    /// The descriptor of the last attempt.
    pub(crate) fd: RawFd,
    pub(crate) stage: Stage,
    /// Whether the future that it waits for was resolved by an event.
    pub(crate) woken: bool,
    /// Whether it has waited before.
    pub(crate) has_waited: bool,
}

/// What a step comes to.
pub enum Step {
    /// It waits; a reference to the future.
    Yield(Obj),
    /// A reference to the result.
    Return(Obj),
    /// An exception is set.
    Raise,
}

/// The exception of a system call, set as CPython sets it: with the exception that is being handled as its context.
pub fn raise_system(error: &std::io::Error) -> Raised {
    // SAFETY: every caller is attached.
    unsafe {
        raise_os(Python::assume_attached(), error);
        match take_exception() {
            Ok(exception) => raise_again(exception.as_ptr()),
            Err(Raised) => Raised,
        }
    }
}

/// Sets an exception that exists already.
///
/// # Safety
/// Attached; `exception` is an instance.
pub unsafe fn raise_again(exception: Obj) -> Raised {
    // SAFETY: the caller's promise.
    unsafe { ffi::PyErr_SetObject(ffi::Py_TYPE(exception).cast(), exception) };
    Raised
}

/// Goes on until the call waits or ends.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds `c`.
pub unsafe fn advance(c: *mut Call) -> Step {
    // SAFETY: the caller's promise.
    unsafe {
        let resumed = match (*c).stage {
            Stage::New => {
                (*c).stage = Stage::Running;
                check(c)
            }
            Stage::Waiting => {
                (*c).stage = Stage::Running;
                (*c).has_waited = true;
                resume(c)
            }
            Stage::Running => {
                raise(ffi::PyExc_ValueError, "coroutine already executing");
                return Step::Raise;
            }
            Stage::Done => {
                raise_reused();
                return Step::Raise;
            }
        };
        let attempt = match resumed {
            Ok(()) => ((*c).kind.attempt)(c),
            Err(Raised) => Attempt::Failed,
        };
        match attempt {
            Attempt::Done(result) => {
                end(c);
                Step::Return(result)
            }
            Attempt::Again => match wait(c) {
                Ok(future) => Step::Yield(future),
                Err(Raised) => {
                    finish(c);
                    Step::Raise
                }
            },
            Attempt::Failed => {
                finish(c);
                Step::Raise
            }
        }
    }
}

/// What a call that has ended says to whoever goes on with it.
///
/// # Safety
/// Attached.
#[cold]
pub unsafe fn raise_reused() {
    // SAFETY: the caller's promise.
    unsafe { raise(ffi::PyExc_RuntimeError, "cannot reuse already awaited coroutine") };
}

/// asyncio's checks, at the first step.
unsafe fn check(c: *mut Call) -> Raises<()> {
    // SAFETY: as [`advance`].
    unsafe {
        let exact = ffi::Py_TYPE((*c).socket).cast() == imports::SOCKET.get();
        if exact && !LoopCore::from_ptr((*c).owner).is_debug() {
            return Ok(());
        }
        imports::call_cold_socket(c"check", &[(*c).owner, (*c).socket]).map(drop)
    }
}

/// The future is done, or somebody goes on regardless.
unsafe fn resume(c: *mut Call) -> Raises<()> {
    // SAFETY: as [`advance`].
    unsafe {
        if std::mem::replace(&mut (*c).woken, false) {
            // On no list any more.
            clear(&raw mut (*c).watch);
            clear(&raw mut (*c).future);
            return Ok(());
        }
        let future = Owned::from_new(new_ref((*c).future))?;
        let result = method(future.as_ptr(), &names::RESULT, []);
        stop_waiting(c);
        if result.is_err() && ffi::PyErr_ExceptionMatches(imports::INVALID_STATE.get()) != 0 {
            ffi::PyErr_Clear();
            return Err(raise(ffi::PyExc_RuntimeError, "await wasn't used with future"));
        }
        result.map(drop)
    }
}

/// Makes a future and has it resolved when the socket is ready.
unsafe fn wait(c: *mut Call) -> Raises<Obj> {
    // SAFETY: as [`advance`].
    unsafe {
        let owner = (*c).owner;
        let core = LoopCore::from_ptr(owner);
        let future = crate::task::future_of(owner)?;
        let fd = if is_plain((*c).socket)? {
            plain_descriptor((*c).socket)?
        } else {
            descriptor((*c).socket)?
        };
        if !(*c).has_waited {
            // A transport that was made meanwhile does not keep what was begun before from its end.
            core.ensure_no_transport(owner, fd)?;
        }
        let watch = core.start_waiting((*c).socket, fd, (*c).kind.direction, future.as_ptr(), c)?;
        // The call is held together from here on, so that a failure cleans up.
        (*c).fd = fd;
        (*c).watch = watch.into_ptr();
        (*c).future = new_ref(future.as_ptr());
        let (blocking, yes) = (names::ASYNCIO_FUTURE_BLOCKING.get(), ffi::Py_True());
        if ffi::PyObject_SetAttr(future.as_ptr(), blocking, yes) != 0 {
            return Err(Raised);
        }
        (*c).stage = Stage::Waiting;
        Ok(future.into_ptr())
    }
}

/// The number that the socket's `fileno()` gives.
///
/// # Safety
/// Attached, outside every `LoopCell`; `socket` is alive.
pub unsafe fn descriptor(socket: Obj) -> Raises<RawFd> {
    // SAFETY: the caller's promise.
    unsafe {
        let number = method(socket, &names::FILENO, [])?;
        let number = ffi::PyLong_AsLong(number.as_ptr());
        if number == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        Ok(RawFd::try_from(number).unwrap_or(-1))
    }
}

/// The same for a plain `socket.socket`, by the C function behind its `fileno()`.
///
/// # Safety
/// As [`descriptor`]; the class of the socket is `socket.socket` itself, and nobody has replaced its method.
#[inline]
pub unsafe fn plain_descriptor(socket: Obj) -> Raises<RawFd> {
    // SAFETY: the caller's promise; the function takes no argument.
    unsafe {
        let number = match imports::socket_fileno() {
            Some(fileno) => Owned::from_new(fileno(socket, null_mut()))?,
            None => return descriptor(socket),
        };
        // An int of the C function's own: no error to expect.
        Ok(ffi::PyLong_AsLong(number.as_ptr()) as RawFd)
    }
}

/// Gives up waiting.
///
/// # Safety
/// As [`advance`].
pub unsafe fn stop_waiting(c: *mut Call) {
    // SAFETY: the caller's promise; taken out first, for releasing may run anything.
    unsafe {
        let mut future = std::mem::replace(&mut (*c).future, null_mut());
        let mut watch = std::mem::replace(&mut (*c).watch, null_mut());
        if !watch.is_null() && !future.is_null() && !(*c).owner.is_null() {
            let core = LoopCore::from_ptr((*c).owner);
            core.stop_waiting((*c).fd, (*c).kind.direction, watch, future);
        }
        clear(&mut watch);
        clear(&mut future);
    }
}

/// The end: everything is released but what its name and loop are. Keeps the exception that is set.
///
/// # Safety
/// As [`advance`].
pub unsafe fn finish(c: *mut Call) {
    // SAFETY: the caller's promise. With an exception set, releasing must not run code that could replace it.
    unsafe {
        let raised = if ffi::PyErr_Occurred().is_null() { None } else { take_exception().ok() };
        end(c);
        if let Some(exception) = raised {
            let (kind, value) = (ffi::Py_TYPE(exception.as_ptr()), exception.into_ptr());
            let traceback = ffi::PyException_GetTraceback(value);
            #[allow(deprecated)] // PyErr_SetRaisedException comes with 3.12.
            ffi::PyErr_Restore(new_ref(kind.cast()), value, traceback);
        }
    }
}

/// As [`finish`] where no exception is set.
unsafe fn end(c: *mut Call) {
    // SAFETY: as [`advance`].
    unsafe {
        (*c).stage = Stage::Done;
        #[cfg(target_os = "linux")]
        if std::ptr::eq((*c).kind, &super::file::SENDFILE) {
            super::file::update_position(c);
        }
        release(c);
    }
}

/// Releases what the call works with.
///
/// # Safety
/// As [`advance`].
pub unsafe fn release(c: *mut Call) {
    // SAFETY: the caller's promise.
    unsafe {
        stop_waiting(c);
        release_view(c);
        clear(&raw mut (*c).args[0]);
        clear(&raw mut (*c).args[1]);
        clear(&raw mut (*c).socket);
    }
}

/// Gives the buffer of what is sent back to its owner.
///
/// # Safety
/// As [`advance`].
pub unsafe fn release_view(c: *mut Call) {
    // SAFETY: the caller's promise; the box is ours alone.
    unsafe {
        let view = std::mem::replace(&mut (*c).view, null_mut());
        if !view.is_null() {
            ffi::PyBuffer_Release(view);
            drop(Box::from_raw(view));
        }
    }
}

impl LoopCore {
    /// asyncio's `_ensure_fd_no_transport(fd)`.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`; `owner` is this loop.
    pub(crate) unsafe fn ensure_no_transport(&self, owner: Obj, fd: RawFd) -> Raises<()> {
        if !self.has_transport(fd) {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe {
            let number = Owned::from_new(ffi::PyLong_FromLong(fd.into()))?;
            method(owner, &names::ENSURE_FD_NO_TRANSPORT, [number.as_ptr()]).map(drop)
        }
    }
}
