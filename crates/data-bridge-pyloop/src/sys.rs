//! Every system call that the crate makes, and nothing else.
//!
//! The other rooms never call the kernel themselves, so that one place knows about missing system
//! calls and a test build can make the n-th call fail. Errors are the kernel's own, as
//! [`io::Error`] with its errno.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

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

/// Fresh memory of `size` bytes, a power of two, at a multiple of `size`; in huge pages where the kernel has them.
pub fn map_aligned(size: usize) -> Option<std::ptr::NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of twice the size, of which the aligned part is kept and the rest given back; the advice changes no contents.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), 2 * size, access, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return None;
        }
        let before = start.addr().wrapping_neg() % size;
        let kept = start.byte_add(before);
        if before != 0 {
            libc::munmap(start, before);
        }
        libc::munmap(kept.byte_add(size), size - before);
        #[cfg(target_os = "linux")]
        libc::madvise(kept, size, libc::MADV_HUGEPAGE);
        std::ptr::NonNull::new(kept.cast())
    }
}

/// Gives a mapping back.
///
/// # Safety
/// `start` came from [`map_aligned`] with the same size, and nobody uses the memory.
pub unsafe fn unmap(start: std::ptr::NonNull<u8>, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(start.as_ptr().cast(), size) };
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

pub use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// recv(2) into `room`; 0 is the end of the stream.
#[inline]
pub fn recv(fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let ((read, _), _) = rustix::net::recv(borrow(fd), room, RecvFlags::empty())?;
    Ok(read.len())
}

/// recvfrom(2) into `room`, and the sender where it has an address.
#[inline]
pub fn receive_from(
    fd: RawFd,
    room: &mut [MaybeUninit<u8>],
) -> io::Result<(usize, Option<SocketAddrAny>)> {
    let ((read, _), _, sender) = rustix::net::recvfrom(borrow(fd), room, RecvFlags::empty())?;
    Ok((read.len(), sender))
}

/// sendto(2) without SIGPIPE.
#[inline]
pub fn send_to(fd: RawFd, bytes: &[u8], receiver: &SocketAddrAny) -> io::Result<usize> {
    Ok(rustix::net::sendto(borrow(fd), bytes, NO_SIGNAL, receiver)?)
}

/// read(2) into `room`; 0 is the end of the stream.
#[inline]
pub fn read(fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let (read, _) = rustix::io::read(borrow(fd), room)?;
    Ok(read.len())
}

/// send(2) without SIGPIPE; returns how many bytes the kernel took.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(borrow(fd), bytes, NO_SIGNAL)?)
}

/// recv(2) that never blocks, whatever the descriptor's mode.
#[inline]
pub fn recv_now(fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let ((read, _), _) = rustix::net::recv(borrow(fd), room, RecvFlags::DONTWAIT)?;
    Ok(read.len())
}

/// send(2) that never blocks, whatever the descriptor's mode, without SIGPIPE.
#[inline]
pub fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(borrow(fd), bytes, NO_SIGNAL | SendFlags::DONTWAIT)?)
}

/// recv(2) of a byte that stays, without blocking: whether there is anything to receive.
pub fn peek(fd: RawFd) -> io::Result<()> {
    let room = &mut [MaybeUninit::uninit()];
    rustix::net::recv(borrow(fd), room, RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
    Ok(())
}

/// Whether a socket's data is a stream (SO_TYPE of socket(7)).
pub fn is_stream(fd: RawFd) -> bool {
    rustix::net::sockopt::socket_type(borrow(fd)) == Ok(rustix::net::SocketType::STREAM)
}

/// Whether a socket's protocol is TCP (SO_PROTOCOL of socket(7)); false where the system does not tell.
pub fn is_tcp(fd: RawFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        rustix::net::sockopt::socket_protocol(borrow(fd)) == Ok(Some(rustix::net::ipproto::TCP))
    }
    #[cfg(not(target_os = "linux"))]
    {
        _ = fd;
        false
    }
}

/// write(2); returns how many bytes the kernel took.
#[inline]
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(borrow(fd), bytes)?)
}

/// writev(2).
pub fn write_pieces(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(rustix::io::writev(borrow(fd), pieces)?)
}

/// close(2); an error leaves the number closed all the same (Linux, and the next POSIX).
pub fn close(fd: RawFd) {
    // SAFETY: the caller owns the descriptor and gives it up here. Not by an OwnedFd: somebody may have closed it behind our back.
    unsafe { rustix::io::close(fd) };
}

/// sendmsg(2) of several pieces without SIGPIPE; returns how many bytes the kernel took.
pub fn send_pieces(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let nothing = &mut SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(borrow(fd), pieces, nothing, NO_SIGNAL)?)
}

/// Most pieces that [`send_pieces`] takes (IOV_MAX of POSIX).
pub const MOST_PIECES: usize = 1024;

#[cfg(target_os = "linux")]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_os = "macos")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// accept(2): a non-blocking, close-on-exec connection, and the peer's address where it has one.
pub fn accept(listener: RawFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    #[cfg(target_os = "linux")]
    {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        Ok(rustix::net::acceptfrom_with(borrow(listener), flags)?)
    }
    #[cfg(target_os = "macos")]
    {
        let (fd, peer) = rustix::net::acceptfrom(borrow(listener))?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::net::sockopt::set_socket_nosigpipe(&fd, true)?;
        Ok((fd, peer))
    }
}

/// getsockname(2).
pub fn local_address(fd: RawFd) -> io::Result<SocketAddrAny> {
    Ok(rustix::net::getsockname(borrow(fd))?)
}

/// TCP_NODELAY of tcp(7): small segments leave at once.
pub fn set_nodelay(fd: RawFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_nodelay(borrow(fd), true)?)
}

/// shutdown(2) of the sending side.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(borrow(fd), rustix::net::Shutdown::Write)?)
}

/// The text of an IPv6 address as inet_ntop(3) writes it, without a scope: what Python's socket module shows.
pub fn ipv6_text(address: std::net::Ipv6Addr) -> String {
    let mut text = [0_u8; 46];
    // SAFETY: 16 octets are read, at most the room's length is written, with a terminating null.
    let written = unsafe {
        inet_ntop(
            libc::AF_INET6,
            address.octets().as_ptr().cast(),
            text.as_mut_ptr().cast(),
            text.len() as libc::socklen_t,
        )
    };
    if written.is_null() {
        return address.to_string();
    }
    std::ffi::CStr::from_bytes_until_nul(&text)
        .map_or_else(|_| address.to_string(), |text| text.to_string_lossy().into_owned())
}

extern "C" {
    fn inet_ntop(
        family: libc::c_int,
        source: *const libc::c_void,
        target: *mut libc::c_char,
        size: libc::socklen_t,
    ) -> *const libc::c_char;
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

    /// lseek(2) from the start of the file.
    pub fn seek(file: RawFd, position: u64) -> io::Result<u64> {
        Ok(rustix::fs::seek(borrow(file), rustix::fs::SeekFrom::Start(position))?)
    }

    /// sendfile(2) from a place of the file, whose own position stays; returns how many bytes the kernel took, 0 at the end.
    pub fn send_file(to: RawFd, file: RawFd, mut offset: u64, count: usize) -> io::Result<usize> {
        Ok(rustix::fs::sendfile(borrow(to), borrow(file), Some(&mut offset), count)?)
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
