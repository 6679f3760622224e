//! The stream transport of TCP and Unix sockets, as `asyncio.selector_events._SelectorSocketTransport`.
//!
//! Reading: one receive for each readiness, into a room that the loop's transports share, or straight into a bytes object
//! once a connection has shown that it sends much. Writing is in `writing.rs`.

use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::ptr::null_mut;

use pyo3::ffi;

use super::base::{self, begin, core, fatal_error, has, init, set, state, Base, Kind};
use super::outgoing::Outgoing;
use super::writing;
use crate::address::Address;
use crate::loop_impl::LoopCore;
use crate::py::bytes;
use crate::py::call::method;
use crate::py::errors::raise_os;
use crate::py::imports;
use crate::py::names;
use crate::py::object::{clear, new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::READ;
use crate::sys;

/// Most bytes of one receive, as asyncio's `max_size`.
pub const MAX_SIZE: usize = 256 * 1024;
/// From this many bytes on the next receive goes straight into a bytes object.
const LARGE: usize = 16 * 1024;

/// A stream transport.
#[repr(C)]
pub struct Stream {
    pub(crate) base: Base,
    /// The Server that accepted the connection, or null.
    pub(crate) server: Obj,
    /// The future that waits for an empty buffer while a file is sent, or null.
    pub(crate) empty_waiter: Obj,
    pub(crate) outgoing: Outgoing,
    /// How many bytes to make room for at the next receive; 0 for the shared room.
    expected: u32,
    /// asyncio's `socket.proto` of an accepted connection.
    pub(crate) proto: i32,
    /// The peer of an accepted connection.
    pub(crate) peer: Address,
    /// Our own end of an accepted connection, once its descriptor is closed.
    pub(crate) local: Option<Box<Address>>,
}

/// The behaviour of a stream.
pub static STREAM: Kind = Kind {
    read_ready,
    write_ready: writing::write_ready,
    flush: writing::flush,
    buffered: |t| {
        // SAFETY: the transport is alive, and of this kind.
        unsafe { (*stream(t)).outgoing.size() }
    },
    discard: writing::discard,
    release,
    lost,
    references: |t, show| {
        // SAFETY: as above.
        unsafe {
            show((*stream(t)).server);
            show((*stream(t)).empty_waiter);
        }
    },
    drop: |t| {
        // SAFETY: as above; the object's memory is about to be freed.
        unsafe {
            std::ptr::drop_in_place(&raw mut (*stream(t)).outgoing);
            std::ptr::drop_in_place(&raw mut (*stream(t)).peer);
            std::ptr::drop_in_place(&raw mut (*stream(t)).local);
        }
    },
    deaf: state::UNREADING,
    foreign: false,
    write_error: c"Fatal write error on socket transport",
};

/// The whole transport behind its head.
#[inline(always)]
pub fn stream(t: *mut Base) -> *mut Stream {
    t.cast()
}

/// A new transport over an open descriptor, which the caller still owns if this fails.
unsafe fn create(owner: Obj, fd: i32, protocol: Obj, server: Obj) -> Raises<Owned> {
    // SAFETY: attached; all are alive; the memory of a new object is zero, and the fields that may not be zero are written first.
    unsafe {
        let buffered = base::is_buffered(protocol)?;
        let class: *mut ffi::PyTypeObject = imports::SOCKET_TRANSPORT.get().cast();
        let made = Owned::from_new(ffi::PyType_GenericAlloc(class, 0))?;
        let s: *mut Stream = made.as_ptr().cast();
        (&raw mut (*s).outgoing).write(Outgoing::default());
        (&raw mut (*s).peer).write(Address::Unknown);
        (&raw mut (*s).local).write(None);
        (*s).server = new_ref(if server == ffi::Py_None() { null_mut() } else { server });
        init(s.cast(), &STREAM, owner, fd, protocol);
        core(s.cast()).enter_transport(fd, s.cast());
        set(s.cast(), state::BUFFERED, buffered);
        Ok(made)
    }
}

/// A transport for a Python socket, which it holds. `extra` is the dict of extra information, complete.
///
/// # Safety
/// Attached, outside every `LoopCell`; all are alive, `owner` is a PyLoop that is open; `waiter` and `server` may be None.
pub unsafe fn for_socket(
    owner: Obj,
    socket: Obj,
    fd: i32,
    protocol: Obj,
    waiter: Obj,
    extra: Obj,
    server: Obj,
) -> Raises<Obj> {
    // SAFETY: the caller's promise.
    unsafe {
        let made = create(owner, fd, protocol, server)?;
        let t: *mut Base = made.as_ptr().cast();
        (*t).file = new_ref(socket);
        (*t).extra = new_ref(extra);
        attach(t)?;
        begin(t, waiter)?;
        Ok(made.into_ptr())
    }
}

/// A transport for a connection that was accepted natively.
///
/// # Safety
/// As [`for_socket`].
pub unsafe fn for_accepted(
    owner: Obj,
    connection: OwnedFd,
    proto: i32,
    peer: Address,
    protocol: Obj,
    server: Obj,
) -> Raises<Owned> {
    // SAFETY: the caller's promise. From `create` on the transport owns the descriptor.
    unsafe {
        let made = create(owner, sys::raw(&connection), protocol, server)?;
        let s: *mut Stream = made.as_ptr().cast();
        _ = connection.into_raw_fd();
        (*s).proto = proto;
        if proto == libc::IPPROTO_TCP {
            // As asyncio's _set_nodelay(), which knows TCP by the socket object's `proto`; a peer that has gone already makes it fail, and reading will tell.
            drop(sys::set_nodelay((*s).base.fd));
        }
        (*s).peer = peer;
        attach(s.cast())?;
        begin(s.cast(), ffi::Py_None())?;
        Ok(made)
    }
}

/// Tells the server that it has one more connection.
unsafe fn attach(t: *mut Base) -> Raises<()> {
    // SAFETY: the transport is alive, and of this kind.
    unsafe {
        match (*stream(t)).server {
            server if server.is_null() => Ok(()),
            server if imports::server_takes_transport() => {
                method(server, &names::ATTACH, [t.cast()]).map(drop)
            }
            server => method(server, &names::ATTACH, []).map(drop),
        }
    }
}

/// Tells the server that it has one connection less.
///
/// # Safety
/// Attached, outside every `LoopCell`; the transport is alive, and of this kind.
pub unsafe fn detach(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let server = std::mem::replace(&mut (*stream(t)).server, null_mut());
        if server.is_null() {
            return Ok(());
        }
        let server = Owned::from_new(server)?;
        if imports::server_takes_transport() {
            method(server.as_ptr(), &names::DETACH, [t.cast()]).map(drop)
        } else {
            method(server.as_ptr(), &names::DETACH, []).map(drop)
        }
    }
}

