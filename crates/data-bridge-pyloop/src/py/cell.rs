//! Mutable state of a loop behind a shared reference.

use std::cell::UnsafeCell;

/// State that only a thread attached to the interpreter touches, for the length of one closure.
///
/// Ground rule, which every use must keep: the closure runs no Python code and releases no Python
/// reference (a destructor is Python code), so it can never be entered a second time. Take out
/// what is to be released, and release it after the closure. Debug builds check the rule.
pub struct LoopCell<T> {
    value: UnsafeCell<T>,
    #[cfg(debug_assertions)]
    busy: std::cell::Cell<bool>,
}

// SAFETY: the module is declared `gil_used = true`, so one thread at a time is attached, and only attached threads
// reach a LoopCell; the ground rule keeps a closure from being interrupted by another thread.
unsafe impl<T> Sync for LoopCell<T> {}
// SAFETY: as above: whichever thread touches or drops the value is attached.
unsafe impl<T> Send for LoopCell<T> {}

impl<T> LoopCell<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            #[cfg(debug_assertions)]
            busy: std::cell::Cell::new(false),
        }
    }

    /// Runs `f` on the value. `f` must keep the ground rule of the type.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(debug_assertions)]
        assert!(!self.busy.replace(true), "a LoopCell was entered twice");
        // SAFETY: attached and never re-entered (see the type), so this is the only reference.
        let result = f(unsafe { &mut *self.value.get() });
        #[cfg(debug_assertions)]
        self.busy.set(false);
        result
    }
}

impl<T: Copy> LoopCell<T> {
    /// Reads the value.
    #[inline(always)]
    pub fn get(&self) -> T {
        self.with(|value| *value)
    }

    /// Replaces the value, and returns what was there.
    #[inline(always)]
    pub fn replace(&self, new: T) -> T {
        self.with(|value| std::mem::replace(value, new))
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, new: T) {
        self.with(|value| *value = new);
    }
}
