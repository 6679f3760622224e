//! What waits to be sent on a byte stream: pieces of immutable bytes, in order.
//!
//! A `bytes` object is kept as it is; anything that could change afterwards was copied before it came here.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use pyo3::ffi;

use crate::py::bytes;
use crate::py::object::Obj;
use crate::sys;

/// A queue that has grown beyond this many pieces gives its memory back when it runs empty.
const KEEP: usize = 8;

/// A bytes object of which some may be gone already.
struct Piece {
    bytes: Obj,
    start: usize,
}

impl Piece {
    /// What is left of it.
    ///
    /// # Safety
    /// The queue's reference keeps the object alive as long as the slice is used.
    unsafe fn left<'a>(&self) -> &'a [u8] {
        // SAFETY: a bytes object is immutable, and `start` is at most its length.
        unsafe { bytes::contents(self.bytes).get_unchecked(self.start..) }
    }
}

/// How an attempt to send ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing is left.
    All,
    /// The kernel takes no more now.
    Blocked,
}

/// The queue. Owns its references, but has no destructor: take them out with [`Outgoing::take_all`] and release them.
#[derive(Default)]
pub struct Outgoing {
    pieces: VecDeque<Piece>,
    size: usize,
}

impl Outgoing {
    /// How many bytes wait.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Appends a bytes object without its first `start` bytes; takes over the reference.
    ///
    /// # Safety
    /// Attached; `piece` is an exact bytes object of more than `start` bytes.
    #[inline]
    pub unsafe fn push(&mut self, piece: Obj, start: usize) {
        // SAFETY: the caller's promise.
        self.size += unsafe { bytes::len(piece) } - start;
        self.pieces.push_back(Piece { bytes: piece, start });
    }

    /// Sends as much as the kernel takes, by one system call where that is possible. What has left is released: exact bytes objects,
    /// whose end runs no Python code.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn send(&mut self, fd: i32, write: Write) -> io::Result<Sent> {
        while self.size != 0 {
            // SAFETY: the pieces stay in the queue, and so alive, until the call has returned.
            let (taken, asked) = unsafe {
                if self.pieces.len() == 1 {
                    let left = self.pieces[0].left();
                    (write.one(fd, left), left.len())
                } else {
                    let first = self.pieces.iter().take(sys::MOST_PIECES);
                    let slices: Vec<_> = first.map(|p| IoSlice::new(p.left())).collect();
                    (write.several(fd, &slices), slices.iter().map(|s| s.len()).sum())
                }
            };
            match taken {
                Ok(taken) => {
                    // SAFETY: the caller's promise.
                    unsafe { self.advance(taken) };
                    if taken < asked {
                        return Ok(Sent::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Sent::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    /// Takes out what has left.
    ///
    /// # Safety
    /// Attached.
    unsafe fn advance(&mut self, mut taken: usize) {
        self.size -= taken;
        while let Some(first) = self.pieces.front_mut() {
            // SAFETY: the queue's reference keeps the piece alive until it is released here, and then nobody looks at it again.
            unsafe {
                let left = first.left().len();
                if left > taken {
                    first.start += taken;
                    return;
                }
                taken -= left;
                ffi::Py_DECREF(first.bytes);
            }
            self.pieces.pop_front();
        }
        if self.pieces.capacity() > KEEP {
            self.pieces = VecDeque::new();
        }
    }

    /// Empties the queue; the references are the caller's.
    pub fn take_all(&mut self) -> Vec<Obj> {
        self.size = 0;
        std::mem::take(&mut self.pieces).into_iter().map(|piece| piece.bytes).collect()
    }
}

/// The system calls of a socket or of a pipe.
#[derive(Clone, Copy)]
pub enum Write {
    /// send(2), sendmsg(2).
    Socket,
    /// write(2), writev(2).
    Pipe,
}

impl Write {
    /// Writes one piece.
    #[inline]
    pub fn one(self, fd: i32, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket => sys::send(fd, bytes),
            Self::Pipe => sys::write(fd, bytes),
        }
    }

    fn several(self, fd: i32, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket => sys::send_pieces(fd, pieces),
            Self::Pipe => sys::write_pieces(fd, pieces),
        }
    }
}
