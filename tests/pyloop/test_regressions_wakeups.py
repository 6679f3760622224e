"""Wake-ups that were lost: in stock mode, for hosts that step the loop, with a second waiter."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.children import expect_lines, run_program
from support.running import PATIENCE, run_asleep

from data_bridge.pyloop import PyLoop

# What a lost wake-up would be: the guard is at PATIENCE.
_SOON = PATIENCE / 2


def _from_another_thread(function: Callable[..., object], *args: object) -> None:
    """Have it done there, completely, before this returns."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def _once(action: Callable[[], object]) -> Callable[[], None]:
    left = [action]

    def first_time_only() -> None:
        if left:
            left.pop()()

    return first_time_only


def test_work_that_comes_before_a_replaced_select_waits_is_not_lost(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio looks whether anything is ready, then calls select; in stock mode the loop announced its
    # sleep only inside the real select, and looked for work only in its native queue.
    private: Any = loop
    real = private._selector.select
    send = _once(lambda: _from_another_thread(loop.call_soon_threadsafe, loop.stop))

    def select(timeout: float | None = None) -> Any:
        send()
        return real(timeout)

    private._selector.select = select
    begun = time.monotonic()
    run_asleep(loop)
    assert time.monotonic() - begun < _SOON
    del private._selector.select


def test_work_that_comes_while_a_replaced_clock_is_read_is_not_lost(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio asks the clock how long it may sleep after it has found nothing ready: what comes
    # there was put into asyncio's deque, where the sleeper did not look.
    patched: Any = loop
    real = loop.time
    armed = False
    send = _once(lambda: _from_another_thread(loop.call_soon_threadsafe, loop.stop))

    def clock() -> float:
        if armed:
            send()
        return real()

    patched.time = clock
    guard = loop.call_later(PATIENCE, loop.stop)
    armed = True
    begun = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - begun < _SOON
    guard.cancel()
    del patched.time


def test_work_that_comes_before_a_replaced_run_once_waits_is_not_lost(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # An iteration of somebody else's, as nest_asyncio's, waits by the façade's select: that has
    # to return at once when something is ready that came before it, as asyncio's self-pipe has it.
    private: Any = loop
    send = _once(lambda: _from_another_thread(loop.call_soon_threadsafe, loop.stop))

    def run_once() -> None:
        send()
        private._process_events(private._selector.select(PATIENCE))
        for _ in range(len(private._ready)):
            handle = private._ready.popleft()
            if not handle._cancelled:
                handle._run()

    private._run_once = run_once
    begun = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - begun < _SOON
    del private._run_once


@pytest.mark.slow
@pytest.mark.parametrize("replaced", ["_run_once", "time"])
def test_a_thousand_pings_from_a_thread_reach_a_loop_with_a_replaced_part(
    loop: asyncio.SelectorEventLoop, replaced: str
) -> None:
    # The three tests above hit the known places; this one hits whatever place the threads find,
    # with turns as short as they can be.
    patched: Any = loop
    original = getattr(loop, replaced)
    setattr(patched, replaced, lambda: original())
    late: list[int] = []

    def ping() -> None:
        try:
            for number in range(1000):
                heard = threading.Event()
                loop.call_soon_threadsafe(heard.set)
                if not heard.wait(2):
                    late.append(number)
                    break
        finally:
            loop.call_soon_threadsafe(loop.stop)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=ping)
        thread.start()
        loop.run_forever()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    delattr(patched, replaced)
    assert late == []


@pytest.mark.parametrize("replaced", [None, "time"], ids=["plain mode", "stock mode"])
def test_a_host_that_steps_the_loop_is_woken_by_other_threads(
    loop: asyncio.SelectorEventLoop, replaced: str | None
) -> None:
    # Who calls _run_once() runs the loop without run_forever: the loop had no owner then, so
    # work of other threads counted as the owner's and woke nobody.
    private: Any = loop
    if replaced:
        original = getattr(loop, replaced)
        setattr(private, replaced, lambda: original())
    served: list[int] = []
    guard = loop.call_later(PATIENCE, int)
    begun = time.monotonic()
    for number in range(3):
        timer = threading.Timer(0.03, loop.call_soon_threadsafe, (served.append, number))
        timer.start()
        while len(served) <= number and time.monotonic() - begun < _SOON:
            private._run_once()
        timer.join()
    assert time.monotonic() - begun < _SOON
    assert served == [0, 1, 2]
    guard.cancel()
    if replaced:
        delattr(private, replaced)


# asyncio lets any number of threads wait on its selector. PyLoop's buffer of events has one user at a time.

_TWO_WAITERS = """
    import threading
    import time
    loop = new_loop()

    def refused(work, *args):
        try:
            work(*args)
        except RuntimeError as error:
            return 'refused: ' + str(bool(str(error)))
        return 'let in'

    cpu = time.process_time()
"""

_STILL_FIT = """
    say('idle' if time.process_time() - cpu < 0.2 else 'spun')
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    say('runs')
    loop.close()
"""


@pytest.mark.slow
def test_a_loop_that_starts_while_another_thread_waits_in_its_selector_is_refused() -> None:
    # The buffer of events was away with the first waiter, and without it a wait returned at
    # once with nothing: the loop spun instead of sleeping.
    outcome = run_program(
        "pyloop",
        _TWO_WAITERS
        + """
    thread = threading.Thread(target=loop._selector.select, args=(0.4,))
    thread.start()
    time.sleep(0.1)
    say(refused(loop.run_forever))
    thread.join()
    """
        + _STILL_FIT,
        patience=8,
    )
    expect_lines(outcome, "refused: True", "idle", "runs")


@pytest.mark.slow
def test_a_thread_that_waits_in_the_selector_of_a_sleeping_loop_is_refused() -> None:
    # The other way round: the second waiter got nothing at once, and whoever polls in a loop of his
    # own spun; the sleeping loop must not notice.
    outcome = run_program(
        "pyloop",
        _TWO_WAITERS
        + """
    def other():
        time.sleep(0.1)
        say(refused(loop._selector.select, 0.2))
        loop.call_soon_threadsafe(loop.stop)
    thread = threading.Thread(target=other)
    thread.start()
    loop.run_forever()
    thread.join()
    """
        + _STILL_FIT,
        patience=8,
    )
    expect_lines(outcome, "refused: True", "idle", "runs")


def test_a_callback_may_poll_the_selector_of_its_own_running_loop(pyloop: PyLoop) -> None:
    # Between two waits the buffer is at home: a callback that looks what is ready is no second
    # waiter and must not be taken for one.
    seen: list[Any] = []
    pyloop.call_soon(lambda: seen.append(pyloop._selector.select(0)))  # type: ignore[union-attr]
    pyloop.call_later(0.005, pyloop.stop)
    run_asleep(pyloop)
    assert seen == [[]]
