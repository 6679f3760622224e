//! Sends every datagram back to where it came from; one that the kernel has no room for is lost.

use super::LISTENER;
use crate::poll::Poll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{recvfrom, sendto, sockopt, RecvFlags, SendFlags};
use std::os::fd::OwnedFd;

/// Room in the socket for what comes while a burst is answered.
const ROOM: usize = 8 << 20;

/// Serves until standard input is closed.
pub fn serve(socket: &OwnedFd) -> Result<(), String> {
    // Beyond the system's limit for those who may; up to it for the others.
    if sockopt::set_socket_recv_buffer_size_force(socket, ROOM).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, ROOM)
            .map_err(|problem| format!("receive buffer: {problem}"))?;
    }
    let mut poll = Poll::new()?;
    let mut buffer = vec![0; 65_536];
    poll.add(socket, LISTENER, EventFlags::IN)?;
    loop {
        poll.wait(None)?;
        if poll.over() {
            return Ok(());
        }
        loop {
            let (read, from) = match recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((read, _, Some(from))) => (read, from),
                Ok((_, _, None)) | Err(Errno::CONNREFUSED) => continue,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(problem) => return Err(format!("receive: {problem}")),
            };
            match sendto(socket, &buffer[..read], SendFlags::NOSIGNAL, &from) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED | Errno::NOBUFS) => {}
                Err(problem) => return Err(format!("send: {problem}")),
            }
        }
    }
}