unsafe fn lost(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`detach`].
    unsafe {
        let detached = detach(t);
        let waiter = (*stream(t)).empty_waiter;
        if !waiter.is_null() && writing::is_pending(waiter)? {
            // The future of a loop that is still there: the sendfile() that waits on it holds both.
            let waiter = Owned::from_new(new_ref((*stream(t)).empty_waiter))?;
            let text = Owned::from_new(ffi::PyUnicode_FromString(
                c"Connection is closed by peer".as_ptr(),
            ))?;
            let error = Owned::from_new(ffi::PyObject_CallOneArg(
                ffi::PyExc_ConnectionError,
                text.as_ptr(),
            ))?;
            method(waiter.as_ptr(), &names::SET_EXCEPTION, [error.as_ptr()])?;
        }
        detached
    }
}

unsafe fn release(t: *mut Base) {
    // SAFETY: the transport is alive, and of this kind; attached.
    unsafe {
        writing::discard(t);
        clear(&mut (*stream(t)).server);
        clear(&mut (*stream(t)).empty_waiter);
    }
}

/// Remembers our own address for later questions; before the descriptor is closed.
///
/// # Safety
/// The transport is alive, and of this kind.
pub unsafe fn remember_local(t: *mut Base) {
    // SAFETY: the caller's promise.
    unsafe {
        let s = stream(t);
        if (*t).extra.is_null() && (*s).local.is_none() {
            (*s).local = Some(Box::new(local_address(s)));
        }
    }
}

/// Our own address now.
///
/// # Safety
/// The transport is alive.
pub unsafe fn local_address(s: *mut Stream) -> Address {
    // SAFETY: the caller's promise.
    unsafe {
        sys::local_address((*s).base.fd).map_or(Address::Unknown, |address| {
            Address::new(i32::from(address.address_family().as_raw()), Some(&address))
        })
    }
}

