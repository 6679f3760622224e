//! `TaskRing`: the ring with what asyncio's C `Task` and `Future` ask of their loop.
//!
//! They call `call_soon(callback, [argument], context=...)`, `get_debug()`, and programs call
//! `create_future()` and `create_task(coro)`. Futures and tasks are asyncio's own C types, made by
//! their `tp_new` and `tp_init` with a keyword dictionary that is kept: the cheapest way there is
//! from outside `_asyncio`.

use crate::ring::{self, slot, Ring};
use core::ffi::{c_int, c_void};
use core::ptr;
use pyo3_ffi as ffi;

/// The Python object. Every pointer is owned, and null until the first use.
#[repr(C)]
struct TaskRing {
    ring: Ring,
    future_type: *mut ffi::PyObject,
    task_type: *mut ffi::PyObject,
    /// `{"loop": self}`: a cycle, which the collector sees.
    keywords: *mut ffi::PyObject,
    no_arguments: *mut ffi::PyObject,
}

/// Builds the heap type over `Ring`; null with an exception set on failure.
///
/// # Safety
/// GIL held, `base` is the Ring type or null after an error.
pub(crate) unsafe fn make_type(base: *mut ffi::PyObject) -> *mut ffi::PyObject {
    if base.is_null() {
        return ptr::null_mut();
    }
    let methods: &'static mut [ffi::PyMethodDef] = Box::leak(Box::new([
        ffi::PyMethodDef {
            ml_name: c"call_soon".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: call_soon },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: c"Queue callback(*args), in context if one is given; returns None.".as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"create_future".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: create_future },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"A new asyncio.Future of this ring.".as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"create_task".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: create_task },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: c"A new asyncio.Task of this ring; keywords go to asyncio.Task.".as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"get_debug".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: get_debug },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"Always False.".as_ptr(),
        },
        ffi::PyMethodDef::zeroed(),
    ]));
    let mut slots = [
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"pyloop_floor.TaskRing".as_ptr(),
        basicsize: size_of::<TaskRing>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC)
            as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: GIL held (contract); the method table is leaked on purpose, names are static, and
    // PyType_FromSpecWithBases accepts one type in place of a tuple of bases.
    unsafe { ffi::PyType_FromSpecWithBases(&mut spec, base) }
}

/// `__init__()`: finds asyncio's C types once.
unsafe extern "C" fn init(
    this: *mut ffi::PyObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter passes a live TaskRing. `replace` takes over each new reference.
    unsafe {
        let module = ffi::PyImport_ImportModule(c"_asyncio".as_ptr());
        if module.is_null() {
            return -1;
        }
        let fields = this.cast::<TaskRing>();
        let future = ffi::PyObject_GetAttrString(module, c"Future".as_ptr());
        replace(&raw mut (*fields).future_type, future);
        let task = ffi::PyObject_GetAttrString(module, c"Task".as_ptr());
        replace(&raw mut (*fields).task_type, task);
        ffi::Py_DECREF(module);
        replace(&raw mut (*fields).keywords, ffi::PyDict_New());
        replace(&raw mut (*fields).no_arguments, ffi::PyTuple_New(0));
        let complete = !future.is_null()
            && !task.is_null()
            && !(*fields).keywords.is_null()
            && !(*fields).no_arguments.is_null();
        if !complete {
            return -1;
        }
        ffi::PyDict_SetItemString((*fields).keywords, c"loop".as_ptr(), this)
    }
}

/// `call_soon(callback, *args, context=None)`.
unsafe extern "C" fn call_soon(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter: `count` positional values, then one per name.
    unsafe {
        let mut context = ptr::null_mut();
        if !names.is_null() && ffi::PyTuple_GET_SIZE(names) != 0 {
            let name = ffi::PyTuple_GET_ITEM(names, 0);
            let ours = ffi::PyTuple_GET_SIZE(names) == 1
                && ffi::PyUnicode_CompareWithASCIIString(name, c"context".as_ptr()) == 0;
            if !ours {
                let message = c"call_soon() takes no keyword but context";
                ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
                return ptr::null_mut();
            }
            let given = *args.offset(count);
            if given != ffi::Py_None() {
                context = given;
            }
        }
        ring::push(this, args, count, context)
    }
}

/// `create_future()`.
unsafe extern "C" fn create_future(
    this: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter with a TaskRing whose `__init__` has run, or `build` says so.
    unsafe {
        let fields = this.cast::<TaskRing>();
        build((*fields).future_type, (*fields).no_arguments, (*fields).keywords)
    }
}

