//! Descriptors that somebody watches, and one wait for all of them.
//!
//! Contract: registrations are level-triggered; one that was made by `arm` is edge-triggered and is kept when nobody waits.
//! An event may be spurious; an error or a hang-up wakes both directions, and a readable event never hides a writable one. A
//! descriptor that was closed without being removed is forgotten by the kernel: its next registration is made anew. Events carry a
//! generation, so that a descriptor number used again never receives its predecessor's.
//! Plain Rust: the callbacks are an opaque `T`, never run or dropped here.

use std::io;
use std::os::fd::RawFd;

#[cfg(target_os = "linux")]
mod epoll;
#[cfg(target_os = "linux")]
pub use epoll::{Events, Poller};

#[cfg(target_os = "macos")]
mod kqueue;
#[cfg(target_os = "macos")]
pub use kqueue::{Events, Poller};

#[cfg(test)]
mod tests;

/// Wish to read, as `selectors.EVENT_READ`.
pub const READ: u8 = 1;
/// Wish to write, as `selectors.EVENT_WRITE`.
pub const WRITE: u8 = 2;
/// Tell what becomes ready, not what is; with the directions that are armed.
pub const EDGE: u8 = 4;
/// Of an edge: it will not come again although something stays to be heard of, an end of the stream or an error.
pub const LASTING: u8 = 8;

/// What one kernel's poller must do. `token` is handed back with each event.
///
/// Waiting is not here but in `Events::wait`, on the bare descriptor: while the loop sleeps without the GIL
/// other threads may change the registrations.
pub trait Poll: Sized {
    /// Makes a poller that can also be woken by another thread.
    fn new() -> io::Result<Self>;
    /// Starts watching `fd`.
    fn add(&self, fd: RawFd, token: u64, interest: u8) -> io::Result<()>;
    /// Changes what is watched from `registered`; false if the kernel does not know the descriptor (any more).
    fn modify(&self, fd: RawFd, token: u64, interest: u8, registered: u8) -> io::Result<bool>;
    /// Stops watching; a descriptor that is already closed is no error.
    fn remove(&self, fd: RawFd, registered: u8);
    /// Wakes a waiting thread.
    fn wake(&self) -> io::Result<()>;
    /// Whether `fd` is one of the poller's own descriptors.
    fn owns(&self, fd: RawFd) -> bool;
    /// The kernel object's descriptor, itself pollable.
    fn as_raw_fd(&self) -> RawFd;
}

/// One watched descriptor.
struct Watched<T> {
    callbacks: [Option<T>; 2],
    /// What the kernel was told: may be more than there are callbacks, see [`Reactor::mute`].
    interest: u8,
    generation: u32,
    /// What an edge-triggered registration still tells.
    live: u8,
}

impl<T> Watched<T> {
    /// The directions that have a callback; of one that is armed, those that it waits for.
    fn wanted(&self) -> u8 {
        if self.is_edge() {
            return self.interest & (READ | WRITE);
        }
        directions(&self.callbacks)
    }

    /// Whether it was made by [`Reactor::arm`].
    fn is_edge(&self) -> bool {
        self.interest & EDGE != 0
    }

    /// Whether somebody waits for it: the loop must look then.
    fn counts(&self) -> usize {
        usize::from(self.interest != EDGE)
    }
}

/// Whom an event is for.
pub struct Ready<T> {
    /// The descriptor.
    pub fd: RawFd,
    /// What is ready of what the kernel was asked for.
    pub readiness: u8,
    /// The callbacks (reader, writer) that the event makes ready.
    pub callbacks: [Option<T>; 2],
    /// Whether a part of it is for nobody: then [`Reactor::settle`] is due.
    pub orphaned: bool,
}

/// The table of watched descriptors over the kernel's poller.
pub struct Reactor<T> {
    poller: Poller,
    table: Vec<Option<Watched<T>>>,
    generation: u32,
    watched: usize,
}

