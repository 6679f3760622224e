//! What all transports have in common: the fields, the protocol, extra information, water marks, the end.
//!
//! The behaviour is that of `asyncio.selector_events._SelectorTransport` and `asyncio.transports._FlowControlMixin`; what differs
//! between transports is behind [`Kind`].
//!
//! Raw pointers all through: a transport is a Python object that anybody may hold, and every call into Python may come back to
//! it. So no Rust reference to one lives across such a call.

use std::os::fd::RawFd;
use std::ptr::null_mut;

use pyo3::ffi;

use crate::loop_impl::{mode, LoopCore};
use crate::py::call::{attribute, leaves_the_loop, method, take_exception};
use crate::py::errors::raise_os;
use crate::py::imports::{call_cold, Import};
use crate::py::names;
use crate::py::object::{clear, new_ref, none, raise, Obj, Owned, Raised, Raises};
use crate::reactor::{READ, WRITE};
use crate::ready_queue::Entry;
use crate::sock::watch::SockWatch;
use crate::sys;
use crate::watch::release_watcher;

/// What differs between the kinds of transports.
pub struct Kind {
    /// The descriptor is readable.
    pub read_ready: unsafe fn(*mut Base) -> Raises<()>,
    /// The descriptor is writable.
    pub write_ready: unsafe fn(*mut Base) -> Raises<()>,
    /// Tries to send what waits for the end of the iteration.
    pub flush: unsafe fn(*mut Base) -> Raises<()>,
    /// How many bytes wait to be sent.
    pub buffered: unsafe fn(*mut Base) -> usize,
    /// Forgets what waits to be sent.
    pub discard: unsafe fn(*mut Base),
    /// Releases what only this kind holds, once the connection is lost or the object dies.
    pub release: unsafe fn(*mut Base),
    /// The last acts of a lost connection, after the descriptor was closed.
    pub lost: unsafe fn(*mut Base) -> Raises<()>,
    /// Shows the collector what only this kind holds; null counts as nothing.
    pub references: unsafe fn(*mut Base, &mut dyn FnMut(Obj)),
    /// Frees the Rust values of the object.
    pub drop: unsafe fn(*mut Base),
    /// Bits of [`Base::state`] with which nobody cares that the descriptor is readable.
    pub deaf: u32,
    /// Whether the descriptor came from elsewhere and may have got another file meanwhile (dup2): the kernel is told again whenever
    /// it is watched.
    pub foreign: bool,
    /// What to say of an error while writing.
    pub write_error: &'static std::ffi::CStr,
}

/// Bits of [`Base::state`].
pub mod state {
    /// `close()` was called, or the connection broke.
    pub const CLOSING: u32 = 1;
    /// `pause_reading()` was called.
    pub const PAUSED: u32 = 1 << 1;
    /// `pause_writing()` of the protocol was called.
    pub const FULL: u32 = 1 << 2;
    /// `write_eof()` was called.
    pub const EOF: u32 = 1 << 3;
    /// The protocol is a BufferedProtocol.
    pub const BUFFERED: u32 = 1 << 4;
    /// The kernel did not take everything: the rest waits until the descriptor is writable.
    pub const BLOCKED: u32 = 1 << 5;
    /// On the loop's list of transports that write at the end of the iteration.
    pub const LISTED: u32 = 1 << 6;
    /// The descriptor is closed: the end.
    pub const GONE: u32 = 1 << 7;
    /// The sending side is shut down.
    pub const SHUT: u32 = 1 << 9;
    /// The finalizer has run.
    pub const FINALIZED: u32 = 1 << 8;
    /// `connection_lost()` is on its way; of write pipes, which may be closing for long before.
    pub const ENDING: u32 = 1 << 9;
    /// What keeps a transport from reading.
    pub const UNREADING: u32 = CLOSING | PAUSED | GONE;
}