unsafe fn read_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: attached, outside every `LoopCell`; the loop holds the transport for the call.
    unsafe {
        if (*t).conn_lost != 0 {
            return Ok(());
        }
        if has(t, state::BUFFERED) {
            read_into_protocol(t)
        } else {
            read_bytes(t)
        }
    }
}

/// The protocol of the transport, held for a call of it: it may be replaced meanwhile.
pub(super) unsafe fn hold_protocol(t: *mut Base) -> Raises<Owned> {
    // SAFETY: the transport is alive and connected, so it has a protocol.
    unsafe { Owned::from_new(new_ref((*t).protocol)) }
}

unsafe fn read_bytes(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`read_ready`].
    unsafe {
        let s = stream(t);
        let data = match receive(core(t), (*t).fd, &mut (*s).expected, sys::recv) {
            Received::Data(data) => data,
            Received::Nothing => return Ok(()),
            Received::End => return end_of_stream(t),
            Received::Failed => return fatal_error(t, c"Fatal read error on socket transport"),
        };
        let protocol = hold_protocol(t)?;
        match method(protocol.as_ptr(), &names::DATA_RECEIVED, [data.as_ptr()]) {
            Ok(_) => Ok(()),
            Err(Raised) => fatal_error(t, c"Fatal error: protocol.data_received() call failed."),
        }
    }
}

/// What one receive gave.
pub(super) enum Received {
    /// At least one byte.
    Data(Owned),
    /// There will be no more.
    End,
    /// Not now.
    Nothing,
    /// With the exception set.
    Failed,
}

/// One receive of a byte stream, by recv(2) or read(2). `expected` is how many bytes to make room for, 0 for the shared room;
/// kept from call to call.
///
/// # Safety
/// Attached, outside every `LoopCell`.
pub(super) unsafe fn receive(
    core: &LoopCore,
    fd: i32,
    expected: &mut u32,
    read: impl Fn(i32, &mut [MaybeUninit<u8>]) -> std::io::Result<usize>,
) -> Received {
    // SAFETY: attached; a new bytes object is written before anybody else sees it, and then cut to what came.
    unsafe {
        if *expected != 0 {
            let size = *expected as usize;
            let mut data = ffi::PyBytes_FromStringAndSize(null_mut(), size as isize);
            if data.is_null() {
                return Received::Failed;
            }
            let start = ffi::PyBytes_AS_STRING(data).cast_mut().cast::<MaybeUninit<u8>>();
            let got = retry(|| read(fd, std::slice::from_raw_parts_mut(start, size)));
            match got {
                Ok(read) if read != 0 => {
                    *expected = next_room(read, size);
                    if read != size && bytes::cut(&mut data, read).is_err() {
                        return Received::Failed;
                    }
                    return Owned::from_new(data).map_or(Received::Failed, Received::Data);
                }
                other => {
                    ffi::Py_DECREF(data);
                    *expected = 0;
                    return without_data(other);
                }
            }
        }
        let got = core.read_room.with(|room| {
            let room = room.get_or_insert_with(|| Box::new_uninit_slice(MAX_SIZE));
            let got = retry(|| read(fd, room));
            got.map(|read| {
                // No Python code runs for a new bytes object. None for the end of the stream.
                let copy = || ffi::PyBytes_FromStringAndSize(room.as_ptr().cast(), read as isize);
                (read, (read != 0).then(copy))
            })
        });
        match got {
            Ok((read, Some(data))) => {
                *expected = next_room(read, MAX_SIZE);
                Owned::from_new(data).map_or(Received::Failed, Received::Data)
            }
            Ok((read, None)) => without_data(Ok(read)),
            // Outside of the cell: an error becomes an exception by Python code.
            Err(error) => without_data(Err(error)),
        }
    }
}

