//! What each call tries, at its first step and whenever its socket is ready.
//!
//! A plain `socket.socket` is received from and sent to by our own system calls, which never block, whatever the socket's mode. For
//! everything else (subclasses, objects that look like sockets, calls with addresses, odd arguments) the socket's own methods are called,
//! so results and errors are theirs.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::ffi;

use super::call::{plain_descriptor, raise_system, release_view, Call, Kind};
use crate::loop_impl::LoopCore;
use crate::py::bytes;
use crate::py::call::method;
use crate::py::imports::{self, Import};
use crate::py::names;
use crate::py::object::{clear, new_ref, none, Obj, Owned, Raised, Raises};
use crate::reactor::{READ, WRITE};
use crate::sys;
use crate::transport::stream::{retry, MAX_SIZE};

/// What came of one try.
pub enum Attempt {
    /// A reference to the result.
    Done(Obj),
    /// Not now.
    Again,
    /// An exception is set.
    Failed,
}

impl From<Raises<Attempt>> for Attempt {
    fn from(result: Raises<Self>) -> Self {
        result.unwrap_or(Self::Failed)
    }
}

macro_rules! kinds {
    ($($kind:ident = $name:literal, $direction:expr, $attempt:expr;)*) => {
        $(
            #[doc = concat!("`", $name, "`.")]
            pub static $kind: Kind = Kind {
                // SAFETY: literals without a null byte within, with one at the end.
                name: unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(concat!($name, "\0").as_bytes()) },
                // SAFETY: as above.
                qualified: unsafe {
                    std::ffi::CStr::from_bytes_with_nul_unchecked(concat!("PyLoop.", $name, "\0").as_bytes())
                },
                direction: $direction,
                attempt: |c| {
                    // SAFETY: as `call::advance`, the one caller.
                    unsafe { $attempt(c) }.into()
                },
            };
        )*
    };
}

kinds! {
    RECV = "sock_recv", READ, receive;
    RECV_INTO = "sock_recv_into", READ, receive_into;
    RECVFROM = "sock_recvfrom", READ, receive_from;
    RECVFROM_INTO = "sock_recvfrom_into", READ, receive_from_into;
    SENDALL = "sock_sendall", WRITE, send_all;
    SENDTO = "sock_sendto", WRITE, send_to;
    ACCEPT = "sock_accept", READ, accept;
    WRITABLE = "sock_connect", WRITE, writable;
}

/// From this many bytes on a receive is large: the next goes straight into a bytes object.
const LARGE: usize = 16 * 1024;

/// The versions of `socket.socket` whose methods are known to be the standard library's own, or not to be.
static PLAIN: AtomicU32 = AtomicU32::new(0);
static PATCHED: AtomicU32 = AtomicU32::new(0);

/// Whether a socket is exactly a `socket.socket`, with the standard library's own methods.
///
/// # Safety
/// Attached, outside every `LoopCell`; `socket` is alive.
#[inline(always)]
pub unsafe fn is_plain(socket: Obj) -> Raises<bool> {
    // SAFETY: the caller's socket is alive.
    unsafe {
        let class = ffi::Py_TYPE(socket);
        if class.cast() != imports::SOCKET.get() {
            return Ok(false);
        }
        let version = (*class).tp_version_tag;
        if version != 0 && version == PLAIN.load(Ordering::Relaxed) {
            return Ok(true);
        }
        look_at(class)
    }
}

#[cold]
unsafe fn look_at(class: *mut ffi::PyTypeObject) -> Raises<bool> {
    // SAFETY: attached; a class is alive as long as its instances.
    unsafe {
        let version = (*class).tp_version_tag;
        if version != 0 && version == PATCHED.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // The look-ups give the class a version, if it can have one.
        let plain = imports::call_cold_socket(c"is_plain", &[])?.as_ptr() == ffi::Py_True();
        let which = if plain { &PLAIN } else { &PATCHED };
        which.store((*class).tp_version_tag, Ordering::Relaxed);
        Ok(plain)
    }
}

