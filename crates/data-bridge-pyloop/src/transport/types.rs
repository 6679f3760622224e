//! The transport types that exist, and what each adds to the common methods.

use pyo3::ffi;

use super::base::{has, state, Base};
use super::datagram::{datagram, Datagram};
use super::kind::{
    attribute, common_attributes, common_methods, done, get_eof, get_fd, get_file, getters, given,
    make_type, methods, one_or_two, reading_methods, writing_methods,
};
use super::read_pipe::ReadPipe;
use super::stream::{self, Stream};
use super::write_pipe::WritePipe;
use super::{base, read_pipe, sending, write_pipe, writing};
use crate::py::errors::entry;
use crate::py::object::{clear, none, raise, Obj, Raises};
use crate::py::types::{keyword_row, row};

use std::ffi::{c_int, c_void};

methods! {
    write(t, data) => done(writing::write(t, data));
    writelines(t, list) => done(writing::writelines(t, list));
    write_eof(t) => done(writing::write_eof(t));
    can_write_eof(_t) => ffi::PyBool_FromLong(1);
    make_empty_waiter(t) => given(writing::make_empty_waiter(t));
    reset_empty_waiter(t) => {
        clear(&mut (*stream::stream(t)).empty_waiter);
        none()
    };
}

methods! {
    close_read_pipe(t) => done(read_pipe::close(t));
    write_to_pipe(t, data) => done(write_pipe::write(t, data));
    write_eof_to_pipe(t) => done(write_pipe::write_eof(t));
    abort_write_pipe(t) => done(write_pipe::abort(t));
}

/// `sendto(data, addr=None)`.
unsafe extern "C" fn sendto(o: Obj, args: *const Obj, count: isize, keywords: Obj) -> Obj {
    // SAFETY: the interpreter's calling convention; the descriptor has checked the type of `o`.
    entry("sendto", || unsafe {
        let arguments = if count == 2 && keywords.is_null() {
            Ok([*args, *args.add(1)])
        } else {
            let text = "sendto() takes data and optionally an addr";
            one_or_two(args, count, keywords, [c"data", c"addr"], text)
        };
        done(arguments.and_then(|[data, address]| sending::sendto(o.cast(), data, address)))
    })
}

getters! {
    get_address(t) => base::or_none((*datagram(t)).address);
    get_server(t) => super::base::or_none((*stream::stream(t)).server);
    get_empty_waiter(t) => super::base::or_none((*stream::stream(t)).empty_waiter);
    get_protocol_connected(t) => ffi::PyBool_FromLong((!has(t, state::GONE)).into());
}

/// Makes `SocketTransport`.
///
/// # Safety
/// Attached; `bases` is a tuple of asyncio's transport classes.
pub unsafe fn socket_transport(bases: Obj) -> Raises<Obj> {
    use ffi::{METH_NOARGS as NONE, METH_O as ONE};
    let mut table = common_methods();
    table.extend(reading_methods());
    table.extend(writing_methods());
    table.extend([
        row(c"write", write, ONE, c"write($self, data, /)\n--\n\nSend bytes, a bytearray or a memoryview; never blocks.\n\nWhat is written in a callback leaves at the latest at the end of the loop's iteration. Raises TypeError for other types,\nRuntimeError after write_eof(). Source: asyncio.WriteTransport.write."),
        row(c"writelines", writelines, ONE, c"writelines($self, list_of_data, /)\n--\n\nSend an iterable of bytes-like objects, in one system call where that is possible."),
        row(c"write_eof", write_eof, NONE, c"write_eof($self, /)\n--\n\nClose the sending side after what waits was sent. Source: asyncio.WriteTransport.write_eof."),
        row(c"can_write_eof", can_write_eof, NONE, c"can_write_eof($self, /)\n--\n\nTrue: a socket has two sides."),
        row(c"_make_empty_waiter", make_empty_waiter, NONE, c"_make_empty_waiter($self, /)\n--\n\nA future that is done when nothing waits to be sent; no writes until it is reset."),
        row(c"_reset_empty_waiter", reset_empty_waiter, NONE, c"_reset_empty_waiter($self, /)\n--\n\nAllow writes again."),
    ]);
    let mut attributes = common_attributes();
    attributes.extend([
        attribute(c"_sock", get_file),
        attribute(c"_sock_fd", get_fd),
        attribute(c"_eof", get_eof),
        attribute(c"_server", get_server),
        attribute(c"_empty_waiter", get_empty_waiter),
        attribute(c"_protocol_connected", get_protocol_connected),
    ]);
    // SAFETY: the caller's promise.
    unsafe {
        make_type(
            c"data_bridge.pyloop._native.SocketTransport",
            c"A connected TCP or Unix stream socket, as asyncio.Transport. Made by the loop.",
            size_of::<Stream>(),
            bases,
            table,
            attributes,
        )
    }
}

