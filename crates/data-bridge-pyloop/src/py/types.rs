//! Small helpers for hand-written Python types.

use std::ffi::{c_int, c_void, CStr};

use pyo3::ffi;

/// A table that lives for good, as types ask for.
pub fn leak<T, const N: usize>(table: [T; N]) -> *mut T {
    Box::leak(Box::new(table)).as_mut_ptr()
}

/// One slot of a type.
pub fn slot(kind: c_int, value: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: kind, pfunc: value }
}

/// A row of the method table.
pub const fn row(
    name: &'static CStr,
    function: ffi::PyCFunction,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

/// A row for a method with keywords.
pub const fn keyword_row(
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}
