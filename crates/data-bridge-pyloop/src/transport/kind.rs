//! What the interpreter sees of the transports: types, methods, attributes, and how their objects die.

use std::ffi::{c_int, c_void, CStr};
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::ffi;

use super::base::{self, has, or_none, set, state, Base};
use crate::py::errors::entry;
use crate::py::imports;
use crate::py::object::{clear, none, raise, Obj, Owned, Raised, Raises};
use crate::py::types::{keyword_row, leak, row, slot};

/// A method's result: None, or null with the exception set.
pub fn done(result: Raises<()>) -> Obj {
    match result {
        Ok(()) => none(),
        Err(Raised) => null_mut(),
    }
}

/// A method's result, or null with the exception set.
pub fn given(result: Raises<Obj>) -> Obj {
    result.unwrap_or(null_mut())
}

/// Defines the functions that the interpreter calls for a method without arguments, or with one.
macro_rules! methods {
    ($($name:ident($t:ident $(, $argument:ident)?) => $body:expr;)*) => {
        $(
            pub(crate) unsafe extern "C" fn $name(o: Obj, _argument: Obj) -> Obj {
                // SAFETY: the interpreter's calling convention; the descriptor has checked the type of `o`.
                entry(stringify!($name), || unsafe {
                    let $t: *mut Base = o.cast();
                    $(let $argument = _argument;)?
                    $body
                })
            }
        )*
    };
}
pub(crate) use methods;

methods! {
    is_closing(t) => ffi::PyBool_FromLong(has(t, state::CLOSING).into());
    is_reading(t) => ffi::PyBool_FromLong((!has(t, state::CLOSING | state::PAUSED)).into());
    get_protocol(t) => or_none((*t).protocol);
    set_protocol(t, protocol) => done(base::set_protocol(t, protocol));
    pause_reading(t) => done(if_open(t, |t| base::pause_reading(t)));
    resume_reading(t) => done(if_open(t, |t| base::resume_reading(t)));
    close(t) => done(base::close(t));
    abort(t) => done(abort_now(t));
    force_close(t, exception) => done(base::force_close(t, exception));
    call_connection_lost(t, exception) => done(base::call_connection_lost(t, exception));
    start_reading(t, waiter) => done(base::start_reading(t, waiter));
    read_ready(t) => done(if_open(t, |t| ((*t).kind.read_ready)(t)));
    write_ready(t) => done(if_open(t, |t| ((*t).kind.write_ready)(t)));
    get_write_buffer_size(t) => given(base::write_buffer_size(t).map(|size| ffi::PyLong_FromSize_t(size)));
    get_write_buffer_limits(t) => limits(t);
}

/// Does nothing once the connection is lost, where asyncio would trip over its missing loop.
unsafe fn if_open(t: *mut Base, f: impl FnOnce(*mut Base) -> Raises<()>) -> Raises<()> {
    // SAFETY: the caller's transport is alive.
    if unsafe { (*t).owner.is_null() } {
        return Ok(());
    }
    f(t)
}

unsafe fn abort_now(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`if_open`].
    unsafe {
        if (*t).owner.is_null() {
            return Ok(());
        }
        base::force_close(t, ffi::Py_None())
    }
}

unsafe fn limits(t: *mut Base) -> Obj {
    // SAFETY: as [`if_open`].
    unsafe {
        let low = ffi::PyLong_FromSize_t((*t).low);
        let high = ffi::PyLong_FromSize_t((*t).high);
        let both = if low.is_null() || high.is_null() {
            null_mut()
        } else {
            ffi::PyTuple_Pack(2, low, high)
        };
        ffi::Py_XDECREF(low);
        ffi::Py_XDECREF(high);
        both
    }
}

/// `set_write_buffer_limits(high=None, low=None)`: the arithmetic and the errors are asyncio's, in the cold half.
pub(crate) unsafe extern "C" fn set_write_buffer_limits(
    o: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as the methods above; keyword values follow the positional ones.
    entry("set_write_buffer_limits", || unsafe {
        let t: *mut Base = o.cast();
        let set = || -> Raises<()> {
            let function = imports::cold_function(c"water_marks")?;
            let pair = Owned::from_new(ffi::PyObject_Vectorcall(
                function.as_ptr(),
                args,
                count as usize,
                keywords,
            ))?;
            let mut numbers = [0; 2];
            for (index, number) in numbers.iter_mut().enumerate() {
                let item = ffi::PyTuple_GET_ITEM(pair.as_ptr(), index as isize);
                *number = usize::try_from(ffi::PyLong_AsSsize_t(item)).map_err(|_| Raised)?;
            }
            [(*t).low, (*t).high] = numbers;
            if (*t).owner.is_null() {
                return Ok(());
            }
            base::maybe_pause(t)
        };
        done(set())
    })
}

