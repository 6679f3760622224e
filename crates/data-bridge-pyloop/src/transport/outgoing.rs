//! What waits to be sent on a byte stream: pieces, in order.
//!
//! A `bytes` object is kept as it is; of anything that could change afterwards a copy is kept. Copies that wait for the end of an
//! iteration come and go at a great rate, so their memory is kept for the next ones.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use pyo3::ffi;

use crate::py::bytes;
use crate::py::cell::LoopCell;
use crate::py::object::Obj;
use crate::sys;

/// A queue that has grown beyond this many pieces gives its memory back when it runs empty.
const KEEP: usize = 8;

/// Bytes of which some may be gone already.
struct Piece {
    body: Body,
    start: usize,
}

enum Body {
    /// An exact bytes object; owned.
    Object(Obj),
    /// A copy.
    Copy(Vec<u8>),
}

/// Memory of copies that have left. Most, and the largest, that is kept.
static SPARE: LoopCell<Vec<Vec<u8>>> = LoopCell::new(Vec::new());
const MOST_SPARE: usize = 64;
const LARGEST_SPARE: usize = 16 * 1024;

impl Piece {
    /// What is left of it.
    ///
    /// # Safety
    /// The queue's reference keeps the object alive as long as the slice is used.
    unsafe fn left<'a>(&self) -> &'a [u8] {
        // SAFETY: neither a bytes object nor a copy changes, and `start` is at most its length. The copy outlives the slice as the
        // object does: it is in the queue.
        unsafe {
            let whole = match &self.body {
                Body::Object(o) => bytes::contents(*o),
                Body::Copy(copy) => std::slice::from_raw_parts(copy.as_ptr(), copy.len()),
            };
            whole.get_unchecked(self.start..)
        }
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

/// The queue. Owns its references, but does not release them when it is dropped: take them out with [`Outgoing::take_all`] and release them.
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
        self.pieces.push_back(Piece { body: Body::Object(piece), start });
    }

    /// Appends a copy of `bytes`, which are not empty.
    ///
    /// # Safety
    /// Attached.
    pub unsafe fn push_copy(&mut self, bytes: &[u8]) {
        let mut copy = SPARE.with(Vec::pop).unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.size += bytes.len();
        self.pieces.push_back(Piece { body: Body::Copy(copy), start: 0 });
    }

    /// Sends as much as the kernel takes, by one system call where that is possible. What has left is released: exact bytes objects,
    /// whose end runs no Python code, and copies.
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
            }
            match self.pieces.pop_front().map(|piece| piece.body) {
                // SAFETY: the queue's reference; a bytes object's end runs no Python code.
                Some(Body::Object(o)) => unsafe { ffi::Py_DECREF(o) },
                Some(Body::Copy(copy)) if copy.capacity() <= LARGEST_SPARE => {
                    let more = SPARE.with(|spare| {
                        if spare.len() < MOST_SPARE {
                            spare.push(copy);
                            return None;
                        }
                        Some(copy)
                    });
                    drop(more);
                }
                Some(Body::Copy(_)) | None => {}
            }
        }
        if self.pieces.capacity() > KEEP {
            self.pieces = VecDeque::new();
        }
    }

    /// Empties the queue; the references are the caller's.
    pub fn take_all(&mut self) -> Vec<Obj> {
        self.size = 0;
        let object = |piece: Piece| match piece.body {
            Body::Object(o) => Some(o),
            Body::Copy(_) => None,
        };
        std::mem::take(&mut self.pieces).into_iter().filter_map(object).collect()
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
