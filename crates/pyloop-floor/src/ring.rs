//! `Ring`: a first-in-first-out ring of callbacks, each run in its own copy of the context.
//!
//! `call_soon(callback, *args)` copies the current context and queues three or four pointers;
//! `run()` takes them out in order until the ring is empty or `stop()` was called. An exception in
//! a callback leaves `run()` at once. The queue belongs to the thread that holds the GIL; no Rust
//! borrow of it is alive while Python code runs, because a callback may call back into the ring.

use core::ffi::{c_int, c_void};
use core::mem::ManuallyDrop;
use core::ptr;
use pyo3_ffi as ffi;
use std::collections::VecDeque;

/// One queued callback; owns a reference to each object it points at.
pub(crate) struct Entry {
    pub(crate) callback: *mut ffi::PyObject,
    pub(crate) context: *mut ffi::PyObject,
    /// The only argument, or null.
    pub(crate) argument: *mut ffi::PyObject,
    /// A tuple of all arguments where there are two or more, or null.
    pub(crate) arguments: *mut ffi::PyObject,
}

/// The Python object. `TaskRing` begins with the same fields.
#[repr(C)]
pub(crate) struct Ring {
    base: ffi::PyObject,
    pub(crate) queue: ManuallyDrop<VecDeque<Entry>>,
    stopping: bool,
}

/// Builds the heap type; null with an exception set on failure.
///
/// # Safety
/// GIL held.
pub(crate) unsafe fn make_type() -> *mut ffi::PyObject {
    let methods: &'static mut [ffi::PyMethodDef] = Box::leak(Box::new([
        ffi::PyMethodDef {
            ml_name: c"call_soon".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: call_soon },
            ml_flags: ffi::METH_FASTCALL,
            ml_doc: c"Queue callback(*args) in a copy of the current context; returns None."
                .as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"run".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: run },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"Run what is queued, in order, until nothing is left or stop() was called."
                .as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"run_forever".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: run },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"The same as run(), by the name that a loop gives it.".as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"stop".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: stop },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"Let run() return after the callback that is running.".as_ptr(),
        },
        ffi::PyMethodDef::zeroed(),
    ]));
    let mut slots = [
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"pyloop_floor.Ring".as_ptr(),
        basicsize: size_of::<Ring>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC)
            as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: GIL held (contract); the method table is leaked on purpose, names are static.
    unsafe { ffi::PyType_FromSpec(&mut spec) }
}

