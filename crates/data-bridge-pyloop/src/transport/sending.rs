//! Sending datagrams: at once, or when the descriptor takes more.
//!
//! (host, port) with a number for a host, and the paths of Unix sockets, become an address here; names, and whatever else there is,
//! go through the Python socket's own `sendto()`, with its look-ups and its errors.

use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::base::{
    call_connection_lost, fatal_error, has, maybe_pause, maybe_resume, set, state, unwatch, watch,
    Base,
};
use super::datagram::{datagram, failed, sends_empty, would_block, Datagram, Letter, HEADER};
use super::stream::retry;
use super::writing::{after_the_end, immutable, is_bytes_like, not_bytes_like, SEND_FAILED};
use crate::py::bytes;
use crate::py::call::method;
use crate::py::errors::raise_os;
use crate::py::names;
use crate::py::object::{checked, clear, new_ref, Obj, Owned, Raised, Raises};
use crate::reactor::WRITE;
use crate::sys::{self, SocketAddrAny, SocketAddrUnix};

/// What asyncio says of an error that is not the kernel's.
pub const WRITE_FAILED: &CStr = c"Fatal write error on datagram transport";

/// Paths from this length on are Python's to judge: the kernels differ in what they take.
const LONG_PATH: usize = 104;

/// `sendto(data, addr=None)`.
///
/// # Safety
/// Attached, outside every `LoopCell`; the caller holds the transport, a datagram transport, and the arguments.
pub unsafe fn sendto(t: *mut Base, data: Obj, address: Obj) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let exact = ffi::PyBytes_CheckExact(data) != 0;
        if !exact && !is_bytes_like(data) {
            return Err(not_bytes_like(data));
        }
        if !sends_empty() {
            match ffi::PyObject_Size(data) {
                -1 => return Err(Raised),
                0 => return Ok(()),
                _ => {}
            }
        }
        let d = datagram(t);
        let mut address = address;
        if !(*d).address.is_null() {
            if address != ffi::Py_None() && !same(address, (*d).address)? {
                return Err(foreign_address((*d).address));
            }
            address = (*d).address;
        }
        // As asyncio, which sends to anybody else until the socket is closed.
        let over = (*t).owner.is_null() || has(t, state::GONE);
        if over || ((*t).conn_lost != 0 && !(*d).address.is_null()) {
            return after_the_end(t, SEND_FAILED);
        }
        if (*d).queue.is_empty() {
            match attempt(t, data, address) {
                Attempt::Full if (*t).owner.is_null() => return Ok(()),
                Attempt::Sent => return Ok(()),
                Attempt::Failed => return failed(t, WRITE_FAILED),
                Attempt::Full => wait_for_room(t)?,
            }
        }
        // Nobody may change what waits.
        let data = match immutable(data) {
            Ok(data) => data.into_ptr(),
            Err(Raised) => return fatal_error(t, WRITE_FAILED),
        };
        (*d).size += cost(data);
        (*d).queue.push_back(Letter { data, address: new_ref(address) });
        maybe_pause(t)
    }
}

unsafe fn same(one: Obj, other: Obj) -> Raises<bool> {
    // SAFETY: as [`sendto`].
    match unsafe { ffi::PyObject_RichCompareBool(one, other, ffi::Py_EQ) } {
        -1 => Err(Raised),
        same => Ok(same == 1),
    }
}

#[cold]
unsafe fn foreign_address(own: Obj) -> Raised {
    // SAFETY: as [`sendto`].
    unsafe {
        let text = c"Invalid address: must be None or %S";
        ffi::PyErr_Format(ffi::PyExc_ValueError, text.as_ptr(), own);
    }
    Raised
}

/// What a datagram counts for while it waits.
unsafe fn cost(data: Obj) -> usize {
    // SAFETY: the caller holds a bytes object.
    unsafe { bytes::len(data) + HEADER.load(Ordering::Relaxed) }
}

/// How an attempt to send one datagram ended.
enum Attempt {
    Sent,
    /// The kernel takes no more now.
    Full,
    /// With the exception set.
    Failed,
}

