//! Sends back what it reads, as it reads it.

use super::{accept, Table, BUFFER, LISTENER};
use crate::poll::Poll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{recv, send, RecvFlags, SendFlags};
use std::os::fd::OwnedFd;

/// One connection, and what the kernel has not taken yet: while there is any, nothing is read.
struct Connection {
    socket: OwnedFd,
    kept: Vec<u8>,
}

/// What is left to do with a connection after an event.
enum Next {
    Read,
    Write,
    Close,
}

/// Serves until standard input is closed.
pub fn serve(listener: &OwnedFd) -> Result<(), String> {
    let mut poll = Poll::new()?;
    let mut connections = Table::new();
    let mut buffer = vec![0; BUFFER];
    poll.add(listener, LISTENER, EventFlags::IN)?;
    loop {
        let events = poll.wait(None)?;
        if poll.over() {
            return Ok(());
        }
        for index in 0..events {
            let (token, _) = poll.event(index);
            if token == LISTENER {
                while let Some(socket) = accept(listener)? {
                    let token = connections.insert(Connection { socket, kept: Vec::new() });
                    if let Some(connection) = connections.get(token) {
                        poll.add(&connection.socket, token, EventFlags::IN)?;
                    }
                }
                continue;
            }
            let Some(connection) = connections.get(token) else {
                continue;
            };
            let was_reading = connection.kept.is_empty();
            let next =
                if was_reading { connection.echo(&mut buffer) } else { connection.send_kept() };
            match next {
                Next::Read if !was_reading => {
                    poll.modify(&connection.socket, token, EventFlags::IN)?;
                }
                Next::Write if was_reading => {
                    poll.modify(&connection.socket, token, EventFlags::OUT)?;
                }
                Next::Read | Next::Write => {}
                Next::Close => connections.remove(token),
            }
        }
    }
}

impl Connection {
    fn echo(&mut self, buffer: &mut [u8]) -> Next {
        let read = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Next::Close,
            Ok((read, _)) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Next::Read,
            Err(_) => return Next::Close,
        };
        match send(&self.socket, &buffer[..read], SendFlags::NOSIGNAL) {
            Ok(sent) if sent == read => Next::Read,
            Ok(sent) => {
                self.kept.extend_from_slice(&buffer[sent..read]);
                Next::Write
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.kept.extend_from_slice(&buffer[..read]);
                Next::Write
            }
            Err(_) => Next::Close,
        }
    }

    fn send_kept(&mut self) -> Next {
        match send(&self.socket, &self.kept, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == self.kept.len() => {
                self.kept.clear();
                Next::Read
            }
            Ok(sent) => {
                self.kept.drain(..sent);
                Next::Write
            }
            Err(Errno::AGAIN | Errno::INTR) => Next::Write,
            Err(_) => Next::Close,
        }
    }
}
