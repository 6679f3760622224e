//! What the interpreter sees of `Handle` and `TimerHandle`: the two types, their attributes, and how their objects die.

use std::ffi::{c_int, c_void, CStr};
use std::mem::offset_of;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;

use pyo3::ffi;

use crate::handle::{cancel, drop_callback, recycle, tuple, Handle, HANDLE, TIMER_HANDLE};
use crate::loop_impl::LoopCore;
use crate::py::cell::LoopCell;
use crate::py::errors::entry;
use crate::py::imports::{ASYNCIO_HANDLE, ASYNCIO_TIMER_HANDLE};
use crate::py::object::{checked, clear, new_ref, none, Obj, Raised, Raises};
use crate::py::types::{leak, slot};

/// Handles that die while others are dying: beyond [`DEEPEST`] they wait here, so that a long chain of handles, each held by the
/// next, does not use up the stack. (PyO3 does not have CPython's own trashcan.)
struct Dying {
    depth: usize,
    deferred: Vec<*mut Handle>,
}
const DEEPEST: usize = 50;
static DYING: LoopCell<Dying> = LoopCell::new(Dying { depth: 0, deferred: Vec::new() });

unsafe extern "C" fn dealloc(o: Obj) {
    // SAFETY: the interpreter calls this once, when the last reference is gone; a deferred handle is in nobody else's hands.
    unsafe {
        (*o.cast::<Handle>()).untrack();
        let depth = DYING.with(|dying| {
            dying.depth += 1;
            dying.depth
        });
        if depth > DEEPEST {
            DYING.with(|dying| dying.deferred.push(o.cast()));
        } else {
            die(o.cast());
        }
        if depth == 1 {
            while let Some(next) = DYING.with(|dying| dying.deferred.pop()) {
                die(next);
            }
        }
        DYING.with(|dying| dying.depth -= 1);
    }
}

/// Releases all that a dead handle holds.
unsafe fn die(h: *mut Handle) {
    // SAFETY: nobody holds the handle; it is untracked.
    unsafe {
        if !(*h).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(h.cast());
        }
        drop_callback(h);
        (*h).drop_context();
        clear(&mut (*h).owner);
        if let Some(extras) = (*h).take_extras() {
            for reference in extras.references() {
                ffi::Py_XDECREF(reference);
            }
        }
        // The free list's own reference; without it the memory is given back.
        ffi::Py_INCREF(h.cast());
        recycle(h);
    }
}

unsafe extern "C" fn traverse(o: Obj, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector's protocol: every owned reference is shown once, nothing is changed.
    unsafe {
        let h: *mut Handle = o.cast();
        let [a, b, c] = (*h).args;
        let context = (*h).context_unshown();
        let shown = [ffi::Py_TYPE(o).cast(), (*h).callback, a, b, c, context, (*h).owner];
        for reference in shown.into_iter().chain((*h).extras().references()) {
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
    // SAFETY: the collector's protocol. The owner stays: `cancel` on a cleared handle still needs its loop, and
    // the loop breaks that cycle itself.
    unsafe {
        let h: *mut Handle = o.cast();
        drop_callback(h);
        if !(*h).extras().is_empty() {
            clear(&mut (*h).extras_mut().source_traceback);
            clear(&mut (*h).extras_mut().when_given);
            clear(&mut (*h).extras_mut().watched);
        }
    }
    0
}

unsafe extern "C" fn py_cancel(o: Obj, _: Obj) -> Obj {
    // SAFETY: a method of the type: `o` is a handle, alive for the call.
    entry("cancel", || match unsafe { cancel(o.cast()) } {
        Ok(()) => none(),
        Err(Raised) => null_mut(),
    })
}

unsafe extern "C" fn py_cancelled(o: Obj, _: Obj) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { ffi::PyBool_FromLong((*o.cast::<Handle>()).cancelled.into()) }
}

unsafe extern "C" fn py_get_context(o: Obj, _: Obj) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { or_none((*o.cast::<Handle>()).context()) }
}

