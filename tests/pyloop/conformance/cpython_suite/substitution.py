"""Puts one loop class wherever CPython's asyncio tests get a loop from, and counts loops by type.

The tests reach a loop in five ways, and each has its answer here:

1. `asyncio.new_event_loop()`, `asyncio.run`, `Runner`, `IsolatedAsyncioTestCase`, a fresh or
   reset policy: all end in the default policy class's `_loop_factory`, which is replaced on the
   class, so that `set_event_loop_policy(None)` changes nothing.
2. `asyncio.SelectorEventLoop()`, `asyncio.EventLoop`, `unix_events._UnixSelectorEventLoop`: the
   names.
3. `create_event_loop` methods that pass a selector: the class kept (see `exclusions`) builds ours
   without.
4. A bare `BaseEventLoop()` whose selector side the test replaces by mocks: see `bare_loops`.
5. `utils.TestLoop`, a `BaseEventLoop` with a fake clock: rebuilt on our class.

The handle classes of such a loop are tested too: see `handles`.
A loop that is made and is none of ours has escaped; the runner fails and names the test. The
stock loop goes through the same machinery (`--asyncio`), so a fault of the machinery shows there.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
import unittest
from asyncio import base_events, unix_events
from collections import Counter
from typing import Any
from unittest import mock

from . import bare_loops, handles

STOCK: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
LOOP_NAMES = ("SelectorEventLoop", "EventLoop", "_UnixSelectorEventLoop")

# Of the copies of a test class for several selectors, the one that runs: every platform has it.
KEPT_SELECTOR_COPY = "SelectEventLoopTests"


class LoopCounter:
    """Counts the loops that are made, by type, between two calls of `take`."""

    def __init__(self, target: type) -> None:
        self._target = target
        self._ours: Counter[str] = Counter()
        self._others: Counter[str] = Counter()

    def watch(self) -> None:
        """Count every loop from now on; raises if the target's constructor cannot be seen."""
        inherited = base_events.BaseEventLoop.__init__

        def __init__(loop: Any, *args: Any, **kwargs: Any) -> None:
            self.count(type(loop))
            inherited(loop, *args, **kwargs)

        cls: Any = base_events.BaseEventLoop
        cls.__init__ = __init__
        self._target().close()
        ours, others = self.take()
        if ours != {self._target.__name__: 1} or others:
            raise RuntimeError(f"making one {self._target.__name__} counted as {ours}, {others}")

    def count(self, kind: type) -> None:
        """Count one loop of *kind* as made now."""
        if issubclass(kind, self._target):
            self._ours[kind.__name__] += 1
        else:
            self._others[kind.__name__] += 1

    def take(self) -> tuple[dict[str, int], dict[str, int]]:
        """Loops made since the last call: those of the target class, and any other."""
        made = dict(self._ours), dict(self._others)
        self._ours.clear()
        self._others.clear()
        return made


def loop_without_native_sendfile(target: type) -> type:
    """The class that stands for a bare BaseSelectorEventLoop: *target* without its own sendfile."""
    refuses = base_events.BaseEventLoop._sock_sendfile_native  # type: ignore[attr-defined]
    return type("LoopWithoutNativeSendfile", (target,), {"_sock_sendfile_native": refuses})


def loop_class(name: str) -> type:
    """The loop class by its name on the command line, `pyloop` or `asyncio`."""
    if name == "asyncio":
        return STOCK
    loop: type = importlib.import_module("data_bridge.pyloop").PyLoop
    return loop


def install(target: type) -> LoopCounter:
    """Put *target* in place of the selector loop in this process, for good; returns its counter."""
    for namespace in (asyncio, unix_events):
        for name in LOOP_NAMES:
            if getattr(namespace, name, None) is STOCK:
                setattr(namespace, name, target)
    for value in list(vars(unix_events).values()):
        if isinstance(value, type) and vars(value).get("_loop_factory") is STOCK:
            value._loop_factory = target  # type: ignore[attr-defined]
    _rebuild_test_loop(target)
    counter = LoopCounter(target)
    counter.watch()
    return counter


def _rebuild_test_loop(target: type) -> None:
    if "test.test_asyncio.utils" in sys.modules:
        raise RuntimeError("test.test_asyncio.utils was imported before the loop was put in place")
    with mock.patch.object(base_events, "BaseEventLoop", target):
        utils = importlib.import_module("test.test_asyncio.utils")
    if not issubclass(utils.TestLoop, target):
        raise RuntimeError("utils.TestLoop did not take the loop class it was given")
    inherited: Any = target

    def __setattr__(loop: Any, name: str, value: Any) -> None:
        # The loop keeps its selector, and no longer waits in it: fake time does not pass by itself.
        if name == "_selector" and isinstance(value, utils.TestSelector):
            loop._selector.select = value.select
        else:
            inherited.__setattr__(loop, name, value)

    utils.TestLoop.__setattr__ = __setattr__
    # What the stock loop registers while it is being made comes before TestLoop's own dictionaries.
    utils.TestLoop.readers = utils.TestLoop.writers = {}


def adapt(module: types.ModuleType, target: type) -> None:
    """Make a loaded test module's own ways to a loop end in *target*."""
    bare_loops.adapt(module, target)
    handles.adapt(module, target)
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase):
            _adapt_class(value, target)


def _adapt_class(case: Any, target: type) -> None:
    if case.__name__ == KEPT_SELECTOR_COPY and hasattr(case, "create_event_loop"):
        case.create_event_loop = lambda test: target()
    elif case.__name__ == "BaseLoopSockSendfileTests":
        # Its setUp imports BaseSelectorEventLoop, whose sendfile is the fallback that is tested.
        name = "asyncio.selector_events.BaseSelectorEventLoop"
        case.setUp = mock.patch(name, loop_without_native_sendfile(target))(case.setUp)
