"""The Rust half of PyLoop: the loop's core and its handles.

PyLoop (in `_loop.py`) is the core over asyncio.SelectorEventLoop. What has no underscore is for programs, and is
reached through a PyLoop; the rest is between the two halves. Nothing is thread-safe unless it says so, and
nothing blocks but `_run`, `_run_once` and `_wait`. tests/pyloop/test_stub.py holds names, signatures and
texts to those of the module.
"""

# ruff: noqa: E501, PYI021  (the texts are the native module's own, here for editors to show)

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context
from traceback import StackSummary
from types import ModuleType
from typing import Any, Final, Self, TypeAlias, TypeVar, TypeVarTuple, final

from _typeshed import FileDescriptorLike
from typing_extensions import disjoint_base

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_CoroutineLike: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]

__all__ = [
    "LoopCore",
    "__version__",
    "_adopt",
    "_after_fork",
    "_at_exit",
    "_before_collection",
    "_live_handles",
    "_set_up",
]

__version__: Final[str]

@disjoint_base
class Handle(asyncio.Handle):
    """A callback that call_soon() or call_soon_threadsafe() has queued: what to call, or nothing any more.

    isinstance(handle, asyncio.Handle) holds, though at run time by `__class__` and not by inheritance.
    Weakly referenceable; not made by hand.
    """

    _callback: Callable[..., object] | None
    _args: Sequence[Any] | None  # type: ignore[assignment]
    _context: Context | None
    _loop: AbstractEventLoop
    _cancelled: bool
    _source_traceback: StackSummary | None
    _repr: str | None

    def cancel(self) -> None:
        """Cancel the callback; idempotent. Its arguments are released at once."""

    def cancelled(self) -> bool:
        """Whether the callback was cancelled."""

    def get_context(self) -> Context:
        """The contextvars.Context in which the callback runs."""

    def _run(self) -> None:
        """Run the callback now; an exception goes to the loop's exception handler."""

