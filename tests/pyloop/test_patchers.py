"""Loops that others have changed: patched instances, patched classes, subclasses, replaced parts."""

from __future__ import annotations

import asyncio
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from support.running import PATIENCE, run_asleep, run_one_pass, run_passes

from data_bridge.pyloop import PyLoop

Made = Callable[[type[asyncio.SelectorEventLoop]], Any]


@pytest.fixture(params=["asyncio", "pyloop"])
def base(request: pytest.FixtureRequest) -> type[asyncio.SelectorEventLoop]:
    """The class to derive from or to patch."""
    return asyncio.SelectorEventLoop if request.param == "asyncio" else PyLoop


@pytest.fixture
def make(leak_audit: None) -> Iterator[Made]:
    made: list[asyncio.SelectorEventLoop] = []

    def build(cls: type[asyncio.SelectorEventLoop]) -> Any:
        made.append(cls())
        return made[-1]

    yield build
    while made:
        made.pop().close()


async def _ordinary_day(loop: Any) -> str:
    """A bit of everything: tasks, timers, threads, sockets."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(int,))
    thread.start()
    await asyncio.gather(*(asyncio.sleep(number / 1000) for number in range(5)))
    thread.join()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await loop.create_future()
    return line.decode().strip()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


# Subclasses


def test_a_subclass_that_logs_handles_gets_a_real_handle_from_every_call(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    logged: list[tuple[str, asyncio.Handle]] = []

    class Logging(base):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
            handle = super().call_soon(callback, *args, context=context)
            logged.append((repr(handle), handle))
            return handle

    loop = make(Logging)
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert len(logged) > 20
    assert all(isinstance(handle, asyncio.Handle) for _, handle in logged)
    assert all(text.startswith("<Handle ") for text, _ in logged)
    assert any("TaskStep" in text for text, _ in logged), "task steps are seen as well"


def test_a_subclass_overrides_every_way_of_scheduling(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    used: list[str] = []

    class Counting(base):
        def call_soon(self, *args: Any, **keywords: Any) -> asyncio.Handle:
            used.append("call_soon")
            return super().call_soon(*args, **keywords)

        def call_soon_threadsafe(self, *args: Any, **keywords: Any) -> asyncio.Handle:
            used.append("call_soon_threadsafe")
            return super().call_soon_threadsafe(*args, **keywords)

        def call_at(self, *args: Any, **keywords: Any) -> asyncio.TimerHandle:
            used.append("call_at")
            return super().call_at(*args, **keywords)

        def call_later(self, *args: Any, **keywords: Any) -> asyncio.TimerHandle:
            used.append("call_later")
            return super().call_later(*args, **keywords)

    loop = make(Counting)
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert set(used) == {"call_soon", "call_soon_threadsafe", "call_at", "call_later"}
    # asyncio's call_later goes through call_at: whoever overrides the one sees the other.
    assert used.count("call_at") >= used.count("call_later")


def test_call_later_goes_through_an_overridden_call_at(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    whens: list[float] = []

    class Shifting(base):
        def call_at(self, when: float, *args: Any, **keywords: Any) -> asyncio.TimerHandle:
            whens.append(when)
            return super().call_at(when - 3600, *args, **keywords)

    loop = make(Shifting)
    begun = time.monotonic()
    loop.call_later(3600, loop.stop)
    loop.run_forever()
    assert time.monotonic() - begun < PATIENCE
    assert len(whens) == 1 and whens[0] - begun >= 3600


class _FakeTime:
    """A clock that moves when it is told to, and by itself when the loop would sleep."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start


