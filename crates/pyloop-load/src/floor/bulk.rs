//! Sends as many bytes as it is asked for, from memory or from a file, or receives and confirms them.

use super::{accept, Table, BUFFER, LISTENER};
use crate::bulk::{byte_at, CLIENT_SENDS, PERIOD};
use crate::poll::Poll;
use rustix::event::epoll::EventFlags;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{recv, send, RecvFlags, SendFlags};
use std::fs::File;
use std::os::fd::OwnedFd;

/// What a connection is about.
enum Stage {
    /// The eight bytes with the number.
    Asking(Vec<u8>),
    /// So many of so many bytes have left.
    Sending { done: u64, all: u64 },
    /// So many bytes of so many have come.
    Receiving { done: u64, all: u64 },
}

struct Connection {
    socket: OwnedFd,
    stage: Stage,
}

/// Where the bytes come from and go to.
struct Memory<'a> {
    /// A buffer's length of the stream, whichever place in its period comes first.
    stream: Vec<u8>,
    buffer: Vec<u8>,
    /// A file to send instead, from its beginning again when its end is reached.
    file: Option<&'a File>,
    file_length: u64,
}

/// Serves until standard input is closed.
pub fn serve(listener: &OwnedFd, file: Option<&File>) -> Result<(), String> {
    let mut poll = Poll::new()?;
    let mut connections = Table::new();
    let stream = (0..(BUFFER + PERIOD) as u64).map(byte_at).collect();
    let file_length = match file.map(File::metadata) {
        None => 0,
        Some(Ok(metadata)) if metadata.len() > 0 => metadata.len(),
        Some(_) => return Err("the file is empty or cannot be read".to_owned()),
    };
    let mut memory = Memory { stream, buffer: vec![0; BUFFER], file, file_length };
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
                    let stage = Stage::Asking(Vec::new());
                    let token = connections.insert(Connection { socket, stage });
                    if let Some(connection) = connections.get(token) {
                        poll.add(&connection.socket, token, EventFlags::IN)?;
                    }
                }
                continue;
            }
            let Some(connection) = connections.get(token) else {
                continue;
            };
            let was_sending = matches!(connection.stage, Stage::Sending { .. });
            if !connection.advance(&mut memory) {
                connections.remove(token);
                continue;
            }
            let sending = matches!(connection.stage, Stage::Sending { .. });
            if sending != was_sending {
                let flags = if sending { EventFlags::OUT } else { EventFlags::IN };
                poll.modify(&connection.socket, token, flags)?;
            }
        }
    }
}

impl Connection {
    /// Does what can be done without waiting; false if the connection is over.
    fn advance(&mut self, memory: &mut Memory<'_>) -> bool {
        match &mut self.stage {
            Stage::Asking(asked) => {
                let wanted = 8 - asked.len();
                let Some(read) = received(&self.socket, &mut memory.buffer[..wanted]) else {
                    return false;
                };
                asked.extend_from_slice(&memory.buffer[..read]);
                if let Ok(number) = <[u8; 8]>::try_from(asked.as_slice()) {
                    let number = u64::from_be_bytes(number);
                    let all = number & !CLIENT_SENDS;
                    self.stage = if number == all {
                        Stage::Sending { done: 0, all }
                    } else {
                        Stage::Receiving { done: 0, all }
                    };
                }
                true
            }
            Stage::Sending { done, all } => {
                while *done < *all {
                    let sent = match memory.file {
                        None => {
                            let first = (*done % PERIOD as u64) as usize;
                            let length = (*all - *done).min(BUFFER as u64) as usize;
                            let bytes = &memory.stream[first..first + length];
                            send(&self.socket, bytes, SendFlags::NOSIGNAL)
                        }
                        Some(file) => {
                            let mut offset = *done % memory.file_length;
                            let length = (*all - *done).min(memory.file_length - offset);
                            sendfile(&self.socket, file, Some(&mut offset), length as usize)
                        }
                    };
                    match sent {
                        Ok(0) => return false, // the file has become shorter
                        Ok(sent) => *done += sent as u64,
                        Err(Errno::AGAIN | Errno::INTR) => return true,
                        Err(_) => return false,
                    }
                }
                self.stage = Stage::Asking(Vec::new());
                true
            }
            Stage::Receiving { done, all } => {
                let Some(read) = received(&self.socket, &mut memory.buffer) else {
                    return false;
                };
                *done += read as u64;
                if *done < *all {
                    return true;
                }
                let answer = done.to_be_bytes();
                self.stage = Stage::Asking(Vec::new());
                send(&self.socket, &answer, SendFlags::NOSIGNAL) == Ok(answer.len())
            }
        }
    }
}

/// How much came; nothing if the kernel has nothing, None at the end of the connection.
fn received(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    match recv(socket, buffer, RecvFlags::empty()) {
        Ok((0, _)) => None,
        Ok((read, _)) => Some(read),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
