//! Running: one iteration of the loop, top to bottom, and what surrounds it.
//!
//! Four phases, in asyncio's order: wait for descriptors and the next deadline, turn readiness into ready entries, then
//! due timers, run what was ready by then. The wait is left out only while something is ready and no
//! descriptor but the loop's own is watched, the clock only while no timer is pending: nobody can see the difference.

use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::clock;
use crate::handle::{is_native, retire, trim_free_lists, Handle};
use crate::loop_impl::{mode, LoopCore};
use crate::py::errors::{fetch, guarded, raise_os};
use crate::py::object::{new_ref, raise, Obj, Owned, Raised, Raises};
use crate::reactor::{directions, Reactor, Ready, READ, WRITE};
use crate::ready_queue::{Entry, ReadyQueue};
use crate::shutdown;
use crate::sock::watch::take_watches;
use crate::sys;
use crate::watcher;

/// When the loop next looks up from its callbacks, for signals and for other threads that want the GIL.
///
/// Python callbacks do both by themselves; this is for long runs of callbacks written in C.
pub struct Breath {
    /// Callbacks until the next look.
    left: u32,
    /// How many the last look allowed.
    allowed: u32,
    /// When that was.
    last_nanos: u64,
    /// `sys.getswitchinterval()`, in nanoseconds.
    pub interval_nanos: u64,
}

impl Default for Breath {
    fn default() -> Self {
        Self { left: 1, allowed: 1, last_nanos: 0, interval_nanos: 5_000_000 }
    }
}

/// Most callbacks between two looks.
const MOST: u32 = 64;

impl Breath {
    /// Counts one callback; true when it is time to look up.
    #[inline(always)]
    fn count(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// Plans the next look; true if the GIL should be offered.
    ///
    /// A little less often than the switch interval: a thread asks for a forced switch after waiting that long, and begins to
    /// wait anew whenever the GIL is let go.
    /// Callbacks that take long get few until the next look, short ones up to [`MOST`].
    fn plan(&mut self, now_nanos: u64) -> bool {
        let due = now_nanos.saturating_sub(self.last_nanos) >= self.interval_nanos * 6 / 5;
        if due {
            self.last_nanos = now_nanos;
            self.allowed = (self.allowed / 8).max(1);
        } else {
            self.allowed = (self.allowed * 2).min(MOST);
        }
        self.left = self.allowed;
        due
    }
}

impl LoopCore {
    /// Runs iterations until somebody stops the loop or an exception leaves it.
    fn run(&self, slf: Obj) -> Raises<()> {
        loop {
            let mode = self.current_mode(slf)?;
            if mode & mode::STOCK != 0 {
                self.stock_iteration(slf)?;
                if shutdown::is_over() {
                    shutdown::park_attached(self.owner());
                }
            } else {
                self.iteration(slf)?;
            }
            if self.is_stopping() {
                return Ok(());
            }
        }
    }

    /// One iteration.
    #[inline(always)]
    fn iteration(&self, slf: Obj) -> Raises<()> {
        // SAFETY: every caller is attached.
        let py = unsafe { Python::assume_attached() };
        self.check_fork(py)?;
        self.count_pass();
        let ready = self.ready.with(|q| !q.is_empty());
        if !ready || self.reactor.with(|r| r.as_ref().is_some_and(|r| r.watched() != 0)) {
            let timeout = if ready || self.is_stopping() { Some(0) } else { self.until_deadline() };
            let count = self.wait(py, timeout)?;
            self.dispatch(py, count)?;
        }
        self.expire();
        self.gathering.store(true, Ordering::Relaxed);
        let result = self.run_batch(slf);
        self.end_iteration(result)
    }

