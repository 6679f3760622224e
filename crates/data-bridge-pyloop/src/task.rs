//! What asyncio's C Future and Task ask of their loop: `create_future`, `create_task`, `get_debug`, `time`, without a Python frame.
//!
//! No Task of our own: introspection, eager tasks and `isinstance` depend on asyncio's. Debug mode, a task factory and
//! arguments this room does not know go to asyncio's own Python code.

use std::ptr::null_mut;

use pyo3::ffi;

use crate::arguments::{is_context, NAME};
use crate::clock;
use crate::loop_impl::{mode, LoopCore};
use crate::py::call::method;
use crate::py::errors::entry;
use crate::py::imports::{Import, FUTURE, FUTURES, FUTURE_NAME, PYLOOP, TASK, TASKS, TASK_NAME};
use crate::py::names;
use crate::py::object::{checked, new_ref, raise, Obj, Owned, Raised, Raises};

/// An instance of `class`, made as a call would make it but without the call's own argument handling.
///
/// # Safety
/// Attached; `class` is a type, `args` a tuple, `keywords` a dict, all alive.
#[inline(always)]
unsafe fn instantiate(class: Obj, args: Obj, keywords: Obj) -> Raises<Obj> {
    // SAFETY: the caller's promise; both slots exist on every ready type.
    unsafe {
        let class: *mut ffi::PyTypeObject = class.cast();
        let (Some(new), Some(init)) = ((*class).tp_new, (*class).tp_init) else {
            return Err(raise(ffi::PyExc_TypeError, "asyncio's class cannot be instantiated"));
        };
        let made = Owned::from_new(new(class, args, keywords))?;
        if init(made.as_ptr(), args, keywords) != 0 {
            return Err(Raised);
        }
        Ok(made.into_ptr())
    }
}

/// Whether asyncio's module still has the class that it had at set-up: nest_asyncio, for one, puts its Python twin there.
///
/// # Safety
/// Attached.
#[inline(always)]
unsafe fn is_current(module: &Import, name: &Import, class: &Import) -> bool {
    // SAFETY: a dict and an interned str, kept for good; the result is borrowed and only compared.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(module.get(), name.get());
        if found.is_null() {
            // Missing, or a foreign key of the dict's has raised.
            ffi::PyErr_Clear();
        }
        found == class.get()
    }
}

unsafe extern "C" fn create_future(slf: Obj, _: Obj) -> Obj {
    // SAFETY: the interpreter's calling convention; the method descriptor has checked the type of `slf`.
    entry("create_future", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let result = core.loop_keyword(slf).and_then(|keywords| {
            let empty = Owned::from_new(ffi::PyTuple_New(0))?;
            if !is_current(&FUTURES, &FUTURE_NAME, &FUTURE) {
                let create = c"create_future";
                return core.call_cold(create, &[slf]).map(Owned::into_ptr);
            }
            instantiate(FUTURE.get(), empty.as_ptr(), keywords.as_ptr())
        });
        result.unwrap_or(null_mut())
    })
}

/// A new future of a loop, as its `create_future()` gives it.
///
/// # Safety
/// Attached, outside every `LoopCell`; `owner` is a PyLoop.
pub(crate) unsafe fn future_of(owner: Obj) -> Raises<Owned> {
    // SAFETY: the caller's promise; instances of PyLoop itself have our own method.
    unsafe {
        if ffi::Py_TYPE(owner).cast() != PYLOOP.get() {
            return method(owner, &names::CREATE_FUTURE, []);
        }
        Owned::from_new(create_future(owner, null_mut()))
    }
}

unsafe extern "C" fn create_task(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: as `create_future`; keyword values follow the positional ones.
    entry("create_task", || unsafe {
        let core = LoopCore::from_ptr(slf);
        let plain = !core.has(mode::CLOSED | mode::DEBUG | mode::STOCK)
            && count == 1
            && core.kept.with(|k| k.task_factory.is_null())
            && is_current(&TASKS, &TASK_NAME, &TASK);
        if !plain || !known_keywords(keywords) {
            return core.create_task_long(slf, args, count, keywords).unwrap_or(null_mut());
        }
        core.create_plain_task(slf, args, keywords).unwrap_or(null_mut())
    })
}

unsafe extern "C" fn get_debug(slf: Obj, _: Obj) -> Obj {
    // SAFETY: as `create_future`.
    unsafe { ffi::PyBool_FromLong(LoopCore::from_ptr(slf).is_debug().into()) }
}

