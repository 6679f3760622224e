"""Owns the two ways to a PyLoop that change nothing global: new_event_loop() and run()."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ._loop import PyLoop

_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Unbound(staticmethod):  # type: ignore[type-arg]  # it takes none at run time
    """A function that does not become a method where a class holds it, and still can be pickled."""

    def __reduce__(self) -> str:
        return self.__name__


def _unbound(function: Callable[_P, _T]) -> Callable[_P, _T]:
    return _Unbound(function)


@_unbound
def new_event_loop() -> PyLoop:
    """Make a new PyLoop, which is not anybody's current loop yet. The caller closes it.

    Give this function wherever a loop factory is taken: ``asyncio.Runner(loop_factory=...)``,
    ``asyncio.run(..., loop_factory=...)`` (3.12), ``loop_factory = new_event_loop`` in the body of an
    IsolatedAsyncioTestCase (3.13).

    Safe from any thread; does not block. Raises OSError where the process may open no more
    descriptors (a loop needs one epoll and one eventfd, on macOS one kqueue).
    """
    return PyLoop()


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
    """Run the coroutine *main* on a new PyLoop and return its result: asyncio.run() with our loop.

    Blocks until *main* ends, then cancels the tasks left over, shuts down asynchronous generators and
    the default executor, and closes the loop. *debug* switches the loop's debug mode on or off; None
    leaves that to ``-X dev`` and PYTHONASYNCIODEBUG. Ctrl-C cancels *main*, as in asyncio.run().

    Each thread may run a loop of its own. Raises RuntimeError where this thread already runs a loop,
    ValueError or TypeError (by Python's version) where *main* is not a coroutine, and what *main*
    raises.
    """
    if asyncio._get_running_loop() is not None:
        # Before the Runner is made, as asyncio.run() does: a short traceback, and no loop is opened.
        raise RuntimeError(
            "data_bridge.pyloop.run() cannot be called from a running event loop: await the coroutine"
        )
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