/// Calls again what a signal has interrupted.
#[inline(always)]
pub fn retry<T>(mut f: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match f() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn without_data(result: std::io::Result<usize>) -> Received {
    match result {
        Ok(_) => Received::End,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Received::Nothing,
        Err(error) => {
            // SAFETY: every caller is attached.
            raise_os(unsafe { pyo3::Python::assume_attached() }, &error);
            Received::Failed
        }
    }
}

/// The room for the next receive after one of `read` bytes into `size`.
fn next_room(read: usize, size: usize) -> u32 {
    if read < LARGE {
        return 0;
    }
    let wanted = if read == size { size * 2 } else { read.next_power_of_two() };
    wanted.clamp(2 * LARGE, MAX_SIZE) as u32
}

unsafe fn read_into_protocol(t: *mut Base) -> Raises<()> {
    const NO_BUFFER: &std::ffi::CStr = c"Fatal error: protocol.get_buffer() call failed.";
    // SAFETY: as [`read_ready`]; the buffer is released after the receive, before Python runs again.
    unsafe {
        let protocol = hold_protocol(t)?;
        let hint = imports::MINUS_ONE.get();
        let Ok(object) = method(protocol.as_ptr(), &names::GET_BUFFER, [hint]) else {
            return fatal_error(t, NO_BUFFER);
        };
        // asyncio looks at the length first: an object without one fails here.
        match ffi::PyObject_Size(object.as_ptr()) {
            -1 => return fatal_error(t, NO_BUFFER),
            0 => {
                raise(ffi::PyExc_RuntimeError, "get_buffer() returned an empty buffer");
                return fatal_error(t, NO_BUFFER);
            }
            _ => {}
        }
        if (*t).owner.is_null() || has(t, state::GONE) {
            return Ok(());
        }
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(object.as_ptr(), &mut view, ffi::PyBUF_WRITABLE) != 0 {
            not_writable(object.as_ptr());
            return fatal_error(t, c"Fatal read error on socket transport");
        }
        if view.len == 0 || has(t, state::GONE) {
            ffi::PyBuffer_Release(&mut view);
            return Ok(());
        }
        let room = std::slice::from_raw_parts_mut(view.buf.cast(), view.len as usize);
        let fd = (*t).fd;
        let read = retry(|| sys::recv(fd, room));
        ffi::PyBuffer_Release(&mut view);
        if (*t).owner.is_null() {
            // The owner of the buffer has ended the connection when it came back.
            return Ok(());
        }
        let read = match read {
            Ok(0) => return end_of_stream(t),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => {
                raise_os(pyo3::Python::assume_attached(), &error);
                return fatal_error(t, c"Fatal read error on socket transport");
            }
        };
        drop(object);
        let count = Owned::from_new(ffi::PyLong_FromSize_t(read))?;
        match method(protocol.as_ptr(), &names::BUFFER_UPDATED, [count.as_ptr()]) {
            Ok(_) => Ok(()),
            Err(Raised) => fatal_error(t, c"Fatal error: protocol.buffer_updated() call failed."),
        }
    }
}

/// The error of `socket.recv_into()` for a buffer that cannot be written to.
#[cold]
unsafe fn not_writable(object: Obj) {
    // SAFETY: attached, with an exception set; the object is alive, and with it its type.
    unsafe {
        ffi::PyErr_Clear();
        let class: Obj = ffi::Py_TYPE(object).cast();
        if let Ok(name) = Owned::from_new(ffi::PyObject_GetAttrString(class, c"__name__".as_ptr()))
        {
            ffi::PyErr_Format(
                ffi::PyExc_TypeError,
                c"recv_into() argument 1 must be read-write bytes-like object, not %U".as_ptr(),
                name.as_ptr(),
            );
        }
    }
}

unsafe fn end_of_stream(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`read_ready`].
    unsafe {
        if core(t).is_debug() {
            let what = Owned::from_new(ffi::PyUnicode_FromString(c"received EOF".as_ptr()))?;
            imports::call_cold(c"log_debug", &[t.cast(), what.as_ptr()])?;
        }
        let protocol = hold_protocol(t)?;
        let keep = match method(protocol.as_ptr(), &names::EOF_RECEIVED, []) {
            // Its truth value is asked outside of the guard, as asyncio does.
            Ok(keep) => ffi::PyObject_IsTrue(keep.as_ptr()),
            Err(Raised) => {
                return fatal_error(t, c"Fatal error: protocol.eof_received() call failed.")
            }
        };
        match keep {
            -1 => Err(Raised),
            // The protocol may write on, but there is nothing more to read.
            1 if !(*t).owner.is_null() => {
                base::unwatch(t, READ);
                Ok(())
            }
            1 => Ok(()),
            _ => base::close(t),
        }
    }
}
