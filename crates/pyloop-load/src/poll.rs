//! epoll, with an eye on standard input: when the one who started us is gone, so are we.

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::Timespec;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// What a connection is watched for, edge-triggered: the client reads until nothing is left.
pub const EDGES: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

const STANDARD_INPUT: u64 = u64::MAX;

/// One epoll instance and the events of the last wait.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
    over: bool,
}

impl Poll {
    /// Watches nothing but whether standard input is still held open.
    pub fn new() -> Result<Self, String> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| format!("epoll: {e}"))?;
        let data = EventData::new_u64(STANDARD_INPUT);
        // A terminal or a pipe reports a hang-up; a file cannot be watched, and never hangs up.
        match epoll::add(&epoll, std::io::stdin(), data, EventFlags::empty()) {
            Ok(()) | Err(Errno::PERM | Errno::BADF) => {}
            Err(problem) => return Err(format!("epoll: standard input: {problem}")),
        }
        Ok(Self { epoll, events: Vec::with_capacity(1024), over: false })
    }

    /// Watches a descriptor; its events carry `token`.
    pub fn add(&self, fd: impl AsFd, token: usize, flags: EventFlags) -> Result<(), String> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token as u64), flags)
            .map_err(|problem| format!("epoll: {problem}"))
    }

    /// Watches it for something else.
    pub fn modify(&self, fd: impl AsFd, token: usize, flags: EventFlags) -> Result<(), String> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token as u64), flags)
            .map_err(|problem| format!("epoll: {problem}"))
    }

    /// Waits for events, for ever if no time is given; returns how many came.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<usize, String> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(problem) => return Err(format!("epoll: {problem}")),
        }
        if let Some(at) = self.events.iter().position(|event| event.data.u64() == STANDARD_INPUT) {
            self.events.swap_remove(at);
            self.over = true;
        }
        Ok(self.events.len())
    }

    /// Waits for events, which must come within the patience: `what` is still to be answered.
    pub fn wait_for(&mut self, patience: Duration, what: &str) -> Result<(), String> {
        match (self.wait(Some(patience))?, self.over) {
            (_, true) => Err("standard input was closed".to_owned()),
            (0, false) => Err(format!("{what} had no answer for {patience:?}")),
            (_, false) => Ok(()),
        }
    }

    /// Whether standard input was closed.
    pub fn over(&self) -> bool {
        self.over
    }

    /// How many events the last wait brought.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// The token and the flags of an event of the last wait.
    pub fn event(&self, index: usize) -> (usize, EventFlags) {
        let event = self.events[index];
        let data = event.data;
        (data.u64() as usize, event.flags)
    }
}
