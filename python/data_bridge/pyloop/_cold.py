"""The cold half of the native core: what it calls rarely, and asyncio's own code is right for.

Owns the reports of exceptions and of slow callbacks, the checks of debug mode, the decision which
part of a loop was replaced (see ``modes.rs``), and the one-time set-up of the native module from
asyncio's own objects.
"""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextvars
import gc
import heapq
import os
import sys
import threading
import traceback
from asyncio import base_events, events, format_helpers, futures, tasks
from typing import TYPE_CHECKING, Any

from . import _native
from ._views import ReadyView, ScheduledView

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._loop import PyLoop

# The bits of ``loop_impl.rs`` that classify() decides.
_STOCK = 4
_CALL_AT = 8
_HANDLES = 16

#: The methods that the short ways leave out, as PyLoop defines them; filled in by adopt().
_own: dict[str, object] = {}
_loop_class: type | None = None

ready_view = ReadyView
scheduled_view = ScheduledView
heappush = heapq.heappush
create_future = base_events.BaseEventLoop.create_future
create_task = base_events.BaseEventLoop.create_task
stock_run_once = base_events.BaseEventLoop._run_once  # type: ignore[attr-defined]
_format_handle: Callable[[object], str] = base_events._format_handle  # type: ignore[attr-defined]
_format_callback_source: Callable[..., str] = format_helpers._format_callback_source
# Later versions show the arguments in debug mode only.
_takes_debug = "debug" in _format_callback_source.__code__.co_varnames


def classify(loop: PyLoop) -> int:
    """Find out which parts of *loop* somebody replaced: in a subclass, on the class or on the instance."""
    cls = type(loop)
    attributes = loop.__dict__ if loop._is_shadowed() else {}

    def replaced(name: str) -> bool:
        return name in attributes or getattr(cls, name) is not _own[name]

    # Each look-up also gives the class the version that the native half compares.
    soon, at, later = replaced("call_soon"), replaced("call_at"), replaced("call_later")
    once, time = replaced("_run_once"), replaced("time")
    bits = 0
    if once or time or "select" in getattr(loop._selector, "__dict__", ()):
        bits |= _STOCK
    if at or time:
        bits |= _CALL_AT
    if soon or at or later or cls is not _loop_class:
        bits |= _HANDLES
    return bits


def stock_containers() -> tuple[collections.deque[asyncio.Handle], list[asyncio.TimerHandle]]:
    """Make asyncio's own containers, for what is ready and what is scheduled."""
    return collections.deque(), []


def run_foreign(loop: PyLoop, handle: asyncio.Handle) -> None:
    """Run a Handle that was made in Python."""
    try:
        if not handle.cancelled():
            handle._run()
    finally:
        del handle  # as run_timed()


def run_timed(loop: PyLoop, handle: asyncio.Handle) -> None:
    """Run a handle in debug mode, as the end of ``BaseEventLoop._run_once`` does."""
    if handle.cancelled():
        return
    try:
        loop._current_handle = handle
        started = loop.time()
        handle._run()
        took = loop.time() - started
        if took >= loop.slow_callback_duration:
            base_events.logger.warning(  # type: ignore[attr-defined]
                "Executing %s took %.3f seconds", _format_handle(handle), took
            )
    finally:
        loop._current_handle = None
        # The frame of an exception must not keep the handle, and so its task, alive.
        del handle


def report(loop: PyLoop, handle: Any, exception: BaseException) -> None:
    """Give an exception of a callback to the exception handler, as ``Handle._run`` does."""
    if _takes_debug:
        source = _format_callback_source(handle._callback, handle._args, debug=loop.get_debug())
    else:
        source = _format_callback_source(handle._callback, handle._args)
    context = {
        "message": f"Exception in callback {source}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def check_debug(loop: PyLoop, callback: object, method: str, thread: bool) -> None:
    """The checks that asyncio makes of each scheduling call in debug mode."""
    if thread:
        loop._check_thread()
    loop._check_callback(callback, method)


def extract_stack() -> traceback.StackSummary:
    """The stack of the code that is making a handle."""
    return format_helpers.extract_stack(sys._getframe(1))


def _specimens() -> tuple[object | None, object | None]:
    """The callables by which asyncio's C Task asks for its next step, and is woken by a future.

    They have no public name: a task on a loop of one method shows them. None where there is no C Task.
    """
    try:
        from _asyncio import Future, Task
    except ImportError:
        return None, None
    seen: list[Callable[..., object]] = []

    class Probe:
        def call_soon(
            self, callback: Callable[..., object], *args: object, context: object
        ) -> None:
            seen.append(callback)

        def get_debug(self) -> bool:
            return False

        def is_running(self) -> bool:
            return True

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    probe: Any = Probe()
    running = events._get_running_loop()
    context = contextvars.Context()
    try:
        events._set_running_loop(probe)
        future: asyncio.Future[None] = Future(loop=probe)
        task = Task(wait(future), loop=probe, context=context)
        context.run(seen[0])
        future.set_result(None)
        context.run(seen[1], future)
        assert task.done()
    finally:
        events._set_running_loop(running)
    return seen[0], seen[1]


def _lend_methods() -> None:
    """Put asyncio's own Python methods (repr, ordering, hash) on the native handle types."""
    native = {*vars(_native.Handle), *vars(_native.TimerHandle), "__init__", "__new__"}
    for to, stock in ((_native.Handle, events.Handle), (_native.TimerHandle, events.TimerHandle)):
        for name, value in vars(stock).items():
            if callable(value) and (name not in native or name in _LENT):
                setattr(to, name, value)


#: Defined on every class by ``object`` or by the type's slots, and still asyncio's to say.
_LENT = {"__repr__", "__eq__", "__hash__"}


def set_up() -> None:
    """Give the native module what it needs of asyncio; once, before the first loop."""
    step, wakeup = _specimens()
    _lend_methods()
    _native._set_up(
        cold=sys.modules[__name__],
        handle=events.Handle,
        timer_handle=events.TimerHandle,
        futures=futures,
        tasks=tasks,
        task_step=step,
        task_wakeup=wakeup,
    )
    gc.callbacks.append(_native._before_collection)
    atexit.register(lambda: _native._at_exit(threading.get_ident()))
    os.register_at_fork(after_in_child=_native._after_fork)


def adopt(cls: type) -> None:
    """Make *cls*, which is PyLoop, the class whose exact instances take the short ways."""
    global _loop_class
    _native._adopt(cls)
    _loop_class = cls
    for name in ("call_soon", "call_at", "call_later", "_run_once", "time"):
        _own[name] = getattr(cls, name)
