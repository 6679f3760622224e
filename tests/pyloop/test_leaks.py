"""What an open loop holds, and that a closed one holds nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.descriptors import kinds, open_descriptors, opened_since
from support.memory import resident_bytes
from support.running import run_one_pass, run_passes

from data_bridge.pyloop import PyLoop, new_event_loop

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_an_open_loop_holds_one_epoll_and_one_eventfd(pyloop_factory: LoopFactory) -> None:
    before = open_descriptors()
    loop = pyloop_factory()
    one = Counter({"eventpoll": 1, "eventfd": 1})
    assert kinds(opened_since(before)) == one
    loop.run_until_complete(asyncio.sleep(0.001))
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(int,))
    thread.start()
    thread.join()
    run_one_pass(loop)
    assert kinds(opened_since(before)) == one
    others = [pyloop_factory() for _ in range(4)]
    assert kinds(opened_since(before)) == Counter({"eventpoll": 5, "eventfd": 5})
    for other in others:
        other.close()
    assert kinds(opened_since(before)) == one
    loop.close()
    assert opened_since(before) == {}


@linux
def test_the_sockets_of_signal_handlers_come_with_the_first_and_go_with_the_last(
    pyloop: PyLoop,
) -> None:
    before = open_descriptors()
    pyloop.add_signal_handler(signal.SIGUSR1, int)
    pyloop.add_signal_handler(signal.SIGUSR2, int)
    assert kinds(opened_since(before)) == Counter({"socket": 2})
    pyloop.remove_signal_handler(signal.SIGUSR1)
    assert kinds(opened_since(before)) == Counter({"socket": 2})
    pyloop.remove_signal_handler(signal.SIGUSR2)
    assert opened_since(before) == {}


def test_a_refused_signal_handler_leaves_no_descriptor(loop: asyncio.SelectorEventLoop) -> None:
    before = open_descriptors()
    for number in (signal.SIGKILL, 1000, "x"):
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            loop.add_signal_handler(number, int)
    assert opened_since(before) == {}


def test_a_thousand_loops_made_and_closed_leave_no_descriptor(kind: str) -> None:
    new: Callable[[], asyncio.SelectorEventLoop] = (
        new_event_loop if kind == "pyloop" else asyncio.SelectorEventLoop
    )
    before = open_descriptors()
    for number in range(1000):
        loop = new()
        if number % 10 == 0:
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    del loop
    assert opened_since(before) == {}


@pytest.mark.slow
def test_thousands_of_loops_leave_no_memory(kind: str) -> None:
    new: Callable[[], asyncio.SelectorEventLoop] = (
        new_event_loop if kind == "pyloop" else asyncio.SelectorEventLoop
    )

    def make(count: int) -> None:
        for _ in range(count):
            loop = new()
            loop.call_soon(int, 1)
            loop.call_later(100, int)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
        gc.collect()

    make(300)
    before = resident_bytes()
    make(1500)
    assert resident_bytes() - before < 3_000_000


@linux
def test_a_loop_that_cannot_be_made_leaves_nothing_and_raises_oserror() -> None:
    # asyncio's own loop leaks its epoll here.
    before = open_descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(before) + 8  # room for a loop's descriptors, whatever is open already
    errors: list[int | None] = []
    try:
        for spare in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
            fillers = []
            try:
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            for _ in range(spare):
                os.close(fillers.pop())
            loop: Any = None
            try:
                loop = new_event_loop()
            except OSError as error:
                errors.append(error.errno)
            finally:
                if loop is not None:
                    loop.close()
                for filler in fillers:
                    os.close(filler)
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                del loop
                gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(errors) >= 2 and set(errors) == {24}
    assert opened_since(before) == {}


@pytest.mark.slow
def test_a_million_callbacks_leave_memory_where_it_was(loop: asyncio.SelectorEventLoop) -> None:
    left = 0

    def chain() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(chain)
        else:
            loop.stop()

    def run(count: int) -> None:
        nonlocal left
        left = count
        loop.call_soon(chain)
        loop.run_forever()

    run(50_000)
    before = resident_bytes()
    run(300_000)
    assert resident_bytes() - before < 2_000_000


@pytest.mark.slow
def test_a_burst_gives_its_memory_back_for_the_next_one(loop: asyncio.SelectorEventLoop) -> None:
    def burst() -> None:
        for number in range(100_000):
            loop.call_soon(int, number)
        run_one_pass(loop)

    burst()
    before = resident_bytes()
    for _ in range(3):
        burst()
    assert resident_bytes() - before < 8_000_000


@pytest.mark.parametrize("way", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_reference_counts_of_callback_and_arguments_are_balanced(
    loop: asyncio.SelectorEventLoop, way: str
) -> None:
    def callback(*args: object) -> None:
        pass

    schedule = getattr(loop, way)
    first = [0] if way in ("call_later", "call_at") else []
    for count in (0, 1, 2, 3, 4, 8):
        arguments = [object() for _ in range(count)]
        counts = [sys.getrefcount(item) for item in (callback, *arguments, None, loop)]
        for number in range(100):
            handle = schedule(*first, callback, *arguments)
            if number % 2:
                handle.cancel()
            repr(handle)
            del handle
        run_passes(loop, 2)
        after = [sys.getrefcount(item) for item in (callback, *arguments, None, loop)]
        differences = [abs(now - then) for now, then in zip(after, counts, strict=True)]
        # None and the loop are counted by others as well; ours would show in fifties.
        assert differences[: 1 + count] == [0] * (1 + count)
        assert max(differences) < 30


def test_reference_counts_are_balanced_after_errors_at_the_call(
    loop: asyncio.SelectorEventLoop,
) -> None:
    def callback() -> None:
        pass

    callback()
    wrong = object()
    before = sys.getrefcount(callback), sys.getrefcount(wrong)
    for _ in range(100):
        with pytest.raises(TypeError):
            loop.call_later(wrong, callback)
        with pytest.raises(TypeError):
            loop.call_soon(callback, unknown=wrong)
        with pytest.raises(TypeError):
            loop.call_at(None, callback, wrong)
    gc.collect()
    assert (sys.getrefcount(callback), sys.getrefcount(wrong)) == before


def test_descriptors_of_an_ordinary_day_are_all_given_back(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for _ in range(10):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"x\n")
                assert await reader.readline() == b"x\n"
                writer.close()
                await writer.wait_closed()
        process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "pass")
        assert await process.wait() == 0

    before = open_descriptors()
    loop.run_until_complete(main())
    run_passes(loop, 3)
    loop.close()
    gc.collect()
    assert opened_since(before) == {}
