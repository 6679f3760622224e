//! A call on its way from a handle to the callable.

use std::ptr::null_mut;

use pyo3::ffi;

use super::{new_handle, Handle, INLINE};
use crate::py::object::{new_ref, raise, Obj, Raised, Raises};

/// The callable with its arguments and context, on the way from a handle to the call.
pub struct Call {
    /// The callable, owned.
    pub callback: Obj,
    /// One free place, as `PY_VECTORCALL_ARGUMENTS_OFFSET` asks, then the arguments, owned.
    pub stack: [Obj; INLINE + 1],
    /// A tuple of all arguments when there are more than [`INLINE`], owned; else null.
    pub more: Obj,
    /// As [`Handle::count`].
    pub count: u8,
    /// The context, owned.
    pub context: Obj,
}

impl Handle {
    /// What to call, leaving the handle without it: for a handle that is about to die.
    ///
    /// # Safety
    /// Attached.
    #[inline(always)]
    pub unsafe fn take_call(&mut self) -> Call {
        // SAFETY: the caller's promise.
        unsafe { self.show_context() };
        let count = std::mem::take(&mut self.count);
        let mut stack = [null_mut(); INLINE + 1];
        if count != 0 {
            stack[1..].copy_from_slice(&self.args);
            self.args = [null_mut(); INLINE];
        }
        Call {
            callback: std::mem::replace(&mut self.callback, null_mut()),
            stack,
            more: self.take_more(),
            count,
            context: std::mem::replace(&mut self.context, null_mut()),
        }
    }

    /// What to call, with references of its own: the callback may cancel its handle while it runs.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn share_call(&mut self) -> Call {
        // SAFETY: the fields are null or alive.
        unsafe {
            self.show_context();
            let [a, b, c] = self.args.map(|a| new_ref(a));
            Call {
                callback: new_ref(self.callback),
                stack: [null_mut(), a, b, c],
                more: new_ref(self.extras().more),
                count: self.count,
                context: new_ref(self.context),
            }
        }
    }
}

impl Call {
    /// Runs the callable in its context, and releases nothing.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`.
    #[inline(always)]
    pub unsafe fn run(&mut self) -> Raises<()> {
        // SAFETY: all pointers are owned by `self` and alive; the first place of the stack is free for the callee;
        // a tuple's items stay in place while we hold the tuple.
        unsafe {
            if self.callback.is_null() || self.context.is_null() {
                return Err(raise(ffi::PyExc_TypeError, "'NoneType' object is not callable"));
            }
            if ffi::PyContext_Enter(self.context) != 0 {
                return Err(Raised);
            }
            let result = if self.more.is_null() {
                let flagged = self.count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
                ffi::PyObject_Vectorcall(
                    self.callback,
                    self.stack.as_mut_ptr().add(1),
                    flagged,
                    null_mut(),
                )
            } else {
                ffi::PyObject_Call(self.callback, self.more, null_mut())
            };
            let left = ffi::PyContext_Exit(self.context);
            if result.is_null() || left != 0 {
                ffi::Py_XDECREF(result);
                return Err(Raised);
            }
            ffi::Py_DECREF(result);
        }
        Ok(())
    }

    /// Releases the references.
    ///
    /// # Safety
    /// Attached, outside every `LoopCell`.
    #[inline(always)]
    pub unsafe fn release(self) {
        // SAFETY: all pointers are owned or null.
        unsafe {
            ffi::Py_XDECREF(self.callback);
            for &argument in &self.stack[1..=self.count as usize] {
                ffi::Py_XDECREF(argument);
            }
            ffi::Py_XDECREF(self.more);
            ffi::Py_XDECREF(self.context);
        }
    }
}

/// A handle for a call whose own handle is gone: for the report of its exception.
///
/// # Safety
/// Attached; the call's references are alive.
pub unsafe fn handle_for_call(owner: Obj, call: &Call) -> Raises<*mut Handle> {
    // SAFETY: the caller's promise; a tuple's items stay in place while the call holds it.
    unsafe {
        let context = new_ref(call.context);
        if call.more.is_null() {
            let args = call.stack.as_ptr().add(1);
            return new_handle(owner, call.callback, args, call.count as usize, context);
        }
        let h = new_handle(owner, call.callback, std::ptr::null(), 0, context)?;
        (*h).extras_mut().more = new_ref(call.more);
        Ok(h)
    }
}
