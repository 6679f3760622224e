//! Accepting: many connections for one wake-up, each with a native transport.
//!
//! As `BaseSelectorEventLoop._accept_connection`, without a task for each connection. TLS and unusual address families are
//! asyncio's own code.

use std::os::fd::{OwnedFd, RawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use super::stream;
use crate::address::Address;
use crate::loop_impl::{mode, LoopCore};
use crate::py::call::{in_context, leaves_the_loop, take_exception};
use crate::py::errors::{fetch, raise_os};
use crate::py::imports::call_cold;
use crate::py::object::{new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::READ;
use crate::sys;
use crate::watch::release_watcher;

/// Most connections accepted before others get their turn, whatever the backlog is.
const MOST: i64 = 256;

/// A listening socket and what becomes of its connections.
#[pyclass(frozen, module = "data_bridge.pyloop._native")]
pub struct Listener {
    #[pyo3(get, name = "_loop")]
    owner: Py<PyAny>,
    #[pyo3(get, name = "_protocol_factory")]
    factory: Py<PyAny>,
    #[pyo3(get, name = "_sock")]
    socket: Py<PyAny>,
    #[pyo3(get, name = "_server")]
    server: Py<PyAny>,
    #[pyo3(get, name = "_backlog")]
    backlog: i64,
    context: Py<PyAny>,
    fd: RawFd,
    family: i32,
    proto: i32,
}

static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());

impl Listener {
    /// Whether `o` is a listener.
    ///
    /// # Safety
    /// `o` is alive.
    #[inline(always)]
    pub unsafe fn is(o: Obj) -> bool {
        // SAFETY: reads the type of a living object; the class is final.
        unsafe { ffi::Py_TYPE(o) == CLASS.load(Ordering::Relaxed) }
    }

    /// The listener `o`.
    unsafe fn from_ptr<'a>(o: Obj) -> &'a Self {
        // SAFETY: the callers hold a listener; a frozen class has no borrow flag, its contents never move.
        unsafe {
            let py = Python::assume_attached();
            let borrowed = Borrowed::<PyAny>::from_ptr(py, o);
            let listener: *const Self = borrowed.cast_unchecked::<Self>().get();
            &*listener
        }
    }

    /// The context in which it accepts, borrowed.
    ///
    /// # Safety
    /// `o` is a living listener.
    pub unsafe fn context(o: Obj) -> Obj {
        // SAFETY: the caller's promise.
        unsafe { Self::from_ptr(o).context.as_ptr() }
    }

    /// Turns one connection into a transport.
    unsafe fn serve(&self, connection: OwnedFd, peer: Address) -> Raises<()> {
        // SAFETY: attached, outside every cell, in a context of the connection's own; the listener is held by the caller.
        unsafe {
            let owner = self.owner.as_ptr();
            let core = LoopCore::from_ptr(owner);
            let none = ffi::Py_None();
            let protocol = match Owned::from_new(ffi::PyObject_CallNoArgs(self.factory.as_ptr())) {
                Ok(protocol) => protocol,
                Err(Raised) => return failed(owner, none),
            };
            if core.has(mode::CLOSED) {
                return Ok(());
            }
            // Somebody closed a descriptor under its transport, and the kernel has given its number to this connection.
            if core.ensure_no_transport(owner, sys::raw(&connection)).is_err() {
                return failed(owner, protocol.as_ptr());
            }
            let made = stream::for_accepted(
                owner,
                connection,
                self.proto,
                peer,
                protocol.as_ptr(),
                self.server.as_ptr(),
            );
            let Ok(made) = made else {
                return failed(owner, protocol.as_ptr());
            };
            if core.is_debug() {
                call_cold(c"log_accepted", &[self.server.as_ptr(), made.as_ptr()])?;
            }
        }
        Ok(())
    }
}

/// A connection that came to nothing: reported in debug mode, as asyncio does.
#[cold]
unsafe fn failed(owner: Obj, protocol: Obj) -> Raises<()> {
    // SAFETY: attached, with an exception set.
    unsafe {
        if leaves_the_loop() {
            return Err(Raised);
        }
        let exception = take_exception()?;
        call_cold(c"accept_failed", &[owner, exception.as_ptr(), protocol]).map(drop)
    }
}

/// The listening socket is readable: accepts what is there.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds `o`, a listener.
pub unsafe fn ready(o: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let listener = Listener::from_ptr(o);
        let core = LoopCore::from_ptr(listener.owner.as_ptr());
        for _ in 0..listener.backlog.clamp(1, MOST) {
            // A factory may have closed the server.
            let watcher = core.reactor.with(|r| r.as_ref().and_then(|r| r.get(listener.fd)));
            if watcher.is_none_or(|[reader, _]| reader != Some(o)) {
                return Ok(());
            }
            match sys::accept(listener.fd) {
                Ok((connection, peer)) => {
                    let peer = Address::new(listener.family, peer.as_ref());
                    let context = Owned::from_new(ffi::PyContext_Copy(listener.context.as_ptr()))?;
                    in_context(context.as_ptr(), || listener.serve(connection, peer))?;
                }
                Err(error) => return refused(listener, o, &error),
            }
        }
    }
    Ok(())
}

