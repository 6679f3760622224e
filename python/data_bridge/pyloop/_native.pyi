"""The Rust half of PyLoop: the loop's core and its handles.

PyLoop (in `_loop.py`) is this core over asyncio.SelectorEventLoop. Of what is below, only the methods without
an underscore are for programs, and they are reached through a PyLoop.

"Not thread-safe" means: call it on the loop's own thread, or on any one thread while the loop does not
run. Nothing here blocks but LoopCore.run_forever().
"""

# ruff: noqa: PYI021  (this stub is where the documentation of the native methods lives)

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context
from traceback import StackSummary
from typing import Any, Final, Self, TypeAlias, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_CoroutineLike: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]

__version__: Final[str]

class Handle(asyncio.Handle):
    """A callback that call_soon() or call_soon_threadsafe() has queued: what to call, or nothing any more.

    isinstance(handle, asyncio.Handle) holds, without inheritance at run time. Weakly referenceable;
    not made by hand.
    """

    _callback: Callable[..., object] | None
    _args: Sequence[Any] | None  # type: ignore[assignment]
    _context: Context
    _loop: AbstractEventLoop
    _cancelled: bool
    _source_traceback: StackSummary | None
    _repr: str | None

    def cancel(self) -> None:
        """Do not run the callback; let go of it and its arguments now.

        Doing so twice, or after the callback ran, has no effect. Not thread-safe. Raises nothing.
        """

    def cancelled(self) -> bool:
        """Whether cancel() was called. Safe from any thread."""

    def get_context(self) -> Context:
        """The context the callback runs in. Safe from any thread. On every Python, not only from 3.12."""

    def _run(self) -> None:
        """Call the callback in its context; its exception goes to the loop's exception handler."""

class TimerHandle(Handle, asyncio.TimerHandle):
    """A callback that call_later() or call_at() has scheduled.

    isinstance(handle, asyncio.TimerHandle) holds, without inheritance at run time. Handles order by deadline;
    two are equal when deadline, callback, arguments and cancellation are, as in asyncio.
    """

    _when: float
    _scheduled: bool

    def when(self) -> float:
        """The deadline in seconds on the loop's clock, LoopCore.time(). Safe from any thread."""

    def cancel(self) -> None:
        """Do not run the callback; let go of it, of its arguments and of the timer's place now.

        Costs the same however many timers are pending. Doing so twice, or after the callback ran, has no
        effect. Not thread-safe. Raises nothing.
        """

    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle) -> bool: ...

class LoopCore:
    """The ready queue, timers, clock, reactor and run loop of a PyLoop.

    Of no use by itself: PyLoop's other base, asyncio.SelectorEventLoop, does the rest.
    """

    _closed: bool
    _debug: bool
    _stopping: bool
    _thread_id: int | None

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Make the core of one loop; the arguments are for the class beside it.

        Raises OSError where the process may open no more descriptors.
        """

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        """Run *callback* with *args* in the next iteration, after what is queued already.

        It runs in *context*, or in a copy of the current one. Raises RuntimeError if the loop is closed and,
        in debug mode, on a wrong thread or TypeError for what cannot be called or is a coroutine.
        Not thread-safe: from other threads use call_soon_threadsafe().
        """

    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        """call_soon() from any thread or signal handler: also wakes the loop, once, if it sleeps.

        Callbacks of one thread run in its order. Does not block. Raises RuntimeError if the loop is closed.
        """

    def call_soon_batch(
        self, callbacks: Iterable[Callable[[], object]], *, context: Context | None = None
    ) -> None:
        """Run each of *callbacks*, without arguments, in the next iteration and in their order.

        An extension of PyLoop's: one call, one wake-up, and no handles to cancel. All are checked
        before any is queued: TypeError for what cannot be called, RuntimeError if the loop is closed,
        and what iterating raises, leave the queue as it was. All run in *context*, or in one copy of
        the current one. Safe from any thread; does not block.
        """

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        """Run *callback* with *args* once, *delay* seconds from now on the loop's clock; never early.

        A negative delay is already due and keeps its place by deadline; NaN runs at once; an infinite
        one stays pending. Raises TypeError for a delay that is no number, RuntimeError if the loop is closed.
        Not thread-safe: from other threads use call_soon_threadsafe() to call it.
        """

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        """Run *callback* with *args* once, at *when* seconds on the loop's clock; never early.

        Callbacks due run in order of deadline, and of scheduling where deadlines are equal. Raises as
        call_later() does. Not thread-safe.
        """

    def time(self) -> float:
        """Seconds on the loop's clock, which is monotonic and starts anywhere. Safe from any thread."""

    def create_future(self) -> asyncio.Future[Any]:
        """Make an asyncio.Future of this loop. Not thread-safe."""

    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: object = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]:
        """Schedule *coro* as a task, made by the task factory if one is set, and return the task.

        Other keyword arguments are asyncio.Task's own (eager_start, by Python's version). Raises
        TypeError for what is no coroutine, RuntimeError if the loop is closed. Not thread-safe.
        """

    def run_forever(self) -> None:
        """Run until stop() is called. Blocks.

        SystemExit and KeyboardInterrupt of a callback leave it, and the loop can run again; any other
        exception goes to the exception handler. Raises RuntimeError if this loop or another one of
        the thread runs already, or if the loop is closed.
        """

    def stop(self) -> None:
        """Let run_forever() return at the end of the iteration. Before it runs: after one iteration.

        Not thread-safe: from other threads use call_soon_threadsafe(loop.stop).
        """

    def is_running(self) -> bool:
        """Whether run_forever() is under way, on any thread. Safe from any thread."""

    def is_closed(self) -> bool:
        """Whether the loop was closed. Safe from any thread."""

    def get_debug(self) -> bool:
        """Whether the loop is in debug mode. Safe from any thread."""

    def _run_once(self) -> None:
        """One iteration: poll, expire timers, run what is ready. For hosts that step a loop."""
