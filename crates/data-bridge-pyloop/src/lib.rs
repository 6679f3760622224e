//! PyLoop: an asyncio event loop written in Rust. This file is the map of the crate and the Python module's definition.
//!
//! - [`loop_impl`]: the loop object; [`iteration`]: running it; [`schedule`]: `call_soon` and its kin; [`watch`]: descriptors;
//!   [`task`]: futures and tasks; [`modes`]: what happens when somebody replaces a part of it
//! - [`handle`], [`handle_type`]: Handle and TimerHandle, to us and to the interpreter; [`arguments`]: of the raw methods;
//!   [`ready_queue`]: what is ready, and what other threads send;
//!   [`garbage`]: what the collector sees of it; [`shutdown`]: loops in other threads when the interpreter ends
//! - plain Rust, without Python: [`timer_queue`], [`reactor`], [`waker`], [`clock`], [`fork`], [`sys`]
//! - [`sock`]: the `sock_*` calls
//! - [`py`]: the edge to Python

#![warn(missing_docs)]

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("PyLoop runs on Linux (epoll) and macOS (kqueue) only");

pub mod address;
pub mod arguments;
pub mod clock;
pub mod fork;
pub mod garbage;
pub mod handle;
pub mod handle_type;
pub mod iteration;
pub mod loop_impl;
pub mod modes;
pub mod py;
pub mod reactor;
pub mod ready_queue;
pub mod schedule;
pub mod shutdown;
pub mod sock;
pub mod sys;
pub mod task;
pub mod timer_queue;
pub mod transport;
pub mod waker;
pub mod watch;
pub mod watcher;

use pyo3::prelude::*;

/// The native half of `data_bridge.pyloop`.
#[pymodule(gil_used = true)]
mod _native {
    use std::sync::atomic::Ordering;

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::{PyString, PyTuple};

    use crate::py::errors::fetch;
    use crate::py::imports;
    use crate::transport::{datagram, types};

