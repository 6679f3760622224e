//! Tells whether the process has forked since a loop made its kernel objects.
//!
//! A child shares its parent's epoll instance: changing a registration there would change it for the parent. (A kqueue is
//! not inherited at all: its number in the child is closed, or somebody else's.)
//! `os.register_at_fork` counts generations, and every loop looks before it touches its kernel objects.

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of forks between the first process and this one.
#[inline(always)]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Called in a forked child.
pub fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
