//! Connect, one request, close, and again: `--connections` of them at a time.
//!
//! The client closes first, so the ports that rest in TIME_WAIT are its own. It takes each new
//! connection from another loopback address and port, so that it cannot run out of them.

use crate::arguments::Arguments;
use crate::payload::Payload;
use crate::poll::{Poll, EDGES};
use crate::window::Window;
use rustix::io::Errno;
use rustix::net::{
    bind, connect, recv, send, sockopt, RecvFlags, SendFlags, SocketFlags, SocketType,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// One connection under way.
struct Slot {
    socket: OwnedFd,
    sequence: usize,
    sent: usize,
    received: usize,
    begun: Instant,
}

struct Load {
    server: SocketAddr,
    sources: Sources,
    payload: Payload,
    size: usize,
    buffer: Vec<u8>,
    slots: Vec<Option<Slot>>,
    window: Window,
    draining: bool,
}

/// `churn`: reports connections that were opened, answered and closed.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let count = arguments.count("connections")?;
    let size = arguments.count("size")?;
    let window = Window::take(&mut arguments)?;
    let target = arguments.target()?;
    let mut poll = Poll::new()?;
    let mut load = Load {
        server: target.address.internet()?,
        sources: Sources::new(std::process::id()),
        payload: Payload::new(size),
        size,
        buffer: vec![0; size + 1],
        slots: (0..count).map(|_| None).collect(),
        window,
        draining: false,
    };
    load.window.begin(target.server, target.patience)?;
    for token in 0..count {
        load.connect(&poll, token, 0, Instant::now())?;
    }
    while load.window.wait(&mut poll)? {
        load.serve(&poll)?;
    }
    load.window.close()?;
    load.draining = true;
    while load.slots.iter().any(Option::is_some) {
        poll.wait_for(target.patience, "a connection")?;
        load.serve(&poll)?;
    }
    load.window.report(size).print();
    Ok(())
}

impl Load {
    fn serve(&mut self, poll: &Poll) -> Result<(), String> {
        for index in 0..poll.len() {
            self.advance(poll, poll.event(index).0)?;
        }
        Ok(())
    }

    fn connect(
        &mut self,
        poll: &Poll,
        token: usize,
        sequence: usize,
        now: Instant,
    ) -> Result<(), String> {
        let address = crate::address::Address::Internet(self.server);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = loop {
            let socket = address.socket(SocketType::STREAM, flags)?;
            let bound = match self.server.ip() {
                IpAddr::V4(_) => bind(&socket, &self.sources.next()),
                IpAddr::V6(_) => Ok(()),
            };
            match bound {
                Ok(()) => break socket,
                Err(Errno::ADDRINUSE) => {} // somebody's port, or one that still rests
                Err(problem) => return Err(format!("bind: {problem}")),
            }
        };
        let failed = |problem| format!("connect: {problem}");
        sockopt::set_tcp_nodelay(&socket, true).map_err(failed)?;
        match connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(problem) => return Err(failed(problem)),
        }
        poll.add(&socket, token, EDGES)?;
        let slot = Slot { socket, sequence, sent: 0, received: 0, begun: now };
        self.slots[token] = Some(slot);
        Ok(())
    }

    fn advance(&mut self, poll: &Poll, token: usize) -> Result<(), String> {
        let Some(slot) = &mut self.slots[token] else {
            return Ok(());
        };
        let request = self.payload.request(token, slot.sequence);
        while slot.sent < self.size {
            match send(&slot.socket, &request[slot.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => slot.sent += sent,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(problem) => return Err(format!("send on a new connection: {problem}")),
            }
        }
        while slot.received < self.size {
            match recv(&slot.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err("the server closed a connection".to_owned()),
                Ok((read, _)) => {
                    let end = slot.received + read;
                    if request.get(slot.received..end) != Some(&self.buffer[..read]) {
                        return Err(format!(
                            "connection {token}.{}: the answer is not what was sent",
                            slot.sequence
                        ));
                    }
                    slot.received = end;
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(problem) => return Err(format!("receive: {problem}")),
            }
        }
        let now = Instant::now();
        let (begun, next) = (slot.begun, slot.sequence + 1);
        self.window.received(self.size);
        self.window.answered(now - begun);
        self.slots[token] = None; // closes
        if self.draining {
            return Ok(());
        }
        self.connect(poll, token, next, Instant::now())
    }
}

/// Addresses and ports to connect from, each used once.
struct Sources {
    network: u8,
    host: u8,
    used: u32,
}

/// Ports of one address that are taken in turn.
const FIRST_PORT: u32 = 2_000;
const PORTS: u32 = 60_000;

impl Sources {
    /// Begins where a process of another number does not: 127.64-255.x.1 and on.
    fn new(process: u32) -> Self {
        Self { network: 64 + (process % 192) as u8, host: (process / 192 % 250) as u8, used: 0 }
    }

    fn next(&mut self) -> SocketAddrV4 {
        let (address, port) = (self.used / PORTS, self.used % PORTS);
        self.used = (self.used + 1) % (PORTS * 250);
        let ip = Ipv4Addr::new(127, self.network, self.host, 1 + address as u8);
        SocketAddrV4::new(ip, (FIRST_PORT + port) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_source_is_used_once_and_is_another_process_s_never() {
        let mut seen = HashSet::new();
        for process in [7, 8, 7 + 192] {
            let mut sources = Sources::new(process);
            for _ in 0..PORTS + 10 {
                let source = sources.next();
                assert!(source.ip().is_loopback() && source.port() >= 2_000);
                assert!(seen.insert(source));
            }
        }
    }
}