    /// One more pass: what was known of a descriptor in the last one is old.
    #[inline(always)]
    fn count_pass(&self) {
        // Only the loop's thread writes it.
        self.passes.store(self.passes.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Sends what the callbacks have written, also when an exception leaves the loop.
    #[inline(always)]
    fn end_iteration(&self, result: Raises<()>) -> Raises<()> {
        match result {
            Ok(()) => self.write_now(),
            Err(Raised) => self.end_by_exception(),
        }
    }

    #[cold]
    fn end_by_exception(&self) -> Raises<()> {
        // SAFETY: attached, with an exception set.
        let py = unsafe { Python::assume_attached() };
        let error = PyErr::fetch(py);
        if self.write_now().is_err() {
            // SAFETY: as above; the first exception is the one that leaves.
            unsafe { ffi::PyErr_Clear() };
        }
        error.restore(py);
        Err(Raised)
    }

    /// Asyncio's own iteration, or the one that somebody put in its place.
    #[cold]
    fn stock_iteration(&self, slf: Obj) -> Raises<()> {
        // SAFETY: attached; `slf` is alive.
        unsafe {
            self.stock_depth.fetch_add(1, Ordering::Relaxed);
            let result = ffi::PyObject_CallMethod(slf, c"_run_once".as_ptr(), std::ptr::null());
            self.stock_depth.fetch_sub(1, Ordering::Relaxed);
            Owned::from_new(result).map(drop)
        }
    }

    /// Nanoseconds until the first deadline; `None` where there is none.
    fn until_deadline(&self) -> Option<u64> {
        match self.timers.with(|timers| timers.next_deadline()) {
            Some(deadline) => clock::sleep_nanos(deadline - clock::seconds())
                .map(|nanos| clock::before_slack(nanos, self.slack_nanos)),
            None => None,
        }
    }

    /// Waits for events, which are then in `self.events`; returns how many.
    ///
    /// A wait of zero keeps the GIL. A longer one announces the sleep first, then looks for work once more: see `waker.rs`.
    #[inline(always)]
    fn wait(&self, py: Python<'_>, timeout_nanos: Option<u64>) -> Raises<usize> {
        if timeout_nanos != Some(0) {
            // A signal that came since the last Python code ran would not interrupt the sleep. What comes between here and the
            // system call still does not (nor on asyncio): some tens of instructions.
            check_signals()?;
        }
        let Some(fd) = self.reactor.with(|r| r.as_ref().map(Reactor::as_raw_fd)) else {
            return Ok(0);
        };
        // Taken out, because another thread may be attached while this one sleeps.
        let Some(mut events) = self.events.with(Option::take) else {
            let text = "PyLoop: another thread is waiting on this loop";
            // SAFETY: attached.
            return Err(unsafe { raise(ffi::PyExc_RuntimeError, text) });
        };
        let waited = if timeout_nanos == Some(0) {
            events.wait(fd, Some(0))
        } else {
            trim_free_lists();
            self.waker.announce_sleep();
            let timeout_nanos = if self.has_work() { Some(0) } else { timeout_nanos };
            // SAFETY: attached here, and attached again before anything of the interpreter's is touched.
            let waited = unsafe {
                let thread = ffi::PyEval_SaveThread();
                let waited = events.wait(fd, timeout_nanos);
                shutdown::park_if_over(self.owner());
                ffi::PyEval_RestoreThread(thread);
                waited
            };
            self.waker.announce_awake();
            waited
        };
        self.events.with(|e| *e = Some(events));
        let count = match waited {
            Ok(count) => count,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => 0,
            Err(error) => return Err(raise_os(py, &error)),
        };
        if timeout_nanos != Some(0) {
            // A signal may have interrupted the sleep: its Python handler runs here, in the main thread.
            check_signals()?;
        }
        Ok(count)
    }

    /// Whether something came between the last look and the announcement of a sleep.
    fn has_work(&self) -> bool {
        if self.is_stopping() || self.ready.with(|ready| !ready.is_empty()) {
            return true;
        }
        // In stock mode other threads push to asyncio's own deque.
        let deque = self.kept.with(|k| k.ready);
        // SAFETY: attached; the loop owns the deque. Its length runs no Python code and cannot fail.
        self.has(mode::STOCK) && !deque.is_null() && unsafe { ffi::PyObject_Size(deque) } > 0
    }

    /// Turns the events of the last wait into ready entries. No user code yet.
    fn dispatch(&self, py: Python<'_>, count: usize) -> Raises<()> {
        let mut stale = false;
        let mut waiting = Vec::new();
        for index in 0..count {
            let event = self.events.with(|e| e.as_ref().and_then(|e| e.get(index)));
            let Some((token, readiness)) = event else {
                continue;
            };
            let ready = self.reactor.with(|r| r.as_ref().and_then(|r| r.ready(token, readiness)));
            let Some(Ready { fd, readiness, mut callbacks, orphaned }) = ready else {
                stale = true;
                continue;
            };
            if orphaned {
                self.reactor.with(|r| {
                    if let Some(r) = r.as_mut() {
                        r.settle(fd);
                    }
                });
            }
            // SAFETY: attached; the reactor holds the callbacks.
            let calls = unsafe { take_watches(&mut callbacks) };
            if calls != [None; 2] {
                waiting.push((fd, readiness, calls));
            }
            if self.notify_transport(readiness, callbacks) {
                continue;
            }
            // References of our own first: giving up a cancelled handle may run Python code that removes the other.
            for callback in callbacks.into_iter().flatten() {
                // SAFETY: the reactor's reference keeps it alive until here.
                unsafe { new_ref(callback) };
            }
            for (direction, callback) in [READ, WRITE].into_iter().zip(callbacks) {
                let Some(callback) = callback else { continue };
                // SAFETY: alive by our reference; what is no native handle is a transport or a listener.
                unsafe {
                    if !is_native(callback) {
                        // Shares its descriptor: two pipe transports of one terminal.
                        let side = usize::from(direction == WRITE);
                        let mut own = [None; 2];
                        own[side] = Some(callback);
                        watcher::notify(callback, direction, own);
                        self.ready.with(|ready| ready.push(Entry::handle(callback)));
                    } else if (*callback.cast::<Handle>()).cancelled == 0 {
                        self.ready.with(|ready| ready.push(Entry::handle(callback)));
                    } else {
                        // Cancelled by its holder instead of removed: stop watching, as asyncio's `_process_events`.
                        ffi::Py_DECREF(callback);
                        self.unwatch(fd, direction);
                    }
                }
            }
        }
        // Last, for this may run Python code.
        let woken = if waiting.is_empty() { Ok(()) } else { self.wake_all(waiting) };
        if stale {
            // Left alone, such an event comes again at once and for ever.
            let renewed = self.reactor.with(|r| r.as_mut().map_or(Ok(()), Reactor::renew));
            renewed.map_err(|error| raise_os(py, &error))?;
        }
        woken
    }

    /// Queues a transport or listener whose descriptor is ready; false if a handle watches it, or several objects do.
    #[inline(always)]
    fn notify_transport(&self, readiness: u8, callbacks: [Option<Obj>; 2]) -> bool {
        let [read, write] = callbacks;
        let Some(o) = read.or(write) else {
            return true;
        };
        // SAFETY: the reactor's reference keeps it alive.
        unsafe {
            if is_native(o) || (read != write && read.is_some() && write.is_some()) {
                return false;
            }
            watcher::notify(o, readiness, callbacks);
            self.ready.with(|ready| ready.push(Entry::handle(new_ref(o))));
        }
        true
    }

    /// Moves due timers, in order, to the ready queue.
    #[inline(always)]
    fn expire(&self) {
        if self.timers.with(|timers| timers.is_empty()) {
            return;
        }
        let now = clock::seconds();
        self.timers.with(|timers| {
            while let Some(timer) = timers.pop_due(now) {
                // SAFETY: the queue's reference keeps the handle alive; it passes to the ready queue.
                unsafe { (*timer.0).scheduled = 0 };
                self.ready.with(|ready| ready.push(Entry::handle(timer.0.cast())));
            }
        });
    }

    /// Runs what is ready now, and nothing that becomes ready meanwhile: nothing starves descriptors.
    #[inline(always)]
    fn run_batch(&self, slf: Obj) -> Raises<()> {
        let mut left = self.ready.with(|ready| ready.len());
        while left != 0 {
            left -= 1;
            let Some(entry) = self.ready.with(ReadyQueue::pop) else {
                break;
            };
            self.run_entry(slf, entry)?;
            if self.breath.with(Breath::count) {
                self.breathe()?;
            }
            if shutdown::is_over() {
                shutdown::park_attached(self.owner());
            }
        }
        self.ready.with(ReadyQueue::shrink);
        Ok(())
    }

    /// Runs one entry, and takes over its references.
    #[inline(always)]
    fn run_entry(&self, slf: Obj, entry: Entry) -> Raises<()> {
        if self.is_debug() {
            return self.run_timed(slf, entry);
        }
        if !entry.context.is_null() {
            return self.run_bare(slf, entry);
        }
        // SAFETY: the entry's reference to the handle is ours.
        unsafe {
            if !is_native(entry.callable) {
                return if watcher::is_watcher(entry.callable) {
                    self.run_watcher(slf, entry.callable)
                } else {
                    self.run_foreign(slf, entry)
                };
            }
            let h: *mut Handle = entry.callable.cast();
            if (*h).cancelled != 0 {
                ffi::Py_DECREF(h.cast());
                return Ok(());
            }
            if !(*h).is_private() {
                (*h).track();
                // Here, and not in `run_shared`, which any thread may come to.
                let outer = self.running.replace((*h).context());
                let result = self.run_shared(slf, h);
                self.running.set(outer);
                ffi::Py_DECREF(h.cast());
                return result;
            }
            // Nobody else can see this handle: empty it, and free its shell before the call, which may want it again.
            let mut call = (*h).take_call();
            retire(h);
            let outer = self.running.replace(call.context);
            let ran = call.run();
            self.running.set(outer);
            let result = match ran {
                Ok(()) => Ok(()),
                Err(Raised) => self.report_call(slf, &call),
            };
            call.release();
            result
        }
    }

    /// Runs what a transport or listener does for its ready descriptor, and takes over the reference.
    #[inline(always)]
    fn run_watcher(&self, slf: Obj, o: Obj) -> Raises<()> {
        // SAFETY: attached; the reference is ours, and keeps it alive for the call.
        unsafe {
            let result = match watcher::run(o) {
                Ok(()) => Ok(()),
                Err(Raised) => self.report(slf, |_| watcher::handle(slf, o, READ)),
            };
            ffi::Py_DECREF(o);
            result
        }
    }

    /// Runs a callable that has no handle.
    #[inline(always)]
    fn run_bare(&self, slf: Obj, entry: Entry) -> Raises<()> {
        // SAFETY: the entry's references are ours; the first place of the stack is free for the callee.
        unsafe {
            let mut stack = [std::ptr::null_mut(), entry.argument];
            let count = usize::from(!entry.argument.is_null());
            let outer = self.running.replace(entry.context);
            let mut failed = ffi::PyContext_Enter(entry.context) != 0;
            if !failed {
                let result = ffi::PyObject_Vectorcall(
                    entry.callable,
                    stack.as_mut_ptr().add(1),
                    count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                    std::ptr::null_mut(),
                );
                failed = ffi::PyContext_Exit(entry.context) != 0 || result.is_null();
                ffi::Py_XDECREF(result);
            }
            self.running.set(outer);
            if failed {
                return self.report(slf, |core| core.handle_of(slf, entry));
            }
            entry.release();
        }
        Ok(())
    }

    /// Runs a handle that others may see and cancel meanwhile. Borrows it.
    ///
    /// # Safety
    /// Attached; both are alive for the length of the call.
    pub(crate) unsafe fn run_shared(&self, slf: Obj, h: *mut Handle) -> Raises<()> {
        // SAFETY: the caller's promise; the call holds references of its own.
        unsafe {
            let mut call = (*h).share_call();
            let result = match call.run() {
                Ok(()) => Ok(()),
                Err(Raised) => self.report(slf, |_| Ok(new_ref(h.cast()))),
            };
            call.release();
            result
        }
    }

    /// Runs an `asyncio.Handle` made in Python, which reports its own exceptions.
    #[cold]
    fn run_foreign(&self, slf: Obj, entry: Entry) -> Raises<()> {
        // SAFETY: attached; the entry's reference is ours.
        unsafe {
            let handle = Owned::from_new(entry.callable)?;
            self.call_cold(c"run_foreign", &[slf, handle.as_ptr()]).map(drop)
        }
    }

    /// Runs one entry in debug mode: timed, with a warning if it was slow.
    #[cold]
    fn run_timed(&self, slf: Obj, entry: Entry) -> Raises<()> {
        // SAFETY: attached; the handle's reference is ours.
        unsafe {
            if entry.context.is_null() && watcher::is_watcher(entry.callable) {
                return self.run_watcher_timed(slf, entry.callable);
            }
            let handle = Owned::from_new(self.handle_of(slf, entry)?)?;
            if is_native(handle.as_ptr()) {
                (*handle.as_ptr().cast::<Handle>()).track();
            }
            self.call_cold(c"run_timed", &[slf, handle.as_ptr()]).map(drop)
        }
    }

    /// As [`LoopCore::run_watcher`] in debug mode: each direction by a handle, which is timed.
    #[cold]
    fn run_watcher_timed(&self, slf: Obj, o: Obj) -> Raises<()> {
        // SAFETY: attached; the reference is ours.
        unsafe {
            let o = Owned::from_new(o)?;
            for direction in watcher::take_pending(o.as_ptr()) {
                let handle = Owned::from_new(watcher::handle(slf, o.as_ptr(), direction)?)?;
                self.call_cold(c"run_timed", &[slf, handle.as_ptr()])?;
            }
        }
        Ok(())
    }

    #[cold]
    fn report_call(&self, slf: Obj, call: &crate::handle::Call) -> Raises<()> {
        // SAFETY: the call's references are alive; the new handle takes its own.
        self.report(slf, |_| unsafe {
            let h = crate::handle::handle_for_call(slf, call)?;
            (*h).track();
            Ok(h.cast())
        })
    }

    /// Gives the exception that is set to the loop's exception handler, as `asyncio.Handle._run` does.
    /// SystemExit and KeyboardInterrupt leave the loop instead.
    #[cold]
    pub(crate) fn report(&self, slf: Obj, handle: impl FnOnce(&Self) -> Raises<Obj>) -> Raises<()> {
        // SAFETY: attached, with an exception set.
        unsafe {
            let py = Python::assume_attached();
            let leaves = ffi::PyErr_ExceptionMatches(ffi::PyExc_SystemExit) != 0
                || ffi::PyErr_ExceptionMatches(ffi::PyExc_KeyboardInterrupt) != 0;
            let error = PyErr::fetch(py);
            let handle = Owned::from_new(handle(self)?)?;
            if leaves {
                error.restore(py);
                return Err(Raised);
            }
            // Not PyO3's own reference: below a raw function it would be released later, by whoever attaches next.
            let exception = Owned::from_new(error.into_value(py).into_ptr())?;
            self.call_cold(c"report", &[slf, handle.as_ptr(), exception.as_ptr()]).map(drop)
        }
    }

    /// Looks up from the callbacks: signals, and other threads that want the GIL.
    #[cold]
    fn breathe(&self) -> Raises<()> {
        // First, for an exception of a signal handler leaves here.
        self.breath.with(|breath| breath.left = 1);
        check_signals()?;
        let now = sys::monotonic_nanos();
        if self.breath.with(|breath| breath.plan(now)) {
            // SAFETY: attached here, and attached again before anything of the interpreter's is touched.
            unsafe {
                let thread = ffi::PyEval_SaveThread();
                ffi::PyEval_RestoreThread(thread);
            }
        }
        Ok(())
    }
}

/// Runs the Python handlers of signals that have come; only the main thread does.
fn check_signals() -> Raises<()> {
    // SAFETY: every caller is attached.
    match unsafe { ffi::PyErr_CheckSignals() } {
        0 => Ok(()),
        _ => Err(Raised),
    }
}

impl LoopCore {
    /// As [`LoopCore::handle_of`], also for transports and listeners, which have none.
    fn handle_to_show(&self, slf: Obj, entry: Entry) -> Raises<Obj> {
        // SAFETY: attached; the entry's references are ours.
        unsafe {
            if entry.context.is_null() && watcher::is_watcher(entry.callable) {
                let o = Owned::from_new(entry.callable)?;
                return watcher::handle(slf, o.as_ptr(), READ);
            }
        }
        self.handle_of(slf, entry)
    }
}

#[pymethods]
impl LoopCore {
    /// Run iterations until stopped: the heart of run_forever.
    fn _run(slf: &Bound<'_, Self>, switch_interval: f64) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        core.breath.with(|breath| breath.interval_nanos = (switch_interval * 1e9) as u64);
        fetch(py, guarded(py, "the run loop", || core.run(slf.as_ptr())))
    }

    /// Run one iteration, as hosts that step the loop themselves ask for; in stock mode asyncio's own.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        let result = core.current_mode(slf.as_ptr()).and_then(|mode| {
            if mode & mode::STOCK != 0 {
                core.stock_depth.fetch_add(1, Ordering::Relaxed);
                let result = core.call_cold(c"stock_run_once", &[slf.as_ptr()]).map(drop);
                core.stock_depth.fetch_sub(1, Ordering::Relaxed);
                result
            } else {
                guarded(py, "one iteration", || core.iteration(slf.as_ptr()))
            }
        });
        fetch(py, result)
    }

