//! The end of the interpreter while a daemon thread still runs a loop.
//!
//! CPython up to 3.13 ends such a thread by `pthread_exit` as soon as it wants the GIL again. That unwinds the thread's stack by
//! force, which Rust frames answer with an abort of the whole process. So before the interpreter goes down, `atexit` asks
//! every loop outside the main thread to stop where it stands: it gives up the GIL and never wants it again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::garbage;
use crate::sys;

static OVER: AtomicBool = AtomicBool::new(false);
static MAIN: AtomicUsize = AtomicUsize::new(0);
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// Longest wait for loops whose callback is under way.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether the interpreter is about to go down.
#[inline(always)]
pub fn is_over() -> bool {
    OVER.load(Ordering::Relaxed)
}

/// Never returns if the interpreter goes down and the calling thread, which runs a loop, is not its main thread. Not attached.
#[inline]
pub fn park_if_over(owner: usize) {
    if is_over() && owner != 0 && owner != MAIN.load(Ordering::Relaxed) {
        PARKED.fetch_add(1, Ordering::SeqCst);
        sys::sleep_for_ever();
    }
}

/// As [`park_if_over`], for a thread that is attached.
#[cold]
pub fn park_attached(owner: usize) {
    // SAFETY: attached, as the caller says, and attached again before anything of the interpreter's is touched.
    unsafe {
        let thread = ffi::PyEval_SaveThread();
        park_if_over(owner);
        ffi::PyEval_RestoreThread(thread);
    }
}

/// For `atexit`: stop the loops of all other threads, and wait a moment for those that are in a callback.
#[pyfunction]
pub fn _at_exit(py: Python<'_>, main_ident: usize) {
    MAIN.store(main_ident, Ordering::SeqCst);
    OVER.store(true, Ordering::SeqCst);
    let mut expected = 0;
    garbage::each_loop(|core| {
        let owner = core.owner();
        if owner != 0 && owner != main_ident {
            expected += 1;
            core.signal_quietly();
        }
    });
    py.detach(|| {
        let begun = Instant::now();
        while PARKED.load(Ordering::SeqCst) < expected && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(200));
        }
    });
}