unsafe extern "C" fn context(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { py_get_context(o, null_mut()) }
}

unsafe extern "C" fn source_traceback(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { or_none((*o.cast::<Handle>()).extras().source_traceback) }
}

unsafe extern "C" fn set_source_traceback(o: Obj, value: Obj, _: *mut c_void) -> c_int {
    // SAFETY: as `py_cancel`; null deletes.
    unsafe { (*o.cast::<Handle>()).set_source_traceback(new_ref(value)) };
    0
}

unsafe extern "C" fn repr(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { or_none((*o.cast::<Handle>()).extras().repr) }
}

unsafe extern "C" fn set_repr(o: Obj, value: Obj, _: *mut c_void) -> c_int {
    // SAFETY: as `set_source_traceback`.
    unsafe { (*o.cast::<Handle>()).set_repr(new_ref(value)) };
    0
}

unsafe extern "C" fn py_run(o: Obj, _: Obj) -> Obj {
    // SAFETY: as `py_cancel`.
    entry("_run", || unsafe {
        let h: *mut Handle = o.cast();
        match LoopCore::from_ptr((*h).owner).run_shared((*h).owner, h) {
            Ok(()) => none(),
            Err(Raised) => null_mut(),
        }
    })
}

unsafe extern "C" fn py_when(o: Obj, _: Obj) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe { get_when(o, null_mut()) }
}

/// A new reference to `o`, or to None for null.
unsafe fn or_none(o: Obj) -> Obj {
    if o.is_null() {
        none()
    } else {
        // SAFETY: the caller's object is alive.
        unsafe { new_ref(o) }
    }
}

unsafe extern "C" fn get_when(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe {
        let h: *mut Handle = o.cast();
        let given = (*h).extras().when_given;
        if given.is_null() {
            ffi::PyFloat_FromDouble((*h).when)
        } else {
            new_ref(given)
        }
    }
}

unsafe extern "C" fn get_args(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: as `py_cancel`.
    unsafe {
        let h: *mut Handle = o.cast();
        let more = (*h).extras().more;
        if (*h).callback.is_null() {
            none()
        } else if more.is_null() {
            tuple((*h).args.as_ptr(), (*h).count as usize)
        } else {
            new_ref(more)
        }
    }
}

unsafe extern "C" fn get_class(o: Obj, _: *mut c_void) -> Obj {
    // SAFETY: reads the type of a living object; the imports live for good.
    unsafe {
        let timer = ffi::Py_TYPE(o) == TIMER_HANDLE.load(Ordering::Relaxed);
        or_none(if timer { ASYNCIO_TIMER_HANDLE.get() } else { ASYNCIO_HANDLE.get() })
    }
}