/// Calls the socket's own method; that it would block is no error.
unsafe fn by_method<const N: usize>(
    c: *mut Call,
    name: &Import,
    args: [Obj; N],
) -> Raises<Attempt> {
    // SAFETY: as [`receive`]; the socket and the arguments are held by the call, which nobody can end during a step.
    unsafe {
        match method((*c).socket, name, args) {
            Ok(result) => Ok(Attempt::Done(result.into_ptr())),
            Err(Raised) => {
                let blocks = ffi::PyErr_ExceptionMatches(ffi::PyExc_BlockingIOError) != 0
                    || ffi::PyErr_ExceptionMatches(ffi::PyExc_InterruptedError) != 0;
                if !blocks {
                    return Err(Raised);
                }
                ffi::PyErr_Clear();
                Ok(Attempt::Again)
            }
        }
    }
}

/// The descriptor for our own system calls; `None` where the socket's methods must be called.
unsafe fn own_way(c: *mut Call) -> Raises<Option<i32>> {
    // SAFETY: as [`receive`].
    unsafe {
        if !is_plain((*c).socket)? {
            return Ok(None);
        }
        let fd = plain_descriptor((*c).socket)?;
        Ok(Some(fd).filter(|&fd| fd >= 0))
    }
}

/// What a system call came to.
fn outcome<T>(result: std::io::Result<T>) -> Raises<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(raise_system(&error)),
    }
}

/// `sock_recv(sock, n)`.
///
/// # Safety
/// Attached, outside every `LoopCell`; somebody holds the call.
unsafe fn receive(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: the caller's promise.
    unsafe {
        let n = (*c).args[0];
        let mut overflow = 0;
        let size = if ffi::PyLong_CheckExact(n) != 0 {
            ffi::PyLong_AsLongAndOverflow(n, &mut overflow)
        } else {
            0
        };
        if size <= 0 {
            return by_method(c, &names::RECV, [n]);
        }
        let Some(fd) = own_way(c)? else {
            return by_method(c, &names::RECV, [n]);
        };
        let core = LoopCore::from_ptr((*c).owner);
        let hint = core.hint(fd, (*c).socket);
        if hint.drained && !(*c).has_waited {
            return Ok(Attempt::Again);
        }
        let size = size as usize;
        let data = if hint.large || size > MAX_SIZE {
            receive_large(fd, size)?
        } else {
            receive_small(core, fd, size)?
        };
        let Some(data) = data else {
            core.note_empty(fd);
            return Ok(Attempt::Again);
        };
        let read = bytes::len(data);
        core.note_receive(fd, read != 0 && read < size, read >= LARGE);
        Ok(Attempt::Done(data))
    }
}

/// Into the room that all share, then into a bytes object of the right size.
unsafe fn receive_small(core: &LoopCore, fd: i32, size: usize) -> Raises<Option<Obj>> {
    let received = core.read_room.with(|room| {
        let room = room.get_or_insert_with(|| Box::new_uninit_slice(MAX_SIZE));
        let read = retry(|| sys::recv_now(fd, &mut room[..size]))?;
        // SAFETY: attached; that much was just written. No other Python code runs for a new bytes object.
        Ok(unsafe { ffi::PyBytes_FromStringAndSize(room.as_ptr().cast(), read as isize) })
    });
    match outcome(received)? {
        Some(data) if data.is_null() => Err(Raised),
        data => Ok(data),
    }
}

/// Straight into a bytes object of the size that was asked for.
unsafe fn receive_large(fd: i32, size: usize) -> Raises<Option<Obj>> {
    // SAFETY: attached; a new bytes object is written before anybody else sees it, and then cut to what came.
    unsafe {
        let mut data = ffi::PyBytes_FromStringAndSize(null_mut(), size as isize);
        if data.is_null() {
            return Err(Raised);
        }
        let start = ffi::PyBytes_AS_STRING(data).cast_mut().cast::<MaybeUninit<u8>>();
        let room = std::slice::from_raw_parts_mut(start, size);
        match outcome(retry(|| sys::recv_now(fd, room))) {
            Ok(Some(read)) => {
                if read != size {
                    bytes::cut(&mut data, read)?;
                }
                Ok(Some(data))
            }
            other => {
                ffi::Py_DECREF(data);
                other.map(|_| None)
            }
        }
    }
}

