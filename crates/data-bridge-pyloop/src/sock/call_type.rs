//! What the interpreter sees of a call: a type that behaves like `types.CoroutineType`, and how its objects die.

use std::ffi::{c_int, c_void, CStr};
use std::mem::offset_of;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;

use super::call::{advance, finish, raise_again, raise_reused, release, Call, Kind, Stage, Step};
use crate::loop_impl::LoopCore;
use crate::py::cell::LoopCell;
use crate::py::errors::entry;
use crate::py::imports::call_cold_socket;
use crate::py::object::{checked, clear, new_ref, none, raise, Obj, Owned, Raised, Raises};
use crate::py::types::{leak, slot};

static TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

/// Shells of calls that are over: they hold nothing but their class and a count of one.
static FREE: LoopCell<Vec<*mut Call>> = LoopCell::new(Vec::new());
/// Most shells kept.
const MOST_FREE: usize = 256;

/// A shell, not tracked by the garbage collector.
#[inline]
unsafe fn shell() -> Raises<*mut Call> {
    if let Some(c) = FREE.with(Vec::pop) {
        return Ok(c);
    }
    // SAFETY: attached; the memory of the new object up to its end is ours to fill. No field is invalid as zero but the kind,
    // which the caller writes.
    unsafe {
        let c = ffi::PyObject_GC_New::<Call>(TYPE.load(Ordering::Relaxed));
        if c.is_null() {
            return Err(Raised);
        }
        let head = size_of::<ffi::PyObject>();
        c.cast::<u8>().add(head).write_bytes(0, size_of::<Call>() - head);
        Ok(c)
    }
}

