//! What the crate needs from asyncio, looked up once when the module is set up.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;

use super::object::Obj;

/// One object of asyncio's, kept for the life of the process.
pub struct Import(AtomicPtr<ffi::PyObject>);

impl Import {
    const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The object, borrowed; null before the set-up.
    #[inline(always)]
    pub fn get(&self) -> Obj {
        self.0.load(Ordering::Relaxed)
    }

    /// Stores a reference for good.
    pub fn set(&self, owned: Obj) {
        self.0.store(owned, Ordering::Relaxed);
    }
}

/// `asyncio.events.Handle`, which a native handle gives as its `__class__`.
pub static ASYNCIO_HANDLE: Import = Import::new();
/// `asyncio.events.TimerHandle`.
pub static ASYNCIO_TIMER_HANDLE: Import = Import::new();
/// `asyncio.Future` as it was at set-up.
pub static FUTURE: Import = Import::new();
/// `asyncio.Task` as it was at set-up.
pub static TASK: Import = Import::new();
/// The dictionary of `asyncio.futures`, where `Future` may be replaced.
pub static FUTURES: Import = Import::new();
/// The dictionary of `asyncio.tasks`, where `Task` may be replaced.
pub static TASKS: Import = Import::new();
/// The interned name "Future".
pub static FUTURE_NAME: Import = Import::new();
/// The interned name "context".
pub static CONTEXT_NAME: Import = Import::new();
/// The interned name "Task".
pub static TASK_NAME: Import = Import::new();
/// `data_bridge.pyloop._loop.PyLoop` itself: exact instances take the short ways.
pub static PYLOOP: Import = Import::new();
/// The cold half of the loop: functions of `data_bridge.pyloop._cold`.
pub static COLD: Import = Import::new();
/// The type of the callable by which asyncio's C Task asks for its next step.
pub static TASK_STEP_TYPE: Import = Import::new();

/// The C function behind the callable by which a future wakes asyncio's C Task.
static TASK_WAKEUP: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// The C function of a C function object. (pyo3-ffi's own macro takes bound methods of types only.)
///
/// # Safety
/// `PyCFunction_CheckExact` holds for `callable`, which is alive.
#[inline(always)]
unsafe fn function_of(callable: Obj) -> *mut c_void {
    // SAFETY: the caller's promise; every C function object has a definition.
    unsafe { (*(*callable.cast::<ffi::PyCFunctionObject>()).m_ml).ml_meth.as_ptr() }
}

/// Learns the wake-up callable from a specimen.
///
/// # Safety
/// Attached; `specimen` is alive.
pub unsafe fn learn_wakeup(specimen: Obj) {
    // SAFETY: the check makes it a C function object.
    unsafe {
        if ffi::PyCFunction_CheckExact(specimen) != 0 {
            let function = function_of(specimen);
            TASK_WAKEUP.store(function, Ordering::Relaxed);
        }
    }
}

/// Whether `callable` is what wakes a C Task when its future is done.
///
/// # Safety
/// Attached; `callable` is alive.
#[inline(always)]
pub unsafe fn is_task_wakeup(callable: Obj) -> bool {
    // SAFETY: the check makes it a C function object. A function pointer that was never learnt is null and equals none.
    unsafe {
        ffi::PyCFunction_CheckExact(callable) != 0
            && function_of(callable) == TASK_WAKEUP.load(Ordering::Relaxed)
    }
}

/// Whether `callable` is what asks for a C Task's next step.
///
/// # Safety
/// Attached; `callable` is alive.
#[inline(always)]
pub unsafe fn is_task_step(callable: Obj) -> bool {
    // SAFETY: reads the type of a living object.
    unsafe { ffi::Py_TYPE(callable).cast() == TASK_STEP_TYPE.get() }
}