/// `sock_recv_into(sock, buf)`.
unsafe fn receive_into(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`]; the buffer is given back before Python runs again.
    unsafe {
        let buffer = (*c).args[0];
        let Some(fd) = own_way(c)? else {
            return by_method(c, &names::RECV_INTO, [buffer]);
        };
        let core = LoopCore::from_ptr((*c).owner);
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(buffer, &mut view, ffi::PyBUF_WRITABLE) != 0 {
            // Again, for its own error.
            ffi::PyErr_Clear();
            return by_method(c, &names::RECV_INTO, [buffer]);
        }
        let size = view.len as usize;
        if size == 0 {
            ffi::PyBuffer_Release(&mut view);
            return by_method(c, &names::RECV_INTO, [buffer]);
        }
        // Only now: a wrong buffer is told at once.
        if core.hint(fd, (*c).socket).drained && !(*c).has_waited {
            ffi::PyBuffer_Release(&mut view);
            return Ok(Attempt::Again);
        }
        let room = std::slice::from_raw_parts_mut(view.buf.cast(), size);
        let result = retry(|| sys::recv_now(fd, room));
        ffi::PyBuffer_Release(&mut view);
        let Some(read) = outcome(result)? else {
            core.note_empty(fd);
            return Ok(Attempt::Again);
        };
        core.note_receive(fd, read != 0 && read < size, read >= LARGE);
        Ok(Attempt::Done(ffi::PyLong_FromSize_t(read)))
    }
}

/// Whether trying would only make an exception that says "not now" (or block, where the socket does).
unsafe fn nothing_there(c: *mut Call) -> Raises<bool> {
    // SAFETY: as [`receive`].
    unsafe {
        if (*c).has_waited {
            return Ok(false);
        }
        match own_way(c)? {
            // An error that is found here is gone from the socket then.
            Some(fd) => outcome(retry(|| sys::peek(fd))).map(|there| there.is_none()),
            None => Ok(false),
        }
    }
}

/// Whether an argument is an int from 0 to `most`.
unsafe fn is_size(o: Obj, most: isize) -> bool {
    // SAFETY: as [`receive`]; the argument is alive.
    unsafe {
        let mut overflow = 0;
        ffi::PyLong_CheckExact(o) != 0
            && (0..=most as i64).contains(&ffi::PyLong_AsLongAndOverflow(o, &mut overflow))
            && overflow == 0
    }
}

/// `sock_recvfrom(sock, bufsize)`.
unsafe fn receive_from(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`].
    unsafe {
        // A wrong size is told at once, whether something is there or not.
        if is_size((*c).args[0], isize::MAX) && nothing_there(c)? {
            return Ok(Attempt::Again);
        }
        by_method(c, &names::RECVFROM, [(*c).args[0]])
    }
}

