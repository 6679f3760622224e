//! Wakes a sleeping loop once, however many threads ask.
//!
//! The loop announces that it is about to sleep, then looks once more for work; whoever brings work
//! first publishes it, then asks here. The order makes it impossible that both look away:
//! either the loop sees the work, or the bringer sees the sleeper and signals.

use std::sync::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const SIGNALLED: u8 = 2;

/// The state of one loop's sleep, shared by all threads.
pub struct Waker {
    state: AtomicU8,
}

impl Default for Waker {
    fn default() -> Self {
        Self { state: AtomicU8::new(AWAKE) }
    }
}

impl Waker {
    /// The loop's side: from here on whoever brings work signals. Look for work once more before sleeping.
    #[inline]
    pub fn announce_sleep(&self) {
        self.state.store(ASLEEP, Ordering::SeqCst);
    }

    /// The loop's side: awake again; nobody needs to signal.
    #[inline]
    pub fn announce_awake(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// The bringer's side, after publishing the work: whether it is this caller who must signal.
    #[inline]
    #[must_use]
    pub fn must_signal(&self) -> bool {
        self.state.load(Ordering::SeqCst) == ASLEEP
            && self
                .state
                .compare_exchange(ASLEEP, SIGNALLED, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_many_signals_a_sleeper() {
        let waker = Waker::default();
        assert!(!waker.must_signal());
        waker.announce_sleep();
        assert!(waker.must_signal());
        assert!(!waker.must_signal());
        waker.announce_awake();
        assert!(!waker.must_signal());
    }
}
