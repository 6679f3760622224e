"""The private names that programs read: _ready, _scheduled and _selector tell the truth."""

from __future__ import annotations

import asyncio
import heapq
import os
import selectors
from collections.abc import Iterator
from typing import Any

import pytest
from support.running import run_one_pass, run_passes

from data_bridge.pyloop import PyLoop


@pytest.fixture
def private(loop: asyncio.SelectorEventLoop) -> Any:
    """The loop under test, with its private names in the open."""
    return loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_ready_shows_what_is_queued(private: Any) -> None:
    assert not private._ready and len(private._ready) == 0
    handles = [private.call_soon(print, number) for number in range(5)]
    assert private._ready and len(private._ready) == 5
    assert list(private._ready) == handles
    assert handles[2] in private._ready
    assert private._ready[0] is handles[0]
    assert private._ready[-1] is handles[-1]
    for handle in handles:
        handle.cancel()
    run_one_pass(private)
    assert not private._ready


def test_ready_shows_thread_safe_callbacks_too(private: Any) -> None:
    first = private.call_soon(print)
    second = private.call_soon_threadsafe(print)
    assert list(private._ready) == [first, second]
    private.close()


def test_ready_seen_from_a_callback_holds_what_runs_after_it(private: Any) -> None:
    seen: list[int] = []
    private.call_soon(lambda: seen.append(len(private._ready)))
    private.call_soon(lambda: seen.append(len(private._ready)))
    run_one_pass(private)
    # Behind the first stand the second and the stop; behind the second the stop.
    assert seen == [2, 1]


def test_ready_shows_task_steps(private: Any) -> None:
    task = private.create_task(asyncio.sleep(0))
    assert len(private._ready) == 1
    (handle,) = private._ready
    assert isinstance(handle, asyncio.Handle)
    assert "TaskStep" in repr(handle)
    private.run_until_complete(task)


def test_scheduled_shows_what_is_pending(private: Any) -> None:
    assert not private._scheduled and len(private._scheduled) == 0
    handles = [private.call_at(when, print) for when in (3e12, 1e12, 2e12)]
    assert private._scheduled and len(private._scheduled) == 3
    assert set(private._scheduled) == set(handles)
    assert all(handle in private._scheduled for handle in handles)
    # The earliest stands first, as in a heap.
    assert private._scheduled[0] is handles[1]
    assert heapq.nsmallest(3, private._scheduled) == [handles[1], handles[2], handles[0]]
    assert min(handle._when for handle in private._scheduled) == 1e12
    private.close()
    assert not private._scheduled


def test_scheduled_shows_no_cancelled_timer_once_the_loop_has_looked(private: Any) -> None:
    kept = private.call_at(2e12, print)
    private.call_at(1e12, print).cancel()
    run_one_pass(private)
    assert list(private._scheduled) == [kept]


def test_scheduled_shows_no_timer_that_has_fired(private: Any) -> None:
    private.call_at(0, int)
    kept = private.call_at(2e12, print)
    run_one_pass(private)
    assert list(private._scheduled) == [kept]


def test_a_view_may_be_walked_while_the_loop_changes(private: Any) -> None:
    for number in range(10):
        private.call_soon(int, number)
    seen = 0
    for handle in list(private._ready):
        private.call_soon(int)
        handle.cancel()
        seen += 1
    assert seen == 10
    run_one_pass(private)


def test_the_views_of_pyloop_cannot_be_written_through(pyloop: PyLoop) -> None:
    handle = pyloop.call_soon(int)
    private: Any = pyloop
    # clear() is there for asyncio's own close(), which empties the queues by it.
    for name in ("append", "appendleft", "popleft", "pop", "__delitem__", "__setitem__"):
        for view in (private._ready, private._scheduled):
            assert not hasattr(view, name) or _refuses(view, name)
    with pytest.raises((TypeError, AttributeError)):
        private._ready[0] = handle
    assert list(private._ready) == [handle]
    run_one_pass(pyloop)


def _refuses(view: Any, name: str) -> bool:
    arguments = {"append": (1,), "__delitem__": (0,), "__setitem__": (0, 1)}.get(name, ())
    try:
        getattr(view, name)(*arguments)
    except (TypeError, AttributeError, RuntimeError, NotImplementedError):
        return True
    return False


def test_an_index_out_of_range_is_an_index_error(private: Any) -> None:
    for view in (private._ready, private._scheduled):
        with pytest.raises(IndexError):
            view[0]


def test_the_views_of_a_closed_loop_are_empty(private: Any) -> None:
    private.call_soon(int)
    private.call_later(100, int)
    private.close()
    assert len(private._ready) == 0 and not list(private._ready)
    assert len(private._scheduled) == 0 and not list(private._scheduled)


def test_a_view_held_over_a_change_is_live(private: Any) -> None:
    ready, scheduled = private._ready, private._scheduled
    private.call_soon(int)
    private.call_at(1e12, int)
    assert len(ready) == 1 and len(scheduled) == 1
    run_one_pass(private)
    assert len(ready) == 0 and len(scheduled) == 1


def test_repr_of_the_views_shows_their_handles(private: Any) -> None:
    private.call_soon(int)
    private.call_at(1e12, int)
    assert "<Handle int()>" in repr(private._ready)
    assert "<TimerHandle when=1000000000000.0 int()>" in repr(private._scheduled)
    private.close()


def test_the_selector_knows_what_is_registered(private: Any, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    assert reading not in private._selector.get_map()
    with pytest.raises(KeyError):
        private._selector.get_key(reading)
    private.add_reader(reading, print, "reader")
    key = private._selector.get_key(reading)
    assert isinstance(key, selectors.SelectorKey)
    assert (key.fd, key.events) == (reading, selectors.EVENT_READ)
    assert private._selector.get_map()[reading].events == selectors.EVENT_READ
    reader, writer = key.data
    assert isinstance(reader, asyncio.Handle) and writer is None
    assert reader._callback is print and reader._args == ("reader",)
    private.remove_reader(reading)
    private.add_writer(writing, print)
    assert reading not in private._selector.get_map()
    key = private._selector.get_key(writing)
    assert key.events == selectors.EVENT_WRITE and key.data[0] is None
    private.remove_writer(writing)
    assert writing not in private._selector.get_map()


def test_the_selector_tells_what_is_ready(private: Any, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    private.add_reader(reading, print)
    assert not [key for key, _ in private._selector.select(0) if key.fd == reading]
    os.write(writing, b"x")
    ((key, events),) = [pair for pair in private._selector.select(0) if pair[0].fd == reading]
    assert events == selectors.EVENT_READ
    assert key.data[0]._callback is print
    private.remove_reader(reading)
    assert not [key for key, _ in private._selector.select(0) if key.fd == reading]


def test_looking_at_the_selector_eats_no_event(private: Any, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    calls: list[int] = []
    private.add_reader(reading, calls.append, 1)
    os.write(writing, b"x")
    for _ in range(3):
        private._selector.select(0)
    run_passes(private, 2)
    assert calls
    private.remove_reader(reading)


def test_the_map_counts_and_lists_the_descriptors(private: Any, pipe: tuple[int, int]) -> None:
    before = set(private._selector.get_map())
    private.add_reader(pipe[0], print)
    private.add_writer(pipe[1], print)
    now = private._selector.get_map()
    assert set(now) - before == set(pipe)
    assert len(now) == len(before) + 2
    assert {key.fd for key in now.values()} >= set(pipe)
    private.remove_reader(pipe[0])
    private.remove_writer(pipe[1])
    assert set(private._selector.get_map()) == before
