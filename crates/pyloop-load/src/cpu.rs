//! CPU time of another process: user and system, all its threads, in nanoseconds.

use core::mem::MaybeUninit;

/// The CPU clock of one process.
#[derive(Clone, Copy)]
pub struct CpuClock {
    clock: libc::clockid_t,
}

impl CpuClock {
    /// The clock of the process with this number.
    pub fn of(process: libc::pid_t) -> Result<Self, String> {
        let mut clock = MaybeUninit::uninit();
        // SAFETY: the second argument points to room for one clock number.
        let error = unsafe { libc::clock_getcpuclockid(process, clock.as_mut_ptr()) };
        if error != 0 {
            let problem = std::io::Error::from_raw_os_error(error);
            return Err(format!("no CPU clock of process {process}: {problem}"));
        }
        // SAFETY: the call succeeded, so it has filled the number in.
        Ok(Self { clock: unsafe { clock.assume_init() } })
    }

    /// What the process has used since it began.
    pub fn nanoseconds(&self) -> Result<u64, String> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the second argument points to room for one timespec.
        if unsafe { libc::clock_gettime(self.clock, time.as_mut_ptr()) } != 0 {
            return Err("the server's process has ended".to_owned());
        }
        // SAFETY: the call succeeded, so it has filled the time in.
        let time = unsafe { time.assume_init() };
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_that_computes_uses_cpu_time() -> Result<(), String> {
        let clock = CpuClock::of(std::process::id() as libc::pid_t)?;
        let before = clock.nanoseconds()?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(2) {
            black_box(before);
        }
        assert!(clock.nanoseconds()? > before);
        Ok(())
    }
}
