//! kqueue(2): level-triggered, with an event of the queue's own for wake-ups.
//!
//! "kqueue(2)" below is Apple's manual page, "xnu" Apple's kernel source, where the page is silent.
//!
//! - Each direction is a kevent of its own: one (ident, filter) pair, without EV_CLEAR and so reported for as long as it holds.
//! - Hang-ups and errors: EVFILT_READ reports (with EV_EOF) when the read direction has shut down, EVFILT_WRITE when the reader
//!   has gone, and both report a socket error (kqueue(2), EVFILT_READ, EVFILT_WRITE). So both directions wake, each by its own
//!   event, and one event never needs to stand for both: as `selectors.KqueueSelector`, which does not look at EV_EOF.
//! - Closing: "Calling close on a file descriptor will remove any kevents that reference the descriptor". A change without
//!   EV_ADD then fails with ENOENT, by which `modify` knows. The token is the kevent's `udata`, "passed through the kernel unchanged".
//! - Forking: "The queue is not inherited by a child": there its number is closed (xnu: FP_CLOFORK), and may be in use again for
//!   something else. A poller that finds itself in another process therefore neither uses nor closes it.
//! - Regular files, which epoll(7) refuses with EPERM, are accepted, as asyncio's loop on macOS accepts them: readable while the file
//!   offset is "not at the end of file", always writable (xnu). A filter that a device does not support is refused
//!   with the kernel's error, which `add` passes on.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{OwnedFd, RawFd};

use super::{Poll, EDGE, READ, WRITE};
use crate::sys::{self, KernelEvent, KernelFilter, KernelFlags, UserDefinedFlags, UserFlags};

/// Events fetched by one wait. xnu puts those it has handed out behind the rest, so all get their turn.
const BATCH: usize = 512;

const _: () = assert!(usize::BITS == 64, "a token must fit into a kevent's udata");

/// One kqueue, and the process that it belongs to.
pub struct Poller {
    queue: ManuallyDrop<OwnedFd>,
    process: u32,
}

impl Poller {
    /// False in a forked child, where the queue's number is closed or somebody else's.
    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    fn change(&self, fd: RawFd, direction: u8, flags: KernelFlags, token: u64) -> io::Result<()> {
        if !self.is_ours() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let filter =
            if direction == READ { KernelFilter::Read(fd) } else { KernelFilter::Write(fd) };
        let udata = std::ptr::without_provenance_mut(token as usize);
        sys::kevent_change(&self.queue, KernelEvent::new(filter, flags, udata))
    }
}

impl Poll for Poller {
    fn new() -> io::Result<Self> {
        let queue = sys::kqueue()?;
        sys::kevent_change(
            &queue,
            wake_up(KernelFlags::ADD | KernelFlags::CLEAR, UserFlags::empty()),
        )?;
        Ok(Self { queue: ManuallyDrop::new(queue), process: std::process::id() })
    }

    /// Both directions or, on an error, neither. A kevent that exists already gets the new token: "Re-adding an existing event
    /// will modify the parameters of the original event".
    fn add(&self, fd: RawFd, token: u64, interest: u8) -> io::Result<()> {
        let mut added = 0;
        // "EV_ONESHOT: Causes the event to return only the first occurrence of the filter being triggered", and deletes it then.
        let once = if interest & EDGE != 0 { KernelFlags::ONESHOT } else { KernelFlags::empty() };
        for direction in directions(interest) {
            if let Err(error) = self.change(fd, direction, KernelFlags::ADD | once, token) {
                self.remove(fd, added);
                return Err(error);
            }
            added |= direction;
        }
        Ok(())
    }

    fn modify(&self, fd: RawFd, token: u64, interest: u8, registered: u8) -> io::Result<bool> {
        if interest & EDGE != 0 {
            // What has told is gone, so there is nothing to ask.
            return self.add(fd, token, interest).map(|()| true);
        }
        // EV_ADD succeeds whatever the kernel knows. So ask first: by what is to be deleted anyway, or by enabling what is
        // enabled. "ENOENT: The event could not be found to be modified or deleted."
        let question = match registered & !interest {
            0 => (registered, KernelFlags::ENABLE),
            unwanted => (unwanted, KernelFlags::DELETE),
        };
        for (changed, flags) in [question, (interest & !registered, KernelFlags::ADD)] {
            for direction in directions(changed) {
                match self.change(fd, direction, flags, token) {
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
                    other => other?,
                }
            }
        }
        Ok(true)
    }

    fn remove(&self, fd: RawFd, registered: u8) {
        for direction in directions(registered) {
            // Fails only where the kernel has dropped the kevent itself (closed descriptor): as wished.
            drop(self.change(fd, direction, KernelFlags::DELETE, 0));
        }
    }

