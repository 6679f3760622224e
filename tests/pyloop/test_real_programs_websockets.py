"""websockets' asyncio server and client, on the loop that runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from apps.documented import documented_code
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK


async def _echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        if message == "fail":
            raise ValueError("as asked")
        if message == "leave":
            await websocket.close(4001, "asked to leave")
            return
        await websocket.send(message)


@contextlib.asynccontextmanager
async def _serving(handler: object = _echo, **options: object) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_messages_of_every_size_come_back_in_order(loop: asyncio.SelectorEventLoop) -> None:
    messages: list[str | bytes] = ["", "short", b"\x00\xff", "long " * 100_000, b"b" * 900_000]
    messages += [f"number {number}" for number in range(200)]

    async def main() -> None:
        async with _serving() as address, connect(address, proxy=None) as websocket:

            async def send() -> None:
                for message in messages:
                    await websocket.send(message)

            sending = asyncio.create_task(send())
            assert [await websocket.recv() for _ in messages] == messages
            await sending

    loop.run_until_complete(main())


def test_the_close_code_reaches_the_other_side(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as address:
            async with connect(address, proxy=None) as websocket:
                await websocket.send("leave")
                with pytest.raises(ConnectionClosedError) as closed:
                    await websocket.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                    4001,
                    "asked to leave",
                )
            async with connect(address, proxy=None) as websocket:
                await websocket.close()
                with pytest.raises(ConnectionClosedOK):
                    await websocket.recv()

    loop.run_until_complete(main())


def test_a_handler_that_raises_closes_its_own_connection_only(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _serving() as address:
            async with (
                connect(address, proxy=None) as failing,
                connect(address, proxy=None) as fine,
            ):
                await failing.send("fail")
                with pytest.raises(ConnectionClosedError) as closed:
                    await failing.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1011
                await fine.send("still here")
                assert await fine.recv() == "still here"

    loop.run_until_complete(main())


def test_one_broadcast_reaches_every_client(loop: asyncio.SelectorEventLoop) -> None:
    joined: set[ServerConnection] = set()

    async def join(websocket: ServerConnection) -> None:
        joined.add(websocket)
        await websocket.wait_closed()

    async def main() -> None:
        async with _serving(join) as address, contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(connect(address, proxy=None)) for _ in range(20)
            ]
            while len(joined) < len(clients):
                await asyncio.sleep(0)
            broadcast(joined, "to all")
            assert [await client.recv() for client in clients] == ["to all"] * 20

    loop.run_until_complete(main())


def test_pings_are_answered_while_the_handler_sleeps(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving(ping_interval=0.01, ping_timeout=5) as address:
            async with connect(address, proxy=None, ping_interval=None) as websocket:
                latency = await asyncio.wait_for(await websocket.ping(), 5)
                assert latency > 0
                await asyncio.sleep(0.05)
                await websocket.send("alive")
                assert await websocket.recv() == "alive"

    loop.run_until_complete(main())


def test_a_reader_that_pauses_holds_back_its_sender(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        may_read = asyncio.Event()
        sizes: list[int] = []

        async def pause_then_read(websocket: ServerConnection) -> None:
            await may_read.wait()
            sizes.extend([len(message) async for message in websocket])

        sent: list[int] = []
        async with (
            _serving(pause_then_read, compression=None) as address,
            connect(address, proxy=None, compression=None) as websocket,
        ):

            async def send() -> None:
                for number in range(300):
                    await websocket.send(bytes(100_000))
                    sent.append(number)

            sending = asyncio.create_task(send())
            before = -1
            while len(sent) != before:  # until the buffers of both sides are full
                before = len(sent)
                await asyncio.sleep(0.05)
            assert 0 < len(sent) < 300
            may_read.set()
            await sending
        assert sizes == [100_000] * 300

    loop.run_until_complete(main())


def test_the_documented_lines_run_it_on_pyloop() -> None:
    async def main() -> None:
        async with _serving() as address, connect(address, proxy=None) as websocket:
            await websocket.send("documented")
            heard.append((await websocket.recv(), type(asyncio.get_running_loop()).__name__))

    heard: list[tuple[str | bytes, str]] = []
    exec(documented_code("websockets", "python"), {"main": main})
    assert heard == [("documented", "PyLoop")]