/// Tries to send one datagram.
unsafe fn attempt(t: *mut Base, data: Obj, address: Obj) -> Attempt {
    // SAFETY: as [`sendto`].
    unsafe {
        if ffi::PyBytes_CheckExact(data) != 0 {
            return send(t, bytes::contents(data), data, address);
        }
        // A class may have its own way to give a buffer (3.12), and that any effect: so this comes first.
        let mut view = std::mem::zeroed::<ffi::Py_buffer>();
        if ffi::PyObject_GetBuffer(data, &mut view, ffi::PyBUF_SIMPLE) != 0 {
            return Attempt::Failed;
        }
        let bytes = match view.len as usize {
            0 => &[],
            len => std::slice::from_raw_parts(view.buf.cast::<u8>(), len),
        };
        let sent = if has(t, state::GONE) { Attempt::Sent } else { send(t, bytes, data, address) };
        ffi::PyBuffer_Release(&mut view);
        sent
    }
}

/// One system call, if the address is known here; `bytes` are the contents of `data`.
unsafe fn send(t: *mut Base, bytes: &[u8], data: Obj, address: Obj) -> Attempt {
    // SAFETY: as [`sendto`].
    unsafe {
        let (d, fd) = (datagram(t), (*t).fd);
        let sent = if (*d).connected {
            retry(|| sys::send(fd, bytes))
        } else {
            match receiver(d, address).as_ref() {
                Some(receiver) => retry(|| sys::send_to(fd, bytes, receiver)),
                None => return send_by_socket(t, data, address),
            }
        };
        match sent {
            Ok(_) => Attempt::Sent,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Attempt::Full,
            Err(error) => {
                raise_os(pyo3::Python::assume_attached(), &error);
                Attempt::Failed
            }
        }
    }
}

/// Any address that is not known here, and its errors.
unsafe fn send_by_socket(t: *mut Base, data: Obj, address: Obj) -> Attempt {
    // SAFETY: as [`sendto`]; the transport is not lost yet, so it has its socket, which is held for the call.
    unsafe {
        let socket = Owned::from_new(super::base::or_none((*t).file));
        match socket.and_then(|s| method(s.as_ptr(), &names::SENDTO, [data, address])) {
            Ok(_) => Attempt::Sent,
            Err(Raised) if would_block() => {
                ffi::PyErr_Clear();
                Attempt::Full
            }
            Err(Raised) => Attempt::Failed,
        }
    }
}

/// The kernel's form of an address; null if only Python's socket knows it.
#[inline]
unsafe fn receiver(d: *mut Datagram, address: Obj) -> *const SocketAddrAny {
    // SAFETY: as [`sendto`]; the pointer is used before anything else is remembered.
    unsafe {
        for known in [(*d).heard.last(), &(*d).told] {
            if let Some(receiver) = known.of(address) {
                return receiver;
            }
        }
        let Some(made) = kernel_address((*d).family, address) else {
            return null_mut();
        };
        (*d).told.replace(new_ref(address), made);
        (*d).told.of(address).map_or(null_mut(), |receiver| receiver)
    }
}

/// Of objects that are immutable through and through only.
unsafe fn kernel_address(family: i32, address: Obj) -> Option<SocketAddrAny> {
    // SAFETY: as [`sendto`]; looks at exact types only, so no Python code runs.
    unsafe {
        if family == libc::AF_UNIX {
            return unix_address(address);
        }
        if ffi::PyTuple_CheckExact(address) == 0 {
            return None;
        }
        let count = ffi::PyTuple_GET_SIZE(address);
        let number = |index: isize, most: u32| {
            if index >= count {
                return Some(0);
            }
            let item = ffi::PyTuple_GET_ITEM(address, index);
            if ffi::PyLong_CheckExact(item) == 0 {
                return None;
            }
            let mut overflow = 0;
            let value = ffi::PyLong_AsLongLongAndOverflow(item, &mut overflow);
            u32::try_from(value).ok().filter(|&value| overflow == 0 && value <= most)
        };
        let host = text(if count > 1 { ffi::PyTuple_GET_ITEM(address, 0) } else { null_mut() })?;
        let port = number(1, 65535)? as u16;
        match family {
            libc::AF_INET if count == 2 => {
                Some(SocketAddrV4::new(host.parse::<Ipv4Addr>().ok()?, port).into())
            }
            libc::AF_INET6 if count <= 4 => {
                let host = host.parse::<Ipv6Addr>().ok()?;
                let (flow, scope) = (number(2, 0xf_ffff)?, number(3, u32::MAX)?);
                Some(SocketAddrV6::new(host, port, flow, scope).into())
            }
            _ => None,
        }
    }
}

