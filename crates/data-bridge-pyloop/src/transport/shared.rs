//! What the transports of one loop share: who writes at the end of the iteration, and whose a descriptor is.

use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;

use super::base::{has, is_transport, set, state, Base};
use crate::loop_impl::LoopCore;
use crate::py::errors::{fetch, restore};
use crate::py::object::{new_ref, Obj, Owned, Raised, Raises};
use crate::reactor::WRITE;

/// The shared state of one loop.
#[derive(Default)]
pub struct Shared {
    /// Transports with something to send at the end of the iteration; owned.
    unsent: Vec<Obj>,
    /// The transport of each descriptor, borrowed: a transport takes itself out before it closes its descriptor.
    by_descriptor: Vec<Obj>,
}

impl Shared {
    /// Transports with something to send, borrowed.
    pub fn unsent(&self) -> &[Obj] {
        &self.unsent
    }

    /// Takes them out.
    pub fn take_unsent(&mut self) -> Vec<Obj> {
        std::mem::take(&mut self.unsent)
    }
}

/// Sends what one transport has gathered; what its protocol raises meanwhile is reported like any callback's.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds the transport.
unsafe fn write_one(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).owner.is_null() || has(t, state::GONE) {
            set(t, state::LISTED, false);
            return Ok(());
        }
        let owner = Owned::from_new(new_ref((*t).owner))?;
        let sent = ((*t).kind.flush)(t);
        set(t, state::LISTED, false);
        let ended = match sent {
            Ok(()) if !(*t).owner.is_null() => super::writing::end_if_drained(t),
            other => other,
        };
        if ended.is_ok() {
            return Ok(());
        }
        LoopCore::from_ptr(owner.as_ptr())
            .report(owner.as_ptr(), |_| crate::watcher::handle(owner.as_ptr(), t.cast(), WRITE))
    }
}

impl LoopCore {
    /// Whether a write may wait for the end of the iteration.
    #[inline(always)]
    pub(crate) fn gathering(&self) -> bool {
        self.gathering.load(Ordering::Relaxed)
    }

    /// Has a transport write at the end of the iteration.
    #[inline]
    pub(crate) fn write_later(&self, transport: Obj) {
        // SAFETY: attached; the caller holds the transport.
        let own = unsafe { new_ref(transport) };
        self.transports.with(|shared| shared.unsent.push(own));
    }

    /// Sends what was written in this iteration. An exception that leaves is that of the first failure.
    #[inline(always)]
    pub(crate) fn write_now(&self) -> Raises<()> {
        self.gathering.store(false, Ordering::Relaxed);
        if self.transports.with(|shared| shared.unsent.is_empty()) {
            return Ok(());
        }
        self.write_all()
    }

    fn write_all(&self) -> Raises<()> {
        let mut first = None;
        let mut unsent = self.transports.with(Shared::take_unsent);
        for o in unsent.drain(..) {
            // SAFETY: attached, outside every cell; the list's reference is ours now.
            unsafe {
                let t: *mut Base = o.cast();
                if let Err(Raised) = write_one(t) {
                    // The others must not see it.
                    first.get_or_insert(PyErr::fetch(Python::assume_attached()));
                }
                ffi::Py_DECREF(o);
            }
        }
        // The list's memory serves the next iteration.
        self.transports.with(|shared| {
            if shared.unsent.is_empty() && unsent.capacity() <= 1 << 12 {
                shared.unsent = unsent;
            }
        });
        match first {
            // SAFETY: every caller is attached.
            Some(error) => restore(unsafe { Python::assume_attached() }, Err(error)),
            None => Ok(()),
        }
    }

    /// Notes whose descriptor this is.
    pub(crate) fn enter_transport(&self, fd: RawFd, transport: Obj) {
        let index = fd as usize;
        self.transports.with(|shared| {
            if index >= shared.by_descriptor.len() {
                shared.by_descriptor.resize(index + 1, null_mut());
            }
            shared.by_descriptor[index] = transport;
        });
    }

    /// Whether a transport has this descriptor, open or closing.
    #[inline]
    pub(crate) fn has_transport(&self, fd: RawFd) -> bool {
        let Ok(index) = usize::try_from(fd) else { return false };
        self.transports.with(|shared| shared.by_descriptor.get(index).is_some_and(|t| !t.is_null()))
    }

    /// Strikes a transport off.
    pub(crate) fn leave_transport(&self, fd: RawFd, transport: Obj) {
        self.transports.with(|shared| {
            let slot = shared.by_descriptor.get_mut(fd as usize);
            if let Some(slot) = slot.filter(|slot| **slot == transport) {
                *slot = null_mut();
            }
        });
    }
}

#[pymethods]
impl LoopCore {
    /// The transport that has this descriptor, or None.
    fn _transport_of(slf: &Bound<'_, Self>, fd: RawFd) -> Option<Py<PyAny>> {
        let index = usize::try_from(fd).ok()?;
        let found = slf.get().transports.with(|shared| shared.by_descriptor.get(index).copied());
        let found = found.filter(|found| !found.is_null())?;
        // SAFETY: on the list, hence alive; the caller gets a reference of its own.
        Some(unsafe { Bound::from_owned_ptr(slf.py(), new_ref(found)) }.unbind())
    }

    /// All transports, by descriptor.
    fn _transport_list(slf: &Bound<'_, Self>) -> Vec<(RawFd, Py<PyAny>)> {
        let found: Vec<(usize, Obj)> = slf.get().transports.with(|shared| {
            let all = shared.by_descriptor.iter().copied().enumerate();
            // SAFETY: as above.
            all.filter(|(_, t)| !t.is_null()).map(|(fd, t)| (fd, unsafe { new_ref(t) })).collect()
        });
        let own = |(fd, t)| {
            // SAFETY: the reference made just above.
            (fd as RawFd, unsafe { Bound::from_owned_ptr(slf.py(), t) }.unbind())
        };
        found.into_iter().map(own).collect()
    }

    /// Let others use a transport's descriptor for a while.
    fn _lend_descriptor(&self, fd: RawFd, transport: &Bound<'_, PyAny>) {
        self.leave_transport(fd, transport.as_ptr());
    }

    /// The descriptor is the transport's own again, unless it was closed meanwhile.
    fn _return_descriptor(&self, fd: RawFd, transport: &Bound<'_, PyAny>) {
        let o = transport.as_ptr();
        // SAFETY: held by the caller.
        unsafe {
            if is_transport(o) && !has(o.cast(), state::GONE) {
                self.enter_transport(fd, o);
            }
        }
    }

    /// Send what was written in this iteration now: before a fork, or before something else writes to the same descriptor.
    fn _write_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        let gathering = core.gathering();
        let result = core.write_now();
        core.gathering.store(gathering, Ordering::Relaxed);
        fetch(slf.py(), result)
    }

    /// A transport over a non-blocking stream socket; *extra* is its complete extra information.
    fn _new_socket_transport(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        protocol: &Bound<'_, PyAny>,
        waiter: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyAny>,
        server: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: attached; all are alive for the call.
        let made = unsafe {
            super::stream::for_socket(
                slf.as_ptr(),
                sock.as_ptr(),
                fd,
                protocol.as_ptr(),
                waiter.as_ptr(),
                extra.as_ptr(),
                server.as_ptr(),
            )
            .and_then(|made| Owned::from_new(made))
        };
        let made = fetch(slf.py(), made)?;
        // SAFETY: a reference that is ours.
        Ok(unsafe { Bound::from_owned_ptr(slf.py(), made.into_ptr()) }.unbind())
    }
}