def test_a_subclass_with_its_own_time_is_honoured(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    clock = _FakeTime()

    class Fake(base):
        def time(self) -> float:
            return clock.now

    loop = make(Fake)
    ran: list[str] = []
    assert loop.time() == 1000.0
    handle = loop.call_later(10, ran.append, "ten")
    loop.call_at(1020, ran.append, "twenty")
    assert handle.when() == 1010.0
    run_passes(loop, 3)
    assert ran == []
    clock.now = 1010.5
    run_passes(loop, 2)
    assert ran == ["ten"]
    clock.now = 1e6
    run_passes(loop, 2)
    assert ran == ["ten", "twenty"]


def test_a_faked_time_rules_over_asyncio_sleep_and_timeouts(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    clock = _FakeTime()

    class Fake(base):
        def time(self) -> float:
            return clock.now

    loop = make(Fake)

    async def advance(seconds: float) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        clock.now += seconds

    async def main() -> None:
        sleeping = asyncio.create_task(asyncio.sleep(3600, "slept"))
        await advance(3601)
        assert await sleeping == "slept"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                asyncio.create_task(advance(61))
                await loop.create_future()

    begun = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - begun < PATIENCE


def test_a_subclass_may_replace_run_once(base: type[asyncio.SelectorEventLoop], make: Made) -> None:
    passes: list[int] = []

    class Counting(base):
        def _run_once(self) -> None:
            passes.append(len(self._ready))
            super()._run_once()

    loop = make(Counting)
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert len(passes) > 10


def test_a_subclass_may_add_to_init_and_close(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    class Careful(base):
        def __init__(self, name: str = "plain") -> None:
            super().__init__()
            self.name = name
            self.steps = ["made"]

        def close(self) -> None:
            self.steps.append("closed")
            super().close()

    loop = make(Careful)
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    named = Careful("named")
    named.close()
    assert (named.name, named.steps) == ("named", ["made", "closed"])


# Instances


def test_time_replaced_on_the_instance_is_honoured_and_can_be_put_back(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    clock = _FakeTime(start=loop.time() + 1e6)
    far = loop.call_later(3600, ran.append, "queued before")
    loop.time = lambda: clock.now
    assert loop.call_later(5, int).when() == clock.now + 5
    run_passes(loop, 2)
    # The replaced clock is far ahead of the deadline.
    assert ran == ["queued before"]
    far.cancel()
    del loop.time
    assert abs(loop.time() - time.monotonic()) < 1
    loop.call_later(0.002, loop.stop)
    run_asleep(loop)


def test_time_replaced_while_the_loop_runs_is_honoured(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    real = loop.time

    async def main() -> None:
        loop.call_later(3600, ran.append, "an hour")
        loop.time = lambda: real() + 7200
        for _ in range(3):
            await asyncio.sleep(0)
        assert ran == ["an hour"]
        del loop.time
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())


def test_methods_replaced_on_the_instance_are_honoured(loop: asyncio.SelectorEventLoop) -> None:
    used: list[str] = []
    originals = {name: getattr(loop, name) for name in ("call_soon", "call_at", "call_later")}

    def spy(name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            used.append(name)
            return originals[name](*args, **keywords)

        return call

    for name in originals:
        setattr(loop, name, spy(name))
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert {"call_soon", "call_later", "call_at"} <= set(used)
    for name in originals:
        delattr(loop, name)
    used.clear()
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert used == []


def test_run_once_replaced_on_the_instance_is_used_and_can_be_put_back(
    loop: asyncio.SelectorEventLoop,
) -> None:
    passes: list[int] = []
    private: Any = loop
    original = private._run_once

    def counting() -> None:
        passes.append(1)
        original()

    private._run_once = counting
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert len(passes) > 10
    del private._run_once
    passes.clear()
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert passes == []


def test_asyncios_own_run_once_may_be_put_on_the_instance(
    loop: asyncio.SelectorEventLoop,
) -> None:
    private: Any = loop
    ran: list[int] = []
    for number in range(3):
        loop.call_soon(ran.append, number)
    loop.call_at(0, ran.append, 3)
    private._run_once = types.MethodType(asyncio.BaseEventLoop._run_once, loop)
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert ran == [0, 1, 2, 3]


def test_run_once_replaced_while_the_loop_runs_is_used(loop: asyncio.SelectorEventLoop) -> None:
    passes: list[int] = []
    private: Any = loop
    original = private._run_once

    def counting() -> None:
        passes.append(1)
        original()

    async def main() -> None:
        private._run_once = counting
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(passes) >= 3
        del private._run_once
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = len(passes)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(passes) == before

    loop.run_until_complete(main())


def test_a_replaced_select_is_called_with_the_time_to_sleep(
    loop: asyncio.SelectorEventLoop,
) -> None:
    private: Any = loop
    asked: list[float | None] = []
    original = private._selector.select

    def select(timeout: float | None = None) -> Any:
        asked.append(timeout)
        return original(0)

    private._selector.select = select
    loop.call_soon(int)
    timer = loop.call_later(30, int)
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    loop.call_later(0.003, loop.stop)
    loop.run_forever()
    timer.cancel()
    private._selector.select = original
    assert asked[0] == 0
    # With nothing ready it is asked to sleep until the deadline.
    assert any(timeout is not None and 0 < timeout <= 0.003 for timeout in asked)


# Classes


@pytest.mark.parametrize("name", ["call_soon", "call_at", "call_later", "time", "_run_once"])
def test_a_method_patched_on_the_class_is_honoured_and_unpatched(
    base: type[asyncio.SelectorEventLoop], make: Made, name: str
) -> None:
    used: list[str] = []
    original = getattr(base, name)

    def patched(self: Any, *args: Any, **keywords: Any) -> Any:
        used.append(name)
        return original(self, *args, **keywords)

    loop = make(base)
    early = make(base)
    early.call_soon(int)
    with mock.patch.object(base, name, patched):
        assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
        assert used
        used.clear()
        assert early.run_until_complete(_ordinary_day(early)) == "hello"
        assert used
    used.clear()
    assert loop.run_until_complete(_ordinary_day(loop)) == "hello"
    assert used == []


def test_a_mock_in_place_of_call_soon_gets_the_calls(loop: asyncio.SelectorEventLoop) -> None:
    with mock.patch.object(loop, "call_soon", wraps=loop.call_soon) as spy:
        loop.run_until_complete(asyncio.sleep(0))
    assert spy.call_count >= 1
    run_one_pass(loop)


def test_call_exception_handler_patched_on_the_class_is_used(
    base: type[asyncio.SelectorEventLoop], make: Made
) -> None:
    loop = make(base)
    with mock.patch.object(base, "call_exception_handler") as spy:
        loop.call_soon(lambda: 1 / 0)
        run_one_pass(loop)
    (context,) = spy.call_args.args
    assert type(context["exception"]) is ZeroDivisionError
