//! Ping-pong by datagrams: each connection is a socket of its own; what is lost is sent again.

use crate::arguments::Arguments;
use crate::payload::Payload;
use crate::poll::Poll;
use crate::window::Window;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{connect, recv, send, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The largest payload of a UDP datagram over IPv4.
const LARGEST: usize = 65_507;
/// After this time a request without an answer is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);

struct Peer {
    socket: OwnedFd,
    sequence: usize,
    begun: Instant,
    sent: Instant,
    answered: bool,
}

struct Load {
    peers: Vec<Peer>,
    payload: Payload,
    buffer: Vec<u8>,
    window: Window,
    swept: Instant,
    draining: bool,
    outstanding: usize,
    /// Sockets that were not answered yet.
    fresh: usize,
}

/// `udp`: sends, and reports what was answered and what was lost.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let count = arguments.count("connections")?;
    let size = arguments.count("size")?;
    if size > LARGEST {
        return Err(format!("{size} bytes do not fit a datagram"));
    }
    let window = Window::take(&mut arguments)?;
    let target = arguments.target()?;
    let address = target.address.internet()?;
    let mut poll = Poll::new()?;
    let now = Instant::now();
    let mut peers = Vec::with_capacity(count);
    for token in 0..count {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = target.address.socket(SocketType::DGRAM, flags)?;
        connect(&socket, &address).map_err(|problem| format!("connect: {problem}"))?;
        poll.add(&socket, token, EventFlags::IN | EventFlags::ET)?;
        peers.push(Peer { socket, sequence: 0, begun: now, sent: now, answered: false });
    }
    let mut load = Load {
        peers,
        payload: Payload::new(size),
        buffer: vec![0; LARGEST + 1],
        window,
        swept: now,
        draining: false,
        outstanding: count,
        fresh: count,
    };
    for token in 0..count {
        load.send(token, Instant::now())?;
    }
    let mut heard = Instant::now();
    while load.fresh > 0 {
        let events = poll.wait(Some(LOST_AFTER))?;
        load.serve(&poll, events, &mut heard, target.patience)?;
    }
    load.window.begin(target.server, target.patience)?;
    while let Some(events) = load.window.wait_at_most(&mut poll, LOST_AFTER)? {
        load.serve(&poll, events, &mut heard, target.patience)?;
    }
    load.window.close()?;
    load.draining = true;
    while load.outstanding > 0 {
        let events = poll.wait(Some(LOST_AFTER))?;
        load.serve(&poll, events, &mut heard, target.patience)?;
    }
    load.window.report(size).print();
    Ok(())
}

impl Load {
    fn serve(
        &mut self,
        poll: &Poll,
        events: usize,
        heard: &mut Instant,
        patience: Duration,
    ) -> Result<(), String> {
        for index in 0..events {
            self.receive(poll.event(index).0)?;
        }
        let now = Instant::now();
        if events > 0 {
            *heard = now;
        } else if now - *heard >= patience {
            return Err(format!("the server was silent for {patience:?}"));
        } else if poll.over() {
            return Err("standard input was closed".to_owned());
        }
        if now - self.swept >= LOST_AFTER {
            self.swept = now;
            self.send_lost(now)?;
        }
        Ok(())
    }

    /// Reads all that has come to one socket; a copy of the request outstanding is its answer.
    fn receive(&mut self, token: usize) -> Result<(), String> {
        loop {
            let peer = &mut self.peers[token];
            let read = match recv(&peer.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((read, _)) => read,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(problem) => return Err(format!("receive: {problem}")),
            };
            let answer = &self.buffer[..read];
            if answer != self.payload.request(token, peer.sequence) {
                // A request that was given up for lost may be answered after all, once or twice.
                let late = (1..4)
                    .filter_map(|back| peer.sequence.checked_sub(back))
                    .any(|sequence| answer == self.payload.request(token, sequence));
                if late {
                    continue;
                }
                return Err(format!(
                    "connection {token}, request {}: the answer is not what was sent",
                    peer.sequence
                ));
            }
            if peer.answered {
                continue;
            }
            let now = Instant::now();
            self.window.received(read);
            self.window.answered(now - peer.begun);
            if self.draining {
                peer.answered = true;
                self.outstanding -= 1;
                continue;
            }
            if peer.sequence == 0 {
                self.fresh -= 1;
            }
            peer.sequence += 1;
            peer.begun = now;
            return self.send(token, now);
        }
    }

    fn send(&mut self, token: usize, now: Instant) -> Result<(), String> {
        let peer = &mut self.peers[token];
        peer.sent = now;
        let request = self.payload.request(token, peer.sequence);
        match send(&peer.socket, request, SendFlags::NOSIGNAL) {
            // A datagram that the kernel has no room for is lost like any other.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(()),
            Err(problem) => Err(format!("send: {problem}")),
        }
    }

    fn send_lost(&mut self, now: Instant) -> Result<(), String> {
        for token in 0..self.peers.len() {
            let peer = &self.peers[token];
            if !peer.answered && now - peer.sent >= LOST_AFTER {
                self.window.lost();
                self.send(token, now)?;
            }
        }
        Ok(())
    }
}
