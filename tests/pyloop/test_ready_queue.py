"""The ready queue: call_soon and its order against everything else that becomes ready."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass, run_passes


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_callbacks_run_in_the_order_they_were_queued(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    run_one_pass(loop)
    assert ran == list(range(1000))


def test_call_soon_does_not_run_the_callback_at_once(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    assert ran == []
    run_one_pass(loop)
    assert ran == [1]


@pytest.mark.parametrize("count", range(8))
def test_every_number_of_arguments_arrives(loop: asyncio.SelectorEventLoop, count: int) -> None:
    got: list[tuple[Any, ...]] = []
    sent = tuple(object() for _ in range(count))

    def callback(*args: Any) -> None:
        got.append(args)

    loop.call_soon(callback, *sent)
    loop.call_soon_threadsafe(callback, *sent)
    loop.call_later(0, callback, *sent)
    loop.call_at(0, callback, *sent)
    run_one_pass(loop)
    run_one_pass(loop)
    assert got == [sent] * 4


def test_a_callback_queued_by_a_callback_waits_for_the_next_pass(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "from first")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["first", "second"]
    run_one_pass(loop)
    assert ran == ["first", "second", "from first"]


def test_call_soon_and_call_soon_threadsafe_share_one_order(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    for number in range(100):
        (loop.call_soon if number % 3 else loop.call_soon_threadsafe)(ran.append, number)
    run_one_pass(loop)
    assert ran == list(range(100))


def test_the_two_share_one_order_from_within_a_callback_too(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []

    def queue() -> None:
        for number in range(100):
            (loop.call_soon if number % 3 else loop.call_soon_threadsafe)(ran.append, number)

    loop.call_soon(queue)
    run_passes(loop, 3)
    assert ran == list(range(100))


def test_a_cancelled_callback_does_not_run_and_the_others_keep_their_order(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    handles = [loop.call_soon(ran.append, number) for number in range(10)]
    for number in (0, 3, 4, 9):
        handles[number].cancel()
    run_one_pass(loop)
    assert ran == [1, 2, 5, 6, 7, 8]


def test_a_callback_can_cancel_one_behind_it_in_the_same_pass(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    handles: list[asyncio.Handle] = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "cancelled"))
    loop.call_soon(ran.append, "kept")
    run_one_pass(loop)
    assert ran == ["kept"]


def test_a_ready_descriptor_is_served_within_two_sleeps_of_zero(
    loop: asyncio.SelectorEventLoop, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe

    async def main() -> list[bytes]:
        got: list[bytes] = []
        loop.add_reader(reading, lambda: got.append(os.read(reading, 10)))
        # Some passes with nothing to see first: the loop must not have grown lazy.
        for _ in range(50):
            await asyncio.sleep(0)
        os.write(writing, b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.remove_reader(reading)
        return got

    assert loop.run_until_complete(main()) == [b"x"]


def test_a_descriptor_registered_when_already_ready_is_served_within_two_sleeps_of_zero(
    loop: asyncio.SelectorEventLoop, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe

    async def main() -> int:
        served: list[None] = []
        for _ in range(50):
            await asyncio.sleep(0)
        loop.add_writer(writing, served.append, None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.remove_writer(writing)
        return len(served)

    assert loop.run_until_complete(main()) >= 1


def test_call_later_of_zero_is_served_within_two_sleeps_of_zero(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> int:
        served = 0
        for _ in range(100):
            ran: list[None] = []
            loop.call_later(0, ran.append, None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            served += len(ran)
        return served

    assert loop.run_until_complete(main()) == 100


def test_a_busy_chain_of_callbacks_starves_neither_timers_nor_descriptors(
    loop: asyncio.SelectorEventLoop, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    seen: list[str] = []

    def chain() -> None:
        if len(seen) < 2:
            loop.call_soon(chain)
        else:
            loop.stop()

    def readable() -> None:
        os.read(reading, 10)
        seen.append("descriptor")

    loop.add_reader(reading, readable)
    loop.call_later(0.005, seen.append, "timer")
    loop.call_later(0.002, os.write, writing, b"x")
    loop.call_soon(chain)
    run_asleep(loop)
    loop.remove_reader(reading)
    assert sorted(seen) == ["descriptor", "timer"]


def test_a_pass_runs_only_what_was_ready_when_it_began(loop: asyncio.SelectorEventLoop) -> None:
    depth: list[int] = []

    def spawn(level: int) -> None:
        depth.append(level)
        for _ in range(2):
            loop.call_soon(spawn, level + 1)

    loop.call_soon(spawn, 0)
    for level in range(6):
        run_one_pass(loop)
        assert depth == [lv for lv in range(level + 1) for _ in range(2**lv)]


def test_a_hundred_thousand_queued_callbacks_all_run_in_order(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    for number in range(100_000):
        loop.call_soon(ran.append, number)
    run_one_pass(loop)
    assert ran == list(range(100_000))


def test_the_queue_grows_while_it_runs(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []

    def queue_many(start: int) -> None:
        for number in range(start, start + 5000):
            loop.call_soon(ran.append, number)

    loop.call_soon(queue_many, 0)
    loop.call_soon(queue_many, 5000)
    run_passes(loop, 3)
    assert ran == list(range(10_000))


def test_keyword_arguments_other_than_context_are_refused(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for call in (loop.call_soon, loop.call_soon_threadsafe):
        with pytest.raises(TypeError):
            call(print, sep="")
    with pytest.raises(TypeError):
        loop.call_later(0, print, sep="")
    with pytest.raises(TypeError):
        loop.call_at(0, print, sep="")


def test_a_missing_callback_is_a_type_error(loop: asyncio.SelectorEventLoop) -> None:
    for call, args in (
        (loop.call_soon, ()),
        (loop.call_soon_threadsafe, ()),
        (loop.call_later, (1,)),
        (loop.call_at, (1,)),
        (loop.call_later, ()),
        (loop.call_at, ()),
    ):
        with pytest.raises(TypeError):
            call(*args)


def test_callback_can_be_passed_by_keyword(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    loop.call_soon(callback=functools.partial(ran.append, "soon"))
    loop.call_soon_threadsafe(callback=functools.partial(ran.append, "threadsafe"))
    loop.call_later(delay=0, callback=functools.partial(ran.append, "later"))
    loop.call_at(when=0, callback=functools.partial(ran.append, "at"))
    run_one_pass(loop)
    run_one_pass(loop)
    assert sorted(ran) == ["at", "later", "soon", "threadsafe"]
