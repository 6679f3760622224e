"""CPython's tests of `asyncio.Handle` and `TimerHandle` are put to the handles that our loop makes.

The tests call the classes with a mock for a loop. Ours are made by a loop only, so in these test classes
the two names are factories: they make a loop, have it schedule the callback, and give back the handle.
What the loop would say to the exception handler goes to the mock.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

from .bare_loops import ModuleView

CLASSES = {"test_events": ("HandleTests", "TimerTests")}
# Asks that the handle keep the very tuple it was made with; a loop gets its arguments one by one.
NOT_BY_A_LOOP = frozenset({"test_timer"})


def adapt(module: types.ModuleType, target: type) -> None:
    """Let the handle tests of *module* see the handles of *target*."""
    for name in CLASSES.get(module.__name__.rpartition(".")[2], ()):
        case = getattr(module, name)
        case.setUp = _with_factories(case.setUp, module, target)


def _with_factories(
    set_up: Callable[[Any], None], module: types.ModuleType, target: type
) -> Callable[[Any], None]:
    @functools.wraps(set_up)
    def prepare(test: Any) -> None:
        set_up(test)
        if test._testMethodName not in NOT_BY_A_LOOP:
            view = ModuleView(
                module.asyncio,
                Handle=functools.partial(_handle, test, target),
                TimerHandle=functools.partial(_timer_handle, test, target),
            )
            patch = mock.patch.object(module, "asyncio", view)
            patch.start()
            test.addCleanup(patch.stop)

    return prepare


def _host(test: Any, target: type, stand_in: Any) -> Any:
    loop = target()
    test.addCleanup(loop.close)
    loop.set_debug(bool(stand_in.get_debug()))
    loop.set_exception_handler(lambda _, context: stand_in.call_exception_handler(context))
    return loop


def _handle(test: Any, target: type, callback: Any, args: Any, stand_in: Any) -> Any:
    handle = _host(test, target, stand_in).call_soon(callback, *args)
    return _made_by_the_test(handle)


def _timer_handle(test: Any, target: type, when: Any, callback: Any, args: Any, loop: Any) -> Any:
    handle = _host(test, target, loop).call_at(when, callback, *args)
    return _made_by_the_test(handle)


def _made_by_the_test(handle: Any) -> Any:
    if handle._source_traceback:
        del handle._source_traceback[-1]  # the factory's own line
    return handle