/// A type slot.
pub(crate) fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// Queues one callback. `context` is borrowed; null means a copy of the current one. Returns None.
///
/// # Safety
/// GIL held, `this` a live Ring, `args` points at `count` live objects.
#[inline(always)]
pub(crate) unsafe fn push(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    context: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: per the contract: `args[0..count]` are readable; every pointer stored in the entry
    // was given a reference of its own first. The borrow of the queue ends before any Python runs.
    unsafe {
        if count < 1 {
            let message = c"call_soon() needs a callback";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
            return ptr::null_mut();
        }
        let context =
            if context.is_null() { ffi::PyContext_CopyCurrent() } else { ffi::Py_NewRef(context) };
        if context.is_null() {
            return ptr::null_mut();
        }
        let mut entry = Entry {
            callback: ptr::null_mut(),
            context,
            argument: ptr::null_mut(),
            arguments: ptr::null_mut(),
        };
        if count == 2 {
            entry.argument = ffi::Py_NewRef(*args.add(1));
        } else if count > 2 {
            entry.arguments = ffi::PyTuple_New(count - 1);
            if entry.arguments.is_null() {
                ffi::Py_DECREF(context);
                return ptr::null_mut();
            }
            for index in 1..count {
                let argument = ffi::Py_NewRef(*args.offset(index));
                ffi::PyTuple_SET_ITEM(entry.arguments, index - 1, argument);
            }
        }
        entry.callback = ffi::Py_NewRef(*args);
        (*this.cast::<Ring>()).queue.push_back(entry);
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `call_soon(callback, *args)`.
unsafe extern "C" fn call_soon(
    this: *mut ffi::PyObject,
    args: *mut *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a Ring and `count` arguments.
    unsafe { push(this, args, count, ptr::null_mut()) }
}

/// `run()`.
unsafe extern "C" fn run(
    this: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a Ring, which the caller keeps alive. Each access to
    // its fields is a fresh, short borrow: callbacks may queue and stop meanwhile.
    unsafe {
        let ring = this.cast::<Ring>();
        (*ring).stopping = false;
        while !(*ring).stopping {
            let Some(entry) = (*ring).queue.pop_front() else {
                break;
            };
            if !call(entry) {
                return ptr::null_mut();
            }
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// `stop()`.
unsafe extern "C" fn stop(
    this: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a Ring.
    unsafe {
        (*this.cast::<Ring>()).stopping = true;
        ffi::Py_NewRef(ffi::Py_None())
    }
}

/// Calls one entry in its context and releases it; false with an exception set.
///
/// # Safety
/// GIL held; `entry` owns its references.
#[inline(always)]
unsafe fn call(entry: Entry) -> bool {
    // SAFETY: the entry owns what it points at until `release`, which is the last use. The array
    // has the spare slot in front that PY_VECTORCALL_ARGUMENTS_OFFSET promises.
    unsafe {
        let mut result = ptr::null_mut();
        if ffi::PyContext_Enter(entry.context) == 0 {
            result = if entry.arguments.is_null() {
                let stack = [ptr::null_mut(), entry.argument];
                let count = usize::from(!entry.argument.is_null());
                ffi::PyObject_Vectorcall(
                    entry.callback,
                    stack.as_ptr().add(1),
                    count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    ptr::null_mut(),
                )
            } else {
                ffi::PyObject_Call(entry.callback, entry.arguments, ptr::null_mut())
            };
            if ffi::PyContext_Exit(entry.context) != 0 {
                ffi::Py_CLEAR(&mut result);
            }
        }
        release(entry);
        let ok = !result.is_null();
        ffi::Py_XDECREF(result);
        ok
    }
}

/// Gives up the references of an entry.
///
/// # Safety
/// GIL held; `entry` owns its references.
#[inline(always)]
unsafe fn release(entry: Entry) {
    // SAFETY: per the contract.
    unsafe {
        ffi::Py_DECREF(entry.callback);
        ffi::Py_DECREF(entry.context);
        ffi::Py_XDECREF(entry.argument);
        ffi::Py_XDECREF(entry.arguments);
    }
}

/// `__new__`: takes no argument that it looks at; subclasses may.
unsafe extern "C" fn new(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter passes a type whose instances begin with a Ring; PyType_GenericAlloc
    // gives it zeroed, so the remaining fields of a subtype are null.
    unsafe {
        let this = ffi::PyType_GenericAlloc(kind, 0);
        if !this.is_null() {
            ptr::write(&raw mut (*this.cast::<Ring>()).queue, ManuallyDrop::new(VecDeque::new()));
        }
        this
    }
}

/// Drops what is still queued: `tp_clear`, for the garbage collector and for `dealloc`.
pub(crate) unsafe extern "C" fn clear(this: *mut ffi::PyObject) -> c_int {
    // SAFETY: `this` is a Ring; the queue is taken out before any reference is given up, because
    // that may run Python code that uses the ring again.
    unsafe {
        for entry in core::mem::take(&mut *(*this.cast::<Ring>()).queue) {
            release(entry);
        }
    }
    0
}

/// `tp_traverse`: shows what is queued to the garbage collector.
pub(crate) unsafe extern "C" fn traverse(
    this: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with a live Ring; it runs no Python code meanwhile.
    unsafe {
        let kind = ffi::Py_TYPE(this).cast::<ffi::PyObject>();
        let status = visit(kind, arg);
        if status != 0 {
            return status;
        }
        for entry in (*this.cast::<Ring>()).queue.iter() {
            for object in [entry.callback, entry.context, entry.argument, entry.arguments] {
                if !object.is_null() {
                    let status = visit(object, arg);
                    if status != 0 {
                        return status;
                    }
                }
            }
        }
        0
    }
}

/// `tp_dealloc`.
unsafe extern "C" fn dealloc(this: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; untracking first keeps the collector away.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        clear(this);
        free(this);
    }
}

/// Frees the memory of a ring that has been untracked and cleared.
///
/// # Safety
/// GIL held; nobody uses `this` afterwards.
pub(crate) unsafe fn free(this: *mut ffi::PyObject) {
    // SAFETY: the queue is dropped once, here. A heap type owns a reference per instance.
    unsafe {
        ManuallyDrop::drop(&mut (*this.cast::<Ring>()).queue);
        let kind = ffi::Py_TYPE(this);
        ffi::PyObject_GC_Del(this.cast());
        ffi::Py_DECREF(kind.cast());
    }
}
