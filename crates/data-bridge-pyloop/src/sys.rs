//! Every system call that the crate makes, and nothing else.
//!
//! The other rooms never call the kernel themselves, so that one place knows about missing system
//! calls and a test build can make the n-th call fail. Errors are the kernel's own, as
//! [`io::Error`] with its errno.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Nanoseconds of the monotonic clock that Python's `time.monotonic()` reads.
///
/// Through the C library: rustix parses the vDSO itself, and crashes under valgrind, which has none.
#[inline]
pub fn monotonic_nanos() -> u64 {
    #[cfg(target_os = "macos")]
    const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
    #[cfg(not(target_os = "macos"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a timespec of ours. The clock always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(CLOCK, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// By how many nanoseconds the kernel may delay the calling thread's short sleeps (PR_GET_TIMERSLACK of prctl(2)).
pub fn timer_slack_nanos() -> u64 {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: this operation takes no further argument and touches no memory of ours.
        let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        u64::try_from(slack).unwrap_or(0)
    }
    #[cfg(not(target_os = "linux"))]
    0
}

/// Sleeps until the process ends.
pub fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Borrows a descriptor number that somebody else owns.
fn borrow<'fd>(fd: RawFd) -> BorrowedFd<'fd> {
    // SAFETY: callers check `fd >= 0`, so it is not the niche value -1. The kernel checks the rest:
    // a number that is not open gives EBADF, which every caller handles.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use rustix::event::{epoll, EventfdFlags, Timespec};
    use rustix::io::Errno;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub use rustix::event::epoll::{Event as EpollEvent, EventFlags as EpollFlags};

    /// epoll_create1(2), close-on-exec.
    pub fn epoll_create() -> io::Result<OwnedFd> {
        Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?)
    }

    /// epoll_ctl(2) with EPOLL_CTL_ADD.
    pub fn epoll_add(ep: &OwnedFd, fd: RawFd, data: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(epoll::add(ep, borrow(fd), epoll::EventData::new_u64(data), flags)?)
    }

    /// epoll_ctl(2) with EPOLL_CTL_MOD.
    pub fn epoll_modify(ep: &OwnedFd, fd: RawFd, data: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(epoll::modify(ep, borrow(fd), epoll::EventData::new_u64(data), flags)?)
    }

    /// epoll_ctl(2) with EPOLL_CTL_DEL.
    pub fn epoll_delete(ep: &OwnedFd, fd: RawFd) -> io::Result<()> {
        Ok(epoll::delete(ep, borrow(fd))?)
    }

    /// Set once the kernel (or a seccomp filter) has refused epoll_pwait2.
    static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

    /// Waits for events on the epoll descriptor `ep`; `None` waits for ever. Returns how many of `events` were written.
    ///
    /// Uses epoll_pwait2(2) for its nanoseconds; where that is missing, ppoll(2) on the epoll
    /// descriptor keeps them and epoll_wait(2) fetches the events.
    pub fn epoll_wait(
        ep: RawFd,
        events: &mut [EpollEvent],
        timeout_nanos: Option<u64>,
    ) -> io::Result<usize> {
        let timeout = timeout_nanos.map(|n| Timespec {
            tv_sec: (n / 1_000_000_000) as i64,
            tv_nsec: (n % 1_000_000_000) as _,
        });
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            match epoll::wait(borrow(ep), &mut *events, timeout.as_ref()) {
                Err(Errno::NOSYS | Errno::PERM) => NO_PWAIT2.store(true, Ordering::Relaxed),
                other => return Ok(other?),
            }
        }
        if timeout_nanos != Some(0) {
            let fds = &mut [rustix::event::PollFd::from_borrowed_fd(
                borrow(ep),
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(fds, timeout.as_ref())?;
        }
        // SAFETY: rustix's `Event` is documented as layout-compatible with the kernel's epoll_event,
        // and the length passed is that of the slice.
        let n = unsafe {
            libc::epoll_wait(ep, events.as_mut_ptr().cast(), events.len() as libc::c_int, 0)
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// eventfd(2), non-blocking and close-on-exec.
    pub fn eventfd() -> io::Result<OwnedFd> {
        Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    /// Adds one to an eventfd's counter.
    pub fn eventfd_signal(fd: BorrowedFd<'_>) -> io::Result<()> {
        rustix::io::write(fd, &1u64.to_ne_bytes())?;
        Ok(())
    }
}

#[cfg(target_os = "macos")]
pub use macos::*;

#[cfg(target_os = "macos")]
mod macos {
    use super::*;
    use rustix::event::{kqueue, Timespec};
    use rustix::io::Errno;

    pub use rustix::event::kqueue::{
        Event as KernelEvent, EventFilter as KernelFilter, EventFlags as KernelFlags,
        UserDefinedFlags, UserFlags,
    };

    /// kqueue(2), close-on-exec.
    ///
    /// Apple's kernel sets that flag itself, but documents it nowhere; CPython's `select.kqueue()` sets it too.
    pub fn kqueue() -> io::Result<OwnedFd> {
        let queue = kqueue::kqueue()?;
        rustix::io::fcntl_setfd(&queue, rustix::io::FdFlags::CLOEXEC)?;
        Ok(queue)
    }

    /// kevent(2) with one change, without waiting; with no room for events, so its error is the change's own.
    pub fn kevent_change(queue: &OwnedFd, change: KernelEvent) -> io::Result<()> {
        let nothing: &mut [KernelEvent] = &mut [];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel keeps no pointer of ours (`udata` is a number). rustix asks that watched descriptors outlive the
        // queue, which kqueue(2) makes harmless: close() removes what refers to the descriptor.
        match unsafe { kqueue::kevent_timespec(queue, &[change], nothing, Some(&at_once)) } {
            // Changes are applied before anything that a signal can interrupt (kqueue(2) of FreeBSD says so under EINTR).
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for events on the kqueue descriptor `queue`; `None` waits for ever. Returns how many of `events` were written.
    pub fn kevent_wait(
        queue: RawFd,
        events: &mut [KernelEvent],
        timeout_nanos: Option<u64>,
    ) -> io::Result<usize> {
        let timeout = timeout_nanos.map(|n| Timespec {
            tv_sec: (n / 1_000_000_000) as i64,
            tv_nsec: (n % 1_000_000_000) as _,
        });
        // SAFETY: nothing is registered here, and the kernel writes at most `events.len()` events.
        Ok(unsafe { kqueue::kevent_timespec(borrow(queue), &[], events, timeout.as_ref()) }?)
    }
}

/// The number of a descriptor.
pub fn raw(fd: &OwnedFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}