@final
class TimerHandle(Handle, asyncio.TimerHandle):  # type: ignore[misc]  # no such layout; see below
    """A callback that call_later() or call_at() has scheduled; handles order by deadline, as in asyncio.

    isinstance(handle, asyncio.TimerHandle) holds, though at run time by `__class__` and not by inheritance.
    """

    _when: float
    _scheduled: bool

    def when(self) -> float:
        """The deadline, in seconds of the loop's clock."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle) -> bool: ...

@disjoint_base
class LoopCore:
    """The ready queue, timers, clock, reactor and run loop of a PyLoop.

    Of no use by itself: PyLoop's other base, asyncio.SelectorEventLoop, does the rest.
    """

    def __new__(cls, *args: object, **kwargs: object) -> Self: ...

    # For programs.

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        r"""Run *callback(\*args)* on the loop in its next iteration, in order of scheduling.

        *context* is the contextvars.Context to run in; by default a copy of the current one. Returns a Handle with cancel().
        Raises RuntimeError if the loop is closed. Not thread-safe: from other threads use call_soon_threadsafe().
        Source: asyncio.BaseEventLoop.call_soon.
        """

    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        """Like call_soon(), from any thread; wakes the loop if it sleeps. Callbacks of one thread keep their order.

        Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.call_soon_threadsafe.
        """

    def call_soon_batch(
        self, callbacks: Iterable[Callable[[], object]], *, context: Context | None = None
    ) -> None:
        """Queue an iterable of callables without arguments at once, in order, with one wake-up; from any thread.

        All are checked before any is queued: TypeError for one that is not callable or is a coroutine function. Each runs in *context*, or in
        a copy of the current one. Returns None. Raises RuntimeError if the loop is closed. An extension of PyLoop's.
        """

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        r"""Run *callback(\*args)* once, *delay* seconds from now on the loop's clock; never early.

        A negative delay is already due and keeps its place by deadline. Returns a TimerHandle with cancel() and when().
        Raises RuntimeError if the loop is closed. Not thread-safe.
        Source: asyncio.BaseEventLoop.call_later.
        """

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        r"""Run *callback(\*args)* once, when the loop's clock (time(), in seconds) reaches *when*; never early.

        Timers run in order of their deadlines, equal deadlines in order of scheduling. Returns a TimerHandle.
        Raises RuntimeError if the loop is closed. Not thread-safe. Source: asyncio.BaseEventLoop.call_at.
        """

    def time(self) -> float:
        """The loop's clock, in seconds: that of time.monotonic().

        Source: asyncio.BaseEventLoop.time. Safe from any thread.
        """

    def create_future(self) -> asyncio.Future[Any]:
        """A new asyncio.Future of this loop. Source: asyncio.BaseEventLoop.create_future."""

    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: object = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]:
        """Schedule a coroutine as an asyncio.Task, or as what the task factory makes of it.

        Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.create_task.
        """

    def stop(self) -> None:
        """Stop running after the current iteration; callbacks that are ready in it still run.

        Source: asyncio.BaseEventLoop.stop. From another thread use call_soon_threadsafe(loop.stop).
        """

    def is_running(self) -> bool:
        """Whether the loop is running."""

    def is_closed(self) -> bool:
        """Whether the loop was closed."""

    def get_debug(self) -> bool:
        """Whether the loop is in debug mode."""

    # asyncio's private attributes and methods.

    _closed: bool
    _debug: bool
    _stopping: bool
    _thread_id: int | None
    _task_factory: Callable[..., asyncio.Future[Any]] | None
    _ready: Any
    _scheduled: Any

    def _run_once(self) -> None:
        """Run one iteration, as hosts that step the loop themselves ask for; in stock mode asyncio's own."""

    def _add_callback(self, handle: asyncio.Handle) -> None:
        """asyncio's `_add_callback`: queue a handle, native or made in Python, unless it was cancelled."""

    def _add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> Handle:
        r"""Call *callback(\*args)* whenever *fd* is readable, until removed; replaces what was there."""

    def _add_writer(
        self, fd: FileDescriptorLike, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> Handle:
        r"""Call *callback(\*args)* whenever *fd* is writable, until removed; replaces what was there."""

    def _remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Stop watching *fd* for reading; whether it was watched."""

    def _remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Stop watching *fd* for writing; whether it was watched."""

    def _write_to_self(self) -> None: ...

    # For the Python half: opening and running.

    def _open(self) -> None:
        """Make the kernel objects; the loop counts as open from here on."""

    def _shut(self) -> None:
        """Close the kernel objects and release everything that was queued or watched."""

    def _run(self, switch_interval: float) -> None:
        """Run iterations until stopped: the heart of run_forever."""

    def _look_again(self) -> None:
        """Look at the next chance whether somebody replaced a part of the loop."""

    def _is_shadowed(self) -> bool:
        """Whether an instance attribute may shadow a method that the short ways leave out."""

    # For the Python half: the views of the queues and the façade of the reactor.

    def _ready_count(self) -> int:
        """How many entries are ready."""

    def _ready_snapshot(self) -> list[Any]:
        """The ready handles, oldest first; those that asyncio's C code threw away are made anew."""

    def _ready_clear(self) -> None:
        """Forget everything that is ready."""

    def _scheduled_count(self) -> int:
        """How many timers are pending."""

    def _scheduled_snapshot(self) -> list[Any]:
        """The pending timers; the earliest first, the others in no particular order."""

    def _scheduled_clear(self) -> None:
        """Forget every pending timer."""

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait at most *timeout* seconds (None: for ever) for descriptors: a list of (fd, events). For the `_selector` façade."""

    def _watched(self) -> list[tuple[int, int, asyncio.Handle | None, asyncio.Handle | None]]:
        """All watched descriptors, for the `_selector` façade."""

    def _watch_handles(
        self, fd: int, reader: asyncio.Handle | None, writer: asyncio.Handle | None
    ) -> None:
        """Register handles made by this loop for *fd*, as the façade's register() and modify() are asked."""

    def _unwatch(self, fd: int) -> None:
        """Stop watching *fd* in both directions; KeyError if it is not watched."""

    def _reactor_fileno(self) -> int:
        """The descriptor of the kernel object that the loop waits on, or -1."""

def _at_exit(main_ident: int) -> None:
    """For `atexit`: stop the loops of all other threads, and wait a moment for those that are in a callback."""

def _set_up(
    *,
    cold: ModuleType,
    handle: type[asyncio.Handle],
    timer_handle: type[asyncio.TimerHandle],
    futures: ModuleType,
    tasks: ModuleType,
    task_step: object,
    task_wakeup: object,
) -> None:
    """Take what the native half needs from asyncio: called once by `_cold`, before the first loop."""

def _adopt(class_: type) -> None:
    """Put the raw methods on the class PyLoop itself, where the interpreter's specialised calls find them."""

def _after_fork() -> None:
    """Told by `os.register_at_fork` in a new child."""

def _before_collection(phase: str, info: dict[str, Any]) -> None:
    """For `gc.callbacks`: lets the collector see every waiting handle before a full collection."""

def _live_handles() -> int:
    """How many native handles are alive; for tests."""