/// The head of every transport.
#[repr(C)]
pub struct Base {
    pub(crate) ob_base: ffi::PyObject,
    /// The slot of `asyncio.BaseTransport`: the dict of extra information, null until somebody asks.
    pub(crate) extra: Obj,
    /// The slots of `asyncio.transports._FlowControlMixin`, never filled: attributes of ours stand before them.
    mixin: [Obj; 4],
    pub(crate) dict: Obj,
    pub(crate) weakrefs: Obj,
    pub(crate) kind: &'static Kind,
    /// The loop; null after the connection was lost.
    pub(crate) owner: Obj,
    pub(crate) protocol: Obj,
    /// The socket or pipe object; null for an accepted connection until somebody asks.
    pub(crate) file: Obj,
    /// The context of the reading callbacks.
    pub(crate) read_context: Obj,
    /// The context of the writing callbacks, while something waits to be sent.
    pub(crate) write_context: Obj,
    pub(crate) high: usize,
    pub(crate) low: usize,
    pub(crate) fd: RawFd,
    pub(crate) state: u32,
    /// asyncio's `_conn_lost`: from 1 on the end is scheduled; counts the writes after it.
    pub(crate) conn_lost: u32,
    /// Directions found ready by the last poll.
    pub(crate) pending: u8,
}

const DEFAULT_HIGH: usize = 64 * 1024;

/// Whether `o` is one of our transports.
///
/// # Safety
/// `o` is alive.
#[inline(always)]
pub unsafe fn is_transport(o: Obj) -> bool {
    // SAFETY: reads the type of a living object; the types are final, and share their destructor with nobody.
    unsafe {
        let ours: ffi::destructor = super::kind::dealloc;
        (*ffi::Py_TYPE(o)).tp_dealloc.is_some_and(|f| std::ptr::fn_addr_eq(f, ours))
    }
}

/// Fills the fields of a new object, whose memory is zero. Borrows the references.
///
/// # Safety
/// Attached; `t` is new and nobody else's; `owner` is a PyLoop.
pub unsafe fn init(t: *mut Base, kind: &'static Kind, owner: Obj, fd: RawFd, protocol: Obj) {
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*t).kind).write(kind);
        (*t).owner = new_ref(owner);
        (*t).protocol = new_ref(protocol);
        (*t).fd = fd;
        (*t).high = DEFAULT_HIGH;
        (*t).low = DEFAULT_HIGH / 4;
    }
}

/// Whether any of the bits is set.
///
/// # Safety
/// `t` is alive.
#[inline(always)]
pub unsafe fn has(t: *mut Base, bits: u32) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*t).state & bits != 0 }
}

/// Sets or clears bits.
///
/// # Safety
/// `t` is alive.
#[inline(always)]
pub unsafe fn set(t: *mut Base, bits: u32, on: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if on {
            (*t).state |= bits;
        } else {
            (*t).state &= !bits;
        }
    }
}

/// The loop's native half. Not after the connection was lost.
///
/// # Safety
/// `t` is alive and still has its loop.
#[inline(always)]
pub unsafe fn core<'a>(t: *mut Base) -> &'a LoopCore {
    // SAFETY: the caller's promise.
    unsafe { LoopCore::from_ptr((*t).owner) }
}

/// Watches the descriptor in one direction.
///
/// # Safety
/// Attached, outside every `LoopCell`; `t` is alive and has its loop.
pub unsafe fn watch(t: *mut Base, direction: u8) -> Raises<()> {
    // SAFETY: the caller's promise; the reactor gets a reference of its own.
    unsafe {
        if has(t, state::GONE) {
            return Ok(());
        }
        let core = core(t);
        let py = pyo3::Python::assume_attached();
        if core.has(mode::CLOSED) {
            return Err(raise(ffi::PyExc_RuntimeError, "Event loop is closed"));
        }
        core.check_fork(py)?;
        let own = new_ref(t.cast());
        let fd = (*t).fd;
        let foreign = (*t).kind.foreign;
        let set = core.reactor.with(|r| {
            let r = r.as_mut()?;
            Some(if foreign { r.set(fd, direction, own) } else { r.set_own(fd, direction, own) })
        });
        match set {
            // A sock_* call goes on in the other direction.
            Some(Ok(Some(old))) if SockWatch::is(old) => core.displaced(fd, direction, old),
            Some(Ok(old)) => {
                release_watcher(old);
                Ok(())
            }
            failed => {
                ffi::Py_DECREF(own);
                match failed {
                    Some(Err(error)) => Err(raise_os(py, &error)),
                    _ => Err(raise(ffi::PyExc_RuntimeError, "Event loop is closed")),
                }
            }
        }
    }
}

