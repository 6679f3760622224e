//! The only reader of the monotonic clock, and the arithmetic between its nanoseconds and asyncio's seconds.

use crate::sys;

/// The loop's clock in seconds: the very number that Python's `time.monotonic()` would give.
#[inline]
pub fn seconds() -> f64 {
    seconds_from_nanos(sys::monotonic_nanos())
}

/// CPython turns its clock into a float by one division (`_PyTime_AsSecondsDouble`), or exactly
/// where there is no fraction; dividing does both.
#[inline]
fn seconds_from_nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Nanoseconds to sleep so that at least `seconds` pass, or `None` for a wait without end.
///
/// Rounds up, so that a sleeper never finds itself early; a day at most, as asyncio's
/// `MAXIMUM_SELECT_TIMEOUT`, because the kernel's own limits lie far beyond any such deadline.
#[inline]
pub fn sleep_nanos(seconds: f64) -> Option<u64> {
    const DAY: f64 = 24.0 * 3600.0;
    if seconds == f64::INFINITY {
        return None;
    }
    // The conversion turns NaN into zero.
    Some((seconds.clamp(0.0, DAY) * 1e9).ceil() as u64)
}

/// What to ask the kernel for, so that a sleep of `nanos` ends on time although the kernel ends it up to `slack` later.
///
/// epoll_pwait2(2) and poll(2) add the thread's timer slack, 50 us unless set otherwise, to let wake-ups coincide; nearly always all of it is used.
/// A sleep that ends early is simply continued, so a deadline is still never met early. Above 50 ms the kernel's slack grows with
/// the sleep (0.1 %), and is left to it.
#[inline]
pub fn before_slack(nanos: u64, slack: u64) -> u64 {
    const LONG: u64 = 50_000_000;
    if nanos == 0 || nanos > LONG {
        return nanos;
    }
    // Never zero, which would poll without sleeping.
    nanos.saturating_sub(slack).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_rounded_up_and_bounded() {
        assert_eq!(sleep_nanos(1e-10), Some(1));
        assert_eq!(sleep_nanos(0.5), Some(500_000_000));
        assert_eq!(sleep_nanos(-1.0), Some(0));
        assert_eq!(sleep_nanos(f64::NAN), Some(0));
        assert_eq!(sleep_nanos(1e300), Some(86_400_000_000_000));
        assert_eq!(sleep_nanos(f64::INFINITY), None);
    }

    #[test]
    fn the_kernels_slack_is_asked_for_in_advance() {
        assert_eq!(before_slack(1_000_000, 50_000), 950_000);
        assert_eq!(before_slack(20_000, 50_000), 1);
        assert_eq!(before_slack(0, 50_000), 0);
        assert_eq!(before_slack(10_000_000_000, 50_000), 10_000_000_000);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let a = seconds();
        assert!(seconds() >= a);
    }
}