/// Makes `DatagramTransport`.
///
/// # Safety
/// As [`socket_transport`].
pub unsafe fn datagram_transport(bases: Obj) -> Raises<Obj> {
    let mut table = common_methods();
    table.extend(reading_methods());
    table.extend(writing_methods());
    table.push(keyword_row(c"sendto", sendto, c"sendto($self, data, addr=None)\n--\n\nSend a datagram to addr, or to the peer; never blocks.\n\nErrors of the kernel go to the protocol's error_received(). Raises TypeError for other types than bytes, bytearray and\nmemoryview, ValueError for an address other than the remote address. Source: asyncio.DatagramTransport.sendto."));
    let mut attributes = common_attributes();
    attributes.extend([
        attribute(c"_sock", get_file),
        attribute(c"_sock_fd", get_fd),
        attribute(c"_address", get_address),
        attribute(c"_protocol_connected", get_protocol_connected),
    ]);
    // SAFETY: the caller's promise.
    unsafe {
        make_type(
            c"data_bridge.pyloop._native.DatagramTransport",
            c"A UDP or Unix datagram socket, as asyncio.DatagramTransport. Made by the loop.",
            size_of::<Datagram>(),
            bases,
            table,
            attributes,
        )
    }
}

/// The common methods that pipes have, too.
fn pipe_methods() -> Vec<ffi::PyMethodDef> {
    let mut table = common_methods();
    table.retain(|row| {
        // SAFETY: the names of the rows are constants.
        let name = unsafe { std::ffi::CStr::from_ptr(row.ml_name) };
        ![c"close", c"abort", c"_force_close"].contains(&name)
    });
    table
}

/// The attributes of pipes.
fn pipe_attributes() -> Vec<ffi::PyGetSetDef> {
    let mut table = common_attributes();
    let pipe = ffi::PyGetSetDef { set: Some(set_pipe), ..attribute(c"_pipe", get_file) };
    table.extend([pipe, attribute(c"_fileno", get_fd)]);
    table
}

/// `_pipe = None`: somebody else has closed the pipe, or will.
unsafe extern "C" fn set_pipe(o: Obj, value: Obj, _: *mut c_void) -> c_int {
    // SAFETY: the descriptor has checked the type of `o`; `value` is null where the attribute is deleted.
    unsafe {
        if value != ffi::Py_None() {
            raise(ffi::PyExc_AttributeError, "a transport's _pipe can only be given up: None");
            return -1;
        }
        let t: *mut Base = o.cast();
        if !has(t, state::GONE) && !(*t).owner.is_null() {
            base::give_up_descriptor(t);
            clear(&mut (*t).file);
        }
    }
    0
}

/// Makes `ReadPipeTransport`.
///
/// # Safety
/// As [`socket_transport`].
pub unsafe fn read_pipe_transport(bases: Obj) -> Raises<Obj> {
    let mut table = pipe_methods();
    table.extend(reading_methods());
    table.push(row(c"close", close_read_pipe, ffi::METH_NOARGS, c"close($self, /)\n--\n\nClose; connection_lost(None) follows. Source: asyncio.BaseTransport.close."));
    // SAFETY: the caller's promise.
    unsafe {
        make_type(
            c"data_bridge.pyloop._native.ReadPipeTransport",
            c"The reading end of a pipe, as asyncio.ReadTransport. Made by the loop.",
            size_of::<ReadPipe>(),
            bases,
            table,
            pipe_attributes(),
        )
    }
}

/// Makes `WritePipeTransport`.
///
/// # Safety
/// As [`socket_transport`].
pub unsafe fn write_pipe_transport(bases: Obj) -> Raises<Obj> {
    use ffi::{METH_NOARGS as NONE, METH_O as ONE};
    let mut table = pipe_methods();
    table.extend(writing_methods());
    table.extend([
        row(c"write", write_to_pipe, ONE, c"write($self, data, /)\n--\n\nWrite bytes, a bytearray or a memoryview, at once or when the pipe takes more; never blocks.\n\nRaises AssertionError for other types. Source: asyncio.WriteTransport.write."),
        row(c"write_eof", write_eof_to_pipe, NONE, c"write_eof($self, /)\n--\n\nClose after what waits was written; connection_lost(None) follows. Source: asyncio.WriteTransport.write_eof."),
        row(c"can_write_eof", can_write_eof, NONE, c"can_write_eof($self, /)\n--\n\nTrue: the end of the pipe is the end of its data."),
        row(c"close", write_eof_to_pipe, NONE, c"close($self, /)\n--\n\nClose after what waits was written; connection_lost(None) follows. Source: asyncio.BaseTransport.close."),
        row(c"abort", abort_write_pipe, NONE, c"abort($self, /)\n--\n\nClose at once; what waits is lost. connection_lost(None) follows. Source: asyncio.WriteTransport.abort."),
    ]);
    // SAFETY: the caller's promise.
    unsafe {
        make_type(
            c"data_bridge.pyloop._native.WritePipeTransport",
            c"The writing end of a pipe, as asyncio.WriteTransport. Made by the loop.",
            size_of::<WritePipe>(),
            bases,
            table,
            pipe_attributes(),
        )
    }
}
