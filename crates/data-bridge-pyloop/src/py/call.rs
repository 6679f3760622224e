//! Calls of Python methods by interned name, without a bound method in between.

use std::ptr::null_mut;

use pyo3::ffi;

use super::imports::Import;
use super::object::{Obj, Owned, Raised, Raises};

/// `o.name(*args)`.
///
/// # Safety
/// Attached, outside every `LoopCell`; `o` and the arguments stay alive for the call.
#[inline(always)]
pub unsafe fn method<const N: usize>(o: Obj, name: &Import, args: [Obj; N]) -> Raises<Owned> {
    // Three arguments are the most that any caller has.
    let mut stack = [null_mut(); 5];
    stack[1] = o;
    stack[2..2 + N].copy_from_slice(&args);
    // SAFETY: the caller's promise; the first place is free for the callee.
    unsafe {
        Owned::from_new(ffi::PyObject_VectorcallMethod(
            name.get(),
            stack.as_mut_ptr().add(1),
            (1 + N) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            null_mut(),
        ))
    }
}

/// `o.name`.
///
/// # Safety
/// As [`method`].
pub unsafe fn attribute(o: Obj, name: &Import) -> Raises<Owned> {
    // SAFETY: the caller's promise.
    unsafe { Owned::from_new(ffi::PyObject_GetAttr(o, name.get())) }
}

/// Runs `f` in a context, as `context.run(f)`.
///
/// # Safety
/// As [`method`]; `context` is a Context.
#[inline(always)]
pub unsafe fn in_context<T>(context: Obj, f: impl FnOnce() -> Raises<T>) -> Raises<T> {
    // SAFETY: the caller's promise. Leaving keeps the exception that is set, if there is one.
    unsafe {
        if ffi::PyContext_Enter(context) != 0 {
            return Err(Raised);
        }
        let result = f();
        if ffi::PyContext_Exit(context) != 0 {
            return Err(Raised);
        }
        result
    }
}

/// Whether the exception that is set must leave the loop: SystemExit and KeyboardInterrupt.
///
/// # Safety
/// Attached, with an exception set.
pub unsafe fn leaves_the_loop() -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::PyErr_ExceptionMatches(ffi::PyExc_SystemExit) != 0
            || ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) != 0
    }
}

/// Takes the exception that is set, as an instance with its traceback.
///
/// # Safety
/// Attached, with an exception set.
pub unsafe fn take_exception() -> Raises<Owned> {
    // SAFETY: the caller's promise. Not PyO3's own reference: below a raw function it would be released later.
    unsafe {
        let py = pyo3::Python::assume_attached();
        let error = pyo3::PyErr::fetch(py);
        Owned::from_new(error.into_value(py).into_ptr())
    }
}