/// Stops watching in one direction; the kernel learns of it when it matters.
///
/// # Safety
/// As [`watch`].
pub unsafe fn unwatch(t: *mut Base, direction: u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let fd = (*t).fd;
        let own = core(t).reactor.with(|r| r.as_mut().and_then(|r| r.mute(fd, direction)));
        release_watcher(own);
    }
}

/// Whether what the last poll found readable is still wanted.
///
/// # Safety
/// `t` is alive.
#[inline(always)]
pub unsafe fn still_reads(t: *mut Base) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !has(t, (*t).kind.deaf) && !(*t).owner.is_null() && !(*t).read_context.is_null() }
}

/// Queues `callable(argument)` (or `callable()` for null) as `loop.call_soon` does in a context.
///
/// # Safety
/// Attached, outside every `LoopCell`; all are alive.
pub unsafe fn call_soon(owner: Obj, callable: Obj, argument: Obj, context: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let core = LoopCore::from_ptr(owner);
        let mode = core.current_mode(owner)?;
        if mode & (mode::CLOSED | mode::DEBUG | mode::STOCK | mode::HANDLES) == 0 {
            let entry = Entry {
                callable: new_ref(callable),
                argument: new_ref(argument),
                context: new_ref(context),
            };
            core.ready.with(|ready| ready.push(entry));
            return core.wake(pyo3::Python::assume_attached());
        }
        let function = attribute(owner, &names::CALL_SOON)?;
        let stack = [null_mut(), callable, argument, context];
        let mut stack =
            if argument.is_null() { [null_mut(), callable, context, null_mut()] } else { stack };
        let keywords = Owned::from_new(ffi::PyTuple_New(1))?;
        ffi::PyTuple_SET_ITEM(keywords.as_ptr(), 0, new_ref(names::CONTEXT.get()));
        let count = 1 + usize::from(!argument.is_null());
        Owned::from_new(ffi::PyObject_Vectorcall(
            function.as_ptr(),
            stack.as_mut_ptr().add(1),
            count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            keywords.as_ptr(),
        ))
        .map(drop)
    }
}

/// Queues a method of an object as `loop.call_soon(o.name, argument)`, in a copy of the current context.
///
/// # Safety
/// As [`call_soon`].
pub unsafe fn call_method_soon(owner: Obj, o: Obj, name: &Import, argument: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let context = Owned::from_new(ffi::PyContext_CopyCurrent())?;
        let bound = attribute(o, name)?;
        call_soon(owner, bound.as_ptr(), argument, context.as_ptr())
    }
}

/// Asks for what comes first: `connection_made`, then reading and the waiter, each in a copy of the context that is current.
///
/// # Safety
/// As [`watch`]; `waiter` is a future or None.
pub unsafe fn begin(t: *mut Base, waiter: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let (owner, o) = ((*t).owner, t.cast());
        call_method_soon(owner, (*t).protocol, &names::CONNECTION_MADE, o)?;
        (*t).read_context = ffi::PyContext_CopyCurrent();
        if (*t).read_context.is_null() {
            return Err(Raised);
        }
        let start = attribute(o, &names::START_READING)?;
        call_soon(owner, start.as_ptr(), waiter, (*t).read_context)
    }
}

