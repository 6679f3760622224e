"""Interrupts that were lost: in chains of C callbacks, between callbacks, just before the sleep."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from support.children import expect_lines, run_program

from data_bridge.pyloop import PyLoop

# A partial whose only argument is itself: no link runs Python code.
_CHAIN = """
    import functools
    chain = functools.partial(loop.call_soon)
    chain.__setstate__((loop.call_soon, (chain,), {}, None))
    loop.call_soon(chain)
"""

_BEGIN = """
    import _thread
    import signal
    loop = new_loop()

    def interrupt(number, frame):
        raise KeyboardInterrupt
"""

_AFTER = """
    import asyncio
    say(loop.is_running())
    say(loop.run_until_complete(asyncio.sleep(0.001, 'runs again')))
    loop.close()
"""


@pytest.mark.slow
def test_interrupts_of_a_chain_of_c_callbacks_arrive_in_every_run_of_the_loop(kind: str) -> None:
    # The first interrupt left the count of callbacks until the next look at zero, and the next run
    # of the loop counted down from there, through 2**32 callbacks.
    outcome = run_program(
        kind,
        _BEGIN
        + _CHAIN
        + """
    signal.signal(signal.SIGALRM, interrupt)
    for number in range(4):
        loop.call_soon(chain)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            say(number)
    """
        + _AFTER,
        patience=8,
    )
    expect_lines(outcome, "0", "1", "2", "3", "False", "runs again")


_QUEUES = {
    "nothing else": "",
    "a far timer": "loop.call_later(3600, int)",
    "a quiet descriptor": "import socket; pair = socket.socketpair(); loop.add_reader(pair[0], int)",
    "a chain of C callbacks": _CHAIN,
    "a due timer": "loop.call_later(0, int)",
    "a replaced clock": "real = loop.time; loop.time = lambda: real(); loop.call_later(3600, int)",
    "debug mode": "loop.set_debug(True)",
}


@pytest.mark.slow
@pytest.mark.parametrize("queue", list(_QUEUES))
def test_a_signal_that_comes_between_two_callbacks_leaves_run_forever(
    kind: str, queue: str
) -> None:
    # A signal that came after the last Python code found nobody who looked: the loop went to
    # sleep on it. interrupt_main() marks the signal as come and does not look itself.
    outcome = run_program(
        kind,
        _BEGIN
        + f"""
    signal.signal(signal.SIGUSR1, interrupt)
    {_QUEUES[queue]}
    for number in range(3):
        loop.call_soon(_thread.interrupt_main, signal.SIGUSR1)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            say(number)
    """
        + _AFTER
        + """
    if 'pair' in globals():
        for end in pair:
            end.close()
    """,
        patience=8,
    )
    expect_lines(outcome, "0", "1", "2", "False", "runs again")


def test_a_second_signal_is_heard_by_the_handler_of_the_first(kind: str) -> None:
    # Two signals in quick succession: the second came while the first was on its way out of
    # run_forever, and has to break into whatever runs then, or into the next run.
    outcome = run_program(
        kind,
        _BEGIN
        + """
    heard = []

    def count(number, frame):
        heard.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, count)
    signal.signal(signal.SIGUSR2, count)
    for both in range(2):
        loop.call_soon(_thread.interrupt_main, signal.SIGUSR1)
        loop.call_soon(_thread.interrupt_main, signal.SIGUSR2)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                pass
    say([signal.Signals(number).name for number in heard])
    """
        + _AFTER,
        patience=8,
    )
    names = str(["SIGUSR1", "SIGUSR2"] * 2)
    expect_lines(outcome, names, "False", "runs again")


def test_an_iteration_runs_no_python_code_of_the_packages_own(pyloop: PyLoop) -> None:
    # An exception of a signal handler is swallowed where it hits a destructor or a weak reference's
    # callback, and leaves a loop half-way where it hits cold code: plain iterations have neither.
    seen: set[str] = set()

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and "data_bridge" in frame.f_code.co_filename:
            seen.add(frame.f_code.co_name)

    future = pyloop.create_future()
    future.add_done_callback(print)
    future.remove_done_callback(print)
    for number in range(100):
        pyloop.call_soon(int)
        pyloop.call_later(number / 100_000, int)
        pyloop.call_later(3600, int).cancel()
        pyloop.call_soon(int).cancel()
        pyloop.call_soon_threadsafe(int, "1", 10)
    pyloop.call_soon_batch([int] * 100)
    pyloop.call_later(0.01, future.cancel)
    pyloop.call_later(0.02, pyloop.stop)
    sys.setprofile(watch)
    try:
        pyloop.run_forever()
    finally:
        sys.setprofile(None)
    assert seen <= {"run_forever", "_run_forever_setup", "_run_forever_cleanup"}
    assert "run_forever" in seen
