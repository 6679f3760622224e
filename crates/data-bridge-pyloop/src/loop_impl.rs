//! The loop object: its fields, its states, and the attributes that asyncio's own code reads and writes.
//!
//! What it does is in rooms of their own: `schedule.rs` (call_soon and its kin), `iteration.rs` (running),
//! `watch.rs` (descriptors), `task.rs` (futures and tasks), `modes.rs` (what happens when somebody replaces a part).

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU8, AtomicUsize, Ordering};

use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::fork;
use crate::garbage;
use crate::handle::{self, TimerRef};
use crate::iteration::Breath;
use crate::py::cell::LoopCell;
use crate::py::errors::{fetch, raise_os};
use crate::py::imports::COLD;
use crate::py::object::{clear, new_ref, none, Obj, Owned, Raises};
use crate::reactor::{Events, Reactor};
use crate::ready_queue::{Entry, ReadyQueue};
use crate::sys;
use crate::timer_queue::TimerQueue;
use crate::transport::shared::Shared;
use crate::waker::Waker;

/// Bits of [`LoopCore::mode`]: why the short ways are not open.
pub mod mode {
    /// `close()` has run, or `__init__` has not.
    pub const CLOSED: u8 = 1;
    /// Debug mode.
    pub const DEBUG: u8 = 2;
    /// Somebody replaced a part of the loop: the queues are asyncio's own containers (`modes.rs`).
    pub const STOCK: u8 = 4;
    /// `call_at` or `time` is overridden, so `call_later` must go through them.
    pub const CALL_AT: u8 = 8;
    /// Somebody may look at the handles that asyncio's C code throws away.
    pub const HANDLES: u8 = 16;
}

/// References of the loop's own, all null or owned.
pub struct Kept {
    /// asyncio's `_ready` (a deque) in stock mode, else null.
    pub ready: Obj,
    /// asyncio's `_scheduled` (a list) in stock mode, else null.
    pub scheduled: Obj,
    /// What `set_task_factory` was given, or null for None.
    pub task_factory: Obj,
    /// `{"loop": self}`, the keyword arguments of a new Future or Task.
    pub loop_keyword: Obj,
}

/// The native half of a PyLoop.
#[pyclass(frozen, subclass, module = "data_bridge.pyloop._native")]
pub struct LoopCore {
    pub(crate) ready: LoopCell<ReadyQueue>,
    pub(crate) timers: LoopCell<TimerQueue<TimerRef>>,
    pub(crate) reactor: LoopCell<Option<Reactor<Obj>>>,
    pub(crate) events: LoopCell<Option<Events>>,
    pub(crate) waker: Waker,
    pub(crate) breath: LoopCell<Breath>,
    pub(crate) kept: LoopCell<Kept>,
    /// What the transports share.
    pub(crate) transports: LoopCell<Shared>,
    /// Room for one receive, of all transports.
    pub(crate) read_room: LoopCell<Option<Box<[MaybeUninit<u8>]>>>,
    /// The number of the iteration.
    pub(crate) passes: AtomicU32,
    /// The context of the callback that is running, borrowed from its call, which puts the outer one back as soon as it has
    /// returned; null between callbacks and where that is not known.
    pub(crate) running: LoopCell<Obj>,
    /// Whether callbacks run, so that writes may wait for the end of the iteration.
    pub(crate) gathering: AtomicBool,
    /// The thread that runs the loop, or zero.
    pub(crate) owner: AtomicUsize,
    pub(crate) stopping: AtomicBool,
    pub(crate) mode: AtomicU8,
    /// The version of the class for which `mode` was found out.
    pub(crate) checked_version: AtomicU32,
    /// Whether an instance attribute may shadow one of [`SHADOWABLE`].
    pub(crate) shadowed: AtomicBool,
    /// How many of asyncio's own iterations are under way.
    pub(crate) stock_depth: AtomicU32,
    /// The timer slack of the thread that made the loop.
    pub(crate) slack_nanos: u64,
    /// The fork generation in which the reactor was made.
    pub(crate) generation: AtomicU32,
}