    /// May come before the wait that it ends: the event stays triggered until it is fetched, and EV_CLEAR resets it then
    /// (kqueue(2) of FreeBSD, EVFILT_USER; Apple has the filter in sys/event.h, not on its page).
    fn wake(&self) -> io::Result<()> {
        if !self.is_ours() {
            // Nobody waits on it: of a forked process only the thread that called fork() goes on.
            return Ok(());
        }
        sys::kevent_change(&self.queue, wake_up(KernelFlags::empty(), UserFlags::TRIGGER))
    }

    fn owns(&self, fd: RawFd) -> bool {
        self.as_raw_fd() == fd
    }

    fn as_raw_fd(&self) -> RawFd {
        sys::raw(&self.queue)
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped here only, and never used again.
            unsafe { ManuallyDrop::drop(&mut self.queue) };
        }
    }
}

/// The single directions of an interest.
fn directions(interest: u8) -> impl Iterator<Item = u8> {
    [READ, WRITE].into_iter().filter(move |direction| interest & direction != 0)
}

/// The kevent by which the queue wakes its own waiter; the only one of EVFILT_USER.
fn wake_up(flags: KernelFlags, trigger: UserFlags) -> KernelEvent {
    let filter =
        KernelFilter::User { ident: 0, flags: trigger, user_flags: UserDefinedFlags::new(0) };
    KernelEvent::new(filter, flags, std::ptr::null_mut())
}

/// Room for the events of one wait.
pub struct Events(Vec<KernelEvent>);

impl Default for Events {
    fn default() -> Self {
        Self(vec![wake_up(KernelFlags::empty(), UserFlags::empty()); BATCH])
    }
}

impl Events {
    /// Waits on the poller `fd`; `None` waits for ever. Returns how many events came.
    ///
    /// A signal ends the wait with EINTR, "before the timeout expired and before any events were placed on the kqueue for
    /// return", so none is lost.
    #[inline]
    pub fn wait(&mut self, fd: RawFd, timeout_nanos: Option<u64>) -> io::Result<usize> {
        sys::kevent_wait(fd, &mut self.0, timeout_nanos)
    }

