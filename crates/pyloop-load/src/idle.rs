//! Many connections that were used once and then stay open without a word.

use crate::arguments::Arguments;
use crate::payload::Payload;
use crate::poll::Poll;
use crate::report::Report;
use rustix::net::sockopt::{set_socket_timeout, Timeout};
use rustix::net::{recv, send, RecvFlags, SendFlags};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

const SIZE: usize = 64;

/// `idle`: one exchange on each connection, then a report, then nothing until the end is asked for.
///
/// The exchange keeps the client from running ahead of the server's queue of new connections.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let count = arguments.count("connections")?;
    let target = arguments.target()?;
    raise_limit(count as u64 + 32)?;
    let payload = Payload::new(SIZE);
    let mut buffer = [0; SIZE + 1];
    let mut sockets = Vec::with_capacity(count);
    for token in 0..count {
        let socket = target.address.connect()?;
        let failed = |problem| format!("connection {token}: {problem}");
        set_socket_timeout(&socket, Timeout::Recv, Some(target.patience)).map_err(failed)?;
        let request = payload.request(token, 0);
        send(&socket, request, SendFlags::NOSIGNAL).map_err(failed)?;
        let (read, _) = recv(&socket, &mut buffer[..], RecvFlags::empty()).map_err(failed)?;
        if &buffer[..read] != request {
            return Err(format!("connection {token}: the answer is not what was sent"));
        }
        sockets.push(socket);
    }
    Report::new().count("connected", count as u64).print();
    let mut poll = Poll::new()?;
    while !poll.over() {
        poll.wait(None)?;
    }
    Ok(())
}

fn raise_limit(needed: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|problem| format!("{needed} descriptors are needed: {problem}"))
}
