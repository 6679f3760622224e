"""What breaks in other loops, as seen by running them: callbacks, timers, tasks, signals, life cycle.

Each test is named after the behaviour that must hold; the comment says which loop lost it and how.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import pytest
from conftest import LoopFactory
from support.children import expect_lines, run_program
from support.descriptors import open_descriptors, opened_since
from support.running import PATIENCE, run_asleep, run_one_pass, run_passes

from data_bridge.pyloop import PyLoop


async def _answer(value: int = 42) -> int:
    await asyncio.sleep(0)
    return value


def test_a_plain_task_factory_of_loop_and_coroutine_is_accepted(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # uvloop 0.23 passes keywords that the documented form (loop, coro) does not have: TypeError.
    loop.set_task_factory(lambda given, coro: asyncio.Task(coro, loop=given))
    assert loop.run_until_complete(_answer()) == 42
    task = loop.create_task(_answer(7), name="named")
    assert loop.run_until_complete(task) == 7
    assert task.get_name() == "named"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_the_eager_task_factory_is_accepted(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23: TypeError from asyncio.eager_task_factory.
    async def main() -> bool:
        done = asyncio.get_running_loop().create_task(_at_once())
        return done.done()

    async def _at_once() -> None:
        pass

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) is True


def test_the_clock_is_finer_than_a_millisecond_and_no_timer_is_early(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # uvloop's clock counts whole milliseconds: its timers come up to one millisecond early.
    for _ in range(20):
        begun = time.monotonic()
        loop.call_later(0.0015, loop.stop)
        run_asleep(loop)
        assert time.monotonic() - begun >= 0.0015 - 1e-9
    assert any(loop.time() * 1000 % 1 > 0.001 for _ in range(20))


def test_a_cancelled_timer_is_forgotten_at_once(pyloop: PyLoop) -> None:
    # rloop 0.5 keeps a cancelled timer, its callback and its arguments until it is due.
    for _ in range(1000):
        pyloop.call_later(3600, print).cancel()
    assert len(pyloop._scheduled) == 0


def test_exit_in_a_task_leaves_the_run(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 hangs.
    async def main() -> None:
        await asyncio.sleep(0)
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        loop.run_until_complete(main())
    assert caught.value.code == 3


def test_exit_in_a_child_task_leaves_the_run(loop: asyncio.SelectorEventLoop) -> None:
    async def child() -> None:
        raise SystemExit(4)

    async def main() -> None:
        await asyncio.create_task(child())

    with pytest.raises(SystemExit) as caught:
        loop.run_until_complete(main())
    assert caught.value.code == 4


def test_an_interrupt_in_a_callback_leaves_the_run(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 swallows it.
    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(_answer()) == 42


def test_the_exception_handler_gets_the_loop_and_the_context(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # rloop 0.5 calls it with wrong arguments.
    got: list[tuple[Any, ...]] = []
    loop.set_exception_handler(lambda *args: got.append(args))
    loop.call_soon(lambda: 1 / 0)
    run_one_pass(loop)
    ((first, second),) = got
    assert first is loop
    assert {"message", "exception", "handle"} <= set(second)


def test_a_closed_loop_leaves_no_descriptor(loop_factory: LoopFactory) -> None:
    # rloop 0.5 leaks two for each loop.
    before = open_descriptors()
    for _ in range(20):
        loop = loop_factory()
        loop.run_until_complete(_answer())
        loop.close()
    assert opened_since(before) == {}


def test_a_signal_handler_can_be_removed(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5: remove_signal_handler fails.
    loop.add_signal_handler(signal.SIGUSR1, int)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_a_signal_that_came_while_the_loop_did_not_run_is_delivered_when_it_runs(
    loop: asyncio.SelectorEventLoop,
) -> None:
    got: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
    os.kill(os.getpid(), signal.SIGUSR1)
    run_passes(loop, 3)
    assert got == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="3.12 has the time-out but waits all the same"
)
def test_the_time_out_of_the_executors_shutdown_is_obeyed(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # uvloop 0.23 ignores it and waits for the threads.
    release = threading.Event()

    async def main() -> float:
        future = loop.run_in_executor(None, release.wait, PATIENCE)
        await asyncio.sleep(0)
        begun = time.monotonic()
        with pytest.warns(RuntimeWarning):
            await loop.shutdown_default_executor(timeout=0.01)
        took = time.monotonic() - begun
        release.set()
        await future
        return took

    assert loop.run_until_complete(main()) < PATIENCE / 2


def test_negative_delays_run_by_their_deadlines(loop: asyncio.SelectorEventLoop) -> None:
    # Several loops clip them to zero and lose the order.
    ran: list[int] = []
    for delay in (-1, -3, -2):
        loop.call_later(delay, ran.append, delay)
    run_one_pass(loop)
    assert ran == [-3, -2, -1]


def test_a_due_timer_fires_with_no_descriptor_to_wake_the_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # rloop: a timer that was due slept until the next event (its test_call_later_due_without_io).
    ran: list[int] = []

    def block() -> None:
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass

    loop.call_later(0.001, ran.append, 1)
    loop.call_later(0.002, loop.stop)
    loop.call_soon(block)
    run_asleep(loop)
    assert ran == [1]


def test_add_reader_takes_objects_with_fileno(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair()
    with near, far:
        got: list[bytes] = []
        loop.add_reader(near, lambda: (got.append(near.recv(10)), loop.stop()))
        far.send(b"x")
        run_asleep(loop)
        assert got == [b"x"]
        assert loop.remove_reader(near) is True


def test_debug_mode_does_what_it_says(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # rloop 0.5 has none.
    loop.set_debug(True)
    loop.slow_callback_duration = 0.001
    loop.call_soon(time.sleep, 0.002)
    run_one_pass(loop)
    assert "took 0.00" in caplog.text
    with pytest.raises(TypeError):
        loop.call_soon(_answer)
    handle: Any = loop.call_soon(int)
    assert handle._source_traceback
    run_one_pass(loop)


def test_contextvars_of_protocol_callbacks_are_those_of_the_connection(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # rloop 0.5 calls protocols in a wrong context.
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def run_in_own_context(kind: str) -> list[str]:
        seen: list[str] = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                seen.append(variable.get())

            def data_received(self, data: bytes) -> None:
                seen.append(variable.get())

            def connection_lost(self, exc: Exception | None) -> None:
                seen.append(variable.get())
                lost.set_result(None)

        near, far = socket.socketpair()
        lost = loop.create_future()

        async def main() -> None:
            variable.set(kind)
            transport, _ = await loop.create_connection(Protocol, sock=near)
            far.send(b"x")
            await asyncio.sleep(0.002)
            variable.set("changed meanwhile")
            transport.close()
            await lost

        with far:
            loop.run_until_complete(main())
        return seen

    seen = run_in_own_context("connection")
    assert len(seen) == 3
    assert seen[0] == seen[1] == "connection"


@pytest.mark.slow
def test_protocol_factories_and_callbacks_that_raise_do_not_end_the_process(kind: str) -> None:
    # rloop 0.5 panics: the process aborts.
    outcome = run_program(
        kind,
        """
    import asyncio
    import warnings
    loop = new_loop()
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(type(context['exception']).__name__))

    def factory():
        raise ZeroDivisionError

    class Fails(asyncio.Protocol):
        def data_received(self, data):
            raise LookupError

    async def attempt(make):
        server = await loop.create_server(make, '127.0.0.1', 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b'x')
        try:
            await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            pass
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass
        server.close()
        await server.wait_closed()

    async def main():
        await attempt(Fails)
        # asyncio drops the socket of a connection that got no protocol without closing it.
        warnings.simplefilter('ignore', ResourceWarning)
        server = await loop.create_server(asyncio.Protocol, '127.0.0.1', 0)
        try:
            await loop.create_connection(factory, *server.sockets[0].getsockname())
        except ZeroDivisionError:
            say('the client is told')
        server.close()
        await server.wait_closed()
        # A server's factory is reported in debug mode only.
        loop.set_debug(True)
        server = await loop.create_server(factory, '127.0.0.1', 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while len(reports) < 2:
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    say(reports)
    loop.close()
    """,
    )
    expect_lines(outcome, "the client is told", "['LookupError', 'ZeroDivisionError']")


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs interpreters with their own GIL")
def test_a_subinterpreter_with_its_own_gil_is_no_crash() -> None:
    # uvloop and rloop refuse to be imported there; asyncio works. A clean ImportError is the least.
    outcome = run_program(
        "pyloop",
        """
    import sys
    name = '_interpreters' if sys.version_info >= (3, 13) else '_xxsubinterpreters'
    interpreters = __import__(name)
    interpreter = interpreters.create()
    code = '''if True:
        import sys
        try:
            from data_bridge.pyloop import new_event_loop
            import asyncio
            loop = new_event_loop()
            assert loop.run_until_complete(asyncio.sleep(0.001, 'ran')) == 'ran'
            loop.close()
        except ImportError as error:
            assert 'interpreter' in str(error) + str(error.__cause__), error
    '''
    failure = (interpreters.exec if hasattr(interpreters, 'exec') else interpreters.run_string)(
        interpreter, code)
    interpreters.destroy(interpreter)
    say(failure)
    loop = new_loop()
    loop.close()
    """,
    )
    expect_lines(outcome, "None")
