//! The floor of the benchmarks: what the work itself costs when there is no event loop around it.
//!
//! Two types, both the least that CPython's own C API allows, neither shipped with PyLoop:
//!
//! * [`ring`]: `Ring`, a first-in-first-out ring of callbacks. It takes a copy of the current
//!   context per callback and runs the callback inside it, as every asyncio loop must, and does
//!   nothing else: no handle, no cancellation, no clock, no poll, no other threads, no signals.
//! * [`task_ring`]: `TaskRing`, the same ring with the few methods that asyncio's C `Task` and
//!   `Future` call on their loop.
//!
//! Everything here runs with the GIL held and is entered only by the interpreter.

mod ring;
mod task_ring;

use core::ffi::c_int;
use core::ptr;
use pyo3_ffi as ffi;

/// The module definition; the interpreter keeps a pointer to it, hence the static.
static mut MODULE: ffi::PyModuleDef = ffi::PyModuleDef {
    m_base: ffi::PyModuleDef_HEAD_INIT,
    m_name: c"pyloop_floor".as_ptr(),
    m_doc: c"Floors of the PyLoop benchmarks: callback rings without an event loop.".as_ptr(),
    m_size: -1,
    m_methods: ptr::null_mut(),
    m_slots: ptr::null_mut(),
    m_traverse: None,
    m_clear: None,
    m_free: None,
};

/// Makes the module: the interpreter calls this once, on import.
///
/// # Safety
/// Must be called by a Python interpreter with the GIL held.
#[no_mangle]
pub unsafe extern "C" fn PyInit_pyloop_floor() -> *mut ffi::PyObject {
    // SAFETY: the GIL is held (contract of this function), MODULE lives for ever, and every object
    // is released on every way out.
    unsafe {
        let module = ffi::PyModule_Create(&raw mut MODULE);
        if module.is_null() {
            return ptr::null_mut();
        }
        let ring = ring::make_type();
        let added = add(module, c"Ring".as_ptr(), ring);
        let task_ring = if added { task_ring::make_type(ring) } else { ptr::null_mut() };
        let added = added && add(module, c"TaskRing".as_ptr(), task_ring);
        ffi::Py_XDECREF(ring);
        ffi::Py_XDECREF(task_ring);
        if !added {
            ffi::Py_DECREF(module);
            return ptr::null_mut();
        }
        module
    }
}

/// Adds `value` (borrowed, may be null after an error) to `module`; false with an exception set.
///
/// # Safety
/// GIL held, `module` a module, `name` a C string.
unsafe fn add(
    module: *mut ffi::PyObject,
    name: *const core::ffi::c_char,
    value: *mut ffi::PyObject,
) -> bool {
    // SAFETY: per the contract; a null value is not passed on.
    !value.is_null() && unsafe { ffi::PyModule_AddObjectRef(module, name, value) } == 0 as c_int
}
