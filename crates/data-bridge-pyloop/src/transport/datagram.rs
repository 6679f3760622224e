//! The datagram transport of UDP and Unix sockets, as `asyncio.selector_events._SelectorDatagramTransport`.
//!
//! Reading: all that is there, within a budget, one receive each. (Measured: recvmmsg(2) is as dear for one datagram as a receive
//! and a look for a second, and spares a twentieth of sixteen, but datagrams received ahead would have to be kept while reading
//! is paused.) Sending is in `sending.rs`.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use super::base::{self, begin, core, fatal_error, has, init, state, Base, Kind};
use super::senders::{Known, Senders};
use super::sending;
use super::stream::{hold_protocol, retry, MAX_SIZE};
use crate::address::Address;
use crate::loop_impl::LoopCore;
use crate::py::call::{method, take_exception};
use crate::py::errors::{fetch, raise_os};
use crate::py::imports;
use crate::py::names;
use crate::py::object::{clear, new_ref, none, Obj, Owned, Raised, Raises};
use crate::sys::{self, SocketAddrAny};

/// Most datagrams received before others get their turn.
const MOST: usize = 64;
/// Most bytes received before others get their turn.
const ENOUGH: usize = 256 * 1024;

/// What asyncio of this version counts for the header of each datagram that waits; 0 where it counts none and drops empty ones.
pub static HEADER: AtomicUsize = AtomicUsize::new(0);

/// A datagram transport.
#[repr(C)]
pub struct Datagram {
    pub(super) base: Base,
    /// asyncio's `_address`: where everything goes; null for nowhere in particular.
    pub(super) address: Obj,
    /// What waits to be sent.
    pub(super) queue: VecDeque<Letter>,
    /// asyncio's `_buffer_size`.
    pub(super) size: usize,
    /// Senders.
    pub(super) heard: Senders,
    /// The last receiver that was no sender.
    pub(super) told: Known,
    pub(super) family: i32,
    /// Whether the kernel knows the peer.
    pub(super) connected: bool,
}

/// A datagram that waits to be sent. Owns its references, but has no destructor.
pub struct Letter {
    /// A bytes object.
    pub(super) data: Obj,
    /// Where to, as the caller said it.
    pub(super) address: Obj,
}

/// The behaviour of a datagram transport.
pub static DATAGRAM: Kind = Kind {
    read_ready,
    write_ready: sending::write_ready,
    // Nothing waits for the end of an iteration.
    flush: |_| Ok(()),
    buffered: |t| {
        // SAFETY: the transport is alive, and of this kind.
        unsafe { (*datagram(t)).size }
    },
    discard: sending::discard,
    release,
    lost: |_| Ok(()),
    references: |t, show| {
        // SAFETY: as above. Known addresses are no containers of the collector's.
        unsafe {
            show((*datagram(t)).address);
            (*datagram(t)).queue.iter().for_each(|letter| show(letter.address));
        }
    },
    drop: |t| {
        // SAFETY: as above; the object's memory is about to be freed, and what the queue held was released.
        unsafe {
            std::ptr::drop_in_place(&raw mut (*datagram(t)).queue);
            std::ptr::drop_in_place(&raw mut (*datagram(t)).heard);
        }
    },
    deaf: state::UNREADING,
    foreign: false,
    write_error: sending::WRITE_FAILED,
};

/// The whole transport behind its head.
#[inline(always)]
pub fn datagram(t: *mut Base) -> *mut Datagram {
    t.cast()
}

unsafe fn release(t: *mut Base) {
    // SAFETY: the transport is alive, and of this kind; attached.
    unsafe {
        sending::discard(t);
        let d = datagram(t);
        clear(&mut (*d).address);
        (*d).heard.forget();
        (*d).told.forget();
    }
}

/// A transport for a Python socket, which it holds. `extra` is the dict of extra information, complete.
unsafe fn for_socket(
    owner: Obj,
    socket: Obj,
    (fd, family): (i32, i32),
    protocol: Obj,
    address: Obj,
    waiter: Obj,
    extra: Obj,
) -> Raises<Obj> {
    // SAFETY: attached, outside every cell; all are alive, `owner` is open; the memory of a new object is zero, and the fields
    // that may not be zero are written first.
    unsafe {
        let told = |truth| if truth == -1 { Err(Raised) } else { Ok(truth == 1) };
        let has_address = told(ffi::PyObject_IsTrue(address))?;
        let peer = Owned::from_new(ffi::PyObject_GetItem(extra, names::PEERNAME.get()))?;
        let connected = told(ffi::PyObject_IsTrue(peer.as_ptr()))?;
        let class: *mut ffi::PyTypeObject = imports::DATAGRAM_TRANSPORT.get().cast();
        let made = Owned::from_new(ffi::PyType_GenericAlloc(class, 0))?;
        let d: *mut Datagram = made.as_ptr().cast();
        (&raw mut (*d).queue).write(VecDeque::new());
        (&raw mut (*d).heard).write(Senders::default());
        (&raw mut (*d).told).write(Known::NOTHING);
        (*d).family = family;
        (*d).connected = connected;
        if has_address {
            (*d).address = new_ref(address);
        }
        let t: *mut Base = d.cast();
        (*t).extra = new_ref(extra);
        (*t).file = new_ref(socket);
        init(t, &DATAGRAM, owner, fd, protocol);
        core(t).enter_transport(fd, t.cast());
        begin(t, waiter)?;
        Ok(made.into_ptr())
    }
}

/// What one receive gave.
enum Received {
    /// A datagram, and where it came from as Python shows it.
    Datagram(Owned, Owned),
    Nothing,
    /// With the exception set.
    Failed,
}

