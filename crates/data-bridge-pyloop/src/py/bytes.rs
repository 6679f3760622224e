//! `bytes` objects, as the C API's macros see them.

use std::ffi::c_int;

use pyo3::ffi;

use super::object::{Obj, Raised, Raises};

extern "C" {
    /// Part of the C API, and left out by pyo3-ffi.
    fn _PyBytes_Resize(bytes: *mut Obj, size: ffi::Py_ssize_t) -> c_int;
}

/// The length.
///
/// # Safety
/// `bytes` is a living bytes object.
#[inline(always)]
pub unsafe fn len(bytes: Obj) -> usize {
    // SAFETY: the caller's promise.
    unsafe { ffi::Py_SIZE(bytes) as usize }
}

/// The contents.
///
/// # Safety
/// `bytes` is a bytes object that stays alive as long as the slice is used.
#[inline(always)]
pub unsafe fn contents<'a>(bytes: Obj) -> &'a [u8] {
    // SAFETY: the caller's promise; a bytes object does not change.
    unsafe { std::slice::from_raw_parts(ffi::PyBytes_AS_STRING(bytes).cast(), len(bytes)) }
}

/// Cuts a new bytes object; null is left in its place if that fails.
///
/// # Safety
/// Attached; nobody else has a reference to `bytes`.
pub unsafe fn cut(bytes: &mut Obj, size: usize) -> Raises<()> {
    // SAFETY: the caller's promise.
    match unsafe { _PyBytes_Resize(bytes, size as ffi::Py_ssize_t) } {
        0 => Ok(()),
        _ => Err(Raised),
    }
}
