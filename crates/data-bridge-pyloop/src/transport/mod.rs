//! Transports: sockets and pipes behind asyncio's protocols.
//!
//! [`base`] holds what all have in common, [`kind`] what the interpreter sees of it, [`types`] the types that exist;
//! [`stream`] reads and [`writing`] writes byte streams, [`outgoing`] is what waits to be sent, [`extra`] answers `get_extra_info()`,
//! [`datagram`] receives and [`sending`] sends datagrams, [`senders`] remembers addresses; [`read_pipe`] and [`write_pipe`] are the ends
//! of pipes; [`shared`] is what the transports of one loop share; [`listener`] accepts connections.

pub mod base;
pub mod datagram;
pub mod extra;
pub mod kind;
pub mod listener;
pub mod outgoing;
pub mod read_pipe;
pub mod senders;
pub mod sending;
pub mod shared;
pub mod stream;
pub mod types;
pub mod write_pipe;
pub mod writing;