/// `get_extra_info(name, default=None)`.
pub(crate) unsafe extern "C" fn get_extra_info(
    o: Obj,
    args: *const Obj,
    count: isize,
    keywords: Obj,
) -> Obj {
    // SAFETY: as above.
    entry("get_extra_info", || unsafe {
        let text = "get_extra_info() takes a name and optionally a default";
        let values = one_or_two(args, count, keywords, [c"name", c"default"], text);
        given(values.and_then(|[name, default]| super::extra::get(o.cast(), name, default)))
    })
}

/// The arguments of a method that takes one and, optionally, a second, which is None by default. Borrowed.
///
/// # Safety
/// Attached; as the interpreter's calling convention has them.
pub(crate) unsafe fn one_or_two(
    args: *const Obj,
    count: isize,
    keywords: Obj,
    names: [&CStr; 2],
    error: &str,
) -> Raises<[Obj; 2]> {
    // SAFETY: the caller's promise.
    unsafe {
        let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) };
        let mut values = [null_mut(), null_mut()];
        let mut excess = count > 2;
        for index in 0..count.min(2) {
            values[index as usize] = *args.offset(index);
        }
        for index in 0..named {
            let keyword = ffi::PyTuple_GET_ITEM(keywords, index);
            let place = names.into_iter().position(|known| {
                ffi::PyUnicode_CompareWithASCIIString(keyword, known.as_ptr()) == 0
            });
            match place {
                Some(place) if values[place].is_null() => {
                    values[place] = *args.offset(count + index);
                }
                _ => excess = true,
            }
        }
        let [first, second] = values;
        if excess || first.is_null() {
            return Err(raise(ffi::PyExc_TypeError, error));
        }
        Ok([first, if second.is_null() { ffi::Py_None() } else { second }])
    }
}

/// What the last reference leaves: asyncio's `__del__`, then the memory.
pub(crate) unsafe extern "C" fn dealloc(o: Obj) {
    // SAFETY: the interpreter calls this once, when the last reference is gone. The finalizer may bring the object back.
    unsafe {
        let t: *mut Base = o.cast();
        if ffi::PyObject_CallFinalizerFromDealloc(o) != 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(o.cast());
        if !(*t).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(o);
        }
        tp_clear(o);
        clear(&mut (*t).protocol);
        clear(&mut (*t).owner);
        clear(&mut (*t).file);
        ((*t).kind.drop)(t);
        let class = ffi::Py_TYPE(o);
        ffi::PyObject_GC_Del(o.cast());
        ffi::Py_DECREF(class.cast());
    }
}

/// asyncio's `__del__`: an open descriptor is closed, with a ResourceWarning.
unsafe extern "C" fn finalize(o: Obj) {
    // SAFETY: the interpreter's protocol: the object is alive for the call, and the exception that is set is kept.
    unsafe {
        let t: *mut Base = o.cast();
        if has(t, state::GONE | state::FINALIZED) || (*t).owner.is_null() {
            return;
        }
        set(t, state::FINALIZED, true);
        let mut saved = [null_mut(); 3];
        let [kind, value, traceback] = &mut saved;
        #[allow(deprecated)] // PyErr_GetRaisedException comes with 3.12.
        ffi::PyErr_Fetch(kind, value, traceback);
        if imports::call_cold(c"finalize_transport", &[o]).is_err() {
            ffi::PyErr_WriteUnraisable(o);
        }
        if base::close_descriptor(t).is_err() {
            ffi::PyErr_WriteUnraisable(o);
        }
        #[allow(deprecated)]
        ffi::PyErr_Restore(saved[0], saved[1], saved[2]);
    }
}

unsafe extern "C" fn traverse(o: Obj, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector's protocol: every owned reference is shown once, nothing is changed.
    unsafe {
        let t: *mut Base = o.cast();
        let fixed = [
            ffi::Py_TYPE(o).cast(),
            (*t).extra,
            (*t).dict,
            (*t).owner,
            (*t).protocol,
            (*t).file,
            (*t).read_context,
            (*t).write_context,
        ];
        let mut stop = 0;
        let mut show = |reference: Obj| {
            if stop == 0 && !reference.is_null() {
                stop = visit(reference, arg);
            }
        };
        fixed.into_iter().for_each(&mut show);
        ((*t).kind.references)(t, &mut show);
        stop
    }
}

