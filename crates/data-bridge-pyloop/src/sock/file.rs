//! Sending a file by sendfile(2), as asyncio's `_sock_sendfile_native_impl`.

use std::os::fd::RawFd;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::attempt::Attempt;
use super::call::{descriptor, raise_again, Call, Kind};
use super::call_type::create;
use crate::py::call::take_exception;
use crate::py::errors::raise_os;
use crate::py::imports::call_cold_socket;
use crate::py::object::{Obj, Owned, Raised, Raises};
use crate::reactor::WRITE;
use crate::sys;
use crate::transport::stream::retry;

/// Most bytes of one step: then others get their turn.
const MOST: u64 = 1024 * 1024;

/// The native part of `sock_sendfile`.
pub static SENDFILE: Kind = Kind {
    name: c"sock_sendfile",
    qualified: c"PyLoop.sock_sendfile",
    direction: WRITE,
    attempt: |c| {
        // SAFETY: as `call::advance`, the one caller.
        unsafe { send(c) }.into()
    },
};

/// What is sent: kept as a tuple of ints in the call.
struct Range {
    file: RawFd,
    offset: u64,
    /// 0 for everything.
    count: u64,
}

/// A call that sends a part of an open file.
///
/// # Safety
/// Attached; all are alive, the last three are ints.
pub unsafe fn create_call(
    owner: Obj,
    socket: Obj,
    file: Obj,
    offset: Obj,
    count: Obj,
) -> Raises<Obj> {
    // SAFETY: the caller's promise.
    unsafe {
        let range = Owned::from_new(ffi::PyTuple_Pack(3, file, offset, count))?;
        create(&SENDFILE, owner, socket, [range.as_ptr(), null_mut()])
    }
}

unsafe fn range(c: *mut Call) -> Raises<Range> {
    // SAFETY: the call was made by `create_call`.
    unsafe {
        let item = |index| {
            let number = ffi::PyLong_AsLongLong(ffi::PyTuple_GET_ITEM((*c).args[0], index));
            if number == -1 && !ffi::PyErr_Occurred().is_null() {
                return Err(Raised);
            }
            Ok(number as u64)
        };
        let file = RawFd::try_from(item(0)?).unwrap_or(-1);
        Ok(Range { file, offset: item(1)?, count: item(2)? })
    }
}

/// Sends until the socket takes no more, or others must have their turn.
unsafe fn send(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: attached, outside every `LoopCell`; somebody holds the call. Reading a file may take long, so others may have
    // the GIL meanwhile; nothing of the interpreter's is touched then.
    unsafe {
        let range = range(c)?;
        let fd = descriptor((*c).socket)?;
        let sent = (*c).sent as u64;
        let most = match range.count {
            0 => MOST,
            count => (count - sent).min(MOST),
        };
        if fd < 0 {
            let error = std::io::Error::from_raw_os_error(libc::EBADF);
            return Err(failed(c, &error));
        }
        let thread = ffi::PyEval_SaveThread();
        let result = retry(|| sys::send_file(fd, range.file, range.offset + sent, most as usize));
        ffi::PyEval_RestoreThread(thread);
        match result {
            Ok(0) => {}
            Ok(now) => {
                (*c).sent += now;
                if range.count == 0 || ((*c).sent as u64) < range.count {
                    return Ok(Attempt::Again);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Ok(Attempt::Again);
            }
            Err(error) => return Err(failed(c, &error)),
        }
        Ok(Attempt::Done(ffi::PyLong_FromSize_t((*c).sent)))
    }
}

/// Sets what asyncio raises for an error of the system call.
#[cold]
unsafe fn failed(c: *mut Call, error: &std::io::Error) -> Raised {
    // SAFETY: as [`send`].
    unsafe {
        raise_os(Python::assume_attached(), error);
        let exception = take_exception().and_then(|exception| {
            let waited = if (*c).has_waited { ffi::Py_True() } else { ffi::Py_False() };
            let some = if (*c).sent != 0 { ffi::Py_True() } else { ffi::Py_False() };
            call_cold_socket(c"sendfile_error", &[exception.as_ptr(), waited, some])
        });
        match exception {
            Ok(exception) => raise_again(exception.as_ptr()),
            Err(Raised) => Raised,
        }
    }
}

/// The file's position tells how much was sent, however the call ended.
///
/// # Safety
/// As [`send`]; the call was made by [`create_call`].
pub unsafe fn update_position(c: *mut Call) {
    // SAFETY: the caller's promise; the numbers have been read before.
    unsafe {
        if (*c).sent != 0 && !(*c).args[0].is_null() {
            if let Ok(range) = range(c) {
                // Fails for a file that was closed meanwhile: then nobody can ask for its position.
                drop(sys::seek(range.file, range.offset + (*c).sent as u64));
            }
        }
    }
}
