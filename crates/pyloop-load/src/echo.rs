//! Ping-pong on stream connections: one request outstanding on each, the answer must be its copy.

use crate::arguments::Arguments;
use crate::payload::Payload;
use crate::poll::{Poll, EDGES};
use crate::window::Window;
use rustix::io::{ioctl_fionbio, Errno};
use rustix::net::{recv, send, RecvFlags, SendFlags};
use std::os::fd::OwnedFd;
use std::time::Instant;

const BUFFER: usize = 256 * 1024;

/// One connection and how far its request has come.
struct Connection {
    socket: OwnedFd,
    sequence: usize,
    sent: usize,
    received: usize,
    begun: Instant,
}

/// All connections of a run.
struct Load {
    connections: Vec<Connection>,
    payload: Payload,
    size: usize,
    buffer: Vec<u8>,
    window: Window,
    /// The window has closed: an answer is followed by no further request.
    draining: bool,
    outstanding: usize,
    /// Connections that were not answered yet.
    fresh: usize,
}

/// `echo`: connects, sends, and reports what was answered.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let count = arguments.count("connections")?;
    let size = arguments.count("size")?;
    let window = Window::take(&mut arguments)?;
    let target = arguments.target()?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(count);
    for token in 0..count {
        let socket = target.address.connect()?;
        ioctl_fionbio(&socket, true).map_err(|problem| format!("ioctl: {problem}"))?;
        poll.add(&socket, token, EDGES)?;
        let begun = Instant::now();
        connections.push(Connection { socket, sequence: 0, sent: 0, received: 0, begun });
    }
    let mut load = Load {
        connections,
        payload: Payload::new(size),
        size,
        buffer: vec![0; BUFFER],
        window,
        draining: false,
        outstanding: count,
        fresh: count,
    };
    // Every connection reports that it can be written to: that is when its first request leaves.
    // Accepting them all is no part of the run: it begins when each has been answered once.
    while load.fresh > 0 {
        poll.wait_for(target.patience, "a new connection")?;
        load.serve(&poll)?;
    }
    load.window.begin(target.server, target.patience)?;
    while load.window.wait(&mut poll)? {
        load.serve(&poll)?;
    }
    load.window.close()?;
    load.draining = true;
    while load.outstanding > 0 {
        poll.wait_for(target.patience, "a request")?;
        load.serve(&poll)?;
    }
    load.window.report(size).print();
    Ok(())
}

impl Load {
    fn serve(&mut self, poll: &Poll) -> Result<(), String> {
        for index in 0..poll.len() {
            let (token, _) = poll.event(index);
            self.advance(token)?;
        }
        Ok(())
    }

    /// Sends and receives on one connection until the kernel has to wait or a new request has left.
    fn advance(&mut self, token: usize) -> Result<(), String> {
        self.send_rest(token)?;
        let connection = &mut self.connections[token];
        let expected = self.payload.request(token, connection.sequence);
        loop {
            if connection.received == self.size {
                return Ok(()); // only while draining: nothing is outstanding here
            }
            let read = match recv(&connection.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err("the server closed a connection".to_owned()),
                Ok((read, _)) => read,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(problem) => return Err(format!("receive: {problem}")),
            };
            let end = connection.received + read;
            if expected.get(connection.received..end) != Some(&self.buffer[..read]) {
                return Err(format!(
                    "connection {token}, request {}: the answer is not what was sent, \
                     somewhere in bytes {} to {end} of {}",
                    connection.sequence, connection.received, self.size
                ));
            }
            connection.received = end;
            self.window.received(read);
            if end == self.size {
                break;
            }
            if read < self.buffer.len() {
                return Ok(()); // drained: the next bytes are a new edge
            }
        }
        let now = Instant::now();
        self.window.answered(now - connection.begun);
        if self.draining {
            self.outstanding -= 1;
            return Ok(());
        }
        if connection.sequence == 0 {
            self.fresh -= 1;
        }
        connection.sequence += 1;
        (connection.sent, connection.received, connection.begun) = (0, 0, now);
        self.send_rest(token)
    }

    fn send_rest(&mut self, token: usize) -> Result<(), String> {
        let connection = &mut self.connections[token];
        let request = self.payload.request(token, connection.sequence);
        while connection.sent < self.size {
            match send(&connection.socket, &request[connection.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => connection.sent += sent,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(problem) => return Err(format!("send: {problem}")),
            }
        }
        Ok(())
    }
}