    /// Wait at most *timeout* seconds (None: for ever) for descriptors: a list of (fd, events). For the `_selector` façade.
    fn _wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Vec<(i32, u8)>> {
        let py = slf.py();
        let core = slf.get();
        fetch(py, core.check_fork(py))?;
        let nanos = timeout.and_then(clock::sleep_nanos);
        let count = fetch(py, core.wait(py, nanos))?;
        core.count_pass();
        let mut waiting = Vec::new();
        // Other threads push straight to asyncio's deque in stock mode; in plain mode the next iteration looks.
        let ready = (0..count)
            .filter_map(|index| {
                let event = core.events.with(|e| e.as_ref().and_then(|e| e.get(index)));
                let (token, readiness) = event?;
                let mut ready =
                    core.reactor.with(|r| r.as_ref().and_then(|r| r.ready(token, readiness)))?;
                // SAFETY: attached; the reactor holds the callbacks.
                let calls = unsafe { take_watches(&mut ready.callbacks) };
                if calls != [None; 2] {
                    waiting.push((ready.fd, ready.readiness, calls));
                }
                let events = directions(&ready.callbacks);
                if ready.orphaned {
                    core.reactor.with(|r| {
                        if let Some(r) = r.as_mut() {
                            r.settle(ready.fd);
                        }
                    });
                }
                (events != 0).then_some((ready.fd, events))
            })
            .collect();
        fetch(py, core.wake_all(waiting))?;
        Ok(ready)
    }