/// `create_task(coro, **keywords)`.
unsafe extern "C" fn create_task(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter: `count` positional values, then one per name. Each object
    // made here is released on every way out.
    unsafe {
        let fields = this.cast::<TaskRing>();
        if count != 1 {
            let message = c"create_task() takes one coroutine";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
            return ptr::null_mut();
        }
        let positional = ffi::PyTuple_New(1);
        if positional.is_null() {
            return ptr::null_mut();
        }
        ffi::PyTuple_SET_ITEM(positional, 0, ffi::Py_NewRef(*args));
        let named = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) };
        let mut keywords = ffi::Py_XNewRef((*fields).keywords);
        if named != 0 && !keywords.is_null() {
            ffi::Py_DECREF(keywords);
            keywords = ffi::PyDict_Copy((*fields).keywords);
            for index in 0..named {
                let name = ffi::PyTuple_GET_ITEM(names, index);
                let value = *args.offset(count + index);
                if !keywords.is_null() && ffi::PyDict_SetItem(keywords, name, value) != 0 {
                    ffi::Py_CLEAR(&mut keywords);
                }
            }
        }
        let task = if named != 0 && keywords.is_null() {
            ptr::null_mut()
        } else {
            build((*fields).task_type, positional, keywords)
        };
        ffi::Py_DECREF(positional);
        ffi::Py_XDECREF(keywords);
        task
    }
}

/// `get_debug()`.
unsafe extern "C" fn get_debug(
    _this: *mut ffi::PyObject,
    _unused: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called with the GIL held.
    unsafe { ffi::Py_NewRef(ffi::Py_False()) }
}

/// `kind(*positional, **keywords)` without the call protocol: `tp_new`, then `tp_init`.
///
/// # Safety
/// GIL held; the pointers are live objects of these kinds, or null before `__init__`.
#[inline(always)]
unsafe fn build(
    kind: *mut ffi::PyObject,
    positional: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: per the contract; a type without these slots is refused.
    unsafe {
        let slots = (!kind.is_null() && !positional.is_null() && !keywords.is_null())
            .then(|| kind.cast::<ffi::PyTypeObject>())
            .and_then(|kind| Some((kind, (*kind).tp_new?, (*kind).tp_init?)));
        let Some((kind, tp_new, tp_init)) = slots else {
            let message = c"TaskRing.__init__() has not run";
            ffi::PyErr_SetString(ffi::PyExc_RuntimeError, message.as_ptr());
            return ptr::null_mut();
        };
        let mut object = tp_new(kind, positional, keywords);
        if !object.is_null() && tp_init(object, positional, keywords) != 0 {
            ffi::Py_CLEAR(&mut object);
        }
        object
    }
}

/// Puts `new` (owned, may be null) into `place` and releases what was there.
///
/// # Safety
/// GIL held, `place` valid.
unsafe fn replace(place: *mut *mut ffi::PyObject, new: *mut ffi::PyObject) {
    // SAFETY: per the contract; the field is changed before the old object can run code.
    unsafe {
        let old = core::mem::replace(&mut *place, new);
        ffi::Py_XDECREF(old);
    }
}

/// `tp_clear`.
unsafe extern "C" fn clear(this: *mut ffi::PyObject) -> c_int {
    // SAFETY: `this` is a TaskRing.
    unsafe {
        let fields = this.cast::<TaskRing>();
        replace(&raw mut (*fields).future_type, ptr::null_mut());
        replace(&raw mut (*fields).task_type, ptr::null_mut());
        replace(&raw mut (*fields).keywords, ptr::null_mut());
        replace(&raw mut (*fields).no_arguments, ptr::null_mut());
        ring::clear(this)
    }
}

/// `tp_traverse`.
unsafe extern "C" fn traverse(
    this: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with a live TaskRing; it runs no Python code meanwhile.
    unsafe {
        let fields = this.cast::<TaskRing>();
        let owned = [(*fields).future_type, (*fields).task_type, (*fields).keywords];
        for object in owned.into_iter().filter(|object| !object.is_null()) {
            let status = visit(object, arg);
            if status != 0 {
                return status;
            }
        }
        ring::traverse(this, visit, arg)
    }
}

/// `tp_dealloc`.
unsafe extern "C" fn dealloc(this: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone; untracking first keeps the collector away; then the part
    // that is a Ring is released as a Ring is.
    unsafe {
        ffi::PyObject_GC_UnTrack(this.cast());
        clear(this);
        ring::free(this);
    }
}