unsafe extern "C" fn tp_clear(o: Obj) -> c_int {
    // SAFETY: the collector's protocol. The loop stays while the descriptor is open: whatever still calls needs it.
    unsafe {
        let t: *mut Base = o.cast();
        ((*t).kind.release)(t);
        for slot in [
            &raw mut (*t).extra,
            &raw mut (*t).dict,
            &raw mut (*t).read_context,
            &raw mut (*t).write_context,
        ] {
            clear(slot);
        }
        if has(t, state::GONE) {
            clear(&mut (*t).protocol);
        }
    }
    0
}

macro_rules! getters {
    ($($name:ident($t:ident) => $body:expr;)*) => {
        $(
            pub(crate) unsafe extern "C" fn $name(o: Obj, _: *mut c_void) -> Obj {
                // SAFETY: the descriptor has checked the type of `o`.
                entry(stringify!($name), || unsafe {
                    let $t: *mut Base = o.cast();
                    $body
                })
            }
        )*
    };
}
pub(crate) use getters;

getters! {
    get_loop(t) => or_none((*t).owner);
    get_the_protocol(t) => or_none((*t).protocol);
    get_fd(t) => ffi::PyLong_FromLong((*t).fd.into());
    get_file(t) => given(super::extra::file(t));
    get_extra(t) => given(super::extra::dict(t));
    get_closing(t) => ffi::PyBool_FromLong(has(t, state::CLOSING).into());
    get_paused(t) => ffi::PyBool_FromLong(has(t, state::PAUSED).into());
    get_eof(t) => ffi::PyBool_FromLong(has(t, state::EOF).into());
    get_conn_lost(t) => ffi::PyLong_FromLong((*t).conn_lost.into());
    get_protocol_paused(t) => ffi::PyBool_FromLong(has(t, state::FULL).into());
    get_high(t) => ffi::PyLong_FromSize_t((*t).high);
    get_low(t) => ffi::PyLong_FromSize_t((*t).low);
}

/// `__dict__`, as instances of Python classes have it.
pub const fn instance_dict() -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: c"__dict__".as_ptr(),
        get: Some(ffi::PyObject_GenericGetDict),
        set: Some(ffi::PyObject_GenericSetDict),
        doc: std::ptr::null(),
        closure: null_mut(),
    }
}

/// A read-only attribute.
pub const fn attribute(name: &'static CStr, get: ffi::getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: std::ptr::null(),
        closure: null_mut(),
    }
}

/// Methods of every transport.
pub fn common_methods() -> Vec<ffi::PyMethodDef> {
    use ffi::{METH_NOARGS as NONE, METH_O as ONE};
    vec![
        row(c"is_closing", is_closing, NONE, c"is_closing($self, /)\n--\n\nWhether the transport is closed or about to be."),
        row(c"get_protocol", get_protocol, NONE, c"get_protocol($self, /)\n--\n\nThe protocol; None after the connection was lost."),
        row(c"set_protocol", set_protocol, ONE, c"set_protocol($self, protocol, /)\n--\n\nHand the connection to another protocol, from the next callback on."),
        row(c"close", close, NONE, c"close($self, /)\n--\n\nClose after what waits was sent; connection_lost(None) follows. Source: asyncio.BaseTransport.close."),
        row(c"abort", abort, NONE, c"abort($self, /)\n--\n\nClose at once; what waits is lost. connection_lost(None) follows. Source: asyncio.WriteTransport.abort."),
        keyword_row(c"get_extra_info", get_extra_info, c"get_extra_info($self, name, default=None)\n--\n\nInformation about the connection, as asyncio.BaseTransport.get_extra_info names it."),
        row(c"_force_close", force_close, ONE, c"_force_close($self, exc, /)\n--\n\nClose at once, with connection_lost(exc)."),
        row(c"_call_connection_lost", call_connection_lost, ONE, c"_call_connection_lost($self, exc, /)\n--\n\nTell the protocol that the connection is lost, and close the descriptor."),
        row(c"_start_reading", start_reading, ONE, c"_start_reading($self, waiter, /)\n--\n\nRead from now on, and wake the waiter if it is not None."),
        row(c"_read_ready", read_ready, NONE, c"_read_ready($self, /)\n--\n\nThe descriptor is readable."),
        row(c"_write_ready", write_ready, NONE, c"_write_ready($self, /)\n--\n\nThe descriptor is writable."),
    ]
}

