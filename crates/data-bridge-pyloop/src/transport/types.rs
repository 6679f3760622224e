//! The transport types that exist, and what each adds to the common methods.

use pyo3::ffi;

use super::base::{has, state, Base};
use super::kind::{
    attribute, common_attributes, common_methods, done, get_eof, get_fd, get_file, getters, given,
    make_type, methods, reading_methods, row, writing_methods,
};
use super::stream::{self, Stream};
use super::writing;
use crate::py::errors::entry;
use crate::py::object::{clear, none, Obj, Raises};

use std::ffi::c_void;

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

getters! {
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