    /// Token and readiness of one event of the last wait; `None` for the poller's own wake-up.
    #[inline]
    pub fn get(&self, index: usize) -> Option<(u64, u8)> {
        let event = &self.0[index];
        let readiness = match event.filter() {
            KernelFilter::Read(_) => READ,
            KernelFilter::Write(_) => WRITE,
            _ => return None,
        };
        Some((event.udata().addr() as u64, readiness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Reactor;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    const BOTH: u8 = READ | WRITE;

    /// Tokens and readinesses that are there now, in order of number.
    fn seen(queue: RawFd) -> io::Result<Vec<(u64, u8)>> {
        let mut events = Events::default();
        let count = events.wait(queue, Some(0))?;
        let mut seen: Vec<_> = (0..count).filter_map(|i| events.get(i)).collect();
        seen.sort_unstable();
        Ok(seen)
    }

    fn is_open(fd: RawFd) -> bool {
        // SAFETY: asks about a number.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    }

    /// Closes what `number` stands for and opens `file` under it, in one step.
    fn reuse(number: &impl AsRawFd, file: &impl AsRawFd) {
        // SAFETY: both are open descriptors of the caller's.
        assert!(unsafe { libc::dup2(file.as_raw_fd(), number.as_raw_fd()) } != -1);
    }

    /// Writes until the kernel takes no more.
    fn fill(mut stream: &UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        while stream.write(&[0; 4096]).is_ok() {}
        Ok(())
    }

    #[test]
    fn a_direction_is_reported_for_as_long_as_it_is_ready() -> io::Result<()> {
        let (mut a, mut b) = UnixStream::pair()?;
        let poller = Poller::new()?;
        let queue = poller.as_raw_fd();
        poller.add(a.as_raw_fd(), 7, READ)?;
        assert_eq!(seen(queue)?, []);
        b.write_all(b"x")?;
        assert_eq!(seen(queue)?, [(7, READ)]);
        assert_eq!(seen(queue)?, [(7, READ)]);
        a.read_exact(&mut [0])?;
        assert_eq!(seen(queue)?, []);
        Ok(())
    }

    #[test]
    fn directions_are_added_and_removed_one_by_one() -> io::Result<()> {
        let (a, mut b) = UnixStream::pair()?;
        let poller = Poller::new()?;
        let (queue, fd) = (poller.as_raw_fd(), a.as_raw_fd());
        b.write_all(b"x")?;
        poller.add(fd, u64::MAX - 1, READ)?;
        assert!(poller.modify(fd, u64::MAX - 1, BOTH, READ)?);
        assert_eq!(seen(queue)?, [(u64::MAX - 1, READ), (u64::MAX - 1, WRITE)]);
        assert!(poller.modify(fd, u64::MAX - 1, BOTH, BOTH)?);
        assert!(poller.modify(fd, u64::MAX - 1, WRITE, BOTH)?);
        assert_eq!(seen(queue)?, [(u64::MAX - 1, WRITE)]);
        poller.remove(fd, WRITE);
        assert_eq!(seen(queue)?, []);
        assert!(!poller.modify(fd, u64::MAX - 1, BOTH, WRITE)?);
        Ok(())
    }

    #[test]
    fn a_peer_that_hangs_up_wakes_both_directions() -> io::Result<()> {
        let (a, b) = UnixStream::pair()?;
        let poller = Poller::new()?;
        fill(&a)?;
        poller.add(a.as_raw_fd(), 1, BOTH)?;
        assert_eq!(seen(poller.as_raw_fd())?, []);
        drop(b);
        assert_eq!(seen(poller.as_raw_fd())?, [(1, READ), (1, WRITE)]);
        Ok(())
    }

    #[test]
    fn a_peer_that_sends_no_more_wakes_readers_only() -> io::Result<()> {
        let (a, b) = UnixStream::pair()?;
        let poller = Poller::new()?;
        fill(&a)?;
        poller.add(a.as_raw_fd(), 1, BOTH)?;
        b.shutdown(std::net::Shutdown::Write)?;
        assert_eq!(seen(poller.as_raw_fd())?, [(1, READ)]);
        Ok(())
    }

    #[test]
    fn events_of_a_closed_descriptor_never_reach_the_next_one_of_its_number() -> io::Result<()> {
        let (a, mut b) = UnixStream::pair()?;
        let (c, mut d) = UnixStream::pair()?;
        let poller = Poller::new()?;
        let (queue, fd) = (poller.as_raw_fd(), a.as_raw_fd());
        poller.add(fd, 1, READ)?;
        let duplicate = a.try_clone()?;
        b.write_all(b"x")?;
        d.write_all(b"y")?;
        reuse(&a, &c);
        // Although the old file is still open, and readable.
        assert!(is_open(duplicate.as_raw_fd()));
        assert_eq!(seen(queue)?, []);
        assert!(!poller.modify(fd, 1, READ, READ)?);
        assert!(!poller.modify(fd, 1, BOTH, READ)?);
        assert_eq!(seen(queue)?, []);
        poller.add(fd, 2, READ)?;
        assert_eq!(seen(queue)?, [(2, READ)]);
        Ok(())
    }

    #[test]
    fn the_table_gives_a_number_used_again_a_new_generation() -> io::Result<()> {
        let (a, _b) = UnixStream::pair()?;
        let (c, _d) = UnixStream::pair()?;
        let mut reactor = Reactor::new()?;
        let fd = a.as_raw_fd();
        reactor.set(fd, WRITE, 'w')?;
        let [(old, WRITE)] = seen(reactor.as_raw_fd())?[..] else { panic!("not writable") };
        assert_eq!(reactor.ready(old, WRITE), Some((fd, WRITE, [None, Some('w')])));
        reuse(&a, &c);
        reactor.set(fd, READ, 'r')?;
        let [(new, WRITE)] = seen(reactor.as_raw_fd())?[..] else { panic!("not writable") };
        assert_eq!(reactor.ready(old, WRITE), None);
        assert_eq!(reactor.ready(new, WRITE), Some((fd, WRITE, [None, Some('w')])));
        Ok(())
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() -> io::Result<()> {
        let poller = Poller::new()?;
        let error = poller.add(1_000_000, 1, READ).expect_err("it is not open");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        poller.remove(1_000_000, BOTH);
        Ok(())
    }

    #[test]
    fn a_descriptor_is_added_in_both_directions_or_in_none() -> io::Result<()> {
        let (poller, other) = (Poller::new()?, Poller::new()?);
        // A queue can be read only.
        assert!(poller.add(other.as_raw_fd(), 1, BOTH).is_err());
        assert!(!poller.modify(other.as_raw_fd(), 1, READ, READ)?);
        poller.add(other.as_raw_fd(), 1, READ)?;
        other.wake()?;
        assert_eq!(seen(poller.as_raw_fd())?, [(1, READ)]);
        Ok(())
    }

    #[test]
    fn a_wake_up_ends_one_wait_and_comes_early_enough() -> io::Result<()> {
        let poller = Poller::new()?;
        let mut events = Events::default();
        poller.wake()?;
        poller.wake()?;
        assert_eq!(events.wait(poller.as_raw_fd(), None)?, 1);
        assert_eq!(events.get(0), None);
        assert_eq!(events.wait(poller.as_raw_fd(), Some(0))?, 0);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Events::default().wait(poller.as_raw_fd(), None));
            std::thread::sleep(Duration::from_millis(20));
            poller.wake()?;
            assert_eq!(waiter.join().expect("it waits")?, 1);
            Ok(())
        })
    }

    #[test]
    fn a_time_out_is_kept_to_the_microsecond() -> io::Result<()> {
        let poller = Poller::new()?;
        for nanos in [1, 999_999, 1_500_000, 1_000_000_001] {
            let start = Instant::now();
            assert_eq!(Events::default().wait(poller.as_raw_fd(), Some(nanos))?, 0);
            // The kernel counts in ticks of its own, and rounds down.
            assert!(start.elapsed() + Duration::from_micros(1) >= Duration::from_nanos(nanos));
        }
        Ok(())
    }

    #[test]
    fn more_events_than_fit_come_in_turn() -> io::Result<()> {
        let poller = Poller::new()?;
        let pairs: Vec<_> = (0..40).map(|_| UnixStream::pair()).collect::<io::Result<_>>()?;
        for (token, (a, _)) in (0..).zip(&pairs) {
            poller.add(a.as_raw_fd(), token, WRITE)?;
        }
        let mut events = Events(vec![wake_up(KernelFlags::empty(), UserFlags::empty()); 8]);
        let mut tokens = Vec::new();
        for _ in 0..5 {
            let count = events.wait(poller.as_raw_fd(), Some(0))?;
            tokens.extend((0..count).filter_map(|i| events.get(i)).map(|(token, _)| token));
        }
        tokens.sort_unstable();
        assert_eq!(tokens, (0..40).collect::<Vec<u64>>());
        Ok(())
    }

    #[test]
    fn a_regular_file_is_readable_except_at_its_end_and_always_writable() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("pyloop-kqueue-{}", std::process::id()));
        let mut file =
            std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let poller = Poller::new()?;
        poller.add(file.as_raw_fd(), 1, BOTH)?;
        assert_eq!(seen(poller.as_raw_fd())?, [(1, WRITE)]);
        file.write_all(b"text")?;
        file.seek(SeekFrom::Start(1))?;
        poller.remove(file.as_raw_fd(), BOTH);
        poller.add(file.as_raw_fd(), 1, BOTH)?;
        assert_eq!(seen(poller.as_raw_fd())?, [(1, READ), (1, WRITE)]);
        Ok(())
    }

