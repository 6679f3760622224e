"""The servers' side of the socket workloads, as programs write it: protocols, streams, sockets.

Nothing here is tuned for a loop. What is read is sent back at once; ``writes`` above one sends it
in so many pieces, as a server does that writes head and body of a response apart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, ClassVar

READ_AT_MOST = 65_536
BUFFER = 64 * 1024


class Counted(asyncio.BaseProtocol):
    """Counts open connections on the class: a counter of its own would cost each connection."""

    __slots__ = ("transport",)
    live: ClassVar[int] = 0
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport
        Counted.live += 1

    def connection_lost(self, problem: Exception | None) -> None:
        """Forget it."""
        self.transport = None
        Counted.live -= 1


class Echo(Counted, asyncio.Protocol):
    """What is received is written."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """One write for each piece that comes."""
        self.transport.write(data)


def echo_in_pieces(writes: int) -> Callable[[], asyncio.Protocol]:
    """A factory of protocols that answer by so many writes."""
    if writes == 1:
        return Echo

    class EchoInPieces(Counted, asyncio.Protocol):
        __slots__ = ()

        def data_received(self, data: bytes) -> None:
            step = -(-len(data) // writes)
            for first in range(0, len(data), step):
                self.transport.write(data[first : first + step])

    return EchoInPieces


class BufferedEcho(Counted, asyncio.BufferedProtocol):
    """The same over one buffer for each connection; a written piece is a copy, as it has to be."""

    __slots__ = ("buffer",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and make the buffer."""
        super().connection_made(transport)
        self.buffer = bytearray(BUFFER)

    def get_buffer(self, sizehint: int) -> bytearray:
        """All of the buffer, each time."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """One write for each piece that comes."""
        self.transport.write(self.buffer[:nbytes])


class DatagramEcho(asyncio.DatagramProtocol):
    """Every datagram goes back to where it came from."""

    __slots__ = ("transport",)
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        """One datagram for each that comes."""
        self.transport.sendto(data, address)


def stream_echo(writes: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """A client handler: ``read(n)`` and ``write``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_AT_MOST):
                if writes == 1:
                    writer.write(data)
                    continue
                step = -(-len(data) // writes)
                for first in range(0, len(data), step):
                    writer.write(data[first : first + step])
        finally:
            writer.close()

    return serve


async def socket_echo(loop: Any, listener: socket.socket) -> None:
    """Accept for ever; each connection has a task of ``sock_recv`` and ``sock_sendall``."""
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = loop.create_task(_serve_socket(loop, connection))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _serve_socket(loop: Any, connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(connection, READ_AT_MOST):
            await loop.sock_sendall(connection, data)
