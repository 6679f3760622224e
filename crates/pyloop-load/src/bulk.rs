//! One connection, many bytes in one direction; the other side sets the pace.
//!
//! The client begins with eight bytes: how many bytes it wants (`sink`), or, with the top bit set,
//! how many it will send (`source`), which the server confirms with the same number when it has them.

use crate::arguments::{Arguments, Target};
use crate::payload::noise;
use crate::report::Report;
use rustix::net::sockopt::{set_socket_timeout, Timeout};
use rustix::net::{recv, send, RecvFlags, SendFlags};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Set in the first eight bytes if the client is the one that sends.
pub const CLIENT_SENDS: u64 = 1 << 63;

const BUFFER: usize = 256 * 1024;
/// The stream that a server sends, or a file has, repeats itself after this many bytes.
pub const PERIOD: usize = 1021;
/// How much of each piece that arrives is looked at.
const LOOKED_AT: usize = 64;

/// The byte of a served stream at a position: its place within the period, cut to a byte.
pub fn byte_at(position: u64) -> u8 {
    (position % PERIOD as u64) as u8
}

/// `sink`: asks for bytes and receives them.
pub fn sink(mut arguments: Arguments) -> Result<(), String> {
    let bytes = arguments.count("bytes")? as u64;
    let target = arguments.target()?;
    let socket = open(&target)?;
    let mut buffer = vec![0; BUFFER];
    let clock = Clock::start(&target)?;
    send_all(&socket, &bytes.to_be_bytes())?;
    let mut received = 0u64;
    while received < bytes {
        let read = receive(&socket, &mut buffer)?;
        let looked_at = &buffer[..read.min(LOOKED_AT)];
        if looked_at.iter().zip(received..).any(|(byte, position)| *byte != byte_at(position)) {
            return Err(format!("what came at byte {received} is not what the server should send"));
        }
        received += read as u64;
    }
    if received > bytes {
        return Err(format!("{} bytes too many came", received - bytes));
    }
    clock.report(bytes)
}

/// `source`: sends bytes until the server has confirmed them all.
pub fn source(mut arguments: Arguments) -> Result<(), String> {
    let bytes = arguments.count("bytes")? as u64;
    let target = arguments.target()?;
    let socket = open(&target)?;
    let block = noise(BUFFER);
    let clock = Clock::start(&target)?;
    send_all(&socket, &(bytes | CLIENT_SENDS).to_be_bytes())?;
    let mut left = bytes;
    while left > 0 {
        let next = left.min(BUFFER as u64) as usize;
        send_all(&socket, &block[..next])?;
        left -= next as u64;
    }
    let mut answer = [0; 8];
    let mut have = 0;
    while have < 8 {
        have += receive(&socket, &mut answer[have..])?;
    }
    let confirmed = u64::from_be_bytes(answer);
    if confirmed != bytes {
        return Err(format!("{bytes} bytes were sent, the server has {confirmed}"));
    }
    clock.report(bytes)
}

fn open(target: &Target) -> Result<OwnedFd, String> {
    let socket = target.address.connect()?;
    for which in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, which, Some(target.patience))
            .map_err(|problem| format!("socket time-out: {problem}"))?;
    }
    Ok(socket)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, String> {
    match recv(socket, buffer, RecvFlags::empty()) {
        Ok((0, _)) => Err("the server closed the connection".to_owned()),
        Ok((read, _)) => Ok(read),
        Err(rustix::io::Errno::AGAIN) => Err("the server was silent".to_owned()),
        Err(problem) => Err(format!("receive: {problem}")),
    }
}

fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), String> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::AGAIN) => return Err("the server does not read".to_owned()),
            Err(problem) => return Err(format!("send: {problem}")),
        }
    }
    Ok(())
}

/// The two clocks of a run.
struct Clock<'a> {
    target: &'a Target,
    server: u64,
    begun: Instant,
}

impl<'a> Clock<'a> {
    fn start(target: &'a Target) -> Result<Self, String> {
        let server = target.server.map_or(Ok(0), |clock| clock.nanoseconds())?;
        Ok(Self { target, server, begun: Instant::now() })
    }

    fn report(self, bytes: u64) -> Result<(), String> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut report = Report::new().number("seconds", seconds).count("bytes", bytes);
        if let Some(clock) = self.target.server {
            report = report.count("server_cpu_ns", clock.nanoseconds()? - self.server);
        }
        report.print();
        Ok(())
    }
}
