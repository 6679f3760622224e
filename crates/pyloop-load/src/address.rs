//! Where a server listens, and plain connections to it.

use rustix::net::{self, sockopt, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::str::FromStr;

/// A loopback address: an IP address with a port, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// TCP or UDP.
    Internet(SocketAddr),
    /// A Unix stream socket.
    Unix(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.to_owned()));
        }
        text.parse().map(Self::Internet).map_err(|_| format!("{text:?} is no address"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{path}"),
        }
    }
}

impl Address {
    /// The IP address, for the jobs that Unix sockets do not have.
    pub fn internet(&self) -> Result<SocketAddr, String> {
        match self {
            Self::Internet(address) => Ok(*address),
            Self::Unix(_) => Err(format!("{self}: this job needs an IP address")),
        }
    }

    /// A connected stream socket, still blocking.
    pub fn connect(&self) -> Result<OwnedFd, String> {
        let failed = |problem| format!("cannot connect to {self}: {problem}");
        match self {
            Self::Internet(address) => {
                let socket = self.socket(SocketType::STREAM, SocketFlags::CLOEXEC)?;
                net::connect(&socket, address).map_err(failed)?;
                sockopt::set_tcp_nodelay(&socket, true).map_err(failed)?;
                Ok(socket)
            }
            Self::Unix(path) => {
                let address = SocketAddrUnix::new(path.as_str()).map_err(failed)?;
                let socket = self.socket(SocketType::STREAM, SocketFlags::CLOEXEC)?;
                net::connect(&socket, &address).map_err(failed)?;
                Ok(socket)
            }
        }
    }

    /// A socket of the family of this address.
    pub fn socket(&self, kind: SocketType, flags: SocketFlags) -> Result<OwnedFd, String> {
        let family = match self {
            Self::Internet(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Internet(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) => AddressFamily::UNIX,
        };
        net::socket_with(family, kind, flags, None).map_err(|problem| format!("socket: {problem}"))
    }

    /// Binds a socket to this address.
    pub fn bind(&self, socket: &OwnedFd) -> Result<(), String> {
        let failed = |problem| format!("cannot listen on {self}: {problem}");
        match self {
            Self::Internet(address) => net::bind(socket, address).map_err(failed),
            Self::Unix(path) => {
                let address = SocketAddrUnix::new(path.as_str()).map_err(failed)?;
                net::bind(socket, &address).map_err(failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:a/b"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.into()));
        }
        assert!("localhost".parse::<Address>().is_err());
    }
}