/// The methods whose replacement changes the ways of the loop; `_cold.classify` says how.
const SHADOWABLE: [&str; 5] = ["time", "call_soon", "call_at", "call_later", "_run_once"];

/// No class has this version: forces a check.
pub const UNCHECKED: u32 = u32::MAX;

impl LoopCore {
    /// The native half of the loop `o`.
    ///
    /// # Safety
    /// `o` is an instance of `LoopCore`, and stays alive as long as the result is used.
    #[inline(always)]
    pub unsafe fn from_ptr<'a>(o: Obj) -> &'a Self {
        // SAFETY: the caller's promise; a frozen class has no borrow flag, its contents never move.
        unsafe {
            let py = Python::assume_attached();
            let borrowed = Borrowed::<PyAny>::from_ptr(py, o);
            let core: *const Self = borrowed.cast_unchecked::<Self>().get();
            &*core
        }
    }

    /// The thread that runs the loop, or zero.
    #[inline(always)]
    pub(crate) fn owner(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn has(&self, bits: u8) -> bool {
        self.mode.load(Ordering::Relaxed) & bits != 0
    }

    pub(crate) fn set_mode(&self, bits: u8, on: bool) {
        let old = self.mode.load(Ordering::Relaxed);
        self.mode.store(if on { old | bits } else { old & !bits }, Ordering::Relaxed);
    }

    /// Whether the loop is in debug mode.
    #[inline(always)]
    pub fn is_debug(&self) -> bool {
        self.has(mode::DEBUG)
    }

    /// Wakes the loop if it sleeps; after publishing what it shall find.
    #[inline(always)]
    pub(crate) fn wake(&self, py: Python<'_>) -> Raises<()> {
        if self.waker.must_signal() {
            return self.signal(py);
        }
        Ok(())
    }

    /// Wakes the loop whether it sleeps or not; a failure leaves it asleep.
    pub(crate) fn signal_quietly(&self) {
        drop(self.reactor.with(|r| r.as_ref().map(Reactor::wake)));
    }

    #[cold]
    fn signal(&self, py: Python<'_>) -> Raises<()> {
        let woken = self.reactor.with(|r| r.as_ref().map_or(Ok(()), Reactor::wake));
        woken.map_err(|error| raise_os(py, &error))
    }

    /// Gives a forked child its own kernel objects before it touches those it shares with its parent.
    #[inline(always)]
    pub(crate) fn check_fork(&self, py: Python<'_>) -> Raises<()> {
        let now = fork::generation();
        if self.generation.load(Ordering::Relaxed) == now {
            return Ok(());
        }
        let renewed = self.reactor.with(|r| r.as_mut().map_or(Ok(()), Reactor::renew));
        renewed.map_err(|error| raise_os(py, &error))?;
        // A thread of the parent's may have been asleep on the loop; here it does not exist.
        if !self.has(mode::CLOSED) {
            self.events.with(|e| *e = Some(e.take().unwrap_or_default()));
        }
        self.waker.announce_awake();
        self.generation.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Takes everything out that holds references: for closing and for the garbage collector.
    fn take_references(&self) -> Vec<Obj> {
        let mut taken = Vec::new();
        let entries = self.ready.with(ReadyQueue::take_all);
        taken.extend(entries.iter().flat_map(Entry::references));
        taken.extend(self.take_timers());
        taken.extend(self.reactor.with(|r| r.as_mut().map(Reactor::take_all)).unwrap_or_default());
        taken.extend(self.transports.with(Shared::take_unsent));
        taken
    }

    /// The handles that wait in the queues or watch descriptors, borrowed.
    pub(crate) fn each_handle(&self, mut visit: impl FnMut(Obj)) {
        let own = |entry: &&Entry| entry.context.is_null();
        self.ready.with(|q| q.iter().filter(own).for_each(|entry| visit(entry.callable)));
        self.timers.with(|q| q.iter().for_each(|t| visit(t.0.cast())));
        self.reactor.with(|r| {
            let watched = r.iter().flat_map(Reactor::iter);
            watched.flat_map(|(_, _, c)| c.into_iter().flatten()).for_each(&mut visit);
        });
    }

    pub(crate) fn take_timers(&self) -> Vec<Obj> {
        let timers = self.timers.with(TimerQueue::take_all);
        timers
            .into_iter()
            .map(|t| {
                // SAFETY: the queue's reference, now ours, keeps the handle alive.
                unsafe { (*t.0).scheduled = 0 };
                t.0.cast()
            })
            .collect()
    }
}

/// Releases references taken out of a loop.
pub(crate) fn release_all(_py: Python<'_>, taken: Vec<Obj>) {
    for reference in taken {
        if !reference.is_null() {
            // SAFETY: owned, taken out of every queue; attached, as the token shows.
            unsafe { handle::let_go(reference) };
        }
    }
}

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        let null = std::ptr::null_mut();
        Self {
            ready: LoopCell::new(ReadyQueue::default()),
            timers: LoopCell::new(TimerQueue::default()),
            reactor: LoopCell::new(None),
            events: LoopCell::new(None),
            waker: Waker::default(),
            breath: LoopCell::new(Breath::default()),
            kept: LoopCell::new(Kept {
                ready: null,
                scheduled: null,
                task_factory: null,
                loop_keyword: null,
            }),
            transports: LoopCell::new(Shared::default()),
            read_room: LoopCell::new(None),
            passes: AtomicU32::new(0),
            running: LoopCell::new(null),
            gathering: AtomicBool::new(false),
            owner: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            // Closed until `_open`, so that a half-made loop is not reported as left open.
            mode: AtomicU8::new(mode::CLOSED),
            checked_version: AtomicU32::new(UNCHECKED),
            shadowed: AtomicBool::new(false),
            stock_depth: AtomicU32::new(0),
            slack_nanos: sys::timer_slack_nanos(),
            generation: AtomicU32::new(fork::generation()),
        }
    }

