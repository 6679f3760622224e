//! What holds for registrations on every kernel, seen through the table: edges first, which only `sock_*` calls use.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use super::*;

type Table = Reactor<u8>;

/// Descriptor, readiness, callbacks, whether settling is due.
type Seen = (RawFd, u8, [Option<u8>; 2], bool);

/// What the next look finds.
fn seen(reactor: &Table) -> io::Result<Vec<Seen>> {
    let mut events = Events::default();
    let count = events.wait(reactor.as_raw_fd(), Some(0))?;
    let ready = (0..count).filter_map(|i| events.get(i)).filter_map(|(t, r)| reactor.ready(t, r));
    Ok(ready.map(|r| (r.fd, r.readiness & (READ | WRITE), r.callbacks, r.orphaned)).collect())
}

/// Who is woken, by one number each.
fn woken(reactor: &Table) -> io::Result<Vec<u8>> {
    let all = seen(reactor)?;
    Ok(all.iter().flat_map(|(_, _, callbacks, _)| callbacks.iter().flatten().copied()).collect())
}

fn pair() -> io::Result<(UnixStream, UnixStream, RawFd)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let fd = near.as_raw_fd();
    Ok((near, far, fd))
}

#[test]
fn what_is_ready_when_armed_is_told() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    far.write_all(b"x")?;
    assert_eq!(reactor.arm(fd, READ, 1)?, [None, None]);
    assert_eq!(seen(&reactor)?, [(fd, READ, [Some(1), None], false)]);
    Ok(())
}

#[test]
fn unread_data_is_told_once_and_again_when_armed_again() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    far.write_all(b"x")?;
    assert_eq!(woken(&reactor)?, [1]);
    assert!(woken(&reactor)?.is_empty());
    assert!(reactor.rearm(fd, READ, 1)?);
    assert_eq!(woken(&reactor)?, [1]);
    Ok(())
}

#[test]
fn one_that_is_kept_is_not_watched() -> io::Result<()> {
    let (_near, _far, fd) = pair()?;
    let mut reactor = Table::new()?;
    assert_eq!(reactor.watched(), 0);
    reactor.arm(fd, READ | WRITE, 1)?;
    assert_eq!(reactor.watched(), 1);
    reactor.note(fd, WRITE, 1);
    assert_eq!(reactor.watched(), 1);
    reactor.note(fd, 0, 1);
    assert_eq!(reactor.watched(), 0);
    assert_eq!(reactor.edge(fd), Some(1));
    assert!(reactor.rearm(fd, READ, 1)?);
    assert_eq!(reactor.watched(), 1);
    reactor.set(fd, READ, 2)?;
    assert_eq!(reactor.watched(), 1);
    assert_eq!(reactor.unset(fd, READ), Some(2));
    assert_eq!(reactor.watched(), 0);
    Ok(())
}

#[test]
fn what_nobody_waits_for_is_told_once_at_most() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    reactor.note(fd, 0, 1);
    far.write_all(b"x")?;
    for (_, _, callbacks, orphaned) in seen(&reactor)? {
        assert_eq!(callbacks, [None, None]);
        if orphaned {
            reactor.settle(fd);
        }
    }
    for _ in 0..3 {
        far.write_all(b"more")?;
        assert!(seen(&reactor)?.is_empty());
    }
    assert!(!reactor.resume(fd, READ, 1), "the kernel would not tell");
    assert!(reactor.rearm(fd, READ, 1)?);
    assert_eq!(woken(&reactor)?, [1]);
    Ok(())
}