/// `sock_recvfrom_into(sock, buf, nbytes=0)`.
unsafe fn receive_from_into(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`]; the new number takes the place of the one that was given.
    unsafe {
        if !(*c).has_waited {
            let given = (*c).args[1];
            let given = if given.is_null() { 0 } else { ffi::PyObject_IsTrue(given) };
            match given {
                -1 => return Err(Raised),
                0 => {
                    let size = ffi::PyObject_Size((*c).args[0]);
                    if size < 0 {
                        return Err(Raised);
                    }
                    let size = Owned::from_new(ffi::PyLong_FromSsize_t(size))?;
                    let mut old = std::mem::replace(&mut (*c).args[1], size.into_ptr());
                    clear(&mut old);
                }
                _ => {}
            }
        }
        let [buffer, size] = (*c).args;
        let is_right =
            ffi::PyByteArray_CheckExact(buffer) != 0 && is_size(size, ffi::Py_SIZE(buffer));
        if is_right && nothing_there(c)? {
            return Ok(Attempt::Again);
        }
        by_method(c, &names::RECVFROM_INTO, (*c).args)
    }
}

/// `sock_sendall(sock, data)`.
unsafe fn send_all(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`]; a bytes object does not change, any other buffer is held until the end.
    unsafe {
        let data = (*c).args[0];
        let Some(fd) = own_way(c)? else {
            return send_by_method(c);
        };
        let all = if ffi::PyBytes_CheckExact(data) != 0 {
            bytes::contents(data)
        } else {
            if (*c).view.is_null() {
                let mut view = Box::new(std::mem::zeroed::<ffi::Py_buffer>());
                if ffi::PyObject_GetBuffer(data, &mut *view, ffi::PyBUF_SIMPLE) != 0 {
                    return Err(Raised);
                }
                (*c).view = Box::into_raw(view);
            }
            let view = (*c).view;
            match (*view).len as usize {
                0 => &[],
                size => std::slice::from_raw_parts((*view).buf.cast::<u8>(), size),
            }
        };
        let rest = &all[(*c).sent..];
        let sent = outcome(retry(|| sys::send_now(fd, rest)))?.map(|sent| (sent, rest.len()));
        match sent {
            Some((sent, left)) if sent == left => {
                release_view(c);
                Ok(Attempt::Done(none()))
            }
            sent => {
                (*c).sent += sent.map_or(0, |(sent, _)| sent);
                Ok(Attempt::Again)
            }
        }
    }
}

/// As asyncio does it, by `sock.send()`: `args[1]` is the memoryview of what is sent, once something is left.
#[cold]
unsafe fn send_by_method(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`].
    unsafe {
        let view = (*c).args[1];
        let (part, all) = if view.is_null() {
            (Owned::from_new(new_ref((*c).args[0]))?, (*c).args[0])
        } else {
            let part = ffi::PySequence_GetSlice(view, (*c).sent as isize, isize::MAX);
            (Owned::from_new(part)?, view)
        };
        if let Attempt::Done(sent) = by_method(c, &names::SEND, [part.as_ptr()])? {
            let sent = Owned::from_new(sent)?;
            let sent = ffi::PyLong_AsSsize_t(sent.as_ptr());
            if sent < 0 {
                return Err(Raised);
            }
            (*c).sent += sent as usize;
        }
        match ffi::PyObject_Size(all) {
            -1 => return Err(Raised),
            size if size as usize == (*c).sent => return Ok(Attempt::Done(none())),
            _ => {}
        }
        if view.is_null() {
            let view = Owned::from_new(ffi::PyMemoryView_FromObject((*c).args[0]))?;
            (*c).args[1] = view.into_ptr();
        }
        Ok(Attempt::Again)
    }
}

/// `sock_sendto(sock, data, address)`.
unsafe fn send_to(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`].
    unsafe {
        let [data, address] = (*c).args;
        by_method(c, &names::SENDTO, [data, address])
    }
}

/// `sock_accept(sock)`.
unsafe fn accept(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`].
    unsafe {
        let Attempt::Done(pair) = by_method(c, &names::ACCEPT, [])? else {
            return Ok(Attempt::Again);
        };
        let pair = Owned::from_new(pair)?;
        let connection = Owned::from_new(ffi::PySequence_GetItem(pair.as_ptr(), 0))?;
        method(connection.as_ptr(), &names::SETBLOCKING, [ffi::Py_False()])?;
        Ok(Attempt::Done(pair.into_ptr()))
    }
}

/// Waits, once: what `sock_connect` does while the connection is made.
unsafe fn writable(c: *mut Call) -> Raises<Attempt> {
    // SAFETY: as [`receive`].
    if unsafe { (*c).has_waited } {
        return Ok(Attempt::Done(none()));
    }
    Ok(Attempt::Again)
}