/// The characters of an exact str.
unsafe fn text<'a>(o: Obj) -> Option<&'a str> {
    // SAFETY: the caller holds the object, or it is null; only a string of surrogates has no UTF-8 form.
    unsafe {
        if o.is_null() || ffi::PyUnicode_CheckExact(o) == 0 {
            return None;
        }
        let mut size = 0;
        let start = ffi::PyUnicode_AsUTF8AndSize(o, &mut size);
        if start.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        let bytes = std::slice::from_raw_parts(start.cast(), size as usize);
        Some(std::str::from_utf8_unchecked(bytes))
    }
}

unsafe fn unix_address(address: Obj) -> Option<SocketAddrAny> {
    // SAFETY: as [`kernel_address`]; the encoding of file names runs Python code only where it is no built-in one, and only of codecs.
    unsafe {
        let name = if ffi::PyUnicode_CheckExact(address) != 0 {
            let encoded = Owned::from_new(ffi::PyUnicode_EncodeFSDefault(address));
            if encoded.is_err() {
                ffi::PyErr_Clear();
            }
            encoded.ok()?
        } else if ffi::PyBytes_CheckExact(address) != 0 {
            Owned::from_new(new_ref(address)).ok()?
        } else {
            return None;
        };
        let name = bytes::contents(name.as_ptr());
        match name.first() {
            None => None,
            #[cfg(target_os = "linux")]
            Some(0) => SocketAddrUnix::new_abstract_name(&name[1..]).ok().map(Into::into),
            Some(_) if name.len() >= LONG_PATH => None,
            Some(_) => SocketAddrUnix::new(name).ok().map(Into::into),
        }
    }
}

/// Asks to be told when the descriptor takes more.
unsafe fn wait_for_room(t: *mut Base) -> Raises<()> {
    // SAFETY: as [`sendto`].
    unsafe {
        set(t, state::BLOCKED, true);
        let context = checked(ffi::PyContext_CopyCurrent())?;
        let mut old = std::mem::replace(&mut (*t).write_context, context);
        clear(&mut old);
        watch(t, WRITE)
    }
}

/// The descriptor takes more.
///
/// # Safety
/// As [`sendto`].
pub unsafe fn write_ready(t: *mut Base) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if !has(t, state::BLOCKED) {
            return Ok(());
        }
        let d = datagram(t);
        while let Some(letter) = (*d).queue.pop_front() {
            (*d).size -= cost(letter.data);
            let Letter { data, address } = letter;
            let (data, address) = (Owned::from_new(data)?, Owned::from_new(address)?);
            match attempt(t, data.as_ptr(), address.as_ptr()) {
                // As asyncio: the rest leaves by and by, also after an error.
                Attempt::Failed => return failed(t, WRITE_FAILED),
                // A look-up may have let others run.
                _ if (*t).owner.is_null() => return Ok(()),
                Attempt::Sent => {}
                Attempt::Full => {
                    let letter = Letter { data: data.into_ptr(), address: address.into_ptr() };
                    (*d).size += cost(letter.data);
                    (*d).queue.push_front(letter);
                    break;
                }
            }
        }
        // May send more.
        maybe_resume(t)?;
        if !(*d).queue.is_empty() || (*t).owner.is_null() || (*t).conn_lost != 0 {
            return Ok(());
        }
        unwatch(t, WRITE);
        set(t, state::BLOCKED, false);
        let mut context = std::mem::replace(&mut (*t).write_context, null_mut());
        let ended =
            if has(t, state::CLOSING) { call_connection_lost(t, ffi::Py_None()) } else { Ok(()) };
        clear(&mut context);
        ended
    }
}

/// Forgets what waits to be sent.
///
/// # Safety
/// As [`sendto`].
pub unsafe fn discard(t: *mut Base) {
    // SAFETY: the caller's promise; all are taken out before the first is released.
    unsafe {
        let d = datagram(t);
        (*d).size = 0;
        for letter in std::mem::take(&mut (*d).queue) {
            ffi::Py_DECREF(letter.data);
            ffi::Py_DECREF(letter.address);
        }
    }
}
