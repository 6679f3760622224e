"""The life of a loop: running, stopping, running again, closing, and every way to do it wrong."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_asleep, run_one_pass

from data_bridge.pyloop import PyLoop


def test_a_loop_is_a_selector_event_loop(loop: asyncio.SelectorEventLoop) -> None:
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_pyloop_takes_no_argument() -> None:
    with selectors.DefaultSelector() as selector, pytest.raises(TypeError):
        PyLoop(selector)
    with pytest.raises(TypeError):
        PyLoop(selector=None)


def test_repr_tells_the_state(loop: asyncio.SelectorEventLoop) -> None:
    said: list[str] = []
    loop.call_soon(lambda: said.append(repr(loop)))
    said.append(repr(loop))
    run_one_pass(loop)
    loop.set_debug(True)
    said.append(repr(loop))
    loop.set_debug(False)
    loop.close()
    said.append(repr(loop))
    name = type(loop).__name__
    assert said == [
        f"<{name} running=False closed=False debug=False>",
        f"<{name} running=True closed=False debug=False>",
        f"<{name} running=False closed=False debug=True>",
        f"<{name} running=False closed=True debug=False>",
    ]


def test_state_is_told_truly_inside_and_outside(loop: asyncio.SelectorEventLoop) -> None:
    seen: list[tuple[bool, bool, object]] = []

    def look() -> None:
        seen.append((loop.is_running(), loop.is_closed(), asyncio._get_running_loop()))

    look()
    loop.call_soon(look)
    run_one_pass(loop)
    look()
    loop.close()
    look()
    assert seen == [(False, False, None), (True, False, loop), (False, False, None),
                    (False, True, None)]  # fmt: skip


# stop()


def test_stop_lets_the_present_pass_finish(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []

    def stopping() -> None:
        ran.append("stopping")
        loop.stop()
        loop.call_soon(ran.append, "next pass")

    loop.call_soon(stopping)
    loop.call_soon(ran.append, "same pass")
    loop.run_forever()
    assert ran == ["stopping", "same pass"]
    run_one_pass(loop)
    assert ran == ["stopping", "same pass", "next pass"]


def test_stop_before_running_makes_one_pass_of_it(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    loop.call_soon(ran.append, "queued")
    loop.stop()
    loop.run_forever()
    assert ran == ["queued"]


def test_stop_before_running_does_not_sleep(loop: asyncio.SelectorEventLoop) -> None:
    far = loop.call_later(3600, print)
    loop.stop()
    begun = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - begun < 5
    far.cancel()


def test_stop_counts_once(loop: asyncio.SelectorEventLoop) -> None:
    loop.stop()
    loop.stop()
    loop.run_forever()
    begun = time.monotonic()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert time.monotonic() - begun >= 0.001


def test_stop_on_a_closed_loop_is_harmless(loop: asyncio.SelectorEventLoop) -> None:
    loop.close()
    loop.stop()


def test_a_loop_runs_many_times(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []
    for number in range(200):
        loop.call_soon(ran.append, number)
        run_one_pass(loop)
    assert ran == list(range(200))


# Running what runs, or what is closed


def _nested(loop: asyncio.SelectorEventLoop, call: Callable[[], object]) -> RuntimeError:
    caught: list[RuntimeError] = []

    def attempt() -> None:
        try:
            call()
        except RuntimeError as error:
            caught.append(error)

    loop.call_soon(attempt)
    run_one_pass(loop)
    assert len(caught) == 1
    return caught[0]


def test_running_a_running_loop_is_an_error_with_asyncios_text(
    loop: asyncio.SelectorEventLoop,
) -> None:
    future = loop.create_future()
    for call in (loop.run_forever, lambda: loop.run_until_complete(future)):
        assert str(_nested(loop, call)) == "This event loop is already running"


def test_running_a_second_loop_inside_a_first_is_an_error_with_asyncios_text(
    loop_factory: LoopFactory,
) -> None:
    outer, inner = loop_factory(), loop_factory()
    expected = "Cannot run the event loop while another loop is running"
    assert str(_nested(outer, inner.run_forever)) == expected
    inner.call_soon(inner.stop)
    inner.run_forever()


@pytest.mark.parametrize("outer_is_stock", [True, False])
def test_asyncio_and_pyloop_do_not_run_inside_each_other(
    pyloop: PyLoop, outer_is_stock: bool
) -> None:
    stock = asyncio.SelectorEventLoop()
    try:
        outer, inner = (stock, pyloop) if outer_is_stock else (pyloop, stock)
        message = str(_nested(outer, inner.run_forever))
        assert message == "Cannot run the event loop while another loop is running"
    finally:
        stock.close()


def test_a_failed_nested_run_leaves_the_outer_one_running(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[object] = []
    _nested(loop, loop.run_forever)
    loop.call_soon(lambda: ran.append(asyncio.get_running_loop()))
    run_one_pass(loop)
    assert ran == [loop]


def test_a_closed_loop_refuses_with_asyncios_text(loop: asyncio.SelectorEventLoop) -> None:
    async def coroutine() -> None:
        pass

    loop.close()
    made = coroutine()
    calls: list[Callable[[], object]] = [
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.add_reader(0, print),
        lambda: loop.add_writer(0, print),
        lambda: loop.create_task(made),
        lambda: loop.run_in_executor(None, print),
        loop.run_forever,
        lambda: loop.run_until_complete(made),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            call()
    made.close()


# close()


def test_close_is_idempotent(loop: asyncio.SelectorEventLoop) -> None:
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_closing_a_running_loop_is_an_error(loop: asyncio.SelectorEventLoop) -> None:
    assert str(_nested(loop, loop.close)) == "Cannot close a running event loop"
    assert not loop.is_closed()


def test_close_drops_what_is_queued_without_running_it(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    soon = loop.call_soon(ran.append, "soon")
    timer = loop.call_at(0, ran.append, "timer")
    loop.close()
    assert ran == []
    assert not soon.cancelled() and not timer.cancelled()


def test_remove_reader_on_a_closed_loop_returns_false(loop: asyncio.SelectorEventLoop) -> None:
    loop.close()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False


# What leaves the loop


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["call_soon", "call_soon_threadsafe", "call_at", "reader"])
def test_exit_and_interrupt_leave_the_loop_which_runs_on_where_it_was(
    loop: asyncio.SelectorEventLoop, error: type[BaseException], way: str
) -> None:
    near, far = socket.socketpair()
    ran: list[str] = []

    def leave() -> None:
        loop.remove_reader(near)
        raise error("out")

    loop.call_soon(ran.append, "before")
    if way == "reader":
        far.send(b"x")
        loop.add_reader(near, leave)
    elif way == "call_at":
        loop.call_at(0, leave)
    else:
        getattr(loop, way)(leave)
    loop.call_soon(ran.append, "queued")
    loop.call_at(1, ran.append, "timer")
    with near, far:
        with pytest.raises(error, match="out"):
            loop.run_forever()
        assert not loop.is_running()
        assert asyncio._get_running_loop() is None
        run_one_pass(loop)
        run_one_pass(loop)
    assert sorted(ran) == ["before", "queued", "timer"]
    assert ran.index("before") < ran.index("queued")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_in_a_task_leave_the_loop(
    loop: asyncio.SelectorEventLoop, error: type[BaseException]
) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise error("out")

    with pytest.raises(error, match="out"):
        loop.run_until_complete(main())
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


def test_another_base_exception_goes_to_the_exception_handler(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    class Odd(BaseException):
        pass

    def raises() -> None:
        raise Odd

    loop.call_soon(raises)
    run_one_pass(loop)
    assert [type(context["exception"]) for context in unhandled] == [Odd]
    unhandled.clear()


def test_asyncgen_hooks_are_set_while_running_and_put_back(
    loop: asyncio.SelectorEventLoop,
) -> None:
    before = sys.get_asyncgen_hooks()
    inside: list[Any] = []
    loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
    run_one_pass(loop)
    assert inside[0].firstiter is not None and inside[0].finalizer is not None
    assert sys.get_asyncgen_hooks() == before
    loop.call_soon(sys.exit)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == before


def test_an_unfinished_async_generator_is_closed_by_shutdown_asyncgens(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ended: list[str] = []

    async def numbers() -> Any:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("closed")

    kept = numbers()

    async def main() -> None:
        async for _ in kept:
            break

    loop.run_until_complete(main())
    assert ended == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert ended == ["closed"]


def test_a_loop_runs_on_one_thread_and_later_on_another(loop: asyncio.SelectorEventLoop) -> None:
    threads: list[int] = []
    for _ in range(3):
        loop.call_soon(lambda: threads.append(threading.get_ident()))
        loop.call_soon(loop.stop)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        thread.join()
    loop.call_soon(lambda: threads.append(threading.get_ident()))
    run_one_pass(loop)
    assert len(threads) == 4
    assert threads[-1] == threading.get_ident()
    assert loop._thread_id is None


def test_run_once_called_from_outside_does_one_iteration(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    private: Any = loop

    def first() -> None:
        ran.append("first")
        loop.call_soon(ran.append, "second")

    loop.call_soon(first)
    loop.call_at(0, ran.append, "timer")
    assert private._run_once() is None
    assert ran == ["first", "timer"]
    private._run_once()
    assert ran == ["first", "timer", "second"]
    assert not loop.is_running()


def test_run_once_from_outside_sleeps_until_a_timer_is_due(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    begun = time.monotonic()
    loop.call_later(0.005, ran.append, "timer")
    while not ran:
        loop._run_once()
    assert time.monotonic() - begun >= 0.005


def test_call_soon_while_not_running_is_kept_for_the_run(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(ran.append, 1))
    thread.start()
    thread.join()
    loop.call_soon(ran.append, 2)
    loop.call_soon(loop.stop)
    run_asleep(loop)
    assert ran == [1, 2]


def test_running_once_before_closing_is_not_needed(loop_factory: LoopFactory) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            loop_factory().close()


def test_unknown_attributes_can_be_put_on_a_loop(loop: asyncio.SelectorEventLoop) -> None:
    private: Any = loop
    private.marker = 1
    assert private.marker == 1