unsafe extern "C" fn time(_: Obj, _: Obj) -> Obj {
    // SAFETY: as `create_future`.
    unsafe { ffi::PyFloat_FromDouble(clock::seconds()) }
}

/// Whether the keywords are none but `name` and `context`.
unsafe fn known_keywords(keywords: Obj) -> bool {
    // SAFETY: null or a tuple of str, alive.
    unsafe {
        keywords.is_null()
            || (0..ffi::PyTuple_GET_SIZE(keywords)).all(|i| {
                let name = ffi::PyTuple_GET_ITEM(keywords, i);
                NAME.is(name) || is_context(name)
            })
    }
}

impl LoopCore {
    /// `{"loop": self}`: kept from `_open` to `close`, and made anew for a future of a closed loop, which asyncio allows.
    #[inline(always)]
    fn loop_keyword(&self, slf: Obj) -> Raises<Owned> {
        let keywords = self.kept.with(|k| k.loop_keyword);
        // SAFETY: attached; owned by the loop, and ours keeps it over the call.
        unsafe {
            if !keywords.is_null() {
                return Owned::from_new(new_ref(keywords));
            }
            let made = Owned::from_new(ffi::PyDict_New())?;
            if ffi::PyDict_SetItemString(made.as_ptr(), c"loop".as_ptr(), slf) != 0 {
                return Err(Raised);
            }
            Ok(made)
        }
    }

    #[inline(always)]
    unsafe fn create_plain_task(&self, slf: Obj, args: *const Obj, keywords: Obj) -> Raises<Obj> {
        // SAFETY: `create_task` has checked the arguments; the tuple gets a reference of its own.
        unsafe {
            let shared = self.loop_keyword(slf)?;
            let positional = Owned::from_new(ffi::PyTuple_New(1))?;
            ffi::PyTuple_SET_ITEM(positional.as_ptr(), 0, new_ref(*args));
            // `name=None`, as `asyncio.create_task` passes it, and `context=None` say what leaving them out says.
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) };
            if (1..=named).all(|i| *args.offset(i) == ffi::Py_None()) {
                return instantiate(TASK.get(), positional.as_ptr(), shared.as_ptr());
            }
            let own = Owned::from_new(ffi::PyDict_Copy(shared.as_ptr()))?;
            for i in 0..named {
                let name = ffi::PyTuple_GET_ITEM(keywords, i);
                if ffi::PyDict_SetItem(own.as_ptr(), name, *args.offset(1 + i)) != 0 {
                    return Err(Raised);
                }
            }
            instantiate(TASK.get(), positional.as_ptr(), own.as_ptr())
        }
    }

    #[cold]
    unsafe fn create_task_long(
        &self,
        slf: Obj,
        args: *const Obj,
        count: isize,
        keywords: Obj,
    ) -> Raises<Obj> {
        // SAFETY: the arguments of a living call, with the loop put before them.
        unsafe {
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) };
            let mut stack = vec![slf];
            stack.extend((0..count + named).map(|i| *args.offset(i)));
            let function = Owned::from_new(ffi::PyObject_GetAttrString(
                crate::py::imports::COLD.get(),
                c"create_task".as_ptr(),
            ))?;
            checked(ffi::PyObject_Vectorcall(
                function.as_ptr(),
                stack.as_ptr(),
                count as usize + 1,
                keywords,
            ))
        }
    }
}

/// The raw methods of the class.
pub fn methods() -> [ffi::PyMethodDef; 4] {
    [
        ffi::PyMethodDef {
            ml_name: c"create_future".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: create_future },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"create_future($self, /)\n--\n\n\
A new asyncio.Future of this loop. Source: asyncio.BaseEventLoop.create_future."
                .as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"create_task".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: create_task },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\n\
Schedule a coroutine as an asyncio.Task, or as what the task factory makes of it.\n\n\
Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.create_task."
                .as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"time".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: time },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"time($self, /)\n--\n\n\
The loop's clock, in seconds: that of time.monotonic().\n\n\
Source: asyncio.BaseEventLoop.time. Safe from any thread."
                .as_ptr(),
        },
        ffi::PyMethodDef {
            ml_name: c"get_debug".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: get_debug },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: c"get_debug($self, /)\n--\n\nWhether the loop is in debug mode.".as_ptr(),
        },
    ]
}