    #[pymodule_export]
    use crate::garbage::_before_collection;
    #[pymodule_export]
    use crate::loop_impl::LoopCore;
    #[pymodule_export]
    use crate::shutdown::_at_exit;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::py::names::intern_all(m.py());
        // SAFETY: attached, and the module is made once in a process.
        fetch(m.py(), unsafe { crate::handle_type::add_types(m.as_ptr()) })?;
        // SAFETY: as above.
        fetch(m.py(), unsafe { crate::sock::call_type::add_type(m.as_ptr()) })?;
        crate::put_raw_methods(m.py().get_type::<LoopCore>().as_any())
    }

    /// Take what the native half needs from asyncio: called once by `_cold`, before the first loop.
    #[pyfunction]
    #[pyo3(signature = (*, cold, handle, timer_handle, futures, tasks, task_step, task_wakeup))]
    fn _set_up(
        cold: Bound<'_, PyAny>,
        handle: Bound<'_, PyAny>,
        timer_handle: Bound<'_, PyAny>,
        futures: &Bound<'_, PyAny>,
        tasks: &Bound<'_, PyAny>,
        task_step: Option<Bound<'_, PyAny>>,
        task_wakeup: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // Here and not in `init`: a subinterpreter that comes second gets the module from PyO3's own cache.
        // SAFETY: attached: both only return pointers.
        if unsafe { ffi::PyInterpreterState_Get() != ffi::PyInterpreterState_Main() } {
            return Err(PyImportError::new_err(
                "its types and cached objects belong to the main interpreter, and this is a subinterpreter",
            ));
        }
        imports::COLD.set(cold.into_ptr());
        imports::ASYNCIO_HANDLE.set(handle.into_ptr());
        imports::ASYNCIO_TIMER_HANDLE.set(timer_handle.into_ptr());
        imports::FUTURE.set(futures.getattr("Future")?.into_ptr());
        imports::TASK.set(tasks.getattr("Task")?.into_ptr());
        imports::FUTURES.set(futures.getattr("__dict__")?.into_ptr());
        imports::TASKS.set(tasks.getattr("__dict__")?.into_ptr());
        let names = [
            (&imports::FUTURE_NAME, "Future"),
            (&imports::TASK_NAME, "Task"),
            (&imports::CONTEXT_NAME, "context"),
        ];
        for (import, name) in names {
            import.set(PyString::intern(tasks.py(), name).into_any().into_ptr());
        }
        if let (Some(step), Some(wakeup)) = (task_step, task_wakeup) {
            imports::TASK_STEP_TYPE.set(step.get_type().into_any().into_ptr());
            // SAFETY: attached; the specimen is alive.
            unsafe { imports::learn_wakeup(wakeup.as_ptr()) };
        }
        Ok(())
    }

    /// Make the transport types over asyncio's own classes: called once by `_transports`, before the first loop.
    #[pyfunction]
    #[pyo3(pass_module)]
    fn _set_up_transports(
        m: &Bound<'_, PyModule>,
        cold: Bound<'_, PyAny>,
        bases: [Bound<'_, PyTuple>; 4],
        datagram_header: usize,
        buffered_protocol: Bound<'_, PyAny>,
        server_takes_transport: bool,
    ) -> PyResult<()> {
        let py = m.py();
        imports::COLD_TRANSPORTS.set(cold.into_ptr());
        imports::BUFFERED_PROTOCOL.set(buffered_protocol.into_ptr());
        imports::MINUS_ONE.set((-1_i32).into_pyobject(py)?.into_any().into_ptr());
        imports::set_server_takes_transport(server_takes_transport);
        datagram::HEADER.store(datagram_header, Ordering::Relaxed);
        let kinds: [(_, _, unsafe fn(_) -> _); 4] = [
            ("SocketTransport", &imports::SOCKET_TRANSPORT, types::socket_transport),
            ("DatagramTransport", &imports::DATAGRAM_TRANSPORT, types::datagram_transport),
            ("ReadPipeTransport", &imports::READ_PIPE_TRANSPORT, types::read_pipe_transport),
            ("WritePipeTransport", &imports::WRITE_PIPE_TRANSPORT, types::write_pipe_transport),
        ];
        for ((name, import, make), bases) in kinds.into_iter().zip(bases) {
            // SAFETY: attached; a tuple of classes.
            let made = fetch(py, unsafe { make(bases.as_ptr()) })?;
            // SAFETY: a reference that is ours; the import keeps it for good.
            let class = unsafe { Bound::from_borrowed_ptr(py, made) };
            import.set(made);
            m.add(name, class)?;
        }
        Ok(())
    }

    /// Take what the `sock_*` calls need of the standard library: called once by `_sockets`, before the first loop.
    #[pyfunction]
    fn _set_up_sockets(
        cold: Bound<'_, PyAny>,
        socket: Bound<'_, PyAny>,
        invalid_state: Bound<'_, PyAny>,
        fileno: Bound<'_, PyAny>,
    ) {
        // SAFETY: attached; the specimen is alive.
        unsafe { imports::learn_fileno(fileno.as_ptr()) };
        imports::COLD_SOCKETS.set(cold.into_ptr());
        imports::SOCKET.set(socket.into_ptr());
        imports::INVALID_STATE.set(invalid_state.into_ptr());
    }

    /// Put the raw methods on the class PyLoop itself, where the interpreter's specialised calls find them.
    #[pyfunction]
    fn _adopt(class: &Bound<'_, PyAny>) -> PyResult<()> {
        crate::put_raw_methods(class)?;
        imports::PYLOOP.set(class.clone().into_ptr());
        Ok(())
    }

    /// Told by `os.register_at_fork` in a new child.
    #[pyfunction]
    fn _after_fork() {
        crate::fork::forked();
    }

    /// How many native handles are alive; for tests.
    #[pyfunction]
    fn _live_handles() -> usize {
        crate::handle::alive()
    }
}

fn put_raw_methods(class: &Bound<'_, PyAny>) -> PyResult<()> {
    // Descriptors point at their table for the life of the process.
    let schedule = Box::leak(Box::new(schedule::methods()));
    let task = Box::leak(Box::new(task::methods()));
    let sock = sock::methods::methods().leak();
    // SAFETY: attached; LoopCore or its subclass PyLoop.
    let put = unsafe {
        schedule::put_methods(class.as_ptr(), schedule)
            .and_then(|()| schedule::put_methods(class.as_ptr(), task))
            .and_then(|()| schedule::put_methods(class.as_ptr(), sock))
    };
    py::errors::fetch(class.py(), put)
}