    /// How many entries are ready.
    fn _ready_count(slf: &Bound<'_, Self>) -> usize {
        let core = slf.get();
        core.ready.with(|ready| ready.len())
    }

    /// The ready handles, oldest first; those that asyncio's C code threw away are made anew.
    fn _ready_snapshot(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        let py = slf.py();
        let core = slf.get();
        let entries: Vec<Entry> = core.ready.with(|ready| ready.iter().copied().collect());
        // References of our own first: making a handle may run the garbage collector, hence anything.
        for reference in entries.iter().flat_map(Entry::references) {
            // SAFETY: alive, as the queue owns it.
            unsafe { ffi::Py_XINCREF(reference) };
        }
        let mut handles = Vec::with_capacity(entries.len());
        for entry in entries {
            let handle = fetch(py, core.handle_to_show(slf.as_ptr(), entry))?;
            // SAFETY: a reference that is ours.
            handles.push(unsafe { Bound::from_owned_ptr(py, handle) }.unbind());
        }
        Ok(handles)
    }

    /// Forget everything that is ready.
    fn _ready_clear(slf: &Bound<'_, Self>) {
        let core = slf.get();
        for entry in core.ready.with(ReadyQueue::take_all) {
            // SAFETY: taken out of the queue, outside the cell.
            unsafe { entry.release() };
        }
    }