/// `_start_reading(waiter)`: only now, for the protocol has heard of the connection.
///
/// # Safety
/// As [`watch`].
pub unsafe fn start_reading(t: *mut Base, waiter: Obj) -> Raises<()> {
    // SAFETY: the caller's promise; `t` is held by the bound method that is running.
    unsafe {
        let started = if has(t, (*t).kind.deaf) { Ok(()) } else { watch(t, READ) };
        // The waiter goes on all the same, and must not see the exception.
        let refused = if started.is_err() { Some(take_exception()?) } else { None };
        if waiter != ffi::Py_None() {
            let cancelled = Owned::from_new(ffi::PyObject_CallMethod(
                waiter,
                c"cancelled".as_ptr(),
                std::ptr::null(),
            ))?;
            match ffi::PyObject_IsTrue(cancelled.as_ptr()) {
                -1 => return Err(Raised),
                0 => drop(method(waiter, &names::SET_RESULT, [ffi::Py_None()])?),
                _ => {}
            }
        }
        match refused {
            Some(exception) => Err(set_again(&exception)),
            None => Ok(()),
        }
    }
}

/// Sets an exception that was taken.
unsafe fn set_again(exception: &Owned) -> Raised {
    // SAFETY: attached; an exception's type is alive as long as the exception.
    unsafe {
        let kind = ffi::Py_TYPE(exception.as_ptr());
        ffi::PyErr_SetObject(kind.cast(), exception.as_ptr());
    }
    Raised
}

/// `pause_reading()`.
///
/// # Safety
/// As [`watch`].
pub unsafe fn pause_reading(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::UNREADING) {
            return Ok(());
        }
        set(t, state::PAUSED, true);
        unwatch(t, READ);
        log_debug(t, c"pauses")
    }
}

/// `resume_reading()`: takes the context anew, as asyncio registers anew.
///
/// # Safety
/// As [`watch`].
pub unsafe fn resume_reading(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::CLOSING | state::GONE) || !has(t, state::PAUSED) {
            return Ok(());
        }
        set(t, state::PAUSED, false);
        let context = Owned::from_new(ffi::PyContext_CopyCurrent())?;
        let mut old = std::mem::replace(&mut (*t).read_context, context.into_ptr());
        let watched = watch(t, READ);
        clear(&mut old);
        watched?;
        log_debug(t, c"resumes")
    }
}

unsafe fn log_debug(t: *mut Base, what: &std::ffi::CStr) -> Raises<()> {
    // SAFETY: the caller of each of the callers promises that `t` is alive and has its loop.
    unsafe {
        let core = core(t);
        if core.is_debug() {
            let what = Owned::from_new(ffi::PyUnicode_FromString(what.as_ptr()))?;
            call_cold(c"log_reading", &[t.cast(), what.as_ptr()])?;
        }
    }
    Ok(())
}

/// `_maybe_pause_protocol()`: after something was put aside for later.
///
/// # Safety
/// As [`watch`].
pub unsafe fn maybe_pause(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let kind = (*t).kind;
        if (kind.buffered)(t) <= (*t).high || (*t).owner.is_null() {
            return Ok(());
        }
        // What could leave now is no reason to pause anybody.
        (kind.flush)(t)?;
        if (*t).owner.is_null() || (kind.buffered)(t) <= (*t).high || has(t, state::FULL) {
            return Ok(());
        }
        set(t, state::FULL, true);
        tell(t, &names::PAUSE_WRITING, c"protocol.pause_writing() failed")
    }
}

/// `_maybe_resume_protocol()`: after something has left.
///
/// # Safety
/// As [`watch`].
pub unsafe fn maybe_resume(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if !has(t, state::FULL) || ((*t).kind.buffered)(t) > (*t).low {
            return Ok(());
        }
        set(t, state::FULL, false);
        tell(t, &names::RESUME_WRITING, c"protocol.resume_writing() failed")
    }
}

/// Calls a method of the protocol whose failure is reported and changes nothing.
unsafe fn tell(t: *mut Base, name: &Import, message: &std::ffi::CStr) -> Raises<()> {
    // SAFETY: as [`watch`]; the protocol is held for the call, for it may be replaced meanwhile.
    unsafe {
        let protocol = Owned::from_new(new_ref((*t).protocol))?;
        if method(protocol.as_ptr(), name, []).is_ok() {
            return Ok(());
        }
        if leaves_the_loop() {
            return Err(Raised);
        }
        let exception = take_exception()?;
        report_failure(t, exception.as_ptr(), message)
    }
}

