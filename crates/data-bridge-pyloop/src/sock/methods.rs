//! The loop's methods that make the calls: they check the number of arguments and do nothing else.

use std::ptr::null_mut;

use pyo3::ffi;

use super::attempt;
use super::call::Kind;
use super::call_type::create;
use crate::py::errors::entry;
use crate::py::imports::cold_socket_function;
use crate::py::object::{raise, Obj, Owned, Raises};
use crate::py::types::keyword_row;

/// A call with its arguments: the socket and up to two others.
unsafe fn make(
    kind: &'static Kind,
    slf: Obj,
    args: *const Obj,
    given: isize,
    keywords: Obj,
    required: isize,
    most: isize,
) -> Raises<Obj> {
    // SAFETY: the interpreter's calling convention; keyword values follow the positional ones.
    unsafe {
        if keywords.is_null() && given >= required && given <= most {
            let mut others = [null_mut(); 2];
            for index in 1..given {
                others[index as usize - 1] = *args.offset(index);
            }
            return create(kind, slf, *args, others);
        }
        // By name, or wrong: Python's own rules and texts.
        let named = if keywords.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(keywords) };
        let stack: Vec<Obj> = (0..given + named).map(|index| *args.offset(index)).collect();
        let functions = cold_socket_function(c"Signatures")?;
        let function =
            Owned::from_new(ffi::PyObject_GetAttrString(functions.as_ptr(), kind.name.as_ptr()))?;
        let bound = Owned::from_new(ffi::PyObject_Vectorcall(
            function.as_ptr(),
            stack.as_ptr(),
            given as usize,
            keywords,
        ))?;
        let mut others = [null_mut(); 2];
        for index in 1..ffi::PyTuple_GET_SIZE(bound.as_ptr()) {
            others[index as usize - 1] = ffi::PyTuple_GET_ITEM(bound.as_ptr(), index);
        }
        create(kind, slf, ffi::PyTuple_GET_ITEM(bound.as_ptr(), 0), others)
    }
}

macro_rules! calls {
    ($($function:ident = $kind:ident, $required:literal, $most:literal;)*) => {
        $(
            unsafe extern "C" fn $function(slf: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
                // SAFETY: the interpreter's calling convention; the method descriptor has checked the type of `slf`.
                entry(stringify!($function), || unsafe {
                    make(&attempt::$kind, slf, args, count, keywords, $required, $most).unwrap_or(null_mut())
                })
            }
        )*
    };
}

calls! {
    sock_recv = RECV, 2, 2;
    sock_recv_into = RECV_INTO, 2, 2;
    sock_recvfrom = RECVFROM, 2, 2;
    sock_recvfrom_into = RECVFROM_INTO, 2, 3;
    sock_sendall = SENDALL, 2, 2;
    sock_sendto = SENDTO, 3, 3;
    sock_accept = ACCEPT, 1, 1;
    sock_writable = WRITABLE, 1, 1;
}

/// `_sock_send_range(sock, file, offset, count)`: sendfile(2) until all is sent.
#[cfg(target_os = "linux")]
unsafe extern "C" fn send_range(slf: Obj, args: *const Obj, count: isize, _: Obj) -> Obj {
    // SAFETY: as above; called by `_loop.py` alone.
    entry("_sock_send_range", || unsafe {
        if count != 4 {
            raise(ffi::PyExc_TypeError, "_sock_send_range() takes exactly 4 arguments");
            return null_mut();
        }
        super::file::create_call(slf, *args, *args.add(1), *args.add(2), *args.add(3))
            .unwrap_or(null_mut())
    })
}

/// The raw methods of the class.
pub fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        keyword_row(
            c"sock_recv",
            sock_recv,
            c"sock_recv($self, sock, n)\n--\n\n\
Receive up to *n* bytes from a non-blocking socket; b'' is the end of the stream. A coroutine.\n\n\
A cancelled call has received nothing. Source: asyncio.AbstractEventLoop.sock_recv.",
        ),
        keyword_row(
            c"sock_recv_into",
            sock_recv_into,
            c"sock_recv_into($self, sock, buf)\n--\n\n\
Receive into a writable buffer; the number of bytes. A coroutine.\n\n\
A cancelled call has received nothing. Source: asyncio.AbstractEventLoop.sock_recv_into.",
        ),
        keyword_row(
            c"sock_recvfrom",
            sock_recvfrom,
            c"sock_recvfrom($self, sock, bufsize)\n--\n\n\
Receive a datagram of up to *bufsize* bytes: (data, address). A coroutine.\n\n\
Source: asyncio.AbstractEventLoop.sock_recvfrom.",
        ),
        keyword_row(
            c"sock_recvfrom_into",
            sock_recvfrom_into,
            c"sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n\
Receive a datagram of up to *nbytes* bytes (0: as many as fit) into a writable buffer: (number of bytes, address).\n\
A coroutine. Source: asyncio.AbstractEventLoop.sock_recvfrom_into.",
        ),
        keyword_row(
            c"sock_sendall",
            sock_sendall,
            c"sock_sendall($self, sock, data)\n--\n\n\
Send all of a bytes-like object. A coroutine.\n\n\
After an error or a cancellation nobody knows how much was sent. Source: asyncio.AbstractEventLoop.sock_sendall.",
        ),
        keyword_row(
            c"sock_sendto",
            sock_sendto,
            c"sock_sendto($self, sock, data, address)\n--\n\n\
Send a datagram to *address*; the number of bytes. A coroutine.\n\n\
Source: asyncio.AbstractEventLoop.sock_sendto.",
        ),
        keyword_row(
            c"sock_accept",
            sock_accept,
            c"sock_accept($self, sock)\n--\n\n\
Accept a connection of a listening, non-blocking socket: (connection, address). A coroutine.\n\n\
The connection is a non-blocking socket. Source: asyncio.AbstractEventLoop.sock_accept.",
        ),
        keyword_row(
            c"_sock_writable",
            sock_writable,
            c"_sock_writable($self, sock, /)\n--\n\nWait until the socket is writable. A coroutine.",
        ),
        #[cfg(target_os = "linux")]
        keyword_row(
            c"_sock_send_range",
            send_range,
            c"_sock_send_range($self, sock, file, offset, count, /)\n--\n\n\
Send *count* bytes (0: all) of an open file from *offset* on by sendfile(2); the number of bytes. A coroutine.",
        ),
    ]
}
