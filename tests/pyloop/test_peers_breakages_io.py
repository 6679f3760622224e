"""What breaks in other loops, as seen by running them: connections, servers, datagrams, pipes.

Each test is named after the behaviour that must hold; the comment says which loop lost it and how.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import sys
import tempfile
from typing import Any

import pytest
from support.descriptors import open_descriptors


class Recorder(asyncio.Protocol):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: Any = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(None)


async def _pair() -> tuple[Any, Recorder, socket.socket]:
    near, far = socket.socketpair()
    far.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=near)
    return transport, protocol, far


def test_writing_after_close_does_not_raise(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23 raises.
    async def main() -> None:
        transport, protocol, far = await _pair()
        with far:
            transport.close()
            transport.write(b"too late")
            await protocol.lost
            transport.write(b"too late")

    loop.run_until_complete(main())


def test_connection_lost_is_never_called_inside_close(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 calls it there.
    async def main() -> None:
        for name in ("close", "abort"):
            transport, protocol, far = await _pair()
            with far:
                getattr(transport, name)()
                assert protocol.events == ["made"]
                await protocol.lost
                assert protocol.events == ["made", "lost"]

    loop.run_until_complete(main())


def test_pause_reading_holds_back_what_has_come_already(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 goes on within a burst of reads.
    async def main() -> None:
        transport, protocol, far = await _pair()
        pausing = protocol.data_received

        def pause_at_the_first(data: bytes) -> None:
            pausing(data)
            transport.pause_reading()

        protocol.data_received = pause_at_the_first
        far.setblocking(True)
        sender = loop.run_in_executor(None, far.sendall, bytes(2_000_000))
        while protocol.events[-1] == "made":
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(protocol.events) == 2
        transport.resume_reading()
        while len(protocol.events) < 3:
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        far.close()
        await asyncio.gather(sender, return_exceptions=True)
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_write_inside_pause_writing_is_survived(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 panics.
    async def main() -> None:
        transport, protocol, far = await _pair()

        def pause() -> None:
            protocol.events.append("pause")
            transport.write(b"end")

        protocol.pause_writing = pause
        with far:
            transport.set_write_buffer_limits(high=1000)
            transport.write(bytes(3_000_000))
            assert "pause" in protocol.events
            received = 0
            last = b""
            while received < 3_000_003:
                data = await loop.sock_recv(far, 1 << 20)
                received += len(data)
                last = (last + data)[-3:]
            assert last == b"end"
            transport.close()
            await protocol.lost
        assert protocol.events.count("resume") == 1

    loop.run_until_complete(main())


def test_set_protocol_changes_who_is_told(loop: asyncio.SelectorEventLoop) -> None:
    # rloop 0.5 has none.
    async def main() -> None:
        transport, first, far = await _pair()
        with far:
            second = Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            far.send(b"x")
            while not second.events:
                await asyncio.sleep(0)
            transport.close()
            await second.lost
        assert first.events == ["made"]
        assert second.events == [b"x", "lost"]

    loop.run_until_complete(main())


def test_a_descriptor_is_closed_once_and_never_again(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop closed one twice: its number belonged to somebody else by then, who got the answers.
    async def main() -> list[tuple[int, int]]:
        transport, protocol, far = await _pair()
        transport.abort()
        await protocol.lost
        far.close()
        newer = [os.pipe() for _ in range(5)]
        transport.abort()
        transport.close()
        await asyncio.sleep(0)
        del transport, protocol
        return newer

    newer = loop.run_until_complete(main())
    loop.close()
    opened = open_descriptors()
    for reading, writing in newer:
        assert reading in opened and writing in opened
        os.close(reading)
        os.close(writing)


def test_transports_are_asyncios_transports_and_their_methods_can_be_replaced(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # aiohttp, uvicorn and aioquic replace write or sendto on the instance; aioquic and others ask
    # for isinstance.
    async def main() -> None:
        transport, protocol, far = await _pair()
        written: list[bytes] = []
        with far:
            assert isinstance(transport, asyncio.Transport)
            transport.write = written.append
            transport.write(b"caught")
            transport.close()
            await protocol.lost
        assert written == [b"caught"]
        datagram, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        # asyncio's own is not one yet on 3.11.
        wanted = asyncio.DatagramTransport if sys.version_info >= (3, 12) else asyncio.BaseTransport
        assert isinstance(datagram, wanted)
        datagram.sendto = lambda *args: None
        datagram.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_the_sockets_of_a_server_are_a_tuple_of_transport_sockets(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        assert type(server.sockets) is tuple
        assert [type(item).__name__ for item in server.sockets] == ["TransportSocket"]
        # websockets reads it.
        assert server._ssl_context is None
        server.close()
        await server.wait_closed()
        assert server.sockets == ()

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="as of 3.12.1")
def test_wait_closed_waits_for_live_clients(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23 returns with clients still connected.
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not made:
            await asyncio.sleep(0)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0.005)
        assert not waiting.done()
        if sys.version_info >= (3, 13):
            # uvloop 0.23 has no close_clients.
            server.close_clients()
        else:
            made[0].transport.close()
        await asyncio.wait_for(waiting, 5)
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(main())


def test_sendfile_works(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23 has none.
    content = os.urandom(300_000)

    async def main() -> bytes:
        received = bytearray()
        transport, protocol, far = await _pair()
        with tempfile.TemporaryFile() as file, far:
            file.write(content)
            file.flush()
            sending = asyncio.ensure_future(loop.sendfile(transport, file, 0, None))
            while len(received) < len(content):
                received += await loop.sock_recv(far, 65536)
            assert await sending == len(content)
            near, other = socket.socketpair()
            near.setblocking(False)
            other.setblocking(False)
            with near, other:
                file.seek(0)
                sending = asyncio.ensure_future(loop.sock_sendfile(near, file, 10, 1000))
                part = b""
                while len(part) < 1000:
                    part += await loop.sock_recv(other, 65536)
                assert await sending == 1000
                assert part == content[10:1010]
            transport.close()
            await protocol.lost
        return bytes(received)

    assert loop.run_until_complete(main()) == content


def test_happy_eyeballs_find_the_address_that_answers(
    loop: asyncio.SelectorEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # uvloop 0.23 refuses the keyword.
    async def main() -> None:
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            refused = silent.getsockname()[1]

        async def resolve(*args: Any, **keywords: Any) -> list[Any]:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", refused)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            ]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        transport, protocol = await loop.create_connection(
            Recorder, "example.invalid", 1, happy_eyeballs_delay=0.01, interleave=1
        )
        assert transport.get_extra_info("peername")[1] == port
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


@pytest.mark.skipif(
    "keep_alive" not in inspect.signature(asyncio.BaseEventLoop.create_server).parameters,
    reason="this asyncio has no keep_alive",
)
def test_keep_alive_of_a_server_reaches_its_sockets(loop: asyncio.SelectorEventLoop) -> None:
    # uvloop 0.23 refuses the keyword.
    async def main() -> int:
        server = await loop.create_server(
            Recorder, "127.0.0.1", 0, keep_alive=True, reuse_address=True
        )
        value = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        server.close()
        await server.wait_closed()
        return value

    assert loop.run_until_complete(main()) != 0


def test_datagrams_by_sock_calls_and_empty_and_local_ones_work(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # uvloop 0.23 has no sock_recvfrom and sock_sendto, and loses empty and AF_UNIX datagrams.
    async def main() -> None:
        with (
            socket.socket(type=socket.SOCK_DGRAM) as one,
            socket.socket(type=socket.SOCK_DGRAM) as two,
        ):
            for sock in (one, two):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            await loop.sock_sendto(one, b"hello", two.getsockname())
            assert await loop.sock_recvfrom(two, 100) == (b"hello", one.getsockname())
            buffer = bytearray(10)
            await loop.sock_sendto(two, b"back", one.getsockname())
            assert await loop.sock_recvfrom_into(one, buffer) == (4, two.getsockname())
        received: asyncio.Queue[bytes] = asyncio.Queue()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                received.put_nowait(data)

        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        transport, _ = await loop.create_datagram_endpoint(Protocol, sock=near)
        with far:
            far.send(b"")
            far.send(b"local")
            assert await asyncio.wait_for(received.get(), 5) == b""
            assert await asyncio.wait_for(received.get(), 5) == b"local"
        transport.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_reading_a_regular_file_as_a_pipe_is_a_value_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # uvloop 0.23 aborts the process.
    async def main() -> None:
        with tempfile.TemporaryFile() as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_read_pipe(asyncio.Protocol, file)
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_write_pipe(asyncio.BaseProtocol, file)

    loop.run_until_complete(main())
