"""Crowds: long queues and many handles at once, for which the native core has ways of its own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.running import run_one_pass

from data_bridge.pyloop import _native, new_event_loop

#: More than the native core calls a long queue, and a crowd of handles.
LONG = 1_000
CROWD = 200_000

_variable: contextvars.ContextVar[object] = contextvars.ContextVar("_variable")


class Thing:
    """Something a weak reference can watch."""


def _nothing(*args: object) -> None:
    pass


@pytest.mark.parametrize("name", ["call_soon", "call_soon_threadsafe"])
def test_every_callback_of_a_long_queue_has_a_context_of_its_own(
    loop: asyncio.AbstractEventLoop, name: str
) -> None:
    call: Callable[..., asyncio.Handle] = getattr(loop, name)
    seen: list[object] = []

    def look(number: int) -> None:
        seen.append(_variable.get())
        _variable.set(f"changed by {number}")

    def fill() -> list[asyncio.Handle]:
        handles = []
        for number in range(LONG):
            _variable.set(number)
            handles.append(call(look, number))
        return handles

    handles = contextvars.copy_context().run(fill)
    run_one_pass(loop)
    assert seen == list(range(LONG))
    contexts = [handle._context for handle in handles]  # type: ignore[attr-defined]
    assert len({id(context) for context in contexts}) == LONG
    assert contexts[-1][_variable] == f"changed by {LONG - 1}"


def test_contexts_of_a_long_queue_are_seen_by_whoever_asks(loop: asyncio.AbstractEventLoop) -> None:
    handles = [loop.call_soon(_nothing) for _ in range(LONG)]
    gc.collect(0)
    context = handles[-1]._context  # type: ignore[attr-defined]
    assert gc.is_tracked(context)
    held = gc.get_referents(handles[-2])
    del handles
    run_one_pass(loop)
    assert gc.is_tracked(context)
    contexts = [one for one in held if isinstance(one, contextvars.Context)]
    assert [gc.is_tracked(one) for one in contexts] == [True]
    # The last references: a context must be on the collector's lists when it dies.
    del held, contexts, context
    gc.collect()


def test_handles_of_a_long_queue_can_be_cancelled_and_run_by_hand(
    loop: asyncio.AbstractEventLoop,
) -> None:
    ran: list[int] = []
    handles = [loop.call_soon(ran.append, number) for number in range(LONG)]
    for handle in handles[::2]:
        handle.cancel()
    handles[-1]._run()  # type: ignore[attr-defined]
    del handle, handles
    gc.collect()
    run_one_pass(loop)
    assert ran == [LONG - 1, *range(1, LONG, 2)]


@pytest.mark.parametrize("collected_before", [False, True], ids=["at once", "seen before"])
def test_a_loop_left_open_dies_with_what_the_contexts_of_its_long_queue_hold(
    collected_before: bool,
) -> None:
    loop = new_event_loop()
    thing: Any = Thing()
    thing.loop = loop
    refs = [weakref.ref(loop), weakref.ref(thing)]

    def fill(held: Thing, owner: asyncio.AbstractEventLoop) -> None:
        _variable.set(held)
        for _ in range(LONG):
            owner.call_soon(_nothing)

    contextvars.Context().run(fill, thing, loop)
    if collected_before:
        gc.collect()
        assert all(ref() is not None for ref in refs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, thing
        gc.collect()
        gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_a_crowd_of_callbacks_runs_in_order_and_leaves_nothing() -> None:
    loop = new_event_loop()
    try:
        before = _native._live_handles()
        ran: list[int] = []
        for number in range(CROWD):
            loop.call_soon(ran.append, number)
        assert _native._live_handles() - before == CROWD
        run_one_pass(loop)
        assert ran == list(range(CROWD))
        assert _native._live_handles() == before
    finally:
        loop.close()


def test_handles_of_a_crowd_live_as_long_as_they_are_held() -> None:
    loop = new_event_loop()
    try:
        before = _native._live_handles()
        soon = [loop.call_soon(_nothing, number) for number in range(CROWD)]
        later = [loop.call_later(3600, _nothing, number) for number in range(CROWD)]
        watch = weakref.ref(soon[-1])
        # Some go at once, out of order; their places are taken again.
        for handle in later[::3]:
            handle.cancel()
        del later[::3], handle
        gc.collect()
        later += [loop.call_later(60, _nothing, "again") for _ in range(1_000)]
        assert later[0]._args == (1,)  # type: ignore[attr-defined]
        assert later[-1]._args == ("again",)  # type: ignore[attr-defined]
        run_one_pass(loop)
        assert [handle._args[0] for handle in soon[::997]] == list(range(0, CROWD, 997))  # type: ignore[attr-defined]
        assert watch() is soon[-1]
        assert isinstance(soon[-1], asyncio.Handle) and isinstance(later[-1], asyncio.TimerHandle)
        del soon
        assert watch() is None
        assert _native._live_handles() - before == len(later)
    finally:
        loop.close()
    del later
    gc.collect()
    assert _native._live_handles() == before
