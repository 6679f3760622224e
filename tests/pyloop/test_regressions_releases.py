"""What is let go of: long chains at once, handles whose release changes the loop, a second set-up."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from support.children import expect_lines, run_program
from support.running import run_asleep

from data_bridge.pyloop import PyLoop, _native

# Chains


_LINKS = {
    "timers": "loop.call_later(1000, print, handle)",
    "callbacks": "loop.call_soon(print, handle)",
    "timers with many arguments": "loop.call_later(1000, print, 1, 2, 3, 4, 5, handle)",
    "callbacks of both kinds": "(loop.call_soon if i % 2 else loop.call_soon_threadsafe)(print, handle)",
}

_RELEASES = {
    "closing the loop": "loop.close()",
    "clearing the queues": "loop._ready.clear(); loop._scheduled.clear()",
    "cancelling the last": "handle.cancel(); loop.close()",
}


@pytest.mark.slow
@pytest.mark.parametrize("release", list(_RELEASES))
@pytest.mark.parametrize("link", list(_LINKS))
def test_a_long_chain_of_handles_is_released_without_overflowing_the_stack(
    kind: str, link: str, release: str
) -> None:
    # Each handle is an argument of the next: releasing the last releases them all, each inside the
    # release of the one after it. asyncio's tuples count how deep they are and put the rest off.
    outcome = run_program(
        kind,
        f"""
    loop = new_loop()
    handle = None
    for i in range(300000):
        handle = {_LINKS[link]}
    {_RELEASES[release]}
    say('let go')
    del handle
    say('alive')
    loop.close()
    """,
    )
    expect_lines(outcome, "let go", "alive")


# Handles whose release changes what is watched


class _Calls:
    """Calls a function when it dies."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __del__(self) -> None:
        self.function()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets; the first has something to read and room to write."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.send(b"x")
        yield one, other


def test_a_cancelled_reader_whose_weak_reference_removes_the_writer_is_survived(
    loop: asyncio.SelectorEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    # Giving up the cancelled reader ran Python code that removed the writer, which the event
    # still pointed at: freed memory, where by then another handle lived, was queued to run.
    private: Any = loop
    ran: list[str] = []
    made: list[Any] = []
    reader = private._add_reader(pair[0], ran.append, "cancelled reader")
    private._add_writer(pair[0], int)

    def gone(_: object) -> None:
        private._remove_writer(pair[0])
        made.append(loop.call_later(3600, ran.append, "timer of an hour"))
        made.append(private._add_reader(pair[1], ran.append, "never readable"))

    watching = weakref.ref(reader, gone)
    reader.cancel()
    del reader
    loop.call_later(0.01, loop.stop)
    run_asleep(loop)
    assert watching() is None and len(made) == 2
    assert ran == []
    made[0].cancel()
    private._remove_reader(pair[1])
    private._remove_writer(pair[0])


def test_a_cancelled_reader_whose_context_removes_the_writer_is_survived(
    loop: asyncio.SelectorEventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    # The same by a destructor in the reader's context, and with a callback queued meanwhile: it
    # took the place of the removed writer and ran twice.
    private: Any = loop
    variable: contextvars.ContextVar[_Calls] = contextvars.ContextVar("variable")
    ran: list[str] = []
    died: list[bool] = []

    def dying() -> None:
        died.append(loop.remove_writer(pair[0]))
        loop.call_soon(ran.append, "once")

    def watch_with_it() -> None:
        variable.set(_Calls(dying))
        private._add_reader(pair[0], ran.append, "cancelled reader").cancel()

    contextvars.Context().run(watch_with_it)
    contextvars.Context().run(loop.add_writer, pair[0], int)
    loop.call_later(0.01, loop.stop)
    run_asleep(loop)
    assert died == [True]
    assert ran == ["once"]


# A second set-up


def _live_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_a_second_open_of_the_same_loop_leaks_nothing(pyloop: PyLoop) -> None:
    # Whoever calls __init__ again (a mixin, a careless subclass) makes a new reactor in the place of the
    # old one, whose references to the handles that watched were dropped without being released.
    def again() -> None:
        one, other = socket.socketpair()
        with one, other:
            pyloop.add_reader(one, int)
            pyloop.add_writer(other, int)
            pyloop._open()
            pyloop.remove_reader(one)
            pyloop.remove_writer(other)

    again()
    handles, objects = _native._live_handles(), _live_objects()
    for _ in range(50):
        again()
    assert _native._live_handles() <= handles
    assert _live_objects() - objects < 25


def test_a_second_init_of_the_same_loop_leaks_nothing_and_the_loop_works(pyloop: PyLoop) -> None:
    # As above by way of __init__, which also makes the façade, the dictionaries and the count of the
    # loop's own descriptors anew.
    def again() -> None:
        pyloop.__init__()  # type: ignore[misc]
        assert pyloop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"

    again()
    handles, objects = _native._live_handles(), _live_objects()
    for _ in range(50):
        again()
    assert _native._live_handles() <= handles
    assert _live_objects() - objects < 25


def test_a_reader_left_behind_by_a_second_init_dies_with_it(pyloop: PyLoop) -> None:
    # Its callback must not be kept alive by a reference that nobody can reach.
    class Callback:
        def __call__(self) -> None:
            raise AssertionError

    callback = Callback()
    watching = weakref.ref(callback)
    one, other = socket.socketpair()
    with one, other:
        pyloop.add_reader(one, callback)
        del callback
        pyloop._open()
        pyloop.remove_reader(one)
        gc.collect()
        assert watching() is None
        pyloop.call_later(0.001, pyloop.stop)
        run_asleep(pyloop)