unsafe fn read_ready(t: *mut Base) -> Raises<()> {
    let mut bytes = 0;
    for _ in 0..MOST {
        // SAFETY: attached, outside every `LoopCell`; the loop holds the transport for the call.
        unsafe {
            if has(t, state::UNREADING) || (*t).conn_lost != 0 || (*t).owner.is_null() {
                return Ok(());
            }
            let native =
                matches!((*datagram(t)).family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
            let (data, address) = match if native { receive(t) } else { receive_foreign(t) } {
                Received::Datagram(data, address) => (data, address),
                Received::Nothing => return Ok(()),
                Received::Failed => return failed(t, c"Fatal read error on datagram transport"),
            };
            if (*t).owner.is_null() {
                return Ok(());
            }
            let size = ffi::PyObject_Size(data.as_ptr());
            let protocol = hold_protocol(t)?;
            let arguments = [data.as_ptr(), address.as_ptr()];
            method(protocol.as_ptr(), &names::DATAGRAM_RECEIVED, arguments)?;
            bytes += size as usize;
            // An empty one may be the end of a sequence of packets, which never ends.
            if bytes >= ENOUGH || size <= 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

unsafe fn receive(t: *mut Base) -> Received {
    // SAFETY: as [`read_ready`]. No other Python code runs for a new bytes object.
    unsafe {
        let fd = (*t).fd;
        let got = core(t).read_room.with(|room| {
            let room = room.get_or_insert_with(|| Box::new_uninit_slice(MAX_SIZE));
            retry(|| sys::receive_from(fd, room)).map(|(size, sender)| {
                (ffi::PyBytes_FromStringAndSize(room.as_ptr().cast(), size as isize), sender)
            })
        });
        let (data, sender) = match got {
            Ok((data, sender)) => (Owned::from_new(data), sender),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Received::Nothing
            }
            Err(error) => {
                raise_os(Python::assume_attached(), &error);
                return Received::Failed;
            }
        };
        match data.and_then(|data| Ok((data, shown(datagram(t), sender)?))) {
            Ok((data, sender)) => Received::Datagram(data, sender),
            Err(Raised) => Received::Failed,
        }
    }
}

/// A sender's address as Python shows it: the same object for the same sender as before.
unsafe fn shown(d: *mut Datagram, sender: Option<SocketAddrAny>) -> Raises<Owned> {
    // SAFETY: as [`read_ready`].
    unsafe {
        let Some(sender) = sender else {
            return Owned::from_new(none());
        };
        if let Some(object) = (*d).heard.find(&sender) {
            return Owned::from_new(new_ref(object));
        }
        let object = Owned::from_new(Address::new((*d).family, Some(&sender)).to_python()?)?;
        (*d).heard.add(new_ref(object.as_ptr()), sender);
        Ok(object)
    }
}

/// A family whose addresses only Python's socket module knows.
#[cold]
unsafe fn receive_foreign(t: *mut Base) -> Received {
    // SAFETY: as [`read_ready`]; the socket gives a pair.
    unsafe {
        let both = Owned::from_new(ffi::PyLong_FromSize_t(MAX_SIZE)).and_then(|size| {
            let socket = Owned::from_new(new_ref((*t).file))?;
            method(socket.as_ptr(), &names::RECVFROM, [size.as_ptr()])
        });
        match both {
            Ok(both) => {
                let part = |index| Owned::from_new(ffi::PySequence_GetItem(both.as_ptr(), index));
                match (part(0), part(1)) {
                    (Ok(data), Ok(address)) => Received::Datagram(data, address),
                    _ => Received::Failed,
                }
            }
            Err(Raised) if would_block() => {
                ffi::PyErr_Clear();
                Received::Nothing
            }
            Err(Raised) => Received::Failed,
        }
    }
}

/// Whether the exception that is set only says that the kernel has nothing, or no room, now.
///
/// # Safety
/// Attached, with an exception set.
pub unsafe fn would_block() -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        ffi::PyErr_ExceptionMatches(ffi::PyExc_BlockingIOError) != 0
            || ffi::PyErr_ExceptionMatches(ffi::PyExc_InterruptedError) != 0
    }
}

/// What becomes of the exception that is set: an error of the kernel's is the protocol's to hear, any other ends the transport.
///
/// # Safety
/// Attached, outside every `LoopCell`, with an exception set; the caller holds the transport.
#[cold]
pub unsafe fn failed(t: *mut Base, message: &CStr) -> Raises<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::PyErr_ExceptionMatches(ffi::PyExc_OSError) == 0 {
            return fatal_error(t, message);
        }
        let exception = take_exception()?;
        let protocol = Owned::from_new(base::or_none((*t).protocol))?;
        method(protocol.as_ptr(), &names::ERROR_RECEIVED, [exception.as_ptr()]).map(drop)
    }
}

#[pymethods]
impl LoopCore {
    /// A transport over a non-blocking datagram socket; *numbers* are its descriptor and family, *extra* is complete.
    fn _new_datagram_transport(
        slf: &Bound<'_, Self>,
        sock: &Bound<'_, PyAny>,
        numbers: (i32, i32),
        protocol: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
        waiter: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        // SAFETY: attached; all are alive for the call.
        let made = unsafe {
            for_socket(
                slf.as_ptr(),
                sock.as_ptr(),
                numbers,
                protocol.as_ptr(),
                address.as_ptr(),
                waiter.as_ptr(),
                extra.as_ptr(),
            )
        };
        let made = fetch(slf.py(), made)?;
        // SAFETY: a reference that is ours.
        Ok(unsafe { Bound::from_owned_ptr(slf.py(), made) }.unbind())
    }
}

/// Whether empty datagrams are sent, as asyncio of this version does.
pub fn sends_empty() -> bool {
    HEADER.load(Ordering::Relaxed) != 0
}
