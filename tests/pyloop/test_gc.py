"""Garbage: every cycle through a loop and its parts dies, and nothing dies too early."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.descriptors import open_descriptors, opened_since
from support.running import run_one_pass

from data_bridge.pyloop import PyLoop, new_event_loop

_NEW: dict[str, Callable[[], asyncio.SelectorEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "pyloop": new_event_loop,
}


@pytest.fixture
def new_loop(kind: str) -> Callable[[], asyncio.SelectorEventLoop]:
    """Makes loops that no fixture holds."""
    return _NEW[kind]


class Thing:
    """Something a weak reference can watch."""

    def __call__(self, *args: object) -> None:
        pass


def _through_soon(loop: asyncio.SelectorEventLoop, thing: Thing) -> None:
    loop.call_soon(thing, loop)


def _through_threadsafe(loop: asyncio.SelectorEventLoop, thing: Thing) -> None:
    loop.call_soon_threadsafe(thing, loop)


def _through_timer(loop: asyncio.SelectorEventLoop, thing: Thing) -> None:
    loop.call_later(3600, thing, loop)


def _through_reader(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.pair = socket.socketpair()
    loop.add_reader(thing.pair[0], thing, loop)


def _through_writer(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.pair = socket.socketpair()
    loop.add_writer(thing.pair[0], thing, loop)


def _through_exception_handler(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.loop = loop
    loop.set_exception_handler(thing)


def _through_task_factory(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.loop = loop
    loop.set_task_factory(thing)


def _through_future(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.future = loop.create_future()
    thing.future.add_done_callback(thing)
    loop.call_soon(thing, thing.future)


def _through_attribute(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.loop = loop
    loop.slow_callback_duration = thing


def _through_held_handle(loop: asyncio.SelectorEventLoop, thing: Any) -> None:
    thing.handles = [loop.call_soon(thing, thing), loop.call_at(1e12, thing, thing)]


def _through_views(loop: Any, thing: Any) -> None:
    thing.views = [loop._ready, loop._scheduled, loop._selector]
    loop.call_soon(thing)


_WAYS = {
    name.removeprefix("_through_"): way
    for name, way in list(globals().items())
    if name.startswith("_through_")
}


@pytest.mark.parametrize("close", [True, False], ids=["closed", "left open"])
@pytest.mark.parametrize("way", list(_WAYS))
def test_a_cycle_through_the_loop_dies(
    new_loop: Callable[[], asyncio.SelectorEventLoop], way: str, close: bool
) -> None:
    loop = new_loop()
    thing = Thing()
    _WAYS[way](loop, thing)
    refs = [weakref.ref(loop), weakref.ref(thing)]
    if close:
        loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, thing
        gc.collect()
        gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_loop_that_ran_dies_without_the_collector(
    new_loop: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(3)))

    loop = new_loop()
    loop.run_until_complete(main())
    loop.call_soon(int)
    loop.call_later(100, int)
    run_one_pass(loop)
    loop.close()
    ref = weakref.ref(loop)
    gc.collect()
    gc.disable()
    try:
        del loop
        closed_loop_is_gone = ref() is None
    finally:
        gc.enable()
    gc.collect()
    assert ref() is None
    # asyncio's own loop is in no cycle once it is closed, so PyLoop must not be in one either.
    assert closed_loop_is_gone


def test_closing_frees_what_was_queued_at_once(loop: asyncio.SelectorEventLoop) -> None:
    things = [Thing() for _ in range(4)]
    refs = [weakref.ref(thing) for thing in things]
    loop.call_soon(things[0], things[1])
    loop.call_later(3600, things[2], things[3])
    del things
    assert all(ref() is not None for ref in refs)
    loop.close()
    assert [ref() for ref in refs] == [None] * 4


def test_removing_a_reader_frees_its_callback(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair()
    with near, far:
        for add, remove in (
            (loop.add_reader, loop.remove_reader),
            (loop.add_writer, loop.remove_writer),
        ):
            thing = Thing()
            ref = weakref.ref(thing)
            add(near, thing)
            del thing
            assert ref() is not None
            remove(near)
            assert ref() is None


def test_replacing_a_reader_frees_the_old_callback(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair()
    with near, far:
        thing = Thing()
        ref = weakref.ref(thing)
        loop.add_reader(near, thing)
        del thing
        loop.add_reader(near, int)
        assert ref() is None
        loop.remove_reader(near)


def test_a_run_callback_is_freed_before_the_next_one_runs(
    loop: asyncio.SelectorEventLoop,
) -> None:
    seen: list[bool] = []
    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(thing)
    loop.call_soon(lambda: seen.append(ref() is None))
    del thing
    run_one_pass(loop)
    assert seen == [True]


def test_an_unclosed_loop_warns_and_gives_its_descriptors_back(
    new_loop: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    before = open_descriptors()
    loop = new_loop()
    loop.call_soon(int)
    text = repr(loop)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    messages = [str(item.message) for item in caught if item.category is ResourceWarning]
    assert f"unclosed event loop {text}" in messages
    assert opened_since(before) == {}


def test_a_closed_loop_dies_in_silence(
    new_loop: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = new_loop()
        loop.close()
        del loop
        gc.collect()
    assert caught == []


def test_a_half_made_loop_dies_in_silence() -> None:
    # asyncio's own loop fails here: its __del__ asks for attributes that were never set.
    before = open_descriptors()

    class NeverMade(PyLoop):
        def __init__(self) -> None:
            raise ZeroDivisionError

    class FailsLate(PyLoop):
        def __init__(self) -> None:
            super().__init__()
            self.close()
            raise ZeroDivisionError

    class FailsOpen(PyLoop):
        def __init__(self) -> None:
            super().__init__()
            raise ZeroDivisionError

    for cls in (NeverMade, FailsLate, FailsOpen):
        with warnings.catch_warnings():
            # A loop that holds descriptors may say so.
            warnings.simplefilter("ignore", ResourceWarning)
            with pytest.raises(ZeroDivisionError):
                cls()
            gc.collect()
        assert opened_since(before) == {}, cls
    with pytest.raises(TypeError):
        PyLoop(1)
    PyLoop.__new__(PyLoop).__del__()
    gc.collect()
    assert opened_since(before) == {}


def test_a_pending_task_in_a_cycle_with_its_loop_dies_with_a_report_and_no_crash(
    new_loop: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    reports: list[str] = []

    async def waits(future: Any) -> None:
        await future

    loop = new_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    task = loop.create_task(waits(loop.create_future()))
    run_one_pass(loop)
    loop.close()
    ref = weakref.ref(task)
    del loop, task
    gc.collect()
    assert ref() is None
    assert reports == ["Task was destroyed but it is pending!"]


def test_collecting_in_every_callback_disturbs_nothing(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []

    def collect(number: int) -> None:
        gc.collect()
        ran.append(number)
        if number < 20:
            loop.call_soon(collect, number + 1)
            loop.call_later(100, Thing()).cancel()

    loop.call_soon(collect, 0)
    loop.call_at(0, collect, 100)
    while len(ran) < 22:
        run_one_pass(loop)
    assert sorted(ran) == [*range(21), 100]


def test_a_finalizer_may_use_the_loop_while_a_handle_dies(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []

    class Chatty:
        def __call__(self) -> None:
            ran.append("called")

        def __del__(self) -> None:
            if not loop.is_closed():
                loop.call_soon(ran.append, "from __del__")
                loop.call_at(0, ran.append, "timer from __del__").cancel()

    loop.call_soon(Chatty())
    loop.call_soon(Chatty()).cancel()
    loop.call_later(100, Chatty()).cancel()
    run_one_pass(loop)
    run_one_pass(loop)
    assert sorted(ran) == ["called", "from __del__", "from __del__", "from __del__"]


def test_a_finalizer_that_uses_the_loop_during_close_is_survived(
    loop_factory: LoopFactory,
) -> None:
    outcomes: list[str] = []

    class Chatty:
        def __init__(self, loop: asyncio.SelectorEventLoop) -> None:
            self.loop = loop

        def __call__(self) -> None:
            pass

        def __del__(self) -> None:
            try:
                self.loop.call_soon(int)
                self.loop.call_later(1, int)
                outcomes.append("taken")
            except RuntimeError as error:
                outcomes.append(str(error))

    loop = loop_factory()
    for _ in range(10):
        loop.call_soon(Chatty(loop))
        loop.call_later(100, Chatty(loop))
    reading, writing = os.pipe()
    loop.add_reader(reading, Chatty(loop))
    loop.close()
    os.close(reading)
    os.close(writing)
    gc.collect()
    assert set(outcomes) == {"Event loop is closed"}


def test_the_loop_is_weakly_referenceable_and_hashable(loop: asyncio.SelectorEventLoop) -> None:
    assert weakref.ref(loop)() is loop
    assert {loop: 1}[loop] == 1
    assert loop == loop
    assert weakref.WeakKeyDictionary({loop: 1})[loop] == 1


def test_gc_sees_the_referents_of_handles_and_loop(loop: asyncio.SelectorEventLoop) -> None:
    thing = Thing()
    handle = loop.call_soon(thing)
    gc.collect()  # PyLoop lets the collector see a waiting handle when a full collection begins
    assert gc.is_tracked(handle)
    assert thing in gc.get_referents(handle)
    assert gc.is_tracked(loop)
    handle.cancel()
    run_one_pass(loop)
