//! Attribute and method names that the crate looks up, interned once.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::imports::Import;

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {
        $(
            #[doc = concat!("The interned name \"", $text, "\".")]
            pub static $name: Import = Import::new();
        )*

        /// Interns all names; once, when the module is set up.
        pub fn intern_all(py: Python<'_>) {
            $($name.set(PyString::intern(py, $text).into_any().into_ptr());)*
        }
    };
}

names! {
    ACCEPT = "accept",
    ASYNCIO_FUTURE_BLOCKING = "_asyncio_future_blocking",
    ATTACH = "_attach",
    BUFFER_UPDATED = "buffer_updated",
    CALL_CONNECTION_LOST = "_call_connection_lost",
    CALL_SOON = "call_soon",
    CLOSE = "close",
    CONNECTION_LOST = "connection_lost",
    CONNECTION_MADE = "connection_made",
    CONTEXT = "context",
    CREATE_FUTURE = "create_future",
    DATAGRAM_RECEIVED = "datagram_received",
    DATA_RECEIVED = "data_received",
    DETACH = "_detach",
    ENSURE_FD_NO_TRANSPORT = "_ensure_fd_no_transport",
    EOF_RECEIVED = "eof_received",
    ERROR_RECEIVED = "error_received",
    FILENO = "fileno",
    GET_BUFFER = "get_buffer",
    PAUSE_WRITING = "pause_writing",
    PEERNAME = "peername",
    READ_READY = "_read_ready",
    RECV = "recv",
    RECVFROM = "recvfrom",
    RECVFROM_INTO = "recvfrom_into",
    RECV_INTO = "recv_into",
    RESULT = "result",
    RESUME_WRITING = "resume_writing",
    SEND = "send",
    SENDTO = "sendto",
    SETBLOCKING = "setblocking",
    SET_EXCEPTION = "set_exception",
    SET_RESULT = "set_result",
    START_READING = "_start_reading",
    WRITE_READY = "_write_ready",
}
