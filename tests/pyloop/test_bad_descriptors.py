"""Descriptors that are wrong, closed, or come back as something else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass, run_passes

from data_bridge.pyloop import PyLoop


class _WrongFileno:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def fileno(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __repr__(self) -> str:
        return f"<fileno {self.answer!r}>"


_BAD: list[tuple[Any, type[Exception], str]] = [
    (-1, ValueError, "Invalid file descriptor: -1"),
    (-100, ValueError, "Invalid file descriptor: -100"),
    ("x", ValueError, "Invalid file object: 'x'"),
    (None, ValueError, "Invalid file object: None"),
    (1.5, ValueError, "Invalid file object: 1.5"),
    (_WrongFileno("x"), ValueError, "Invalid file object: <fileno 'x'>"),
    (_WrongFileno(None), ValueError, "Invalid file object: <fileno None>"),
    (_WrongFileno(-1), ValueError, "Invalid file descriptor: -1"),
    (_WrongFileno(LookupError("mine")), LookupError, "mine"),
    (10**9, OSError, "Bad file descriptor"),
    (2**40, OverflowError, ""),
    (2**70, OverflowError, ""),
]


@pytest.mark.parametrize(("bad", "error", "text"), _BAD, ids=[f"{bad!r}" for bad, _, _ in _BAD])
@pytest.mark.parametrize("name", ["add_reader", "add_writer"])
def test_a_wrong_descriptor_is_asyncios_error_at_the_call(
    loop: asyncio.SelectorEventLoop, name: str, bad: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        getattr(loop, name)(bad, print)
    assert text in str(caught.value)
    run_one_pass(loop)


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [(bad, error, text) for bad, error, text in _BAD if error is not OverflowError],
    ids=[f"{bad!r}" for bad, error, _ in _BAD if error is not OverflowError],
)
@pytest.mark.parametrize("name", ["remove_reader", "remove_writer"])
def test_removing_a_wrong_descriptor_is_asyncios_answer(
    loop: asyncio.SelectorEventLoop, name: str, bad: Any, error: type[Exception], text: str
) -> None:
    remove = getattr(loop, name)
    if error is OSError:
        assert remove(bad) is False
    else:
        with pytest.raises(error) as caught:
            remove(bad)
        assert text in str(caught.value)


@pytest.mark.parametrize("name", ["add_reader", "add_writer"])
def test_a_closed_descriptor_is_refused(loop: asyncio.SelectorEventLoop, name: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, name)(reading, print)
    assert loop.remove_reader(reading) is False
    os.close(writing)
    run_one_pass(loop)


def test_a_closed_socket_object_is_refused(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair()
    far.close()
    near.close()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.add_reader(near, print)


def test_a_number_that_was_refused_works_once_it_is_open(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    spare = os.dup(number)
    near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(number, print)
    assert os.dup2(spare, number) == number
    os.close(spare)
    calls: list[int] = []
    loop.add_reader(number, calls.append, 1)
    far.send(b"x")
    run_passes(loop, 2)
    assert calls
    assert loop.remove_reader(number) is True
    os.close(number)
    far.close()


def _reuse(number: int) -> tuple[int, int]:
    """A new pipe whose reading end has the number *number* (which must be free)."""
    reading, writing = os.pipe()
    if reading == number:
        return reading, writing
    if writing == number:
        writing = os.dup(writing)
        os.close(number)
    os.dup2(reading, number)
    os.close(reading)
    return number, writing


def test_a_descriptor_closed_and_removed_can_be_reused(loop: asyncio.SelectorEventLoop) -> None:
    calls: list[str] = []
    reading, writing = os.pipe()
    loop.add_reader(reading, calls.append, "old")
    run_passes(loop, 2)
    os.close(reading)
    os.close(writing)
    assert loop.remove_reader(reading) is True
    again, writing = _reuse(reading)
    loop.add_reader(again, calls.append, "new")
    os.write(writing, b"x")
    run_passes(loop, 3)
    assert set(calls) == {"new"}
    assert loop.remove_reader(again) is True
    os.close(again)
    os.close(writing)


def test_a_descriptor_closed_behind_the_loops_back_does_not_disturb_it(
    loop: asyncio.SelectorEventLoop,
) -> None:
    calls: list[str] = []
    reading, writing = os.pipe()
    loop.add_reader(reading, calls.append, "gone")
    os.write(writing, b"x")
    os.close(reading)
    os.close(writing)
    loop.call_later(0.002, loop.stop)
    run_asleep(loop)
    assert calls == []
    assert loop.remove_reader(reading) is True
    assert loop.remove_reader(reading) is False


# asyncio keeps its first registration in these cases and hears nothing of the new one.


@pytest.mark.parametrize("ran_between", [True, False], ids=["ran between", "at once"])
def test_a_descriptor_reused_behind_the_loops_back_gets_its_own_events(
    pyloop: PyLoop, ran_between: bool
) -> None:
    calls: list[str] = []
    reading, writing = os.pipe()
    pyloop.add_reader(reading, calls.append, "old")
    if ran_between:
        run_passes(pyloop, 2)
    os.close(reading)
    os.close(writing)
    again, writing = _reuse(reading)
    pyloop.add_reader(again, calls.append, "new")
    run_passes(pyloop, 2)
    assert calls == []
    os.write(writing, b"x")
    run_passes(pyloop, 3)
    assert set(calls) == {"new"}
    assert pyloop.remove_reader(again) is True
    os.close(again)
    os.close(writing)


def test_the_other_direction_of_a_reused_descriptor_is_not_the_old_ones(pyloop: PyLoop) -> None:
    calls: list[str] = []
    near, far = socket.socketpair()
    number = near.fileno()
    far.send(b"x")
    pyloop.add_reader(number, calls.append, "old reader")
    near.close()
    far.close()
    newer, other = socket.socketpair()
    if newer.fileno() != number:
        os.dup2(newer.fileno(), number)
        newer.close()
        newer = socket.socket(fileno=number)
    calls.clear()
    pyloop.add_writer(number, calls.append, "new writer")
    run_passes(pyloop, 3)
    assert "new writer" in calls and "old reader" not in calls
    assert pyloop.remove_writer(number) is True
    pyloop.remove_reader(number)
    newer.close()
    other.close()


def test_a_duplicate_left_open_does_not_send_the_old_ones_events_to_the_new_one(
    pyloop: PyLoop,
) -> None:
    # The kernel keeps reporting the old file as long as any duplicate of it is open, under the number
    # it was registered with.
    calls: list[str] = []
    reading, writing = os.pipe()
    duplicate = os.dup(reading)
    pyloop.add_reader(reading, calls.append, "old")
    os.close(reading)
    again, new_writing = _reuse(reading)
    pyloop.add_reader(again, calls.append, "new")
    os.write(writing, b"x")
    run_passes(pyloop, 5)
    assert calls == []
    os.write(new_writing, b"x")
    run_passes(pyloop, 3)
    assert set(calls) == {"new"}
    assert pyloop.remove_reader(again) is True
    for descriptor in (duplicate, writing, again, new_writing):
        os.close(descriptor)


def test_closing_the_loop_leaves_registered_descriptors_open(
    loop: asyncio.SelectorEventLoop,
) -> None:
    near, far = socket.socketpair()
    with near, far:
        loop.add_reader(near, print)
        loop.add_writer(far, print)
        loop.close()
        assert near.send(b"x") == 1
        assert far.recv(10) == b"x"


def test_a_missing_callback_is_a_type_error_and_registers_nothing(
    loop: asyncio.SelectorEventLoop,
) -> None:
    reading, writing = os.pipe()
    add: Callable[..., None] = loop.add_reader
    with pytest.raises(TypeError):
        add(reading)
    with pytest.raises(TypeError):
        add()
    assert loop.remove_reader(reading) is False
    os.close(reading)
    os.close(writing)
