"""anyio on PyLoop, by its backend option and in its pytest plugin."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_process
import anyio.to_thread
import pytest
from apps.documented import documented_code


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.SelectorEventLoop]) -> Callable[..., Any]:
    """anyio.run on the loop under test, by the documented option."""

    def run(main: Callable[..., Any]) -> Any:
        return anyio.run(main, backend_options={"loop_factory": loop_factory})

    return run


def test_the_documented_lines_run_it_on_pyloop() -> None:
    async def main() -> None:
        await anyio.sleep(0)
        heard.append(type(asyncio.get_running_loop()).__name__)

    heard: list[str] = []
    exec(documented_code("anyio", "python"), {"main": main})
    assert heard == ["PyLoop"]


def test_cancel_scopes_and_task_groups_unwind_in_order(run: Callable[..., Any]) -> None:
    events: list[str] = []

    async def sleeper(name: str) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.005)
                events.append(f"{name} cleaned up")

    async def main() -> None:
        with anyio.move_on_after(0.02) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(sleeper, "first")
                group.start_soon(sleeper, "second")
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
        events.append("done")

    run(main)
    assert sorted(events[:2]) == ["first cleaned up", "second cleaned up"]
    assert events[2:] == ["done"]


def test_tcp_and_unix_streams_carry_bytes_both_ways(run: Callable[..., Any], tmp_path: Any) -> None:
    async def echo(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    async def converse(stream: anyio.abc.ByteStream) -> None:
        async with stream, anyio.create_task_group() as group:
            group.start_soon(stream.send, b"e" * 1_000_000)
            received = 0
            while received < 1_000_000:
                received += len(await stream.receive())
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"late")

    async def main() -> None:
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        unix = await anyio.create_unix_listener(tmp_path / "socket")
        async with tcp, unix, anyio.create_task_group() as group:
            group.start_soon(tcp.serve, echo)
            group.start_soon(unix.serve, echo)
            port = tcp.extra(anyio.abc.SocketAttribute.local_port)
            await converse(await anyio.connect_tcp("127.0.0.1", port))
            await converse(await anyio.connect_unix(tmp_path / "socket"))
            group.cancel_scope.cancel()

    run(main)


def test_udp_wait_readable_and_raw_sockets(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as receiver:
            port = receiver.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as sender:
                await sender.send(b"datagram")
                assert (await receiver.receive())[0] == b"datagram"
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            await anyio.wait_writable(left)
            with anyio.move_on_after(0.01) as scope:
                await anyio.wait_readable(left)
            assert scope.cancelled_caught
            right.send(b"now")
            await anyio.wait_readable(left)
            assert left.recv(10) == b"now"

    run(main)


def test_threads_call_out_and_back(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async def double(number: int) -> int:
            await anyio.sleep(0)
            return number * 2

        def work(number: int) -> int:
            return int(anyio.from_thread.run(double, number))

        results: dict[int, int] = {}

        async def ask(number: int) -> None:
            results[number] = await anyio.to_thread.run_sync(work, number)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)
        assert results == {number: number * 2 for number in range(20)}

    run(main)


@pytest.mark.slow
def test_a_portal_serves_a_foreign_thread(
    loop_factory: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    """Slow: the portal's own thread, with an event loop in it."""

    async def name() -> str:
        await anyio.sleep(0.001)
        return type(asyncio.get_running_loop()).__name__

    expected = type(loop_factory()).__name__
    with anyio.from_thread.start_blocking_portal(
        backend_options={"loop_factory": loop_factory}
    ) as portal:
        assert portal.call(name) == expected
        futures = [portal.start_task_soon(name) for _ in range(50)]
        assert [future.result(10) for future in futures] == [expected] * 50


@pytest.mark.slow
def test_a_process_is_fed_read_and_waited_for(run: Callable[..., Any]) -> None:
    """Slow: child interpreters."""
    program = "import sys; data = sys.stdin.read(); print(data.upper()); sys.exit(7)"

    async def main() -> None:
        result = await anyio.run_process(
            [sys.executable, "-c", program], input=b"to be shouted", check=False
        )
        assert (result.returncode, result.stdout) == (7, b"TO BE SHOUTED\n")
        with pytest.raises(subprocess.CalledProcessError):
            await anyio.run_process([sys.executable, "-c", "raise SystemExit(1)"])
        async with await anyio.open_process([sys.executable, "-c", "input()"]) as process:
            process.terminate()
            assert await process.wait() != 0

    run(main)