#[test]
fn one_direction_settles_while_the_other_waits() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ | WRITE, 1)?;
    assert_eq!(seen(&reactor)?, [(fd, WRITE, [Some(1), None], false)]);
    reactor.note(fd, READ, 1);
    reactor.settle(fd);
    assert!(woken(&reactor)?.is_empty());
    far.write_all(b"x")?;
    assert_eq!(seen(&reactor)?, [(fd, READ, [Some(1), None], false)]);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn one_that_was_emptied_hears_of_more_without_arming() -> io::Result<()> {
    let (mut near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    for _ in 0..3 {
        far.write_all(b"x")?;
        assert_eq!(woken(&reactor)?, [1]);
        reactor.note(fd, 0, 1);
        assert_eq!(near.read(&mut [0; 10])?, 1);
        assert!(reactor.resume(fd, READ, 1));
    }
    assert!(!reactor.resume(fd, READ | WRITE, 1), "that direction was never armed");
    assert!(!reactor.resume(fd, READ, 2), "somebody else's");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn an_end_that_was_told_with_the_data_is_marked() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    far.write_all(b"last")?;
    drop(far);
    let mut events = Events::default();
    assert_eq!(events.wait(reactor.as_raw_fd(), Some(0))?, 1);
    let ready = events.get(0).and_then(|(token, readiness)| reactor.ready(token, readiness));
    assert!(ready.is_some_and(|r| r.readiness & LASTING != 0));
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn another_file_under_the_number_is_noticed() -> io::Result<()> {
    let (near, _far, fd) = pair()?;
    let (other, mut beyond, _) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    // SAFETY: both are open descriptors of ours; `near` goes on owning the number.
    assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
    assert!(!reactor.rearm(fd, READ, 1)?);
    assert_eq!(reactor.arm(fd, READ, 2)?, [Some(1), None]);
    beyond.write_all(b"x")?;
    assert_eq!(woken(&reactor)?, [2]);
    drop(near);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_duplicate_keeps_alive_reaches_nobody() -> io::Result<()> {
    let (near, mut far, fd) = pair()?;
    let (other, _beyond, _) = pair()?;
    let _twin = near.try_clone()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    // SAFETY: as above.
    assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
    reactor.arm(fd, READ, 2)?;
    far.write_all(b"for the duplicate")?;
    assert!(woken(&reactor)?.is_empty());
    Ok(())
}

#[test]
fn a_handle_takes_the_place_of_an_edge_and_is_level_triggered() -> io::Result<()> {
    for direction in [READ, WRITE] {
        let (_near, mut far, fd) = pair()?;
        let mut reactor = Table::new()?;
        far.write_all(b"x")?;
        reactor.arm(fd, READ, 1)?;
        assert_eq!(reactor.set(fd, direction, 2)?, Some(1));
        assert_eq!(reactor.edge(fd), None);
        for _ in 0..3 {
            assert_eq!(woken(&reactor)?, [2]);
        }
        assert!(!reactor.rearm(fd, READ, 1)?);
    }
    Ok(())
}

#[test]
fn what_is_done_to_handles_leaves_edges_alone() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    for direction in [READ, WRITE] {
        assert_eq!(reactor.unset(fd, direction), None);
        assert_eq!(reactor.mute(fd, direction), None);
    }
    far.write_all(b"x")?;
    assert_eq!(woken(&reactor)?, [1]);
    assert_eq!(reactor.iter().count(), 1);
    assert_eq!(reactor.take_all(), [1]);
    assert_eq!(reactor.watched(), 0);
    Ok(())
}

#[test]
fn a_new_kernel_object_knows_what_was_armed() -> io::Result<()> {
    let (_near, mut far, fd) = pair()?;
    let (_idle, mut other, idle) = pair()?;
    let mut reactor = Table::new()?;
    reactor.arm(fd, READ, 1)?;
    reactor.arm(idle, READ, 2)?;
    reactor.note(idle, 0, 2);
    reactor.renew()?;
    assert!(!reactor.resume(idle, READ, 2), "the new one does not tell what nobody waited for");
    far.write_all(b"x")?;
    other.write_all(b"x")?;
    assert_eq!(woken(&reactor)?, [1]);
    assert!(reactor.rearm(idle, READ, 2)?);
    assert_eq!(woken(&reactor)?, [2]);
    Ok(())
}