    /// How many timers are pending.
    fn _scheduled_count(slf: &Bound<'_, Self>) -> usize {
        slf.get().timers.with(|timers| timers.len())
    }

    /// The pending timers; the earliest first, the others in no particular order.
    fn _scheduled_snapshot(slf: &Bound<'_, Self>) -> Vec<Py<PyAny>> {
        let timers: Vec<Obj> = slf.get().timers.with(|t| {
            // SAFETY: alive, as the queue owns it.
            t.iter().map(|timer| unsafe { new_ref(timer.0.cast()) }).collect()
        });
        let own = |t| {
            // SAFETY: the reference made just above.
            unsafe { Bound::from_owned_ptr(slf.py(), t) }.unbind()
        };
        timers.into_iter().map(own).collect()
    }

    /// Forget every pending timer.
    fn _scheduled_clear(slf: &Bound<'_, Self>) {
        crate::loop_impl::release_all(slf.py(), slf.get().take_timers());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_callbacks_are_looked_up_from_rarely_and_long_ones_often() {
        let mut breath = Breath::default();
        let mut now = 0;
        for _ in 0..20 {
            breath.plan(now);
            now += 1_000;
        }
        assert_eq!(breath.allowed, MOST);
        for _ in 0..4 {
            now += 50_000_000;
            assert!(breath.plan(now));
        }
        assert_eq!(breath.allowed, 1);
        assert!(breath.count());
    }
}