    #[test]
    fn a_poller_of_another_process_leaves_its_number_alone() -> io::Result<()> {
        let (a, _b) = UnixStream::pair()?;
        let mut poller = Poller::new()?;
        let fd = poller.as_raw_fd();
        poller.add(a.as_raw_fd(), 1, WRITE)?;
        poller.process ^= 1;
        poller.remove(a.as_raw_fd(), WRITE);
        assert!(poller.add(a.as_raw_fd(), 2, WRITE).is_err());
        poller.wake()?;
        drop(poller);
        assert!(is_open(fd));
        // Neither removed nor woken.
        let mut events = Events::default();
        assert_eq!(events.wait(fd, Some(0))?, 1);
        assert_eq!(events.get(0), Some((1, WRITE)));
        // SAFETY: open, and nobody else's any more.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(())
    }

    #[test]
    fn a_forked_child_renews_its_queue_and_keeps_what_took_its_number() -> io::Result<()> {
        let (a, b) = UnixStream::pair()?;
        let mut reactor = Reactor::new()?;
        reactor.set(a.as_raw_fd(), READ, ())?;
        let number = reactor.as_raw_fd();
        let mut events = Events::default();
        // SAFETY: the child makes system calls only, and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_inherited = is_open(number);
            reuse(&number, &b);
            let renewed = reactor.renew().is_ok();
            // SAFETY: writes a byte of ours to a number; if the socket there is gone, that fails.
            let written = unsafe { libc::write(number, b"x".as_ptr().cast(), 1) } == 1;
            let woken = matches!(events.wait(reactor.as_raw_fd(), Some(5_000_000_000)), Ok(1));
            let status = i32::from(is_inherited)
                | i32::from(!renewed) << 1
                | i32::from(!written) << 2
                | i32::from(!woken) << 3;
            // SAFETY: ends the child without running anything of its parent's.
            unsafe { libc::_exit(status) };
        }
        let mut status = -1;
        // SAFETY: `child` is a child of ours, `status` a number of ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(seen(number)?.len(), 1);
        Ok(())
    }
}
