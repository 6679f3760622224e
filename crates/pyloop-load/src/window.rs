//! The stretch of a run that is counted: after the warm-up, for a time or for a number of requests.

use crate::arguments::Arguments;
use crate::cpu::CpuClock;
use crate::latency::Latencies;
use crate::poll::Poll;
use crate::report::Report;
use std::time::{Duration, Instant};

/// How long to count.
enum Limit {
    Time(Duration),
    Requests(u64),
}

/// Counts what happens between two readings of the server's CPU clock.
pub struct Window {
    warm_up: Duration,
    limit: Limit,
    server: Option<CpuClock>,
    patience: Duration,
    begun: Instant,
    open: Option<Instant>,
    closed: bool,
    seconds: f64,
    server_begin: u64,
    server_cpu: Option<u64>,
    latencies: Latencies,
    bytes: u64,
    lost: u64,
}

impl Window {
    /// Takes `--seconds` with `--warm-up`, or `--requests`.
    pub fn take(arguments: &mut Arguments) -> Result<Self, String> {
        let requests = arguments.optional("requests")?;
        let seconds = arguments.seconds("seconds")?;
        let limit = match (seconds, requests) {
            (Some(time), None) => Limit::Time(time),
            (None, Some(count)) => Limit::Requests(count),
            _ => return Err("either --seconds or --requests is needed".to_owned()),
        };
        Ok(Self {
            warm_up: arguments.seconds("warm-up")?.unwrap_or_default(),
            limit,
            server: None,
            patience: Duration::ZERO,
            begun: Instant::now(),
            open: None,
            closed: false,
            seconds: 0.0,
            server_begin: 0,
            server_cpu: None,
            latencies: Latencies::new(),
            bytes: 0,
            lost: 0,
        })
    }

    /// The warm-up begins; the window opens at once if there is none.
    pub fn begin(&mut self, server: Option<CpuClock>, patience: Duration) -> Result<(), String> {
        self.server = server;
        self.patience = patience;
        self.begun = Instant::now();
        if self.warm_up.is_zero() {
            self.open_now(self.begun)?;
        }
        Ok(())
    }

    /// Bytes that came back, of any request.
    pub fn received(&mut self, bytes: usize) {
        if !self.closed {
            self.bytes += bytes as u64;
        }
    }

    /// A request was answered.
    pub fn answered(&mut self, latency: Duration) {
        if !self.closed {
            self.latencies.add(latency.as_nanos() as u64);
        }
    }

    /// A request was lost and is sent again.
    pub fn lost(&mut self) {
        if !self.closed {
            self.lost += 1;
        }
    }

    /// Waits for events within the window's bounds; false when the window has closed.
    pub fn wait(&mut self, poll: &mut Poll) -> Result<bool, String> {
        self.wait_at_most(poll, self.patience).map(|events| events.is_some())
    }

    /// The same, for no longer than `longest`; returns how many events came, None at the end.
    ///
    /// No event within the patience is a failure; none within a shorter time is not.
    pub fn wait_at_most(
        &mut self,
        poll: &mut Poll,
        longest: Duration,
    ) -> Result<Option<usize>, String> {
        if let Limit::Requests(count) = self.limit {
            if self.open.is_some() && self.latencies.len() >= count {
                return Ok(None);
            }
        }
        let now = Instant::now();
        let ends = match (self.open, &self.limit) {
            (None, _) => Some(self.begun + self.warm_up),
            (Some(open), Limit::Time(time)) => Some(open + *time),
            (Some(_), Limit::Requests(_)) => None,
        };
        if let Some(end) = ends {
            if now >= end {
                if self.open.is_some() {
                    return Ok(None);
                }
                self.open_now(now)?;
                return self.wait_at_most(poll, longest);
            }
        }
        let left = ends.map_or(longest, |end| (end - now).min(longest));
        let events = poll.wait(Some(left))?;
        if poll.over() {
            return Err("standard input was closed".to_owned());
        }
        if events == 0 && left >= self.patience {
            return Err(format!("the server was silent for {:?}", self.patience));
        }
        Ok(Some(events))
    }

    /// Reads the clocks: what comes later is not counted.
    pub fn close(&mut self) -> Result<(), String> {
        let open = self.open.ok_or("the run ended in its warm-up")?;
        self.closed = true;
        self.seconds = open.elapsed().as_secs_f64();
        if let Some(server) = self.server {
            self.server_cpu = Some(server.nanoseconds()? - self.server_begin);
        }
        if self.latencies.len() == 0 {
            return Err("not one request was answered".to_owned());
        }
        Ok(())
    }

    /// What was counted until `close`. `size` is the length of one request.
    pub fn report(&self, size: usize) -> Report {
        let mut report = Report::new();
        if let Some(nanoseconds) = self.server_cpu {
            report = report.count("server_cpu_ns", nanoseconds);
        }
        report
            .number("seconds", self.seconds)
            // Long requests are cut by the ends of the window: their bytes are the truer count.
            .number("requests", self.bytes as f64 / size as f64)
            .count("answered", self.latencies.len())
            .count("lost", self.lost)
            .latencies(&self.latencies)
    }

    fn open_now(&mut self, now: Instant) -> Result<(), String> {
        self.open = Some(now);
        self.latencies.clear();
        self.bytes = 0;
        self.lost = 0;
        if let Some(server) = self.server {
            self.server_begin = server.nanoseconds()?;
        }
        Ok(())
    }
}
