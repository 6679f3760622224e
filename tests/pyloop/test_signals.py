"""Signals: handlers of the loop, handlers of the program, and who owns the wake-up descriptor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_asleep, run_one_pass, run_passes, run_until

from data_bridge.pyloop import PyLoop

SIGNAL = signal.SIGUSR1
OTHER = signal.SIGUSR2


@pytest.fixture
def python_handler() -> Iterator[list[int]]:
    """An ordinary signal.signal handler for SIGUSR1; what it saw."""
    seen: list[int] = []
    before = signal.signal(SIGNAL, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(SIGNAL, before)


def _send_later(delay: float, number: int = SIGNAL) -> threading.Thread:
    thread = threading.Timer(delay, os.kill, (os.getpid(), number))
    thread.start()
    return thread


def test_a_handler_of_the_loop_wakes_it_and_gets_its_arguments(
    loop: asyncio.SelectorEventLoop,
) -> None:
    got: list[tuple[int, ...]] = []
    loop.add_signal_handler(SIGNAL, lambda *args: (got.append(args), loop.stop()), 1, 2)
    sender = _send_later(0.01)
    run_asleep(loop)
    sender.join()
    assert got == [(1, 2)]
    assert loop.remove_signal_handler(SIGNAL) is True
    assert loop.remove_signal_handler(SIGNAL) is False
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL


def test_a_handler_of_the_loop_runs_on_a_busy_loop(loop: asyncio.SelectorEventLoop) -> None:
    got: list[int] = []
    loop.add_signal_handler(SIGNAL, got.append, 1)
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    run_until(loop, lambda: got)
    loop.remove_signal_handler(SIGNAL)
    assert got == [1]


def test_a_signal_that_comes_while_the_loop_does_not_run_is_delivered_when_it_runs(
    loop: asyncio.SelectorEventLoop,
) -> None:
    got: list[int] = []
    loop.add_signal_handler(SIGNAL, got.append, 1)
    os.kill(os.getpid(), SIGNAL)
    time.sleep(0)
    assert got == []
    run_passes(loop, 3)
    assert got == [1]
    loop.remove_signal_handler(SIGNAL)


def test_a_signal_handler_replaces_the_one_before(loop: asyncio.SelectorEventLoop) -> None:
    got: list[str] = []
    loop.add_signal_handler(SIGNAL, got.append, "old")
    loop.add_signal_handler(SIGNAL, got.append, "new")
    os.kill(os.getpid(), SIGNAL)
    run_passes(loop, 3)
    assert got == ["new"]
    loop.remove_signal_handler(SIGNAL)


def test_two_signals_reach_their_own_handlers(loop: asyncio.SelectorEventLoop) -> None:
    got: list[str] = []
    loop.add_signal_handler(SIGNAL, got.append, "one")
    loop.add_signal_handler(OTHER, got.append, "two")
    os.kill(os.getpid(), SIGNAL)
    os.kill(os.getpid(), OTHER)
    run_passes(loop, 3)
    assert sorted(got) == ["one", "two"]
    loop.remove_signal_handler(SIGNAL)
    os.kill(os.getpid(), OTHER)
    run_passes(loop, 3)
    assert sorted(got) == ["one", "two", "two"]
    loop.remove_signal_handler(OTHER)


def test_removing_the_handler_of_sigint_brings_the_interrupt_back(
    loop: asyncio.SelectorEventLoop,
) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGINT, got.append, 1)
    os.kill(os.getpid(), signal.SIGINT)
    run_passes(loop, 3)
    assert got == [1]
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_closing_the_loop_removes_its_handlers(loop: asyncio.SelectorEventLoop) -> None:
    loop.add_signal_handler(SIGNAL, print)
    loop.add_signal_handler(OTHER, print)
    loop.close()
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    assert signal.getsignal(OTHER) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_an_exception_in_a_handler_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    loop.add_signal_handler(SIGNAL, lambda: 1 / 0)
    os.kill(os.getpid(), SIGNAL)
    run_passes(loop, 3)
    assert [type(report["exception"]) for report in unhandled] == [ZeroDivisionError]
    unhandled.clear()
    loop.remove_signal_handler(SIGNAL)


def test_exit_from_a_handler_leaves_the_loop(loop: asyncio.SelectorEventLoop) -> None:
    loop.add_signal_handler(SIGNAL, sys.exit, 3)
    sender = _send_later(0.005)
    with pytest.raises(SystemExit):
        run_asleep(loop)
    sender.join()
    loop.remove_signal_handler(SIGNAL)
    run_one_pass(loop)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (1000, ValueError),
        (2**40, ValueError),
        ("SIGUSR1", TypeError),
        (None, TypeError),
        (1.5, TypeError),
        (signal.SIGKILL, RuntimeError),
        (signal.SIGSTOP, RuntimeError),
    ],
    ids=repr,
)
def test_a_wrong_signal_is_asyncios_error_at_the_call(
    loop: asyncio.SelectorEventLoop, number: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        loop.add_signal_handler(number, print)
    if error is not RuntimeError:
        with pytest.raises(error):
            loop.remove_signal_handler(number)
    assert signal.set_wakeup_fd(-1) == -1


def test_coroutines_are_no_signal_handlers(loop: asyncio.SelectorEventLoop) -> None:
    async def function() -> None:
        pass

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(SIGNAL, function)


def test_another_thread_cannot_add_a_handler(loop: asyncio.SelectorEventLoop) -> None:
    errors: list[type[BaseException]] = []

    def attempt() -> None:
        try:
            loop.add_signal_handler(SIGNAL, print)
        except Exception as error:
            errors.append(type(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert errors == [RuntimeError]


def test_a_closed_loop_takes_no_handler(loop: asyncio.SelectorEventLoop) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.add_signal_handler(SIGNAL, print)


# Handlers of the program, beside the loop


def test_a_python_handler_runs_promptly_while_the_loop_sleeps(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    delays: list[float] = []

    def other() -> None:
        for _ in range(3):
            time.sleep(0.01)
            before = len(python_handler)
            sent = time.monotonic()
            os.kill(os.getpid(), SIGNAL)
            while len(python_handler) == before and time.monotonic() - sent < 5:
                time.sleep(0.0005)
            delays.append(time.monotonic() - sent)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    run_asleep(loop, 20)
    thread.join()
    assert python_handler == [SIGNAL] * 3
    assert min(delays) < 0.5


def test_a_python_handler_does_not_end_the_sleep_of_the_loop(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    sender = _send_later(0.005)
    begun = time.monotonic()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    sender.join()
    assert time.monotonic() - begun >= 0.02
    assert python_handler == [SIGNAL]


def test_a_python_handler_may_schedule_and_wake_the_loop_it_interrupted(
    loop: asyncio.SelectorEventLoop,
) -> None:
    before = signal.signal(SIGNAL, lambda *_: loop.call_soon_threadsafe(loop.stop))
    try:
        sender = _send_later(0.005)
        run_asleep(loop)
        sender.join()
    finally:
        signal.signal(SIGNAL, before)


def test_an_exception_in_a_python_handler_leaves_run_forever(
    loop: asyncio.SelectorEventLoop,
) -> None:
    def raises(*_: object) -> None:
        raise LookupError("from the handler")

    before = signal.signal(SIGNAL, raises)
    try:
        sender = _send_later(0.005)
        with pytest.raises(LookupError, match="from the handler"):
            run_asleep(loop)
        sender.join()
    finally:
        signal.signal(SIGNAL, before)
    assert not loop.is_running()
    run_one_pass(loop)


def test_a_python_handler_runs_between_callbacks_of_a_busy_loop(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    loop.call_soon(os.kill, os.getpid(), SIGNAL)
    run_until(loop, lambda: python_handler)
    assert python_handler == [SIGNAL]


# The wake-up descriptor


def test_the_wake_up_descriptor_is_free_before_between_and_after_handlers(
    loop: asyncio.SelectorEventLoop,
) -> None:
    run_one_pass(loop)
    assert signal.set_wakeup_fd(-1) == -1
    loop.add_signal_handler(SIGNAL, print)
    loop.remove_signal_handler(SIGNAL)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_wake_up_descriptor_set_by_the_program_survives_the_loop(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        signal.set_wakeup_fd(near.fileno())
        try:
            sender = _send_later(0.005)
            loop.call_later(0.02, loop.stop)
            run_asleep(loop)
            sender.join()
            assert python_handler == [SIGNAL]
            assert far.recv(10) == bytes([SIGNAL])
        finally:
            assert signal.set_wakeup_fd(-1) == near.fileno()


def test_a_wake_up_descriptor_can_be_the_loops_own_reader(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        signal.set_wakeup_fd(near.fileno())
        try:
            loop.add_reader(far, loop.stop)
            sender = _send_later(0.005)
            run_asleep(loop)
            sender.join()
            assert python_handler == [SIGNAL]
        finally:
            signal.set_wakeup_fd(-1)
            loop.remove_reader(far)


def test_two_loops_take_turns_with_the_same_signal(loop_factory: LoopFactory) -> None:
    first, second = loop_factory(), loop_factory()
    for loop in (first, second, first):
        got: list[int] = []
        loop.add_signal_handler(SIGNAL, got.append, 1)
        os.kill(os.getpid(), SIGNAL)
        run_passes(loop, 3)
        assert got == [1]
        loop.remove_signal_handler(SIGNAL)


def test_add_and_remove_a_thousand_times_leaves_nothing(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for _ in range(1000):
        loop.add_signal_handler(SIGNAL, print)
        assert loop.remove_signal_handler(SIGNAL) is True
    assert signal.set_wakeup_fd(-1) == -1


def test_a_burst_of_signals_calls_the_handler_at_least_once_and_the_loop_lives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    got: list[int] = []
    loop.add_signal_handler(SIGNAL, got.append, 1)
    for _ in range(200):
        os.kill(os.getpid(), SIGNAL)
    run_until(loop, lambda: got)
    run_passes(loop, 5)
    assert 1 <= len(got) <= 200
    loop.remove_signal_handler(SIGNAL)


def test_a_loop_in_a_second_thread_is_not_disturbed_by_signals_to_the_program(
    loop: asyncio.SelectorEventLoop, python_handler: list[int]
) -> None:
    ran: list[str] = []
    thread = threading.Thread(target=run_asleep, args=(loop,))
    loop.call_later(0.02, ran.append, "timer")
    loop.call_later(0.021, loop.stop)
    thread.start()
    signal.pthread_kill(thread.ident or 0, SIGNAL)
    thread.join()
    assert ran == ["timer"]
    assert python_handler == [SIGNAL]


def test_a_cancelled_handle_of_a_signal_is_removed_when_it_comes(pyloop: PyLoop) -> None:
    private: Any = pyloop
    got: list[int] = []
    pyloop.add_signal_handler(SIGNAL, got.append, 1)
    private._signal_handlers[SIGNAL].cancel()
    os.kill(os.getpid(), SIGNAL)
    run_passes(pyloop, 3)
    assert got == []
    assert pyloop.remove_signal_handler(SIGNAL) is False
