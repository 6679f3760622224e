//! Where handles come from and go to: a free list for each class, then the interpreter's allocator, for crowds `blocks.rs`.
//!
//! A *shell* is a handle that holds nothing but its class and a count of one: every other field is zero, `position` is [`ABSENT`].
//! (Of a TimerHandle's shell `when` is left over.)

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;

use super::{blocks, state, Handle, HANDLE, TIMER_HANDLE};
use crate::py::cell::LoopCell;
use crate::py::object::{Raised, Raises};
use crate::timer_queue::ABSENT;

/// How many handles are alive, for the leak checks of the tests, and to know a crowd.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Most handles kept of each class (Handle, TimerHandle): bursts of callbacks come again, crowds of cancelled timers seldom do.
const MOST_FREE: [usize; 2] = [1 << 16, 1 << 12];
/// What is above this is given back while the loop is idle.
const IDLE_FREE: usize = 1 << 10;
/// Most given back at once, so that nobody waits for it.
const TRIM: usize = 1024;

/// Freed shells of each class.
static FREE: [LoopCell<Vec<*mut Handle>>; 2] =
    [LoopCell::new(Vec::new()), LoopCell::new(Vec::new())];

/// How many native handles are alive.
pub fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// Plain load and store: the GIL orders them, and an atomic addition would cost as much as the rest of `create`.
#[inline(always)]
fn count_alive(change: isize) {
    ALIVE.store(ALIVE.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
}

/// A shell, not tracked by the garbage collector; `timer` says of which class.
///
/// # Safety
/// Attached.
#[inline(always)]
pub(super) unsafe fn take(timer: bool) -> Raises<*mut Handle> {
    let h = match FREE[usize::from(timer)].with(Vec::pop) {
        Some(shell) => shell,
        // SAFETY: the caller's promise.
        None => unsafe { make(timer)? },
    };
    count_alive(1);
    Ok(h)
}

unsafe fn make(timer: bool) -> Raises<*mut Handle> {
    let kind = if timer { &TIMER_HANDLE } else { &HANDLE }.load(Ordering::Relaxed);
    // SAFETY: attached; the memory of the new object up to its end is ours to fill.
    unsafe {
        let slot = blocks::take();
        let h = match slot {
            Some(slot) => ffi::PyObject_Init(slot.as_ptr().cast(), kind).cast::<Handle>(),
            None => ffi::PyObject_GC_New::<Handle>(kind),
        };
        if h.is_null() {
            return Err(Raised);
        }
        h.cast::<u8>().add(HEAD).write_bytes(0, SIZE - HEAD);
        (*h).position = ABSENT;
        (*h).state = if slot.is_some() { state::IN_BLOCK } else { 0 };
        Ok(h)
    }
}

const SIZE: usize = size_of::<Handle>();
/// Where a handle's own fields begin.
const HEAD: usize = size_of::<ffi::PyObject>();
const _: () = assert!(offset_of!(Handle, position) == HEAD);

/// Takes back the shell of a dead handle.
///
/// # Safety
/// Attached; nobody knows the object any more, it is not tracked, and all its references are released.
#[inline(always)]
pub(crate) unsafe fn recycle(h: *mut Handle) {
    // SAFETY: the caller's promise.
    unsafe {
        count_alive(-1);
        let kind = ffi::Py_TYPE(h.cast());
        let timer = kind == TIMER_HANDLE.load(Ordering::Relaxed);
        let in_block = (*h).state & state::IN_BLOCK != 0;
        if !in_block && (timer || kind == HANDLE.load(Ordering::Relaxed)) {
            (*h).cancelled = 0;
            (*h).scheduled = 0;
            let kept = FREE[usize::from(timer)].with(|free| {
                let room = free.len() < MOST_FREE[usize::from(timer)];
                if room {
                    free.push(h);
                }
                room
            });
            if kept {
                return;
            }
        }
        release(h);
    }
}

/// Gives the memory of a shell back.
unsafe fn release(h: *mut Handle) {
    // SAFETY: as `recycle`; the object owned a reference to its class.
    unsafe {
        let kind = ffi::Py_TYPE(h.cast());
        if (*h).state & state::IN_BLOCK != 0 {
            blocks::give(h);
        } else {
            ffi::PyObject_GC_Del(h.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// Gives back a part of what a past burst has left: for a loop that is about to sleep.
pub fn trim_free_lists() {
    for free in &FREE {
        let excess = free.with(|free| {
            let len = free.len();
            free.split_off(len.saturating_sub(TRIM).max(IDLE_FREE).min(len))
        });
        for h in excess {
            // SAFETY: attached, as every user of a LoopCell; the shell is empty and nobody else knows it.
            unsafe { release(h) };
        }
    }
    blocks::trim();
}
