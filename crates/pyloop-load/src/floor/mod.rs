//! The floor: servers with nothing in them but the system calls that the work cannot do without.
//!
//! Level-triggered epoll, one thread, one buffer for all connections; what was read is sent by one
//! call, and only what the kernel did not take is kept. They print where they listen and end when
//! standard input is closed.

mod bulk;
mod datagrams;
mod echo;

use crate::address::Address;
use crate::arguments::Arguments;
use crate::report::Report;
use rustix::io::Errno;
use rustix::net::{accept_with, getsockname, listen, sockopt, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// One `recv` takes up to this much, which is what asyncio asks for.
const BUFFER: usize = 256 * 1024;
const BACKLOG: i32 = 4096;

/// `floor`: serves until standard input is closed.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let address: Address = arguments.required("listen")?;
    let service: String = arguments.required("service")?;
    let file: Option<String> = arguments.optional("file")?;
    arguments.end()?;
    match service.as_str() {
        "echo" => echo::serve(&listening(&address)?),
        "bulk" => bulk::serve(&listening(&address)?, None),
        "file" => {
            let path = file.ok_or("--file is needed")?;
            let file =
                std::fs::File::open(&path).map_err(|problem| format!("{path}: {problem}"))?;
            bulk::serve(&listening(&address)?, Some(&file))
        }
        "udp" => {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = address.socket(SocketType::DGRAM, flags)?;
            address.bind(&socket)?;
            announce(&socket, &address)?;
            datagrams::serve(&socket)
        }
        _ => Err(format!("there is no service {service:?}")),
    }
}

fn listening(address: &Address) -> Result<OwnedFd, String> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = address.socket(SocketType::STREAM, flags)?;
    address.bind(&socket)?;
    listen(&socket, BACKLOG).map_err(|problem| format!("listen: {problem}"))?;
    announce(&socket, address)?;
    Ok(socket)
}

fn announce(socket: &OwnedFd, address: &Address) -> Result<(), String> {
    let bound = match address {
        Address::Unix(_) => address.to_string(),
        Address::Internet(_) => {
            let bound = getsockname(socket).map_err(|problem| format!("getsockname: {problem}"))?;
            SocketAddr::try_from(bound).map_err(|_| "not an IP address")?.to_string()
        }
    };
    Report::new().text("address", &bound).print();
    Ok(())
}

/// The next connection that waits to be accepted, if there is one.
fn accept(listener: &OwnedFd) -> Result<Option<OwnedFd>, String> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => {
            // A Unix socket has no such option, and no such delay.
            let _ = sockopt::set_tcp_nodelay(&socket, true);
            Ok(Some(socket))
        }
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(problem) => Err(format!("accept: {problem}")),
    }
}

/// Connections by token; a token is used again when its connection has gone.
struct Table<T> {
    entries: Vec<Option<T>>,
    free: Vec<usize>,
}

/// The token of the socket that listens.
const LISTENER: usize = usize::MAX - 1;

impl<T> Table<T> {
    fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    fn insert(&mut self, entry: T) -> usize {
        match self.free.pop() {
            Some(token) => {
                self.entries[token] = Some(entry);
                token
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        }
    }

    fn get(&mut self, token: usize) -> Option<&mut T> {
        self.entries.get_mut(token).and_then(Option::as_mut)
    }

    fn remove(&mut self, token: usize) {
        if self.entries[token].take().is_some() {
            self.free.push(token);
        }
    }
}
