"""Handles: their attributes, repr, comparison, hashing, cancelling and lifetime."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import heapq
import operator
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_asleep, run_one_pass

from data_bridge.pyloop import PyLoop

Scheduler = Callable[[asyncio.SelectorEventLoop, Callable[..., object]], asyncio.Handle]

SCHEDULERS: dict[str, Scheduler] = {
    "call_soon": lambda loop, cb: loop.call_soon(cb, 1, "two"),
    "call_soon_threadsafe": lambda loop, cb: loop.call_soon_threadsafe(cb, 1, "two"),
    "call_later": lambda loop, cb: loop.call_later(3600, cb, 1, "two"),
    "call_at": lambda loop, cb: loop.call_at(1e12, cb, 1, "two"),
}
TIMERS = ("call_later", "call_at")


@pytest.fixture(params=list(SCHEDULERS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def schedule(way: str) -> Scheduler:
    return SCHEDULERS[way]


def callback(*args: object) -> None:
    """A named callback for reprs."""


def test_the_handle_is_of_asyncios_type(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler, way: str
) -> None:
    handle = schedule(loop, callback)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) == (way in TIMERS)
    assert handle.__class__ is (asyncio.TimerHandle if way in TIMERS else asyncio.Handle)
    assert asyncio.isfuture(handle) is False


def test_the_customary_attributes_are_there(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler, way: str
) -> None:
    handle: Any = schedule(loop, callback)
    assert handle._callback is callback
    assert handle._args == (1, "two")
    assert type(handle._args) is tuple
    assert handle._cancelled is False
    assert handle._loop is loop
    assert handle._source_traceback is None
    assert handle._repr is None
    assert isinstance(handle._context, contextvars.Context)
    if way in TIMERS:
        assert handle._when == handle.when()
        assert handle._scheduled is True
    else:
        assert not hasattr(handle, "when")
        assert not hasattr(handle, "_when")


def test_scheduled_is_false_once_a_timer_has_fired(loop: asyncio.SelectorEventLoop) -> None:
    handle: Any = loop.call_at(0, callback)
    assert handle._scheduled is True
    run_one_pass(loop)
    assert handle._scheduled is False


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context came with 3.12")
def test_get_context_returns_the_context_that_was_given(loop: asyncio.SelectorEventLoop) -> None:
    given = contextvars.copy_context()
    for handle in (
        loop.call_soon(callback, context=given),
        loop.call_soon_threadsafe(callback, context=given),
        loop.call_later(3600, callback, context=given),
        loop.call_at(1e12, callback, context=given),
    ):
        assert handle.get_context() is given
    copied = loop.call_soon(callback).get_context()
    assert isinstance(copied, contextvars.Context)
    assert copied is not given


class _Instance:
    def method(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<an instance>"


_REPR_CASES: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
    "function": (callback, ()),
    "arguments": (callback, (1, "two", None)),
    "long arguments": (callback, ("x" * 500, list(range(100)))),
    "method": (_Instance().method, (1,)),
    "partial": (functools.partial(callback, 1, key=2), (3,)),
    "nested partial": (functools.partial(functools.partial(callback, 1), 2), ()),
    "builtin": (print, ("text",)),
    "builtin method": ([].append, (1,)),
    "class": (_Instance, ()),
    "lambda": (lambda: None, ()),
}


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("case", list(_REPR_CASES))
def test_repr_is_asyncios_before_and_after_cancelling(
    pyloop: PyLoop, case: str, debug: bool
) -> None:
    target, args = _REPR_CASES[case]
    stock = asyncio.SelectorEventLoop()
    try:
        texts: list[list[str]] = []
        for loop in (stock, pyloop):
            loop.set_debug(debug)
            said: list[str] = []
            for handle in (
                loop.call_soon(target, *args),
                loop.call_soon_threadsafe(target, *args),
                loop.call_at(1e12, target, *args),
                loop.call_at(10**12, target, *args),
            ):
                said.append(repr(handle))
                said.append(str(handle))
                handle.cancel()
                said.append(repr(handle))
            texts.append(said)
        assert texts[0] == texts[1]
        assert ("created at" in texts[0][0]) == debug
    finally:
        stock.close()


def test_repr_of_a_call_later_handle_shows_its_deadline(loop: asyncio.SelectorEventLoop) -> None:
    handle = loop.call_later(3600, callback)
    text = repr(handle)
    assert text.startswith(f"<TimerHandle when={handle.when()} callback() at ")
    handle.cancel()
    assert repr(handle) == f"<TimerHandle cancelled when={handle.when()}>"


def test_a_callback_with_a_broken_repr_breaks_repr_only(loop: asyncio.SelectorEventLoop) -> None:
    class Broken:
        ran = False

        def __call__(self) -> None:
            Broken.ran = True

        def __repr__(self) -> str:
            raise ZeroDivisionError

    handle = loop.call_soon(Broken())
    with pytest.raises(ZeroDivisionError):
        repr(handle)
    run_one_pass(loop)
    assert Broken.ran


def test_a_plain_handle_equals_only_itself(loop: asyncio.SelectorEventLoop) -> None:
    first, second = loop.call_soon(callback), loop.call_soon(callback)
    assert first == first
    assert first != second
    assert len({first, second, first}) == 2
    with pytest.raises(TypeError):
        first < second  # noqa: B015


def test_timer_handles_compare_by_deadline(loop: asyncio.SelectorEventLoop) -> None:
    early, late = loop.call_at(1e12, callback), loop.call_at(2e12, callback)
    assert early < late and early <= late and late > early and late >= early
    assert not (late < early or late <= early or early > late or early >= late)
    assert early != late and (early == late) is False


def test_timer_handles_are_equal_when_all_they_say_is_equal(
    loop: asyncio.SelectorEventLoop,
) -> None:
    first, second = loop.call_at(1e12, callback, 1), loop.call_at(1e12, callback, 1)
    assert first == second and (first != second) is False
    assert first <= second and first >= second
    assert not first < second and not first > second
    assert hash(first) == hash(second) == hash(1e12)
    for other in (
        loop.call_at(1e12, callback, 2),
        loop.call_at(1e12, print, 1),
        loop.call_at(2e12, callback, 1),
    ):
        assert first != other
    second.cancel()
    assert first != second
    assert not first <= second and not first >= second


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_a_timer_handle_has_no_order_against_other_things(
    loop: asyncio.SelectorEventLoop, compare: Callable[[Any, Any], bool]
) -> None:
    timer = loop.call_at(1e12, callback)
    for other in (1e12, None, "x", loop.call_soon(callback)):
        with pytest.raises(TypeError):
            compare(timer, other)
    assert timer != 1e12
    assert (timer == 1e12) is False


def test_a_timer_handle_lets_the_other_side_of_a_comparison_answer(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class Agreeable:
        def __eq__(self, other: object) -> bool:
            return True

        def __lt__(self, other: object) -> bool:
            return True

        __gt__ = __le__ = __ge__ = __lt__
        __hash__ = None

    timer = loop.call_at(1e12, callback)
    assert timer == Agreeable()
    assert timer < Agreeable() and timer >= Agreeable()


def test_native_and_stock_timer_handles_compare_with_each_other(pyloop: PyLoop) -> None:
    native = [pyloop.call_at(1e12 + offset, callback) for offset in (0, 4, 2)]
    stock = [asyncio.TimerHandle(1e12 + offset, callback, (), pyloop) for offset in (3, 1, 5)]
    ordered = sorted([*native, *stock])
    assert [handle.when() - 1e12 for handle in ordered] == [0, 1, 2, 3, 4, 5]
    heap = [*native, *stock]
    heapq.heapify(heap)
    assert heapq.heappop(heap) is native[0]
    twin = asyncio.TimerHandle(1e12, callback, (), pyloop)
    assert twin == native[0] and native[0] == twin


def test_cancel_is_idempotent_and_drops_the_references(
    loop: asyncio.SelectorEventLoop, way: str
) -> None:
    class Thing:
        def __call__(self, other: object, *more: object) -> None:
            raise AssertionError("was cancelled")

    target, argument = Thing(), Thing()
    dead = [weakref.ref(target), weakref.ref(argument)]
    first = (0,) if way in TIMERS else ()
    handle: Any = getattr(loop, way)(*first, target, argument, 1, 2, 3, 4, 5)
    del target, argument
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    assert handle._callback is None and handle._args is None
    assert [ref() for ref in dead] == [None, None]
    assert handle.cancel() is None
    assert handle.cancelled() is True
    run_one_pass(loop)


def test_cancelling_what_has_run_is_harmless(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []
    handles = [loop.call_soon(ran.append, 1), loop.call_at(0, ran.append, 2)]
    run_one_pass(loop)
    assert [handle.cancelled() for handle in handles] == [False, False]
    for handle in handles:
        handle.cancel()
        handle.cancel()
    assert [handle.cancelled() for handle in handles] == [True, True]
    loop.call_soon(ran.append, 3)
    run_one_pass(loop)
    assert ran == [1, 2, 3]


def test_cancelling_after_the_loop_was_closed_is_harmless(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    handle = schedule(loop, callback)
    loop.close()
    handle.cancel()
    assert handle.cancelled()
    assert "cancelled" in repr(handle)


def test_a_callback_may_cancel_its_own_handle_while_it_runs(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[tuple[object, ...]] = []
    handles: list[asyncio.Handle] = []

    def cancels_itself(*args: object) -> None:
        handles.pop(0).cancel()
        gc.collect()
        ran.append(args)

    handles.append(loop.call_soon(cancels_itself, object, [1], "soon"))
    handles.append(loop.call_at(0, cancels_itself, object, [1], "timer"))
    run_one_pass(loop)
    assert ran == [(object, [1], "soon"), (object, [1], "timer")]


def test_a_handle_is_weakly_referenceable(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    handle = schedule(loop, callback)
    gone: list[object] = []
    ref = weakref.ref(handle, gone.append)
    assert ref() is handle
    handle.cancel()
    del handle
    run_one_pass(loop)
    gc.collect()
    assert ref() is None
    assert len(gone) == 1


def test_a_weak_set_of_handles_works(loop: asyncio.SelectorEventLoop) -> None:
    handles = weakref.WeakSet(loop.call_soon(callback) for _ in range(10))
    assert len(handles) == 10
    run_one_pass(loop)
    gc.collect()
    assert len(handles) == 0


def test_the_loop_keeps_a_handle_alive_that_nobody_else_holds(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    refs = [
        weakref.ref(loop.call_soon(ran.append, 1)),
        weakref.ref(loop.call_later(0.001, ran.append, 2)),
    ]
    gc.collect()
    assert all(ref() is not None for ref in refs)
    loop.call_later(0.002, loop.stop)
    run_asleep(loop)
    assert ran == [1, 2]


def test_a_recycled_handle_does_not_answer_for_an_earlier_one(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    for number in range(100):
        handle = loop.call_soon(ran.append, number)
        handle.cancel()
        del handle
        fresh = loop.call_soon(ran.append, 1000 + number)
        assert fresh.cancelled() is False
        del fresh
    run_one_pass(loop)
    assert ran == list(range(1000, 1100))


def test_a_stock_handle_can_be_put_into_the_queue(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    private: Any = loop
    private._add_callback(asyncio.Handle(ran.append, ("plain",), loop))
    private._add_callback_signalsafe(asyncio.Handle(ran.append, ("signalsafe",), loop))
    cancelled = asyncio.Handle(ran.append, ("cancelled",), loop)
    cancelled.cancel()
    private._add_callback(cancelled)
    run_one_pass(loop)
    assert ran == ["plain", "signalsafe"]


def test_a_stock_handle_cancelled_in_the_queue_does_not_run(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    handle = asyncio.Handle(ran.append, ("cancelled",), loop)
    loop._add_callback(handle)
    handle.cancel()
    run_one_pass(loop)
    assert ran == []


def test_running_a_handle_by_hand_calls_the_callback_in_its_context(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    got: list[tuple[object, ...]] = []
    handle: Any = schedule(loop, lambda *args: got.append(args))
    handle._run()
    assert got == [(1, "two")]
    handle.cancel()


def test_handles_belong_to_the_loop_that_made_them(loop_factory: LoopFactory) -> None:
    first, second = loop_factory(), loop_factory()
    assert first.call_soon(callback)._loop is first
    assert second.call_later(1, callback)._loop is second
