"""Odd delays and deadlines: every kind of number, and what is not a number."""

from __future__ import annotations

import asyncio
import datetime
import math
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass, run_passes

from data_bridge.pyloop import PyLoop


class _Floatable:
    def __float__(self) -> float:
        return 0.0


class _Indexable:
    def __index__(self) -> int:
        return 0


class _Number(float):
    pass


class _Whole(int):
    pass


def test_negative_delays_are_due_and_run_in_order_of_their_deadlines(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    for delay in (-1, -3, -2, -1000, -4):
        loop.call_later(delay, ran.append, delay)
    run_one_pass(loop)
    assert ran == [-1000, -4, -3, -2, -1]


def test_a_deadline_before_the_clock_began_is_due(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[float] = []
    for when in (0, -1e9, -1e300, -math.inf, 5e-324):
        loop.call_at(when, ran.append, when)
    run_one_pass(loop)
    assert ran == [-math.inf, -1e300, -1e9, 0, 5e-324]


@pytest.mark.parametrize("delay", [math.inf, 1e300, 1e19, 2.0**63, 1e12, 10**15, 1e9])
def test_a_huge_delay_stays_pending_and_can_be_cancelled(
    loop: asyncio.SelectorEventLoop, delay: float
) -> None:
    ran: list[str] = []
    handle = loop.call_later(delay, ran.append, "never")
    absolute = loop.call_at(delay + 1e9, ran.append, "never")
    assert handle.when() >= delay
    loop.call_later(0.005, loop.stop)
    run_asleep(loop)
    assert ran == []
    assert list(loop._scheduled) and not handle.cancelled()
    handle.cancel()
    absolute.cancel()
    run_one_pass(loop)
    assert handle.cancelled() and absolute.cancelled()
    assert not list(loop._scheduled)


def test_only_huge_delays_pending_do_not_make_the_loop_busy_or_deaf(
    loop: asyncio.SelectorEventLoop,
) -> None:
    handles = [loop.call_later(delay, print) for delay in (math.inf, 1e300, 1e18)]
    waker = threading.Timer(0.02, loop.call_soon_threadsafe, (loop.stop,))
    waker.start()
    run_asleep(loop)
    waker.join()
    for handle in handles:
        handle.cancel()


def test_an_integer_too_large_for_a_float_is_an_error_at_the_call(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)
    run_one_pass(loop)


def test_a_nan_delay_runs_at_once_and_disturbs_no_order(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    loop.call_later(math.nan, ran.append, "nan")
    run_passes(loop, 2)
    assert ran == ["nan"]


def test_nan_among_other_timers_does_not_disturb_their_order(pyloop: PyLoop) -> None:
    ran: list[float] = []
    now = pyloop.time()
    handles = []
    for number in range(200):
        if number % 3 == 0:
            handles.append(pyloop.call_at(math.nan, ran.append, math.nan))
        offset = (number * 37) % 200
        handles.append(pyloop.call_at(now - 1000 + offset, ran.append, offset))
        handles.append(pyloop.call_at(now + 1000 + offset, ran.append, 1000 + offset))
    run_passes(pyloop, 3)
    numbers = [value for value in ran if value == value]
    assert numbers == list(range(200))
    assert len(ran) - len(numbers) == 67
    for handle in handles:
        handle.cancel()


def test_nan_alone_on_an_idle_loop_runs_at_once(pyloop: PyLoop) -> None:
    ran: list[str] = []
    pyloop.call_later(math.nan, ran.append, "later")
    pyloop.call_at(math.nan, ran.append, "at")
    pyloop.call_later(0.001, pyloop.stop)
    run_asleep(pyloop)
    assert sorted(ran) == ["at", "later"]


def test_a_nan_timer_can_be_cancelled(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    handle = loop.call_later(math.nan, ran.append, "nan")
    assert math.isnan(handle.when())
    handle.cancel()
    run_passes(loop, 2)
    assert ran == []


@pytest.mark.parametrize(
    "bad",
    [
        "1",
        b"1",
        "",
        [],
        (),
        {},
        object(),
        print,
        Decimal("0.5"),
        datetime.timedelta(seconds=1),
        _Floatable(),
        _Indexable(),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_a_delay_that_is_no_number_is_a_type_error_at_the_call(
    loop: asyncio.SelectorEventLoop, bad: Any
) -> None:
    with pytest.raises(TypeError):
        loop.call_later(bad, print)
    assert not list(loop._scheduled)
    run_one_pass(loop)


def test_a_delay_or_deadline_of_none_is_a_type_error_with_asyncios_text(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with pytest.raises(TypeError, match="delay must not be None"):
        loop.call_later(None, print)
    with pytest.raises(TypeError, match="when cannot be None"):
        loop.call_at(None, print)


def test_a_complex_delay_is_a_type_error_at_the_call(pyloop: PyLoop) -> None:
    # asyncio takes the sum, which is complex, and falls over it in the middle of its run.
    with pytest.raises(TypeError):
        pyloop.call_later(1j, print)
    run_one_pass(pyloop)


@pytest.mark.parametrize(
    "bad",
    ["1", b"1", [], object(), 1j, datetime.timedelta(1)],
    ids=lambda bad: type(bad).__name__,
)
def test_a_deadline_that_is_no_number_is_a_type_error_at_the_call(pyloop: PyLoop, bad: Any) -> None:
    # asyncio takes it, and its run breaks at the first comparison: there is nothing to share.
    with pytest.raises(TypeError):
        pyloop.call_at(bad, print)
    run_one_pass(pyloop)


@pytest.mark.parametrize(
    "delay",
    [0, 1, True, False, 0.0, -0.0, Fraction(1, 1000), _Number(0.001), _Whole(0)],
    ids=repr,
)
def test_every_kind_of_real_number_is_a_delay(loop: asyncio.SelectorEventLoop, delay: Any) -> None:
    before = loop.time()
    handle = loop.call_later(delay, loop.stop)
    after = loop.time()
    assert before + delay <= handle.when() <= after + delay
    if delay < 0.5:
        run_asleep(loop)
    else:
        handle.cancel()


@pytest.mark.parametrize(
    "when", [0, 5, True, 0.5, Fraction(1, 3), _Number(0.25), _Whole(7), -3], ids=repr
)
def test_every_kind_of_real_number_is_a_deadline(
    loop: asyncio.SelectorEventLoop, when: Any
) -> None:
    ran: list[Any] = []
    handle = loop.call_at(when, ran.append, when)
    assert handle.when() == when
    run_one_pass(loop)
    assert ran == [when]


def test_deadlines_of_different_kinds_are_ordered_by_value(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[Any] = []
    whens = [3, Fraction(1, 2), 2.5, True, 0, _Number(1.5), _Whole(2), Fraction(7, 2)]
    for when in whens:
        loop.call_at(when, ran.append, when)
    run_one_pass(loop)
    assert ran == sorted(whens)


def test_a_far_deadline_given_as_a_large_integer_is_exact_enough_to_wait_for(
    loop: asyncio.SelectorEventLoop,
) -> None:
    handle = loop.call_at(2**80, print)
    assert handle.when() == 2**80
    loop.call_later(0.002, loop.stop)
    run_asleep(loop)
    assert not handle.cancelled()
    handle.cancel()


def test_asyncio_sleep_takes_the_same_odd_delays(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> list[Any]:
        results = [await asyncio.sleep(delay, delay) for delay in (-1, 0, -math.inf, 1e-9)]
        for delay in (math.inf, 1e300):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(delay), 0.002)
        return results

    assert loop.run_until_complete(main()) == [-1, 0, -math.inf, 1e-9]
