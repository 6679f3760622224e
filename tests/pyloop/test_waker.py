"""Waking: callbacks from other threads, none lost, in order, into a loop asleep, busy or closing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import PATIENCE, run_asleep, run_one_pass, run_until, spin

from data_bridge.pyloop import PyLoop


def _in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def _wait_until_asleep(loop: asyncio.SelectorEventLoop) -> None:
    """From another thread: give the running loop time to go to sleep."""
    # There is no event for "is in its poll"; a few milliseconds of nothing to do are enough, and a
    # loop not yet asleep only makes the test easier.
    time.sleep(0.01)


def test_a_callback_from_another_thread_wakes_a_sleeping_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran_on: list[int] = []

    def other() -> None:
        _wait_until_asleep(loop)
        loop.call_soon_threadsafe(lambda: (ran_on.append(threading.get_ident()), loop.stop()))

    thread = _in_thread(other)
    run_asleep(loop)
    thread.join()
    assert ran_on == [threading.get_ident()]


def test_stop_from_another_thread_through_threadsafe_ends_the_sleep(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for _ in range(20):
        thread = _in_thread(lambda: loop.call_soon_threadsafe(loop.stop))
        run_asleep(loop)
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("load", ["idle", "busy"])
def test_eight_threads_lose_nothing_and_each_keeps_its_order(
    loop: asyncio.SelectorEventLoop, load: str
) -> None:
    each = 2000
    arrived: list[tuple[int, int]] = []

    def send(sender: int) -> None:
        for number in range(each):
            loop.call_soon_threadsafe(arrived.append, (sender, number))
            if number % 500 == 499:
                time.sleep(0.001)

    def busy() -> None:
        if len(arrived) < 8 * each:
            loop.call_soon(busy)

    if load == "busy":
        loop.call_soon(busy)
    threads = [_in_thread(lambda sender=sender: send(sender)) for sender in range(8)]
    ender = _in_thread(
        lambda: ([thread.join() for thread in threads], loop.call_soon_threadsafe(loop.stop))
    )
    run_asleep(loop)
    ender.join()
    assert len(arrived) == 8 * each
    for sender in range(8):
        assert [number for who, number in arrived if who == sender] == list(range(each))


def test_ping_pong_between_a_thread_and_a_sleeping_loop_never_stalls(
    loop: asyncio.SelectorEventLoop,
) -> None:
    rounds = 300
    turn = threading.Semaphore(0)
    answered: list[int] = []

    def answer(number: int) -> None:
        answered.append(number)
        turn.release()

    def other() -> None:
        for number in range(rounds):
            loop.call_soon_threadsafe(answer, number)
            assert turn.acquire(timeout=PATIENCE)
        loop.call_soon_threadsafe(loop.stop)

    thread = _in_thread(other)
    run_asleep(loop)
    thread.join()
    assert answered == list(range(rounds))


def test_a_callback_queued_by_a_thread_during_a_callback_runs_in_the_next_pass(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []

    def callback() -> None:
        thread = _in_thread(lambda: loop.call_soon_threadsafe(ran.append, "from thread"))
        thread.join()
        ran.append("callback")
        loop.call_soon(ran.append, "after")

    loop.call_soon(callback)
    run_one_pass(loop)
    assert ran == ["callback"]
    run_one_pass(loop)
    assert ran == ["callback", "from thread", "after"]


def test_a_busy_chain_of_callbacks_hears_other_threads(loop: asyncio.SelectorEventLoop) -> None:
    heard: list[None] = []

    def chain() -> None:
        if not heard:
            loop.call_soon(chain)
        else:
            loop.stop()

    loop.call_soon(chain)
    thread = _in_thread(lambda: loop.call_soon_threadsafe(heard.append, None))
    run_asleep(loop)
    thread.join()
    assert heard == [None]


def test_a_busy_chain_of_callbacks_lets_other_threads_run(
    loop: asyncio.SelectorEventLoop,
) -> None:
    counted = 0
    enough = threading.Event()

    def count() -> None:
        nonlocal counted
        for counted in range(1, 50):  # noqa: B007
            time.sleep(0)
        enough.set()

    thread = threading.Thread(target=count)
    loop.call_soon(thread.start)
    run_until(loop, enough.is_set)
    thread.join()
    assert counted == 49


def test_an_exception_in_a_callback_from_a_thread_is_handled_in_the_loop(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    thread = _in_thread(lambda: loop.call_soon_threadsafe(fail))
    thread.join()
    run_one_pass(loop)
    assert [type(context["exception"]) for context in unhandled] == [ZeroDivisionError]
    unhandled.clear()


def test_a_callback_from_a_thread_can_be_cancelled_from_it(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []

    def other() -> None:
        handle = loop.call_soon_threadsafe(ran.append, "cancelled")
        handle.cancel()
        loop.call_soon_threadsafe(ran.append, "kept")

    _in_thread(other).join()
    run_one_pass(loop)
    assert ran == ["kept"]


def test_call_soon_from_a_wrong_thread_arrives(pyloop: PyLoop) -> None:
    # asyncio calls this undefined (a sleeping loop is not woken); PyLoop must be safe and serve it.
    arrived: list[int] = []
    threads = []

    def send(base: int) -> None:
        for number in range(500):
            pyloop.call_soon(arrived.append, base + number)

    def finish() -> None:
        for thread in threads:
            thread.join()
        _wait_until_asleep(pyloop)
        pyloop.call_soon(pyloop.stop)

    for sender in range(4):
        threads.append(_in_thread(lambda base=sender * 500: send(base)))
    ender = _in_thread(finish)
    run_asleep(pyloop)
    ender.join()
    assert sorted(arrived) == list(range(2000))


def test_timers_from_a_wrong_thread_are_safe_and_fire(pyloop: PyLoop) -> None:
    fired: list[int] = []
    started = threading.Event()
    done = threading.Event()

    def send() -> None:
        started.wait(PATIENCE)
        _wait_until_asleep(pyloop)
        handles = [pyloop.call_later(0.001, fired.append, number) for number in range(200)]
        for handle in handles[::2]:
            handle.cancel()
        pyloop.call_at(0, fired.append, -1)
        done.set()

    pyloop.call_soon(started.set)
    thread = _in_thread(send)
    pyloop.call_soon(_stop_when, pyloop, lambda: done.is_set() and len(fired) == 101)
    run_asleep(pyloop)
    thread.join()
    assert sorted(fired) == [-1, *range(1, 200, 2)]


def _stop_when(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    if condition():
        loop.stop()
    else:
        loop.call_later(0.001, _stop_when, loop, condition)


@pytest.mark.slow
def test_closing_while_threads_schedule_is_safe(loop_factory: LoopFactory) -> None:
    problems: list[BaseException] = []
    for _ in range(10):
        loop = loop_factory()
        closed = threading.Event()
        counts = [0, 0, 0]

        def send(slot: int) -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(print)  # noqa: B023
                    counts[slot] += 1  # noqa: B023
            except RuntimeError as error:
                if str(error) != "Event loop is closed" or not closed.wait(PATIENCE):  # noqa: B023
                    problems.append(error)
            except BaseException as error:
                problems.append(error)

        threads = [_in_thread(lambda slot=slot: send(slot)) for slot in range(3)]
        while not all(counts):
            time.sleep(0)
        loop.close()
        closed.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert problems == []


def test_many_wake_ups_leave_no_stale_one_behind(loop: asyncio.SelectorEventLoop) -> None:
    for _ in range(1000):
        loop.call_soon_threadsafe(int)
    run_one_pass(loop)
    run_one_pass(loop)
    begun, cpu = time.monotonic(), time.process_time()
    loop.call_later(0.01, loop.stop)
    run_asleep(loop)
    assert time.monotonic() - begun >= 0.01
    assert time.process_time() - cpu < 0.009


def test_two_loops_in_two_threads_talk_to_each_other(loop_factory: LoopFactory) -> None:
    loops = [loop_factory(), loop_factory()]
    finished = threading.Event()
    hops: list[int] = []

    def hop(left: int) -> None:
        hops.append(left)
        if left:
            loops[left % 2].call_soon_threadsafe(hop, left - 1)
        else:
            finished.set()

    threads = [_in_thread(loop.run_forever) for loop in loops]
    loops[0].call_soon_threadsafe(hop, 400)
    assert finished.wait(PATIENCE)
    for loop in loops:
        loop.call_soon_threadsafe(loop.stop)
    for thread in threads:
        thread.join()
    assert hops == list(range(400, -1, -1))


def test_run_coroutine_threadsafe_brings_result_exception_and_cancellation(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def result() -> str:
        await asyncio.sleep(0.001)
        return "result"

    async def failure() -> None:
        raise ZeroDivisionError("over there")

    thread = _in_thread(loop.run_forever)
    try:
        assert asyncio.run_coroutine_threadsafe(result(), loop).result(PATIENCE) == "result"
        with pytest.raises(ZeroDivisionError, match="over there"):
            asyncio.run_coroutine_threadsafe(failure(), loop).result(PATIENCE)
        endless = asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop)
        assert endless.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            endless.result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_run_in_executor_runs_elsewhere_and_wakes_the_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> list[int]:
        threads = await asyncio.gather(
            *(loop.run_in_executor(None, threading.get_ident) for _ in range(5))
        )
        await loop.shutdown_default_executor()
        return threads

    assert threading.get_ident() not in loop.run_until_complete(main())


def test_run_in_executor_brings_exceptions(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert await loop.run_in_executor(pool, int, "7") == 7
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_to_thread_keeps_the_context(loop: asyncio.SelectorEventLoop) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def main() -> str:
        variable.set("set")
        seen = await asyncio.to_thread(variable.get)
        await loop.shutdown_default_executor()
        return seen

    assert loop.run_until_complete(main()) == "set"


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="3.12 has the time-out but waits all the same"
)
def test_shutting_the_executor_down_obeys_its_time_out(loop: asyncio.SelectorEventLoop) -> None:
    release = threading.Event()

    async def main() -> None:
        stuck = loop.run_in_executor(None, release.wait, PATIENCE)
        await asyncio.sleep(0)
        with pytest.warns(RuntimeWarning, match="did not finishing joining its threads"):
            await loop.shutdown_default_executor(timeout=0.01)
        assert not stuck.done()
        release.set()
        assert await stuck is True

    try:
        loop.run_until_complete(main())
    finally:
        release.set()


def test_a_slow_callback_does_not_lose_the_wake_up_that_comes_meanwhile(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for _ in range(5):
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
        loop.call_soon(thread.start)
        loop.call_soon(spin, 0.003)
        run_asleep(loop)
        thread.join()