/// Methods of those that read.
pub fn reading_methods() -> Vec<ffi::PyMethodDef> {
    use ffi::METH_NOARGS as NONE;
    vec![
        row(c"is_reading", is_reading, NONE, c"is_reading($self, /)\n--\n\nWhether data is read as it comes."),
        row(c"pause_reading", pause_reading, NONE, c"pause_reading($self, /)\n--\n\nStop reading: the protocol gets no more data until resume_reading(). Idempotent."),
        row(c"resume_reading", resume_reading, NONE, c"resume_reading($self, /)\n--\n\nRead again, in a copy of the current context. Idempotent."),
    ]
}

/// Methods of those that write.
pub fn writing_methods() -> Vec<ffi::PyMethodDef> {
    use ffi::METH_NOARGS as NONE;
    vec![
        row(c"get_write_buffer_size", get_write_buffer_size, NONE, c"get_write_buffer_size($self, /)\n--\n\nHow many bytes wait to be sent, after an attempt to send them."),
        row(c"get_write_buffer_limits", get_write_buffer_limits, NONE, c"get_write_buffer_limits($self, /)\n--\n\nThe water marks (low, high), in bytes."),
        keyword_row(c"set_write_buffer_limits", set_write_buffer_limits, c"set_write_buffer_limits($self, high=None, low=None)\n--\n\nSet the water marks, in bytes: above high the protocol's pause_writing() is called, at low or below resume_writing().\n\nRaises ValueError unless high >= low >= 0. Source: asyncio.WriteTransport.set_write_buffer_limits."),
    ]
}

/// Attributes of every transport.
pub fn common_attributes() -> Vec<ffi::PyGetSetDef> {
    vec![
        instance_dict(),
        attribute(c"_loop", get_loop),
        attribute(c"_extra", get_extra),
        attribute(c"_protocol", get_the_protocol),
        attribute(c"_closing", get_closing),
        attribute(c"_paused", get_paused),
        attribute(c"_conn_lost", get_conn_lost),
        attribute(c"_protocol_paused", get_protocol_paused),
        attribute(c"_high_water", get_high),
        attribute(c"_low_water", get_low),
    ]
}

/// Makes a transport type over asyncio's own classes.
///
/// # Safety
/// Attached; `bases` is a tuple of classes of `asyncio.transports`; `size` is that of the type's struct, which begins with [`Base`].
pub unsafe fn make_type(
    name: &'static CStr,
    doc: &'static CStr,
    size: usize,
    bases: Obj,
    mut methods: Vec<ffi::PyMethodDef>,
    mut attributes: Vec<ffi::PyGetSetDef>,
) -> Raises<Obj> {
    const _: () = assert!(offset_of!(Base, extra) == size_of::<ffi::PyObject>());
    let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as isize,
        flags: ffi::Py_READONLY,
        doc: std::ptr::null(),
    };
    // SAFETY: all-zero ends each table; every field is a pointer or an integer. The tables live for good.
    unsafe {
        methods.push(ffi::PyMethodDef::zeroed());
        attributes.push(std::mem::zeroed());
        let members = leak([
            member(c"__weaklistoffset__", offset_of!(Base, weakrefs)),
            member(c"__dictoffset__", offset_of!(Base, dict)),
            std::mem::zeroed(),
        ]);
        let slots = leak([
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_finalize, finalize as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, tp_clear as *mut c_void),
            slot(ffi::Py_tp_methods, methods.leak().as_mut_ptr().cast()),
            slot(ffi::Py_tp_members, members.cast()),
            slot(ffi::Py_tp_getset, attributes.leak().as_mut_ptr().cast()),
            slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
            slot(0, null_mut()),
        ]);
        let flags = ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_HAVE_GC
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
        let mut spec = ffi::PyType_Spec {
            name: name.as_ptr(),
            basicsize: size as c_int,
            itemsize: 0,
            flags: flags as _,
            slots,
        };
        fits(bases)?;
        Owned::from_new(ffi::PyType_FromSpecWithBases(&mut spec, bases)).map(Owned::into_ptr)
    }
}

/// Whether asyncio's classes still have the layout that [`Base`] begins with.
unsafe fn fits(bases: Obj) -> Raises<()> {
    // SAFETY: as [`make_type`].
    unsafe {
        for index in 0..ffi::PyTuple_GET_SIZE(bases) {
            let class: *mut ffi::PyTypeObject = ffi::PyTuple_GET_ITEM(bases, index).cast();
            let size = (*class).tp_basicsize as usize;
            if size > offset_of!(Base, dict) || (*class).tp_dictoffset != 0 {
                return Err(raise(
                    ffi::PyExc_ImportError,
                    "asyncio's transport classes have another layout than this build of PyLoop knows",
                ));
            }
        }
    }
    Ok(())
}
