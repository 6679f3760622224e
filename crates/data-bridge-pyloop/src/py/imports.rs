//! What the crate needs from asyncio, looked up once when the module is set up.

use std::ffi::{c_void, CStr};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::ffi;

use super::object::{Obj, Owned, Raises};

/// One object of asyncio's, kept for the life of the process.
pub struct Import(AtomicPtr<ffi::PyObject>);

impl Import {
    pub(crate) const fn new() -> Self {
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

/// The cold half of the transports: functions of `data_bridge.pyloop._transports`.
pub static COLD_TRANSPORTS: Import = Import::new();
/// `asyncio.BufferedProtocol`.
pub static BUFFERED_PROTOCOL: Import = Import::new();
/// Our own `SocketTransport`.
pub static SOCKET_TRANSPORT: Import = Import::new();
/// Our own `DatagramTransport`.
pub static DATAGRAM_TRANSPORT: Import = Import::new();
/// Our own `ReadPipeTransport`.
pub static READ_PIPE_TRANSPORT: Import = Import::new();
/// Our own `WritePipeTransport`.
pub static WRITE_PIPE_TRANSPORT: Import = Import::new();
/// The number -1, the size hint that asyncio gives to `get_buffer()`.
pub static MINUS_ONE: Import = Import::new();

/// The cold half of the `sock_*` calls: functions of `data_bridge.pyloop._sockets`.
pub static COLD_SOCKETS: Import = Import::new();
/// `socket.socket`.
pub static SOCKET: Import = Import::new();
/// `asyncio.InvalidStateError`.
pub static INVALID_STATE: Import = Import::new();

/// Whether `asyncio.Server._attach` takes the transport (3.13 and later).
static SERVER_TAKES_TRANSPORT: AtomicBool = AtomicBool::new(false);

/// Whether `asyncio.Server._attach` and `_detach` take the transport.
pub fn server_takes_transport() -> bool {
    SERVER_TAKES_TRANSPORT.load(Ordering::Relaxed)
}

/// Remembers the answer to [`server_takes_transport`].
pub fn set_server_takes_transport(takes: bool) {
    SERVER_TAKES_TRANSPORT.store(takes, Ordering::Relaxed);
}

/// A function of `_transports.py`.
///
/// # Safety
/// Attached, outside every `LoopCell`.
pub unsafe fn cold_function(name: &CStr) -> Raises<Owned> {
    // SAFETY: the caller's promise; the module lives for good.
    unsafe { Owned::from_new(ffi::PyObject_GetAttrString(COLD_TRANSPORTS.get(), name.as_ptr())) }
}

/// Calls a function of `_transports.py`; for what happens rarely.
///
/// # Safety
/// As [`cold_function`]; the arguments are alive.
pub unsafe fn call_cold(name: &CStr, args: &[Obj]) -> Raises<Owned> {
    // SAFETY: the caller's promise.
    unsafe {
        let function = cold_function(name)?;
        Owned::from_new(ffi::PyObject_Vectorcall(
            function.as_ptr(),
            args.as_ptr(),
            args.len(),
            null_mut(),
        ))
    }
}

/// The C function behind `socket.socket.fileno`.
static SOCKET_FILENO: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Learns that function from a bound method.
///
/// # Safety
/// Attached; `specimen` is alive.
pub unsafe fn learn_fileno(specimen: Obj) {
    // SAFETY: the check makes it a C function object.
    unsafe {
        let flags = ffi::METH_NOARGS;
        if ffi::PyCFunction_CheckExact(specimen) != 0
            && ffi::PyCFunction_GetFlags(specimen) == flags
        {
            SOCKET_FILENO.store(function_of(specimen), Ordering::Relaxed);
        }
    }
}

/// The C function behind `socket.socket.fileno`, if there is one.
#[inline(always)]
pub fn socket_fileno() -> Option<ffi::PyCFunction> {
    let function = SOCKET_FILENO.load(Ordering::Relaxed);
    // SAFETY: learnt from a method that takes no argument, whose C function has this type.
    (!function.is_null())
        .then(|| unsafe { std::mem::transmute::<*mut c_void, ffi::PyCFunction>(function) })
}

/// A function of `_sockets.py`.
///
/// # Safety
/// Attached, outside every `LoopCell`.
pub unsafe fn cold_socket_function(name: &CStr) -> Raises<Owned> {
    // SAFETY: the caller's promise; the module lives for good.
    unsafe { Owned::from_new(ffi::PyObject_GetAttrString(COLD_SOCKETS.get(), name.as_ptr())) }
}

/// Calls a function of `_sockets.py`.
///
/// # Safety
/// As [`cold_socket_function`]; the arguments are alive.
pub unsafe fn call_cold_socket(name: &CStr, args: &[Obj]) -> Raises<Owned> {
    // SAFETY: the caller's promise.
    unsafe {
        let function = cold_socket_function(name)?;
        Owned::from_new(ffi::PyObject_Vectorcall(
            function.as_ptr(),
            args.as_ptr(),
            args.len(),
            null_mut(),
        ))
    }
}

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
