//! Native objects that watch a descriptor without a handle: transports and listeners.
//!
//! The reactor and the ready queue hold the object itself. Wherever Python looks (debug mode, asyncio's own iteration, a report of an
//! exception) it is shown as a handle of its `_read_ready` or `_write_ready` method.

use std::ptr::null_mut;

use pyo3::ffi;

use crate::handle::new_handle;
use crate::loop_impl::LoopCore;
use crate::py::call::{attribute, in_context};
use crate::py::names;
use crate::py::object::{checked, new_ref, Obj, Raises};
use crate::reactor::{directions, READ, WRITE};
use crate::sock::watch::SockWatch;
use crate::transport::base::{self, Base};
use crate::transport::listener::{self, Listener};

/// Whether `o` is a transport or a listener.
///
/// # Safety
/// `o` is alive.
#[inline(always)]
pub unsafe fn is_watcher(o: Obj) -> bool {
    // SAFETY: the caller's promise.
    unsafe { base::is_transport(o) || Listener::is(o) }
}

/// Notes what is ready, of what is still wanted.
///
/// # Safety
/// Attached; `o` is a watcher.
#[inline(always)]
pub unsafe fn notify(o: Obj, readiness: u8, callbacks: [Option<Obj>; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        if base::is_transport(o) {
            (*o.cast::<Base>()).pending |= readiness & directions(&callbacks);
        }
    }
}

/// Does what is due, each direction in its context.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds `o`, a watcher.
#[inline(always)]
pub unsafe fn run(o: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if !base::is_transport(o) {
            return listener::ready(o);
        }
        let t: *mut Base = o.cast();
        let pending = std::mem::take(&mut (*t).pending);
        let mut result = Ok(());
        if pending & READ != 0 && base::still_reads(t) {
            let context = new_ref((*t).read_context);
            let kind = (*t).kind;
            result = run_in(t, context, kind.read_ready);
        }
        if pending & WRITE != 0 && result.is_ok() && !(*t).owner.is_null() {
            let kind = (*t).kind;
            let context = (*t).write_context;
            result = if context.is_null() {
                (kind.write_ready)(t)
            } else {
                run_in(t, new_ref(context), kind.write_ready)
            };
        }
        result
    }
}

/// Runs one direction of a transport in a context, whose reference it takes over.
///
/// # Safety
/// As [`run`]; the transport has its loop.
#[inline(always)]
unsafe fn run_in(
    t: *mut Base,
    context: Obj,
    ready: unsafe fn(*mut Base) -> Raises<()>,
) -> Raises<()> {
    // SAFETY: the caller's promise; the loop is held, for the connection may end meanwhile.
    unsafe {
        let owner = new_ref((*t).owner);
        let running = &LoopCore::from_ptr(owner).running;
        let outer = running.replace(context);
        let result = in_context(context, || ready(t));
        running.set(outer);
        ffi::Py_DECREF(context);
        ffi::Py_DECREF(owner);
        result
    }
}

/// The directions that are due, taken.
///
/// # Safety
/// As [`run`].
pub unsafe fn take_pending(o: Obj) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe {
        if !base::is_transport(o) {
            return vec![READ];
        }
        let t: *mut Base = o.cast();
        let pending = std::mem::take(&mut (*t).pending);
        let due = |direction: &u8| {
            pending & direction != 0 && (*direction != READ || base::still_reads(t))
        };
        [READ, WRITE].into_iter().filter(due).collect()
    }
}

/// A handle that does the same for one direction.
///
/// # Safety
/// As [`run`]; `owner` is the loop.
pub unsafe fn handle(owner: Obj, o: Obj, direction: u8) -> Raises<Obj> {
    // SAFETY: the caller's promise; the new handle takes references of its own, and the one to the context.
    unsafe {
        let name = if direction == READ { &names::READ_READY } else { &names::WRITE_READY };
        let callback = attribute(o, name)?;
        let own = if SockWatch::is(o) {
            null_mut()
        } else if !base::is_transport(o) {
            Listener::context(o)
        } else if direction == READ {
            (*o.cast::<Base>()).read_context
        } else {
            (*o.cast::<Base>()).write_context
        };
        let context =
            if own.is_null() { checked(ffi::PyContext_CopyCurrent())? } else { new_ref(own) };
        let made = new_handle(owner, callback.as_ptr(), std::ptr::null(), 0, context)?;
        (*made).track();
        Ok(made.cast())
    }
}