/// Gives an exception to the loop's exception handler, with the transport and its protocol.
///
/// # Safety
/// As [`watch`].
pub unsafe fn report_failure(t: *mut Base, exception: Obj, message: &std::ffi::CStr) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let text = Owned::from_new(ffi::PyUnicode_FromString(message.as_ptr()))?;
        call_cold(c"report_failure", &[t.cast(), exception, text.as_ptr()]).map(drop)
    }
}

/// `_fatal_error()` for the exception that is set: reported unless it is an OSError, and the connection ends.
/// SystemExit and KeyboardInterrupt go on instead.
///
/// # Safety
/// As [`watch`], with an exception set.
#[cold]
pub unsafe fn fatal_error(t: *mut Base, message: &std::ffi::CStr) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if leaves_the_loop() {
            return Err(Raised);
        }
        let exception = take_exception()?;
        if (*t).owner.is_null() {
            // A callback of the protocol has ended the connection before it raised.
            return Ok(());
        }
        let text = Owned::from_new(ffi::PyUnicode_FromString(message.as_ptr()))?;
        let args = [t.cast(), exception.as_ptr(), text.as_ptr()];
        call_cold(c"fatal_error", &args)?;
        if has(t, state::LISTED) && !(*t).owner.is_null() {
            // What was written before is tried first, and what it meets comes first.
            ((*t).kind.flush)(t)?;
        }
        force_close(t, exception.as_ptr())
    }
}

/// `_force_close(exception)`: what waits to be sent is lost, `connection_lost(exception)` comes next.
///
/// # Safety
/// As [`watch`]; `exception` may be None.
pub unsafe fn force_close(t: *mut Base, exception: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).conn_lost != 0 || (*t).owner.is_null() {
            return Ok(());
        }
        ((*t).kind.discard)(t);
        unwatch(t, WRITE);
        set(t, state::BLOCKED, false);
        if !has(t, state::CLOSING) {
            set(t, state::CLOSING, true);
            unwatch(t, READ);
        }
        (*t).conn_lost += 1;
        call_method_soon((*t).owner, t.cast(), &names::CALL_CONNECTION_LOST, exception)
    }
}

/// `close()`: what waits is still sent, then the connection ends.
///
/// # Safety
/// As [`watch`].
pub unsafe fn close(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::CLOSING) || (*t).owner.is_null() {
            return Ok(());
        }
        ((*t).kind.flush)(t)?;
        // The flush may have met a broken connection.
        if has(t, state::CLOSING) {
            return Ok(());
        }
        set(t, state::CLOSING, true);
        unwatch(t, READ);
        if ((*t).kind.buffered)(t) == 0 {
            (*t).conn_lost += 1;
            unwatch(t, WRITE);
            return call_method_soon(
                (*t).owner,
                t.cast(),
                &names::CALL_CONNECTION_LOST,
                ffi::Py_None(),
            );
        }
        Ok(())
    }
}

/// `_call_connection_lost(exception)`: tells the protocol, then closes the descriptor, whatever the protocol did.
///
/// # Safety
/// As [`watch`]; somebody holds `t` for the call.
pub unsafe fn call_connection_lost(t: *mut Base, exception: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).owner.is_null() {
            return Ok(());
        }
        let protocol = Owned::from_new(new_ref((*t).protocol))?;
        let told = method(protocol.as_ptr(), &names::CONNECTION_LOST, [exception]).map(drop);
        // What follows runs Python code too, and must not see the exception.
        let raised = if told.is_err() { Some(take_exception()?) } else { None };
        let closed = finish(t);
        match raised {
            Some(exception) => {
                // As in a `finally`: an error while closing would replace it; there is none to expect.
                if closed.is_err() {
                    ffi::PyErr_Clear();
                }
                Err(set_again(&exception))
            }
            None => closed,
        }
    }
}