/// Takes the shell of a dead call back.
unsafe fn recycle(c: *mut Call) {
    // SAFETY: as [`dealloc`], whose object holds nothing any more. One that was finalized would not be finalized again.
    unsafe {
        let kept = ffi::PyObject_GC_IsFinalized(c.cast()) == 0
            && FREE.with(|free| {
                let room = free.len() < MOST_FREE;
                if room {
                    free.push(c);
                }
                room
            });
        if kept {
            ffi::Py_INCREF(c.cast());
            (*c).sent = 0;
            (*c).has_waited = false;
            (*c).woken = false;
            return;
        }
        let class = ffi::Py_TYPE(c.cast());
        ffi::PyObject_GC_Del(c.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// A new call. Borrows the references; arguments may be null.
///
/// # Safety
/// Attached; all are alive, `owner` is a PyLoop.
#[inline]
pub unsafe fn create(kind: &'static Kind, owner: Obj, socket: Obj, args: [Obj; 2]) -> Raises<Obj> {
    // SAFETY: the caller's promise; a shell holds nothing.
    unsafe {
        let c = shell()?;
        let made: Obj = c.cast();
        (&raw mut (*c).kind).write(kind);
        (*c).stage = Stage::New;
        (*c).owner = new_ref(owner);
        (*c).socket = new_ref(socket);
        (*c).args = args.map(|arg| new_ref(arg));
        ffi::PyObject_GC_Track(made.cast());
        if LoopCore::from_ptr(owner).is_debug() {
            let made = Owned::from_new(made)?;
            (*c).origin = call_cold_socket(c"origin", &[])?.into_ptr();
            return Ok(made.into_ptr());
        }
        Ok(made)
    }
}

/// Sets StopIteration as a coroutine does that returns.
unsafe fn stop_iteration(result: Obj) {
    // SAFETY: attached; the reference is the caller's, and given up here.
    unsafe {
        let Ok(result) = Owned::from_new(result) else { return };
        let kind = ffi::PyExc_StopIteration;
        if result.as_ptr() == ffi::Py_None() {
            ffi::PyErr_SetNone(kind);
        } else if ffi::PyTuple_Check(result.as_ptr()) != 0 {
            if let Ok(stop) = Owned::from_new(ffi::PyObject_CallOneArg(kind, result.as_ptr())) {
                ffi::PyErr_SetObject(kind, stop.as_ptr());
            }
        } else {
            ffi::PyErr_SetObject(kind, result.as_ptr());
        }
    }
}

unsafe extern "C" fn am_send(o: Obj, value: Obj, result: *mut Obj) -> ffi::PySendResult {
    let mut status = ffi::PySendResult::PYGEN_ERROR;
    // SAFETY: the interpreter's calling convention: `o` is a call, held by the caller, and `result` is where it looks.
    let given = entry("send", || unsafe {
        let c: *mut Call = o.cast();
        if wrong_start(c, value) {
            return null_mut();
        }
        match advance(c) {
            Step::Yield(future) => {
                status = ffi::PySendResult::PYGEN_NEXT;
                future
            }
            Step::Return(value) => {
                status = ffi::PySendResult::PYGEN_RETURN;
                value
            }
            Step::Raise => null_mut(),
        }
    });
    // SAFETY: as above.
    unsafe { *result = given };
    status
}

unsafe fn wrong_start(c: *mut Call, value: Obj) -> bool {
    // SAFETY: as [`am_send`].
    unsafe {
        if (*c).stage == Stage::New && value != ffi::Py_None() {
            let text = "can't send non-None value to a just-started coroutine";
            raise(ffi::PyExc_TypeError, text);
            return true;
        }
    }
    false
}

unsafe extern "C" fn iter_next(o: Obj) -> Obj {
    // SAFETY: as [`am_send`]. To return None it is enough to set no exception.
    entry("__next__", || unsafe {
        match advance(o.cast()) {
            Step::Yield(future) => future,
            Step::Return(result) if result == ffi::Py_None() => {
                ffi::Py_DECREF(result);
                null_mut()
            }
            Step::Return(result) => {
                stop_iteration(result);
                null_mut()
            }
            Step::Raise => null_mut(),
        }
    })
}

unsafe extern "C" fn send(o: Obj, value: Obj) -> Obj {
    // SAFETY: as [`am_send`].
    entry("send", || unsafe {
        if wrong_start(o.cast(), value) {
            return null_mut();
        }
        match advance(o.cast()) {
            Step::Yield(future) => future,
            Step::Return(result) => {
                stop_iteration(result);
                null_mut()
            }
            Step::Raise => null_mut(),
        }
    })
}

unsafe extern "C" fn throw(o: Obj, args: *mut Obj, count: isize) -> Obj {
    // SAFETY: as [`am_send`]; `count` arguments are alive for the call.
    entry("throw", || unsafe {
        let c: *mut Call = o.cast();
        if !(1..=3).contains(&count) {
            raise(ffi::PyExc_TypeError, "throw expected 1 to 3 arguments");
            return null_mut();
        }
        let given = |index| if index < count { *args.offset(index) } else { ffi::Py_None() };
        let Ok(exception) = exception_of(given(0), given(1), given(2)) else {
            return null_mut();
        };
        match (*c).stage {
            Stage::Running => {
                raise(ffi::PyExc_ValueError, "coroutine already executing");
            }
            Stage::Done => raise_reused(),
            Stage::New | Stage::Waiting => {
                finish(c);
                raise_again(exception.as_ptr());
            }
        }
        null_mut()
    })
}

/// The exception that the arguments of `throw()` stand for.
unsafe fn exception_of(kind: Obj, value: Obj, traceback: Obj) -> Raises<Owned> {
    // SAFETY: as [`throw`].
    unsafe {
        let nothing = ffi::Py_None();
        let made = if ffi::PyExceptionInstance_Check(kind) != 0 {
            if value != nothing {
                let text = "instance exception may not have a separate value";
                return Err(raise(ffi::PyExc_TypeError, text));
            }
            new_ref(kind)
        } else if ffi::PyExceptionClass_Check(kind) == 0 {
            let class = ffi::Py_TYPE(kind);
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"exceptions must be classes or instances deriving from BaseException, not %s"
                    .as_ptr(),
                (*class).tp_name,
            );
            return Err(Raised);
        } else if value == nothing {
            ffi::PyObject_CallNoArgs(kind)
        } else if ffi::PyObject_IsInstance(value, kind) == 1 {
            new_ref(value)
        } else if ffi::PyTuple_Check(value) != 0 {
            ffi::PyObject_CallObject(kind, value)
        } else {
            ffi::PyObject_CallOneArg(kind, value)
        };
        let made = Owned::from_new(made)?;
        if traceback != nothing && ffi::PyException_SetTraceback(made.as_ptr(), traceback) != 0 {
            return Err(Raised);
        }
        Ok(made)
    }
}

unsafe extern "C" fn close(o: Obj, _: Obj) -> Obj {
    // SAFETY: as [`am_send`].
    entry("close", || unsafe {
        let c: *mut Call = o.cast();
        if (*c).stage == Stage::Running {
            raise(ffi::PyExc_ValueError, "coroutine already executing");
            return null_mut();
        }
        if (*c).stage != Stage::Done {
            finish(c);
        }
        none()
    })
}

unsafe extern "C" fn am_await(o: Obj) -> Obj {
    // SAFETY: as [`am_send`].
    unsafe {
        if (*o.cast::<Call>()).stage == Stage::Waiting {
            raise(ffi::PyExc_RuntimeError, "coroutine is being awaited already");
            return null_mut();
        }
        new_ref(o)
    }
}

unsafe extern "C" fn repr(o: Obj) -> Obj {
    // SAFETY: as [`am_send`].
    unsafe {
        ffi::PyUnicode_FromFormat(
            c"<coroutine object %s at %p>".as_ptr(),
            (*o.cast::<Call>()).kind.qualified.as_ptr(),
            o,
        )
    }
}

unsafe extern "C" fn dealloc(o: Obj) {
    // SAFETY: the interpreter calls this once, when the last reference is gone. The finalizer may bring the object back.
    unsafe {
        let c: *mut Call = o.cast();
        if (*c).stage == Stage::New && ffi::PyObject_CallFinalizerFromDealloc(o) != 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(o.cast());
        if !(*c).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(o);
        }
        if (*c).stage != Stage::Done {
            finish(c);
        }
        clear(&mut (*c).origin);
        clear(&mut (*c).owner);
        recycle(c);
    }
}

/// One that was never awaited is worth a warning.
unsafe extern "C" fn finalize(o: Obj) {
    // SAFETY: the interpreter's protocol: the object is alive for the call, and the exception that is set is kept.
    unsafe {
        let c: *mut Call = o.cast();
        if (*c).stage != Stage::New {
            return;
        }
        let mut saved = [null_mut(); 3];
        let [kind, value, traceback] = &mut saved;
        #[allow(deprecated)] // PyErr_GetRaisedException comes with 3.12.
        ffi::PyErr_Fetch(kind, value, traceback);
        if call_cold_socket(c"warn_unawaited", &[o]).is_err() {
            ffi::PyErr_WriteUnraisable(o);
        }
        #[allow(deprecated)]
        ffi::PyErr_Restore(saved[0], saved[1], saved[2]);
    }
}

unsafe extern "C" fn traverse(o: Obj, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector's protocol: every owned reference is shown once, nothing is changed.
    unsafe {
        let c: *mut Call = o.cast();
        let [a, b] = (*c).args;
        let viewed = if (*c).view.is_null() { null_mut() } else { (*(*c).view).obj };
        let held = [
            ffi::Py_TYPE(o).cast(),
            (*c).owner,
            (*c).socket,
            a,
            b,
            (*c).origin,
            (*c).future,
            (*c).watch,
            viewed,
        ];
        for reference in held {
            if !reference.is_null() {
                let stop = visit(reference, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

unsafe extern "C" fn tp_clear(o: Obj) -> c_int {
    // SAFETY: the collector's protocol. The loop breaks its cycles itself.
    unsafe {
        let c: *mut Call = o.cast();
        (*c).stage = Stage::Done;
        release(c);
        clear(&mut (*c).origin);
    }
    0
}

macro_rules! getters {
    ($($name:ident($c:ident) => $body:expr;)*) => {
        $(
            unsafe extern "C" fn $name(o: Obj, _: *mut c_void) -> Obj {
                // SAFETY: the descriptor has checked the type of `o`.
                entry(stringify!($name), || unsafe {
                    let $c: *mut Call = o.cast();
                    $body
                })
            }
        )*
    };
}

getters! {
    get_name(c) => ffi::PyUnicode_FromString((*c).kind.name.as_ptr());
    get_qualname(c) => ffi::PyUnicode_FromString((*c).kind.qualified.as_ptr());
    get_running(c) => ffi::PyBool_FromLong(((*c).stage == Stage::Running).into());
    get_suspended(c) => ffi::PyBool_FromLong(((*c).stage == Stage::Waiting).into());
    get_await(c) => or_none((*c).future);
    get_origin(c) => or_none((*c).origin);
}

unsafe extern "C" fn get_none(_: Obj, _: *mut c_void) -> Obj {
    none()
}

unsafe fn or_none(o: Obj) -> Obj {
    if o.is_null() {
        none()
    } else {
        // SAFETY: a field of a living call.
        unsafe { new_ref(o) }
    }
}

const fn method(
    name: &'static CStr,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }
}

const fn getter(name: &'static CStr, get: ffi::getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: null(),
        closure: null_mut(),
    }
}

/// Makes the type and adds it to the module.
///
/// # Safety
/// Attached; called once, while the module is made.
pub unsafe fn add_type(module: Obj) -> Raises<()> {
    use ffi::PyMethodDefPointer as Function;
    // Tables that the type keeps pointing at for the life of the process.
    let methods = leak([
        method(
            c"send",
            Function { PyCFunction: send },
            ffi::METH_O,
            c"send($self, value, /)\n--\n\nGo on until the call waits or ends.",
        ),
        method(
            c"throw",
            Function { PyCFunctionFast: throw },
            ffi::METH_FASTCALL,
            c"throw($self, typ, val=None, tb=None, /)\n--\n\nEnd the call with an exception.",
        ),
        method(
            c"close",
            Function { PyCFunction: close },
            ffi::METH_NOARGS,
            c"close($self, /)\n--\n\nEnd the call; nothing more is received or sent.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]);
    let getters = leak([
        getter(c"__name__", get_name),
        getter(c"__qualname__", get_qualname),
        getter(c"cr_running", get_running),
        getter(c"cr_suspended", get_suspended),
        getter(c"cr_await", get_await),
        getter(c"cr_origin", get_origin),
        getter(c"cr_frame", get_none),
        getter(c"cr_code", get_none),
        // SAFETY: all-zero ends the table; every field is a pointer.
        unsafe { std::mem::zeroed() },
    ]);
    let members = leak([
        ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset_of!(Call, weakrefs) as isize,
            flags: ffi::Py_READONLY,
            doc: null(),
        },
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ]);
    let doc = c"A sock_* call of a loop: a coroutine that has not been awaited, waits, or is done.";
    let slots = leak([
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_finalize, finalize as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void),
        slot(ffi::Py_tp_iternext, iter_next as *mut c_void),
        slot(ffi::Py_am_await, am_await as *mut c_void),
        slot(ffi::Py_am_send, am_send as *mut c_void),
        slot(ffi::Py_tp_methods, methods.cast()),
        slot(ffi::Py_tp_members, members.cast()),
        slot(ffi::Py_tp_getset, getters.cast()),
        slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
        slot(0, null_mut()),
    ]);
    let flags =
        ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"data_bridge.pyloop._native.SockCall".as_ptr(),
        basicsize: size_of::<Call>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots,
    };
    // SAFETY: the spec is complete; the module takes its own reference, and ours keeps the type alive for good.
    unsafe {
        let made = checked(ffi::PyType_FromSpec(&mut spec))?;
        TYPE.store(made.cast(), Ordering::Relaxed);
        if ffi::PyModule_AddObjectRef(module, c"SockCall".as_ptr(), made) != 0 {
            return Err(Raised);
        }
    }
    Ok(())
}
