//! Small helpers for hand-written Python types.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

/// A table that lives for good, as types ask for.
pub fn leak<T, const N: usize>(table: [T; N]) -> *mut T {
    Box::leak(Box::new(table)).as_mut_ptr()
}

/// One slot of a type.
pub fn slot(kind: c_int, value: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: kind, pfunc: value }
}
