"""call_soon_batch: all or nothing, in order, one wake-up, from any thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass

from data_bridge.pyloop import PyLoop


def _appends(ran: list[int], numbers: Iterable[int]) -> list[functools.partial[None]]:
    return [functools.partial(ran.append, number) for number in numbers]


def test_a_batch_runs_in_its_order_and_returns_none(pyloop: PyLoop) -> None:
    ran: list[int] = []
    assert pyloop.call_soon_batch(_appends(ran, range(1000))) is None
    assert ran == []
    run_one_pass(pyloop)
    assert ran == list(range(1000))


def test_a_batch_keeps_its_place_among_other_callbacks(pyloop: PyLoop) -> None:
    ran: list[int] = []
    pyloop.call_soon(ran.append, 0)
    pyloop.call_soon_batch(_appends(ran, (1, 2)))
    pyloop.call_soon_threadsafe(ran.append, 3)
    pyloop.call_soon_batch(_appends(ran, (4, 5)))
    pyloop.call_soon(ran.append, 6)
    run_one_pass(pyloop)
    assert ran == list(range(7))


@pytest.mark.parametrize("wrap", [list, tuple, iter, lambda items: (item for item in items)])
def test_a_batch_is_any_iterable(pyloop: PyLoop, wrap: Any) -> None:
    ran: list[int] = []
    pyloop.call_soon_batch(wrap(_appends(ran, range(5))))
    run_one_pass(pyloop)
    assert ran == list(range(5))


def test_a_set_and_a_dict_are_iterables_too(pyloop: PyLoop) -> None:
    ran: list[int] = []
    pyloop.call_soon_batch(set(_appends(ran, range(5))))
    pyloop.call_soon_batch(dict.fromkeys(_appends(ran, (5, 6))))
    run_one_pass(pyloop)
    assert sorted(ran[:5]) == list(range(5)) and ran[5:] == [5, 6]


def test_an_empty_batch_does_nothing(pyloop: PyLoop) -> None:
    pyloop.call_soon_batch([])
    pyloop.call_soon_batch(iter(()))
    assert len(pyloop._ready) == 0


@pytest.mark.parametrize("position", [0, 1, 5])
@pytest.mark.parametrize("bad", [None, 1, "x", object()], ids=lambda bad: type(bad).__name__)
def test_one_wrong_item_is_a_type_error_and_nothing_is_queued(
    pyloop: PyLoop, bad: Any, position: int
) -> None:
    ran: list[int] = []
    callbacks: list[Any] = list(_appends(ran, range(5)))
    callbacks.insert(position, bad)
    with pytest.raises(TypeError):
        pyloop.call_soon_batch(callbacks)
    assert len(pyloop._ready) == 0
    run_one_pass(pyloop)
    assert ran == []


@pytest.mark.parametrize("bad", [None, 1, print, object()], ids=lambda bad: type(bad).__name__)
def test_what_is_not_iterable_is_a_type_error(pyloop: PyLoop, bad: Any) -> None:
    with pytest.raises(TypeError):
        pyloop.call_soon_batch(bad)


def test_coroutines_are_refused(pyloop: PyLoop) -> None:
    async def function() -> None:
        pass

    made = function()
    with pytest.raises(TypeError):
        pyloop.call_soon_batch([print, made])
    made.close()
    assert len(pyloop._ready) == 0


def test_a_generator_that_raises_queues_nothing(pyloop: PyLoop) -> None:
    ran: list[int] = []

    def callbacks() -> Iterator[functools.partial[None]]:
        yield from _appends(ran, range(3))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pyloop.call_soon_batch(callbacks())
    run_one_pass(pyloop)
    assert ran == []


def test_a_generator_that_uses_the_loop_meanwhile_disturbs_nothing(pyloop: PyLoop) -> None:
    ran: list[int] = []

    def callbacks() -> Iterator[functools.partial[None]]:
        for number in range(10, 15):
            pyloop.call_soon(ran.append, number - 10)
            yield functools.partial(ran.append, number)

    pyloop.call_soon_batch(callbacks())
    run_one_pass(pyloop)
    assert ran == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_a_generator_that_closes_the_loop_is_survived(pyloop: PyLoop) -> None:
    def callbacks() -> Iterator[Any]:
        yield print
        pyloop.close()
        yield print

    with pytest.raises(RuntimeError, match="Event loop is closed"):
        pyloop.call_soon_batch(callbacks())


def test_a_closed_loop_refuses_a_batch(pyloop: PyLoop) -> None:
    pyloop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        pyloop.call_soon_batch([print])


def test_callbacks_run_in_a_copy_of_the_present_context(pyloop: PyLoop) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def look() -> None:
        seen.append(variable.get())
        variable.set("changed by a callback")

    token = variable.set("at the call")
    pyloop.call_soon_batch([look, look])
    variable.reset(token)
    run_one_pass(pyloop)
    assert seen[0] == "at the call"
    assert variable.get() == "unset"


def test_a_given_context_is_used_itself(pyloop: PyLoop) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()

    def count() -> None:
        variable.set(variable.get() + 1)

    pyloop.call_soon_batch([count] * 5, context=context)
    run_one_pass(pyloop)
    assert context[variable] == 5
    assert variable.get() == 0


def test_the_context_is_given_by_keyword_only(pyloop: PyLoop) -> None:
    with pytest.raises(TypeError):
        pyloop.call_soon_batch([print], contextvars.copy_context())
    with pytest.raises(TypeError):
        pyloop.call_soon_batch()
    with pytest.raises(TypeError):
        pyloop.call_soon_batch([print], unknown=1)


def test_an_exception_in_one_callback_does_not_stop_the_others(
    pyloop: PyLoop, unhandled: list[dict[str, Any]]
) -> None:
    ran: list[int] = []
    first, second = _appends(ran, (1, 2))
    pyloop.call_soon_batch([first, lambda: 1 / 0, second])
    run_one_pass(pyloop)
    assert ran == [1, 2]
    assert [type(context["exception"]) for context in unhandled] == [ZeroDivisionError]
    assert isinstance(unhandled[0]["handle"], asyncio.Handle)
    unhandled.clear()


def test_a_batch_from_another_thread_wakes_a_sleeping_loop_and_runs_in_one_pass(
    pyloop: PyLoop,
) -> None:
    ran: list[int] = []

    def first() -> None:
        # What this queues runs in the next pass: behind the whole batch, if the batch came as one.
        pyloop.call_soon(lambda: (ran.append(-1), pyloop.stop()))

    callbacks = [first, *_appends(ran, range(5000))]
    started = threading.Event()
    thread = threading.Thread(target=lambda: (started.wait(), pyloop.call_soon_batch(callbacks)))
    thread.start()
    pyloop.call_soon(started.set)
    run_asleep(pyloop)
    thread.join()
    assert ran == [*range(5000), -1]


def test_batches_from_many_threads_lose_nothing_and_do_not_mix(pyloop: PyLoop) -> None:
    ran: list[int] = []

    def send(base: int) -> None:
        for start in range(base, base + 1000, 100):
            pyloop.call_soon_batch(_appends(ran, range(start, start + 100)))

    threads = [threading.Thread(target=send, args=(base,)) for base in range(0, 8000, 1000)]
    ender = threading.Thread(
        target=lambda: ([t.join() for t in threads], pyloop.call_soon_threadsafe(pyloop.stop))
    )
    for thread in (*threads, ender):
        thread.start()
    run_asleep(pyloop)
    ender.join()
    assert sorted(ran) == list(range(8000))
    for begin in range(0, 8000, 100):
        chunk = ran[begin : begin + 100]
        assert chunk == list(range(chunk[0], chunk[0] + 100))


def test_debug_mode_refuses_no_thread_and_shows_in_the_report_where_it_was_queued(
    pyloop: PyLoop, unhandled: list[dict[str, Any]]
) -> None:
    pyloop.set_debug(True)
    thread = threading.Thread(target=lambda: pyloop.call_soon_batch([lambda: 1 / 0]))
    pyloop.call_soon(thread.start)
    pyloop.call_soon(thread.join)
    run_one_pass(pyloop)
    run_one_pass(pyloop)
    assert [type(context["exception"]) for context in unhandled] == [ZeroDivisionError]
    assert unhandled[0]["source_traceback"][-1].filename == __file__
    unhandled.clear()