#[cold]
unsafe fn refused(listener: &Listener, o: Obj, error: &std::io::Error) -> Raises<()> {
    const NONE: [i32; 3] = [libc::EAGAIN, libc::EINTR, libc::ECONNABORTED];
    const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    let errno = error.raw_os_error().unwrap_or(0);
    if NONE.contains(&errno) {
        return Ok(());
    }
    // SAFETY: attached; the listener is held by the caller of `ready`.
    unsafe {
        raise_os(Python::assume_attached(), error);
        if !EXHAUSTED.contains(&errno) {
            return Err(Raised);
        }
        // The kernel would go on reporting the connection that cannot be taken.
        let exception = take_exception()?;
        let core = LoopCore::from_ptr(listener.owner.as_ptr());
        // A factory may have forked.
        core.check_fork(Python::assume_attached())?;
        core.unwatch(listener.fd, READ);
        call_cold(c"accept_exhausted", &[o, exception.as_ptr()]).map(drop)
    }
}

#[pymethods]
impl Listener {
    /// Accept what is there.
    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        // SAFETY: attached, and the caller holds the object.
        fetch(slf.py(), unsafe { ready(slf.as_ptr()) })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for held in [&self.owner, &self.factory, &self.socket, &self.server, &self.context] {
            visit.call(held)?;
        }
        Ok(())
    }
}

#[pymethods]
impl LoopCore {
    /// Accept connections of a listening socket, each with a protocol of the factory's.
    fn _listen(
        slf: &Bound<'_, Self>,
        protocol_factory: Py<PyAny>,
        sock: Py<PyAny>,
        server: Py<PyAny>,
        backlog: i64,
        numbers: (RawFd, i32, i32),
    ) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        fetch(py, core.check_fork(py))?;
        let (fd, family, proto) = numbers;
        // SAFETY: attached; a new reference or an exception.
        let context = fetch(py, unsafe { Owned::from_new(ffi::PyContext_CopyCurrent()) })?;
        // SAFETY: a reference that is ours.
        let context = unsafe { Bound::from_owned_ptr(py, context.into_ptr()) }.unbind();
        let owner = slf.clone().into_any().unbind();
        let listener = Listener {
            owner,
            factory: protocol_factory,
            socket: sock,
            server,
            backlog,
            context,
            fd,
            family,
            proto,
        };
        let listener = Py::new(py, listener)?;
        CLASS.store(Listener::type_object_raw(py), Ordering::Relaxed);
        // SAFETY: alive; the reactor gets a reference of its own.
        let own = unsafe { new_ref(listener.as_ptr()) };
        let set = core.reactor.with(|r| r.as_mut().map(|r| r.set(fd, READ, own)));
        let error = match set {
            Some(Ok(old)) => {
                // SAFETY: the reactor's reference, now ours.
                unsafe { release_watcher(old) };
                return Ok(());
            }
            Some(Err(error)) => raise_os(py, &error),
            // SAFETY: attached.
            None => unsafe { raise(ffi::PyExc_RuntimeError, "Event loop is closed") },
        };
        // SAFETY: the reference that the reactor did not take.
        unsafe { ffi::Py_DECREF(own) };
        fetch(py, Err(error))
    }
}