const fn method(
    name: &'static CStr,
    function: ffi::PyCFunction,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

const fn member(name: &'static CStr, kind: c_int, offset: usize, flags: c_int) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: kind,
        offset: offset as isize,
        flags,
        doc: null(),
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

/// `T_OBJECT` of structmember.h: null reads as None.
const T_OBJECT: c_int = 6;

/// Makes the two types and adds them to the module.
///
/// # Safety
/// Attached; called once, while the module is made.
pub unsafe fn add_types(module: Obj) -> Raises<()> {
    // Tables that the types keep pointing at for the life of the process.
    let methods = leak([
        method(
            c"cancel",
            py_cancel,
            c"cancel($self, /)\n--\n\nCancel the callback; idempotent. Its arguments are released at once.",
        ),
        method(
            c"cancelled",
            py_cancelled,
            c"cancelled($self, /)\n--\n\nWhether the callback was cancelled.",
        ),
        method(
            c"get_context",
            py_get_context,
            c"get_context($self, /)\n--\n\nThe contextvars.Context in which the callback runs.",
        ),
        method(
            c"_run",
            py_run,
            c"_run($self, /)\n--\n\nRun the callback now; an exception goes to the loop's exception handler.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]);
    let members = leak([
        member(c"_callback", T_OBJECT, offset_of!(Handle, callback), ffi::Py_READONLY),
        member(c"_loop", T_OBJECT, offset_of!(Handle, owner), ffi::Py_READONLY),
        member(c"_cancelled", ffi::Py_T_BOOL, offset_of!(Handle, cancelled), ffi::Py_READONLY),
        member(
            c"__weaklistoffset__",
            ffi::Py_T_PYSSIZET,
            offset_of!(Handle, weakrefs),
            ffi::Py_READONLY,
        ),
        // SAFETY: all-zero ends the table; every field is a pointer or an integer.
        unsafe { std::mem::zeroed() },
    ]);
    let getters = leak([
        getter(c"_args", get_args),
        getter(c"_context", context),
        ffi::PyGetSetDef {
            set: Some(set_source_traceback),
            ..getter(c"_source_traceback", source_traceback)
        },
        ffi::PyGetSetDef { set: Some(set_repr), ..getter(c"_repr", repr) },
        getter(c"__class__", get_class),
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ]);
    let timer_methods = leak([
        method(
            c"when",
            py_when,
            c"when($self, /)\n--\n\nThe deadline, in seconds of the loop's clock.",
        ),
        ffi::PyMethodDef::zeroed(),
    ]);
    let timer_members = leak([
        member(c"_scheduled", ffi::Py_T_BOOL, offset_of!(Handle, scheduled), 0),
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ]);
    // SAFETY: as above.
    let timer_getters = leak([getter(c"_when", get_when), unsafe { std::mem::zeroed() }]);

    let slots = leak([
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
        slot(ffi::Py_tp_methods, methods.cast()),
        slot(ffi::Py_tp_members, members.cast()),
        slot(ffi::Py_tp_getset, getters.cast()),
        slot(
            ffi::Py_tp_doc,
            c"A scheduled callback, as asyncio.Handle. Made by the loop."
                .as_ptr()
                .cast_mut()
                .cast(),
        ),
        slot(0, null_mut()),
    ]);
    let timer_slots = leak([
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
        slot(ffi::Py_tp_methods, timer_methods.cast()),
        slot(ffi::Py_tp_members, timer_members.cast()),
        slot(ffi::Py_tp_getset, timer_getters.cast()),
        slot(
            ffi::Py_tp_doc,
            c"A callback with a deadline, as asyncio.TimerHandle. Made by the loop."
                .as_ptr()
                .cast_mut()
                .cast(),
        ),
        slot(0, null_mut()),
    ]);
    let flags =
        ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    // SAFETY: the tables above live for good and end with a zero entry, as the C API asks.
    unsafe {
        let base = add_type(
            module,
            c"data_bridge.pyloop._native.Handle",
            c"Handle",
            flags | ffi::Py_TPFLAGS_BASETYPE,
            slots,
            null_mut(),
        )?;
        HANDLE.store(base, Ordering::Relaxed);
        let timer = add_type(
            module,
            c"data_bridge.pyloop._native.TimerHandle",
            c"TimerHandle",
            flags,
            timer_slots,
            base.cast(),
        )?;
        TIMER_HANDLE.store(timer, Ordering::Relaxed);
    }
    Ok(())
}

unsafe fn add_type(
    module: Obj,
    full_name: &'static CStr,
    name: &'static CStr,
    flags: std::ffi::c_ulong,
    slots: *mut ffi::PyType_Slot,
    base: Obj,
) -> Raises<*mut ffi::PyTypeObject> {
    let mut spec = ffi::PyType_Spec {
        name: full_name.as_ptr(),
        basicsize: std::mem::size_of::<Handle>() as c_int,
        itemsize: 0,
        flags: flags as _,
        slots,
    };
    // SAFETY: the spec is complete; the module takes its own reference, and ours keeps the type alive for good.
    unsafe {
        let made = checked(ffi::PyType_FromSpecWithBases(&mut spec, base))?;
        if ffi::PyModule_AddObjectRef(module, name.as_ptr(), made) != 0 {
            return Err(Raised);
        }
        Ok(made.cast())
    }
}