    /// Look at the next chance whether somebody replaced a part of the loop.
    fn _look_again(&self) {
        self.checked_version.store(UNCHECKED, Ordering::Relaxed);
    }

    /// Whether an instance attribute may shadow a method that the short ways leave out.
    fn _is_shadowed(&self) -> bool {
        self.shadowed.load(Ordering::Relaxed)
    }

    /// Make the kernel objects; the loop counts as open from here on.
    fn _open(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get();
        let reactor = Reactor::new();
        let reactor = fetch(py, reactor.map_err(|error| raise_os(py, &error)))?;
        let keyword = PyDict::new(py);
        keyword.set_item("loop", slf)?;
        core.generation.store(fork::generation(), Ordering::Relaxed);
        let old = core.reactor.with(|r| r.replace(reactor));
        core.events.with(|e| *e = Some(Events::default()));
        let keyword =
            core.kept.with(|k| std::mem::replace(&mut k.loop_keyword, keyword.into_ptr()));
        release_all(py, vec![keyword]);
        core.set_mode(mode::CLOSED, false);
        release_all(py, old.map(|mut old| old.take_all()).unwrap_or_default());
        garbage::enlist(core);
        Ok(())
    }

    /// Close the kernel objects and release everything that was queued or watched.
    fn _shut(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        if core.owner.load(Ordering::Relaxed) != 0 {
            return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
        }
        core.set_mode(mode::CLOSED, true);
        let mut taken = core.take_references();
        let null = std::ptr::null_mut();
        taken.push(core.kept.with(|k| std::mem::replace(&mut k.loop_keyword, null)));
        let kernel = core.reactor.with(Option::take);
        drop(kernel);
        core.events.with(|e| *e = None);
        release_all(slf.py(), taken);
        Ok(())
    }

