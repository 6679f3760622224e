//! Errors on their way to Python: `io::Error` to OSError, Rust panics to an exception.

use std::any::Any;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::object::{raise, Obj, Raised, Raises};

/// Sets the OSError (of the subclass that the errno stands for) that CPython itself would raise for `error`.
pub fn raise_os(py: Python<'_>, error: &io::Error) -> Raised {
    let exception = match error.raw_os_error() {
        // OSError's constructor picks the subclass by errno, as for every system call of the standard library.
        Some(errno) => match os_strerror(py, errno) {
            Ok(text) => PyOSError::new_err((errno, text)),
            Err(failed) => failed,
        },
        None => PyOSError::new_err(error.to_string()),
    };
    exception.restore(py);
    Raised
}

fn os_strerror(py: Python<'_>, errno: i32) -> PyResult<String> {
    py.import("os")?.call_method1("strerror", (errno,))?.extract()
}

/// The exception that was set, as PyO3's type.
pub fn fetch<T>(py: Python<'_>, result: Raises<T>) -> PyResult<T> {
    result.map_err(|Raised| PyErr::fetch(py))
}

/// PyO3's error, as an exception that is set.
pub fn restore<T>(py: Python<'_>, result: PyResult<T>) -> Raises<T> {
    result.map_err(|error| {
        error.restore(py);
        Raised
    })
}

/// Runs a part of the loop; a panic in it becomes a RuntimeError that names the part.
pub fn guarded<T>(py: Python<'_>, part: &str, f: impl FnOnce() -> Raises<T>) -> Raises<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = format!("PyLoop: a panic in {part}: {}", panic_text(&*panic));
        PyRuntimeError::new_err(text).restore(py);
        Err(Raised)
    })
}

/// Runs the body of a function that the interpreter calls directly; a panic in it becomes a RuntimeError that names the function.
#[inline(always)]
pub fn entry(function: &str, body: impl FnOnce() -> Obj) -> Obj {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| panicked(function, &*panic))
}

#[cold]
fn panicked(function: &str, panic: &(dyn Any + Send)) -> Obj {
    let text = format!("PyLoop: a panic in {function}(): {}", panic_text(panic));
    // SAFETY: the interpreter has called `function`, so this thread is attached.
    unsafe { raise(ffi::PyExc_RuntimeError, &text) };
    std::ptr::null_mut()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
