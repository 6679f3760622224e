//! What the garbage collector needs to know of handles that wait in queues.
//!
//! Waiting handles are not tracked (see `handle.rs`): a young collection would walk thousands of them for nothing. But
//! a loop that was left behind unclosed, with handles that belong to the same cycle, must be found. So before a full collection
//! `gc.callbacks` calls here, and all that wait in any loop are tracked from then on.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::handle::{is_native, Handle};
use crate::loop_impl::LoopCore;

/// A loop that is alive; it strikes itself off before it dies.
struct Enlisted(*const LoopCore);

// SAFETY: only followed under the list's lock by a thread that is attached, and a loop dies only while attached.
unsafe impl Send for Enlisted {}

static LOOPS: Mutex<Vec<Enlisted>> = Mutex::new(Vec::new());

/// Puts a loop on the list.
pub fn enlist(core: &LoopCore) {
    strike(core);
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner).push(Enlisted(core));
}

/// Takes a loop off the list.
pub fn strike(core: &LoopCore) {
    let mut loops = LOOPS.lock().unwrap_or_else(PoisonError::into_inner);
    loops.retain(|enlisted| !std::ptr::eq(enlisted.0, core));
}

/// Shows every open loop.
pub fn each_loop(mut visit: impl FnMut(&LoopCore)) {
    for enlisted in &*LOOPS.lock().unwrap_or_else(PoisonError::into_inner) {
        // SAFETY: on the list, hence alive.
        visit(unsafe { &*enlisted.0 });
    }
}

/// For `gc.callbacks`: lets the collector see every waiting handle before a full collection.
#[pyfunction]
pub fn _before_collection(phase: &str, info: &Bound<'_, PyDict>) -> PyResult<()> {
    if phase != "start" {
        return Ok(());
    }
    let generation = info.get_item("generation")?;
    if generation.is_none_or(|generation| !generation.eq(2).unwrap_or(true)) {
        return Ok(());
    }
    each_loop(|core| {
        core.each_handle(|o| {
            // SAFETY: attached, and the queues keep the handle alive; tracking runs no Python code.
            unsafe {
                if is_native(o) {
                    (*o.cast::<Handle>()).track();
                }
            }
        });
    });
    Ok(())
}
