"""The clock: the loop's time is the monotonic clock, read when it is asked for."""

from __future__ import annotations

import asyncio
import time

from support.running import run_one_pass, spin


def test_time_is_a_float_of_the_monotonic_clock(loop: asyncio.SelectorEventLoop) -> None:
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert type(now) is float
    assert before <= now <= after


def test_time_never_goes_back(loop: asyncio.SelectorEventLoop) -> None:
    readings = [loop.time() for _ in range(10_000)]
    assert readings == sorted(readings)


def test_time_moves_on_within_one_callback(loop: asyncio.SelectorEventLoop) -> None:
    readings: list[float] = []

    def callback() -> None:
        readings.append(loop.time())
        spin(0.003)
        readings.append(loop.time())

    loop.call_soon(callback)
    run_one_pass(loop)
    assert readings[1] - readings[0] >= 0.003


def test_call_later_counts_from_now_and_not_from_the_beginning_of_the_pass(
    loop: asyncio.SelectorEventLoop,
) -> None:
    gaps: list[float] = []

    def callback() -> None:
        spin(0.005)
        asked = time.monotonic()
        loop.call_later(0.002, lambda: (gaps.append(time.monotonic() - asked), loop.stop()))

    loop.call_soon(callback)
    loop.run_forever()
    assert gaps[0] >= 0.002


def test_time_has_a_finer_grain_than_a_millisecond(loop: asyncio.SelectorEventLoop) -> None:
    end = time.monotonic() + 0.002
    readings = set()
    while time.monotonic() < end:
        readings.add(loop.time())
    assert len(readings) > 10


def test_time_can_be_read_on_a_closed_loop(loop: asyncio.SelectorEventLoop) -> None:
    loop.close()
    assert abs(loop.time() - time.monotonic()) < 5


def test_the_clock_resolution_is_a_small_positive_number(loop: asyncio.SelectorEventLoop) -> None:
    assert 0 < loop._clock_resolution <= 0.02