/// Closes the descriptor and lets everything go.
unsafe fn finish(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`call_connection_lost`].
    unsafe {
        if (*t).owner.is_null() {
            return Ok(());
        }
        // Held to the end: closing runs Python code, which may end the connection a second time.
        let owner = Owned::from_new(new_ref((*t).owner))?;
        let closed = close_descriptor(t);
        clear(&mut (*t).owner);
        set(t, state::CLOSING, true);
        clear(&mut (*t).protocol);
        clear(&mut (*t).read_context);
        clear(&mut (*t).write_context);
        let lost = ((*t).kind.lost)(t);
        drop(owner);
        closed.and(lost)
    }
}

/// Forgets the descriptor everywhere and closes it, once.
///
/// # Safety
/// As [`watch`].
pub unsafe fn close_descriptor(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::GONE) {
            return Ok(());
        }
        ((*t).kind.discard)(t);
        if std::ptr::eq((*t).kind, &super::stream::STREAM) {
            super::stream::remember_local(t);
        }
        give_up_descriptor(t);
        if (*t).file.is_null() {
            sys::close((*t).fd);
            return Ok(());
        }
        let mut file = std::mem::replace(&mut (*t).file, null_mut());
        let closed = method(file, &names::CLOSE, []).map(drop);
        clear(&mut file);
        closed
    }
}

/// Forgets the descriptor everywhere, and leaves it open.
///
/// # Safety
/// As [`watch`].
pub unsafe fn give_up_descriptor(t: *mut Base) {
    // SAFETY: the caller's promise.
    unsafe {
        let fd = (*t).fd;
        let core = core(t);
        for direction in [READ, WRITE] {
            let own = core.reactor.with(|r| r.as_mut().and_then(|r| r.mute(fd, direction)));
            release_watcher(own);
        }
        if core.check_fork(pyo3::Python::assume_attached()).is_err() {
            ffi::PyErr_Clear();
        }
        core.reactor.with(|r| {
            if let Some(r) = r.as_mut() {
                r.settle(fd);
            }
        });
        core.leave_transport(fd, t.cast());
        // Whatever is asked of the transport from here on must not reach the number's next owner.
        set(t, state::GONE | state::CLOSING, true);
        (*t).conn_lost = (*t).conn_lost.max(1);
    }
}

/// `get_write_buffer_size()`: what could leave now does so first.
///
/// # Safety
/// As [`watch`].
pub unsafe fn write_buffer_size(t: *mut Base) -> Raises<usize> {
    // SAFETY: the caller's promise.
    unsafe {
        if has(t, state::LISTED) && !(*t).owner.is_null() {
            ((*t).kind.flush)(t)?;
        }
        Ok(((*t).kind.buffered)(t))
    }
}

/// `set_protocol(protocol)`.
///
/// # Safety
/// As [`watch`]; `protocol` is alive.
pub unsafe fn set_protocol(t: *mut Base, protocol: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let buffered = is_buffered(protocol)?;
        set(t, state::BUFFERED, buffered);
        let mut old = std::mem::replace(&mut (*t).protocol, new_ref(protocol));
        clear(&mut old);
    }
    Ok(())
}

/// Whether a protocol is an `asyncio.BufferedProtocol`. The class of the last one that was not is remembered.
///
/// # Safety
/// Attached, outside every `LoopCell`.
pub unsafe fn is_buffered(protocol: Obj) -> Raises<bool> {
    // SAFETY: the caller's promise.
    match unsafe { ffi::PyObject_IsInstance(protocol, crate::py::imports::BUFFERED_PROTOCOL.get()) }
    {
        -1 => Err(Raised),
        is => Ok(is == 1),
    }
}

/// A new reference to `o`, or to None for null.
///
/// # Safety
/// `o` is null or alive.
pub unsafe fn or_none(o: Obj) -> Obj {
    if o.is_null() {
        none()
    } else {
        // SAFETY: the caller's promise.
        unsafe { new_ref(o) }
    }
}