impl<T: Copy + PartialEq> Reactor<T> {
    /// Makes the kernel object and an empty table.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poller: Poller::new()?, table: Vec::new(), generation: 0, watched: 0 })
    }

    /// How many descriptors are watched. One that is kept but not armed does not count.
    #[inline]
    pub fn watched(&self) -> usize {
        self.watched
    }

    /// The kernel object to wait on.
    #[inline]
    pub fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    /// Wakes a thread that waits on it.
    pub fn wake(&self) -> io::Result<()> {
        self.poller.wake()
    }

    /// Watches `fd` in one direction, and returns the callback that stood there before.
    pub fn set(&mut self, fd: RawFd, direction: u8, callback: T) -> io::Result<Option<T>> {
        let index = fd as usize;
        let known =
            self.table.get(index).and_then(Option::as_ref).map(|w| (w.interest, w.generation));
        let was_edge = known.is_some_and(|(interest, _)| interest & EDGE != 0);
        if was_edge {
            // Made anew: not every kernel lets a registration become level-triggered.
            self.poller.remove(fd, READ | WRITE);
        }
        let known = known.filter(|_| !was_edge);
        let registered = known.map_or(0, |(interest, _)| interest);
        let interest = registered | direction;
        let generation = match known {
            Some((_, generation))
                if self.poller.modify(fd, token(generation, fd), interest, registered)? =>
            {
                generation
            }
            // New, or closed behind our back and its number in use again: events of the old file must not count.
            _ => {
                self.generation = self.generation.wrapping_add(1);
                self.poller.add(fd, token(self.generation, fd), interest)?;
                self.generation
            }
        };
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        let slot = &mut self.table[index];
        self.watched += 1 - slot.as_ref().map_or(0, Watched::counts);
        let new = Watched { callbacks: [None; 2], interest, generation, live: 0 };
        let w = slot.get_or_insert(new);
        w.interest = interest;
        w.generation = generation;
        let old = if was_edge { w.callbacks[0].take() } else { None };
        Ok(w.callbacks[side(direction)].replace(callback).or(old))
    }

    /// Like [`Reactor::set`], for a descriptor that nobody but its owner closes: no system call where the kernel knows already.
    #[inline]
    pub fn set_own(&mut self, fd: RawFd, direction: u8, callback: T) -> io::Result<Option<T>> {
        if let Some(Some(w)) = self.table.get_mut(fd as usize) {
            if w.interest & (direction | EDGE) == direction {
                return Ok(w.callbacks[side(direction)].replace(callback));
            }
        }
        self.set(fd, direction, callback)
    }

    /// Takes the callback of one direction away and leaves the kernel's registration as it is: it often comes back soon.
    /// An event for nobody makes [`Reactor::ready`] ask for [`Reactor::settle`].
    #[inline]
    pub fn mute(&mut self, fd: RawFd, direction: u8) -> Option<T> {
        let w = self.table.get_mut(usize::try_from(fd).ok()?)?.as_mut()?;
        if w.is_edge() {
            return None;
        }
        w.callbacks[side(direction)].take()
    }

    /// Fits the kernel's registration to the callbacks that are left.
    pub fn settle(&mut self, fd: RawFd) {
        let Some(slot) = usize::try_from(fd).ok().and_then(|index| self.table.get_mut(index))
        else {
            return;
        };
        let Some(w) = slot.as_mut() else { return };
        let wanted = w.wanted();
        if w.is_edge() {
            // Nobody waits for what it told.
            w.live = wanted;
            drop(self.poller.modify(fd, token(w.generation, fd), w.interest, w.interest));
        } else if wanted == 0 {
            self.poller.remove(fd, w.interest);
            *slot = None;
            self.watched -= 1;
        } else if wanted != w.interest {
            // An error means that the descriptor was closed behind our back: no event will come, as wished.
            drop(self.poller.modify(fd, token(w.generation, fd), wanted, w.interest));
            w.interest = wanted;
        }
    }

    /// Watches `fd` with one callback, which waits for `directions` now; what stood there before is returned.
    ///
    /// The registration is kept when nobody waits: [`Reactor::rearm`] or [`Reactor::resume`] make it wait again.
    pub fn arm(&mut self, fd: RawFd, directions: u8, callback: T) -> io::Result<[Option<T>; 2]> {
        let interest = directions | EDGE;
        let index = fd as usize;
        self.generation = self.generation.wrapping_add(1);
        self.poller.add(fd, token(self.generation, fd), interest)?;
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        let callbacks = [Some(callback), None];
        let new = Watched { callbacks, interest, generation: self.generation, live: directions };
        self.watched += new.counts();
        let old = self.table[index].replace(new);
        self.watched -= old.as_ref().map_or(0, Watched::counts);
        Ok(old.map_or([None; 2], |w| w.callbacks))
    }

    /// Makes what [`Reactor::arm`] has registered for `callback` wait again, now for `directions`; what is ready already
    /// is told at the next wait. False if the file that it was for has been closed, or the number is another callback's now.
    #[inline]
    pub fn rearm(&mut self, fd: RawFd, directions: u8, callback: T) -> io::Result<bool> {
        let Some(w) = self.edge_mut(fd, callback) else { return Ok(false) };
        let (interest, old, generation) = (directions | EDGE, w.interest, w.generation);
        if !self.poller.modify(fd, token(generation, fd), interest, old)? {
            return Ok(false);
        }
        self.note(fd, directions, callback);
        if let Some(w) = self.edge_mut(fd, callback) {
            w.live = directions;
        }
        Ok(true)
    }

    /// As [`Reactor::rearm`] without a system call, for a caller who knows that the file is the same and that nothing is ready:
    /// false if the kernel would not tell. (Where one event ends a registration, so that it never would, do not ask.)
    #[inline]
    pub fn resume(&mut self, fd: RawFd, directions: u8, callback: T) -> bool {
        let live = self.edge_mut(fd, callback).is_some_and(|w| directions & !w.live == 0);
        if live {
            self.note(fd, directions, callback);
        }
        live
    }

    /// Notes for what `callback` waits now, after an event or when somebody gave up waiting. The kernel is not told: the
    /// worst that can come of it is one event for nobody.
    #[inline]
    pub fn note(&mut self, fd: RawFd, directions: u8, callback: T) {
        let Some(w) = self.edge_mut(fd, callback) else { return };
        let before = w.counts();
        w.interest = directions | EDGE;
        let after = w.counts();
        self.watched = self.watched + after - before;
    }

    fn edge_mut(&mut self, fd: RawFd, callback: T) -> Option<&mut Watched<T>> {
        let w = self.table.get_mut(usize::try_from(fd).ok()?)?.as_mut()?;
        (w.is_edge() && w.callbacks[0] == Some(callback)).then_some(w)
    }

    /// The callback that [`Reactor::arm`] was given for `fd`.
    #[inline]
    pub fn edge(&self, fd: RawFd) -> Option<T> {
        let w = self.table.get(usize::try_from(fd).ok()?)?.as_ref()?;
        w.callbacks[0].filter(|_| w.is_edge())
    }

    /// Stops watching `fd` in one direction, and returns the callback that stood there.
    pub fn unset(&mut self, fd: RawFd, direction: u8) -> Option<T> {
        let slot = self.table.get_mut(usize::try_from(fd).ok()?)?;
        let w = slot.as_mut().filter(|w| !w.is_edge())?;
        let callback = w.callbacks[side(direction)].take()?;
        let (registered, interest) = (w.interest, w.interest & !direction);
        if interest != 0 && w.wanted() != 0 {
            // An error means that the descriptor was closed behind our back: no event will come, as wished.
            drop(self.poller.modify(fd, token(w.generation, fd), interest, registered));
            w.interest = interest;
        } else {
            self.poller.remove(fd, registered);
            *slot = None;
            self.watched -= 1;
        }
        Some(callback)
    }

    /// The callbacks (reader, writer) of `fd`.
    pub fn get(&self, fd: RawFd) -> Option<[Option<T>; 2]> {
        self.table.get(usize::try_from(fd).ok()?)?.as_ref().map(|w| w.callbacks)
    }

    /// The callbacks (reader, writer) that an event makes ready; `None` if its descriptor is no longer the one it was for.
    #[inline]
    pub fn ready(&self, token: u64, readiness: u8) -> Option<Ready<T>> {
        let fd = token as u32 as usize;
        let w = self.table.get(fd)?.as_ref()?;
        if w.generation != (token >> 32) as u32 {
            return None;
        }
        let mut callbacks = w.callbacks;
        if w.is_edge() {
            // One callback for both directions.
            let due = readiness & w.interest;
            callbacks[0] = callbacks[0].filter(|_| due != 0);
            let orphaned = due == 0 && w.live != 0;
            let readiness = due | readiness & LASTING;
            return Some(Ready { fd: fd as RawFd, readiness, callbacks, orphaned });
        }
        for (bit, callback) in [READ, WRITE].into_iter().zip(&mut callbacks) {
            if readiness & bit == 0 {
                *callback = None;
            }
        }
        // Of the kernel's registrations nobody wants any more.
        let orphaned = readiness & w.interest & !w.wanted() & (READ | WRITE) != 0;
        Some(Ready { fd: fd as RawFd, readiness: readiness & w.interest, callbacks, orphaned })
    }

    /// All that is watched or kept: descriptor, what is waited for, callbacks.
    pub fn iter(&self) -> impl Iterator<Item = (RawFd, u8, [Option<T>; 2])> + '_ {
        self.table
            .iter()
            .enumerate()
            .filter_map(|(fd, w)| w.as_ref().map(|w| (fd as RawFd, w.wanted(), w.callbacks)))
            .filter(|(_, _, callbacks)| callbacks.iter().any(Option::is_some))
    }

    /// Forgets everything, and returns the callbacks; the kernel's own registrations go with its object.
    pub fn take_all(&mut self) -> Vec<T> {
        self.watched = 0;
        std::mem::take(&mut self.table)
            .into_iter()
            .flatten()
            .flat_map(|w| w.callbacks.into_iter().flatten())
            .collect()
    }

    /// Watches the same descriptors with a new kernel object.
    ///
    /// For a forked child, whose object is shared with its parent; and for an event that belongs to nothing in the table:
    /// a descriptor was closed while a duplicate of it stays open, so the kernel goes on reporting it and offers no way to stop.
    /// Descriptors that have been closed meanwhile are kept in the table without events.
    pub fn renew(&mut self) -> io::Result<()> {
        self.poller = Poller::new()?;
        for (fd, w) in self.table.iter_mut().enumerate() {
            // A number that was closed before may be the new kernel object's own now.
            if let Some(w) = w.as_mut().filter(|_| !self.poller.owns(fd as RawFd)) {
                w.live = w.interest & (READ | WRITE);
                let token = token(w.generation, fd as RawFd);
                if let Err(error) = self.poller.add(fd as RawFd, token, w.interest) {
                    // Closed, or no longer something that can be watched: a daemon's /dev/null.
                    let gone = [libc::EBADF, libc::EPERM];
                    if !error.raw_os_error().is_some_and(|errno| gone.contains(&errno)) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The directions that have a callback.
#[inline]
pub fn directions<T>(callbacks: &[Option<T>; 2]) -> u8 {
    let [read, write] = callbacks;
    (u8::from(read.is_some()) * READ) | (u8::from(write.is_some()) * WRITE)
}

/// What the kernel hands back with an event: the descriptor, and which of its lives.
#[inline]
fn token(generation: u32, fd: RawFd) -> u64 {
    u64::from(generation) << 32 | fd as u64
}

#[inline]
fn side(direction: u8) -> usize {
    usize::from(direction == WRITE)
}
