"""Debug mode: slow callbacks, wrong threads, wrong callbacks, origins of coroutines and handles."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from support.children import expect_lines, run_program
from support.running import run_one_pass, run_passes, spin


@pytest.fixture
def debug_loop(loop: asyncio.SelectorEventLoop) -> asyncio.SelectorEventLoop:
    loop.set_debug(True)
    return loop


def slow(seconds: float) -> None:
    spin(seconds)


def test_debug_is_off_and_can_be_switched(loop: asyncio.SelectorEventLoop) -> None:
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_a_slow_callback_is_warned_about_with_asyncios_text(
    debug_loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    debug_loop.slow_callback_duration = 0.002
    debug_loop.call_soon(slow, 0.004)
    debug_loop.call_at(0, slow, 0.004)
    run_one_pass(debug_loop)
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("asyncio", logging.WARNING)
    ] * 2
    soon, timer = (record.getMessage() for record in caplog.records)
    assert re.fullmatch(
        r"Executing <Handle slow\(0\.004\) at .+:\d+ created at .+:\d+> took 0\.\d{3} seconds", soon
    )
    assert re.fullmatch(
        r"Executing <TimerHandle when=0 slow\(0\.004\) at .+ created at .+> took 0\.\d{3} seconds",
        timer,
    )
    assert f"created at {__file__}:" in soon


def test_a_slow_task_step_is_warned_about_by_its_task(
    debug_loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        slow(0.004)
        await asyncio.sleep(0)

    debug_loop.slow_callback_duration = 0.002
    debug_loop.run_until_complete(main())
    (record,) = caplog.records
    assert re.match(r"Executing <Task .*main\(\).* took 0\.\d{3} seconds", record.getMessage())


def test_a_fast_callback_is_not_warned_about(
    debug_loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    debug_loop.slow_callback_duration = 5
    debug_loop.call_soon(slow, 0.001)
    run_one_pass(debug_loop)
    assert caplog.records == []


def test_the_limit_of_slowness_can_be_set_and_starts_at_a_tenth_of_a_second(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0
    loop.call_soon(slow, 0.001)
    run_one_pass(loop)
    assert caplog.records == []
    loop.set_debug(True)
    loop.call_soon(int)
    run_one_pass(loop)
    assert len(caplog.records) == 2


def test_debug_switched_on_by_a_callback_works_in_the_same_run(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.slow_callback_duration = 0.002
    loop.call_soon(loop.set_debug, True)
    loop.call_soon(lambda: loop.call_soon(slow, 0.004))
    run_passes(loop, 4)
    assert len(caplog.records) == 1


# Wrong threads


def _from_another_thread(
    loop: asyncio.SelectorEventLoop, call: Callable[[], object]
) -> BaseException | None:
    """What *call* raises on another thread while *loop* runs on this one."""
    raised: list[BaseException | None] = []

    def attempt() -> None:
        try:
            call()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    def run_attempt() -> None:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    loop.call_soon(run_attempt)
    run_one_pass(loop)
    return raised[0]


def test_scheduling_from_a_wrong_thread_is_an_error_with_asyncios_text(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    expected = "Non-thread-safe operation invoked on an event loop other than the current one"
    for call in (
        lambda: debug_loop.call_soon(int),
        lambda: debug_loop.call_later(0, int),
        lambda: debug_loop.call_at(0, int),
    ):
        error = _from_another_thread(debug_loop, call)
        assert type(error) is RuntimeError and str(error) == expected


def test_call_soon_threadsafe_is_welcome_from_any_thread(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    assert (
        _from_another_thread(debug_loop, lambda: debug_loop.call_soon_threadsafe(ran.append, 1))
        is None
    )
    run_one_pass(debug_loop)
    assert ran == [1]


def test_any_thread_may_schedule_while_the_loop_does_not_run(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    thread = threading.Thread(target=lambda: debug_loop.call_soon(ran.append, 1))
    thread.start()
    thread.join()
    run_one_pass(debug_loop)
    assert ran == [1]


# Wrong callbacks


@pytest.mark.parametrize("bad", [None, 5, "x", object()], ids=lambda bad: type(bad).__name__)
def test_what_is_not_callable_is_a_type_error_at_the_call(
    debug_loop: asyncio.SelectorEventLoop, bad: Any
) -> None:
    for name, args in (
        ("call_soon", ()),
        ("call_soon_threadsafe", ()),
        ("call_at", (1,)),
    ):
        expected = f"a callable object was expected by {name}(), got {bad!r}"
        with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
            getattr(debug_loop, name)(*args, bad)
    expected = f"a callable object was expected by call_at(), got {bad!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        debug_loop.call_later(1, bad)


def test_coroutines_and_their_functions_are_a_type_error_at_the_call(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    async def function() -> None:
        pass

    made = function()
    for bad in (function, made):
        with pytest.raises(TypeError, match=r"^coroutines cannot be used with call_soon\(\)$"):
            debug_loop.call_soon(bad)
        with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon_threadsafe"):
            debug_loop.call_soon_threadsafe(bad)
        with pytest.raises(TypeError, match=r"^coroutines cannot be used with call_at\(\)$"):
            debug_loop.call_at(1, bad)
        with pytest.raises(TypeError, match=r"^coroutines cannot be used with call_at\(\)$"):
            debug_loop.call_later(1, bad)
    made.close()


# Origins


def test_a_handle_remembers_where_it_was_made(debug_loop: asyncio.SelectorEventLoop) -> None:
    handles: list[Any] = [
        debug_loop.call_soon(int),
        debug_loop.call_soon_threadsafe(int),
        debug_loop.call_later(100, int),
        debug_loop.call_at(1e12, int),
    ]
    for handle in handles:
        frame = handle._source_traceback[-1]
        assert frame.filename == __file__
        assert frame.name == "test_a_handle_remembers_where_it_was_made"
        assert f"created at {__file__}:{frame.lineno}>" in repr(handle)


def test_a_handle_made_before_debug_has_no_origin_and_still_works(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    handle: Any = loop.call_soon(ran.append, 1)
    loop.set_debug(True)
    assert handle._source_traceback is None
    assert "created at" not in repr(handle)
    run_one_pass(loop)
    assert ran == [1]


def test_a_cancelled_handle_keeps_its_description(debug_loop: asyncio.SelectorEventLoop) -> None:
    handle = debug_loop.call_soon(slow, 1)
    handle.cancel()
    assert re.fullmatch(r"<Handle cancelled slow\(1\) at .+:\d+ created at .+:\d+>", repr(handle))
    assert handle._callback is None


def test_origins_of_coroutines_are_tracked_while_the_loop_runs(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    async def function() -> None:
        pass

    async def main() -> Any:
        made = function()
        origin = made.cr_origin
        made.close()
        return origin

    before = sys.get_coroutine_origin_tracking_depth()
    origin = debug_loop.run_until_complete(main())
    assert origin[0][0] == __file__
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_origin_tracking_follows_set_debug_in_a_run(loop: asyncio.SelectorEventLoop) -> None:
    depths: list[int] = []

    async def main() -> None:
        for debug in (True, False, True):
            loop.set_debug(debug)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())

    before = sys.get_coroutine_origin_tracking_depth()
    loop.run_until_complete(main())
    assert depths[0] > 0 and depths[1] == before and depths[2] > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_a_coroutine_never_awaited_is_warned_about_with_its_origin(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    async def forgotten() -> None:
        pass

    async def main() -> None:
        forgotten()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        debug_loop.run_until_complete(main())
    (warning,) = caught
    assert "forgotten' was never awaited" in str(warning.message)
    assert "Coroutine created at" in str(warning.message)


def test_an_exception_in_debug_mode_carries_the_origin_of_its_handle(
    debug_loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    debug_loop.call_soon(lambda: 1 / 0)
    run_one_pass(debug_loop)
    report = unhandled.pop()
    assert report["source_traceback"][-1].filename == __file__


def test_a_task_remembers_where_it_was_made(debug_loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> Any:
        task = debug_loop.create_task(asyncio.sleep(0))
        await task
        return task._source_traceback[-1]

    frame = debug_loop.run_until_complete(main())
    assert (frame.filename, frame.name) == (__file__, "main")
    assert "created at" in repr(debug_loop.create_future())


def test_the_order_of_callbacks_is_the_same_in_debug_mode(
    debug_loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    for number in range(50):
        if number % 2:
            debug_loop.call_soon(ran.append, number)
        else:
            debug_loop.call_at(number, ran.append, number)
    run_one_pass(debug_loop)
    assert ran == [*range(1, 50, 2), *range(0, 50, 2)]


# The switches outside of the program

_IS_DEBUG = """
    loop = new_loop()
    say(loop.get_debug())
    loop.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((), {}, "False"),
        ((), {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ((), {"PYTHONASYNCIODEBUG": ""}, "False"),
        (("-X", "dev"), {}, "True"),
        (("-E",), {"PYTHONASYNCIODEBUG": "1"}, "False"),
    ],
    ids=["plain", "variable", "empty variable", "dev mode", "environment ignored"],
)
def test_the_switches_of_the_interpreter_are_obeyed(
    kind: str, options: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    outcome = run_program(kind, _IS_DEBUG, options=options, environment=environment)
    expect_lines(outcome, expected)


@pytest.mark.slow
def test_dev_mode_finds_nothing_wrong_in_an_ordinary_program(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio

        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, '127.0.0.1', 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b'hello\\n')
                line = await reader.readline()
                writer.close()
                await writer.wait_closed()
            await asyncio.to_thread(int)
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
            return line

        with asyncio.Runner(loop_factory=new_loop) as runner:
            say(runner.run(main()))
        """,
        options=("-X", "dev"),
    )
    expect_lines(outcome, "b'hello\\n'")
