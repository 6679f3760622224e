//! epoll(7): level-triggered, with an eventfd for wake-ups.
//!
//! The eventfd is registered edge-triggered: each write is a new edge, so its counter is never read back.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use super::{Poll, EDGE, LASTING, READ, WRITE};
use crate::sys::{self, EpollEvent, EpollFlags};

const WAKE: u64 = u64::MAX;
/// Events fetched by one wait; more stay with the kernel, which hands out the rest in turn.
const BATCH: usize = 512;

/// One epoll instance and its eventfd.
pub struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poll for Poller {
    fn new() -> io::Result<Self> {
        let epoll = sys::epoll_create()?;
        let wake = sys::eventfd()?;
        sys::epoll_add(&epoll, sys::raw(&wake), WAKE, EpollFlags::IN | EpollFlags::ET)?;
        Ok(Self { epoll, wake })
    }

    fn add(&self, fd: RawFd, token: u64, interest: u8) -> io::Result<()> {
        let flags = flags(interest);
        match sys::epoll_add(&self.epoll, fd, token, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                sys::epoll_modify(&self.epoll, fd, token, flags)
            }
            other => other,
        }
    }

    fn modify(&self, fd: RawFd, token: u64, interest: u8, _registered: u8) -> io::Result<bool> {
        match sys::epoll_modify(&self.epoll, fd, token, flags(interest)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn remove(&self, fd: RawFd, _registered: u8) {
        // Fails only where the kernel has dropped the registration itself (closed descriptor): as wished.
        drop(sys::epoll_delete(&self.epoll, fd));
    }

    fn wake(&self) -> io::Result<()> {
        sys::eventfd_signal(self.wake.as_fd())
    }

    fn owns(&self, fd: RawFd) -> bool {
        [&self.epoll, &self.wake].into_iter().any(|own| sys::raw(own) == fd)
    }

    fn as_raw_fd(&self) -> RawFd {
        sys::raw(&self.epoll)
    }
}

/// What stays to be heard of after a receive that left nothing: and, with urgent data, a receive may leave something.
const LASTS: EpollFlags =
    EpollFlags::RDHUP.union(EpollFlags::HUP).union(EpollFlags::ERR).union(EpollFlags::PRI);

fn flags(interest: u8) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::IN, interest & READ != 0);
    flags.set(EpollFlags::OUT, interest & WRITE != 0);
    // With edges it must be known what will not come again. EPOLL_CTL_MOD looks anew at what is ready.
    flags.set(EpollFlags::ET, interest & EDGE != 0 && interest != EDGE);
    flags.set(EpollFlags::RDHUP | EpollFlags::PRI, interest & (EDGE | READ) == EDGE | READ);
    // Errors are told even to those who wait for nothing, but only once.
    flags.set(EpollFlags::ONESHOT, interest == EDGE);
    flags
}

/// Room for the events of one wait.
pub struct Events(Vec<EpollEvent>);

impl Default for Events {
    fn default() -> Self {
        let empty = EpollEvent {
            flags: EpollFlags::empty(),
            data: rustix::event::epoll::EventData::new_u64(0),
        };
        Self(vec![empty; BATCH])
    }
}

impl Events {
    /// Waits on the poller `fd`; `None` waits for ever. Returns how many events came.
    #[inline]
    pub fn wait(&mut self, fd: RawFd, timeout_nanos: Option<u64>) -> io::Result<usize> {
        sys::epoll_wait(fd, &mut self.0, timeout_nanos)
    }

    /// Token and readiness of one event of the last wait; `None` for the poller's own wake-up.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(u64, u8)> {
        let event = &self.0[index];
        // The structure is packed: copy its fields before looking at them.
        let (data, flags) = (event.data, event.flags);
        let token = data.u64();
        if token == WAKE {
            return None;
        }
        // As selectors.EpollSelector: anything but OUT wakes readers, anything but IN wakes writers.
        let mut readiness = 0;
        if flags.intersects(!EpollFlags::OUT) {
            readiness |= READ;
        }
        if flags.intersects(!(EpollFlags::IN | EpollFlags::RDHUP | EpollFlags::PRI)) {
            readiness |= WRITE;
        }
        if flags.intersects(LASTS) {
            readiness |= LASTING;
        }
        Some((token, readiness))
    }
}