    /// Stop running after the current iteration; callbacks that are ready in it still run.
    ///
    /// Source: asyncio.BaseEventLoop.stop. From another thread use call_soon_threadsafe(loop.stop).
    fn stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = slf.get();
        core.stopping.store(true, Ordering::SeqCst);
        fetch(slf.py(), core.wake(slf.py()))
    }

    /// Whether the loop is running.
    fn is_running(&self) -> bool {
        self.owner.load(Ordering::Relaxed) != 0
    }

    /// Whether the loop was closed.
    fn is_closed(&self) -> bool {
        self.has(mode::CLOSED)
    }

    fn _write_to_self(slf: &Bound<'_, Self>) -> PyResult<()> {
        fetch(slf.py(), slf.get().wake(slf.py()))
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.has(mode::CLOSED)
    }

    #[setter(_closed)]
    fn assign_closed(&self, closed: bool) {
        self.set_mode(mode::CLOSED, closed);
    }

    #[getter]
    fn _debug(&self) -> bool {
        self.is_debug()
    }

    #[setter(_debug)]
    fn assign_debug(&self, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_mode(mode::DEBUG, enabled.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    #[setter(_stopping)]
    fn assign_stopping(&self, stopping: bool) {
        self.stopping.store(stopping, Ordering::SeqCst);
    }

    #[getter]
    fn _thread_id(&self) -> Option<usize> {
        Some(self.owner.load(Ordering::Relaxed)).filter(|&owner| owner != 0)
    }

    #[setter(_thread_id)]
    fn assign_thread_id(&self, ident: Option<usize>) {
        self.owner.store(ident.unwrap_or(0), Ordering::SeqCst);
    }

    #[getter]
    fn _task_factory(&self, py: Python<'_>) -> Py<PyAny> {
        let factory = self.kept.with(|k| k.task_factory);
        // SAFETY: null or owned by the loop, and made a reference of the caller's own here.
        unsafe {
            let factory = if factory.is_null() { none() } else { new_ref(factory) };
            Bound::from_owned_ptr(py, factory).unbind()
        }
    }

    #[setter(_task_factory)]
    fn assign_task_factory(&self, factory: Bound<'_, PyAny>) {
        let new = if factory.is_none() { std::ptr::null_mut() } else { factory.into_ptr() };
        let mut old = self.kept.with(|k| std::mem::replace(&mut k.task_factory, new));
        // SAFETY: the reference that the loop held, released outside the cell.
        unsafe { clear(&mut old) };
    }

    /// asyncio's `_ready`: a live view, or asyncio's own deque in stock mode.
    #[getter]
    fn _ready(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::container(slf, |k| k.ready, "ready_view")
    }

    #[setter(_ready)]
    fn assign_ready(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_container(value, "_ready", |k| &mut k.ready)
    }

    /// asyncio's `_scheduled`: a live view, or asyncio's own list in stock mode.
    #[getter]
    fn _scheduled(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::container(slf, |k| k.scheduled, "scheduled_view")
    }

    #[setter(_scheduled)]
    fn assign_scheduled(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_container(value, "_scheduled", |k| &mut k.scheduled)
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::set_attribute(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::set_attribute(slf, name, std::ptr::null_mut())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let show = |o: Obj| -> Result<(), PyTraverseError> {
            if o.is_null() {
                return Ok(());
            }
            // SAFETY: `Py` is a transparent non-null pointer; the reference is owned by the loop and only looked at here.
            visit.call(unsafe { &*(&raw const o).cast::<Py<PyAny>>() })
        };
        self.ready.with(|q| q.iter().flat_map(Entry::references).try_for_each(&show))?;
        self.timers.with(|q| q.iter().try_for_each(|t| show(t.0.cast())))?;
        self.reactor.with(|r| {
            let watched = r.iter().flat_map(Reactor::iter);
            let mut callbacks =
                watched.flat_map(|(_, _, callbacks)| callbacks.into_iter().flatten());
            callbacks.try_for_each(&show)
        })?;
        self.transports.with(|shared| shared.unsent().iter().copied().try_for_each(&show))?;
        self.kept.with(|k| {
            [k.ready, k.scheduled, k.task_factory, k.loop_keyword].into_iter().try_for_each(&show)
        })
    }

    fn __clear__(&self) {
        let mut taken = self.take_references();
        let null = std::ptr::null_mut();
        taken.extend(self.kept.with(|k| {
            [
                std::mem::replace(&mut k.ready, null),
                std::mem::replace(&mut k.scheduled, null),
                std::mem::replace(&mut k.task_factory, null),
                std::mem::replace(&mut k.loop_keyword, null),
            ]
        }));
        // SAFETY: the collector calls this attached.
        release_all(unsafe { Python::assume_attached() }, taken);
    }
}

impl Drop for LoopCore {
    fn drop(&mut self) {
        garbage::strike(self);
        // Dropped by the interpreter when the object dies: attached. The kernel objects close themselves.
        self.__clear__();
    }
}

impl LoopCore {
    fn container(
        slf: &Bound<'_, Self>,
        pick: impl FnOnce(&mut Kept) -> Obj,
        view: &str,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let core = slf.get();
        fetch(py, core.current_mode(slf.as_ptr()))?;
        let own = core.kept.with(pick);
        if core.has(mode::STOCK) && !own.is_null() {
            // SAFETY: owned by the loop; the caller gets a reference of its own.
            return Ok(unsafe { Bound::from_owned_ptr(py, new_ref(own)) }.unbind());
        }
        // SAFETY: set once, when the module was set up, and kept for good.
        let cold = unsafe { Bound::from_owned_ptr(py, new_ref(COLD.get())) };
        Ok(cold.getattr(view)?.call1((slf,))?.unbind())
    }

    /// The inherited `__init__` assigns empty containers, and asyncio's `_run_once` replaces `_scheduled` in stock mode.
    fn set_container(
        &self,
        value: &Bound<'_, PyAny>,
        name: &str,
        pick: impl FnOnce(&mut Kept) -> &mut Obj,
    ) -> PyResult<()> {
        if self.has(mode::STOCK) {
            let new = value.clone().into_ptr();
            let mut old = self.kept.with(|k| std::mem::replace(pick(k), new));
            // SAFETY: the reference that the loop held, released outside the cell.
            unsafe { clear(&mut old) };
            return Ok(());
        }
        if value.len()? != 0 {
            return Err(PyAttributeError::new_err(format!(
                "PyLoop keeps its queues in Rust: {name} is a read-only view; use call_soon() or call_at()"
            )));
        }
        Ok(())
    }

    fn set_attribute(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>, value: Obj) -> PyResult<()> {
        // An instance attribute may shadow a method that the short ways leave out: look again.
        if name.extract::<&str>().is_ok_and(|name| SHADOWABLE.contains(&name)) {
            slf.get().shadowed.store(true, Ordering::Relaxed);
            slf.get().checked_version.store(UNCHECKED, Ordering::Relaxed);
        }
        // SAFETY: attached; all three are alive (null deletes).
        let failed = unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value) };
        if failed != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }

    /// Calls a function of `_cold.py`; for what happens rarely.
    pub(crate) fn call_cold(&self, name: &std::ffi::CStr, args: &[Obj]) -> Raises<Owned> {
        // SAFETY: attached; the module lives for good and the arguments are alive.
        unsafe {
            let function = Owned::from_new(ffi::PyObject_GetAttrString(COLD.get(), name.as_ptr()))?;
            Owned::from_new(ffi::PyObject_Vectorcall(
                function.as_ptr(),
                args.as_ptr(),
                args.len(),
                std::ptr::null_mut(),
            ))
        }
    }
}
