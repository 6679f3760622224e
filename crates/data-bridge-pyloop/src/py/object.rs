//! Raw Python references for the rooms that run once per callback.
//!
//! PyO3's own `Py<T>` counts attachments on each release; in functions that Python calls directly that costs more
//! than the work itself. Here a reference is a bare pointer whose owner the code names, as in C.

use pyo3::ffi;

/// A Python exception has been set on this thread. The C API's own protocol, as a type.
#[derive(Debug, Clone, Copy)]
pub struct Raised;

/// The result of a call that may set a Python exception.
pub type Raises<T> = Result<T, Raised>;

/// A pointer to a Python object, owned or borrowed as the code around it says.
pub type Obj = *mut ffi::PyObject;

/// A new reference to `o`, which may be null.
///
/// # Safety
/// Attached; `o` is null or alive.
#[inline(always)]
pub unsafe fn new_ref(o: Obj) -> Obj {
    // SAFETY: the caller's promise.
    unsafe { ffi::Py_XINCREF(o) };
    o
}

/// Releases the reference that `slot` owns and leaves null there first, as `Py_CLEAR`.
///
/// # Safety
/// Attached; `slot` holds null or an owned reference.
#[inline(always)]
pub unsafe fn clear(slot: *mut Obj) {
    // SAFETY: the caller's promise; the slot no longer shows the object when its destructor runs.
    unsafe {
        let old = slot.replace(std::ptr::null_mut());
        ffi::Py_XDECREF(old);
    }
}

/// Whether the pointer is null or None.
#[inline(always)]
pub fn is_none_or_null(o: Obj) -> bool {
    // SAFETY: takes the address of a static.
    o.is_null() || o == unsafe { ffi::Py_None() }
}

/// A new reference to None.
#[inline(always)]
pub fn none() -> Obj {
    // SAFETY: None is always alive.
    unsafe { new_ref(ffi::Py_None()) }
}

/// Turns the C API's null into [`Raised`].
#[inline(always)]
pub fn checked(o: Obj) -> Raises<Obj> {
    if o.is_null() {
        Err(Raised)
    } else {
        Ok(o)
    }
}

/// Sets an exception of one of the interpreter's own types.
///
/// # Safety
/// Attached; `kind` is an exception type.
#[cold]
pub unsafe fn raise(kind: Obj, message: &str) -> Raised {
    // SAFETY: the caller's promise; a failed allocation leaves its own exception set.
    unsafe {
        let text =
            ffi::PyUnicode_FromStringAndSize(message.as_ptr().cast(), message.len() as isize);
        if !text.is_null() {
            ffi::PyErr_SetObject(kind, text);
            ffi::Py_DECREF(text);
        }
    }
    Raised
}

/// A strong reference for cold code, released when it goes out of scope. Only for use while attached.
pub struct Owned(Obj);

impl Owned {
    /// Takes over a new reference, or the exception that was set instead of it.
    ///
    /// # Safety
    /// Attached; `o` is null with an exception set, or a reference that the caller owns.
    pub unsafe fn from_new(o: Obj) -> Raises<Self> {
        checked(o).map(Owned)
    }

    /// The pointer, borrowed.
    pub fn as_ptr(&self) -> Obj {
        self.0
    }

    /// The pointer, with its reference.
    pub fn into_ptr(self) -> Obj {
        let o = self.0;
        std::mem::forget(self);
        o
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and we are attached, as `from_new` was promised.
        unsafe { ffi::Py_DECREF(self.0) };
    }
}
