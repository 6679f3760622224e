"""Random programs of sock_* calls: sockets that close and come back, cancelled calls, readers in between.

Each connection knows what was sent to it. Whatever happens, what was received is that, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

import pytest
from support.sock_pairs import finish, move_to, stream_pair
from support.sock_protocols import passes


class _Connection:
    """A socket of the loop under test, its far end, and what went through."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.sent = bytearray()
        self.received = bytearray()
        self.task: asyncio.Task[Any] | None = None
        self.buffer = bytearray()

    def owed(self) -> int:
        return len(self.sent) - len(self.received)


class _Program:
    """Random steps over a few connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int, cancels: bool) -> None:
        self.loop = loop
        self.ways = random.Random(seed)
        self.cancels = cancels
        self.connections: list[_Connection] = []
        self.stack = contextlib.ExitStack()
        self.log: list[str] = []

    def open(self, instead_of: socket.socket | None = None) -> None:
        """A new connection, under the number of the old one that it closes, if that is given."""
        kind = self.ways.choice(("tcp", "unix"))
        # Before the number is free: otherwise the other end could get it.
        near, far = self.stack.enter_context(stream_pair(kind))
        if instead_of is not None:
            number = instead_of.fileno()
            instead_of.close()
            near = self.stack.enter_context(move_to(near, number))
        self.connections.append(_Connection(near, far))

    def start(self, connection: _Connection) -> None:
        """Begin a receive, of one kind or the other."""
        size = self.ways.choice((1, 3, 10, 1000, 100_000))
        if self.ways.random() < 0.5:
            call = self.loop.sock_recv(connection.near, size)
        else:
            connection.buffer = bytearray(size)
            call = self.loop.sock_recv_into(connection.near, connection.buffer)
        connection.task = self.loop.create_task(call)

    async def settle(self, connection: _Connection, cancel: bool) -> None:
        """Wait for the receive under way, or cancel it, and take what it has."""
        task, connection.task = connection.task, None
        if task is None:
            return
        if cancel:
            task.cancel()
        elif not task.done() and not connection.owed():
            self.send(connection)
        try:
            answer = await task
        except asyncio.CancelledError:
            return
        part = answer if isinstance(answer, bytes) else connection.buffer[:answer]
        assert part, self.log
        connection.received += part

    def send(self, connection: _Connection) -> None:
        """Send a little from the far end."""
        data = self.ways.randbytes(self.ways.choice((1, 2, 5, 30, 2000)))
        with contextlib.suppress(BlockingIOError):
            connection.sent += data[: connection.far.send(data)]

    def watch(self, connection: _Connection) -> None:
        """Set a reader and take it away again."""
        if connection.task is None:
            self.loop.add_reader(connection.near, self.log.append, "readable")
            assert self.loop.remove_reader(connection.near) is True
            assert self.loop.remove_reader(connection.near) is False

    async def replace(self, connection: _Connection) -> None:
        """Close one and open another under its number."""
        await self.settle(connection, cancel=self.cancels)
        # Sometimes the connection lives on in a duplicate, and goes on hearing from its peer.
        if self.ways.random() < 0.5:
            self.stack.enter_context(connection.near.dup())
        self.connections.remove(connection)
        self.open(instead_of=connection.near)
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
            connection.far.send(b"for nobody")

    async def step(self) -> None:
        """One random step."""
        connection = self.ways.choice(self.connections)
        what = self.ways.choice(("start", "send", "send", "settle", "watch", "pass", "replace"))
        self.log.append(f"{what} {connection.near.fileno()}")
        if what == "start" and connection.task is None:
            self.start(connection)
        elif what == "send":
            self.send(connection)
        elif what == "settle":
            await self.settle(connection, self.cancels and self.ways.random() < 0.7)
        elif what == "watch":
            self.watch(connection)
        elif what == "pass":
            await passes(self.ways.randrange(4))
        elif what == "replace" and self.ways.random() < 0.3:
            await self.replace(connection)

    async def run(self, steps: int) -> None:
        """All steps; then everything that was sent is received."""
        with self.stack:
            for _ in range(4):
                self.open()
            for _ in range(steps):
                await self.step()
            for connection in self.connections:
                await self.settle(connection, cancel=False)
                while connection.owed():
                    part = await self.loop.sock_recv(connection.near, 100_000)
                    connection.received += part
                assert connection.received == connection.sent, self.log


@pytest.mark.parametrize("seed", range(10))
def test_what_is_received_is_what_was_sent_to_that_socket(
    loop: asyncio.SelectorEventLoop, seed: int
) -> None:
    finish(loop, _Program(loop, seed, cancels=False).run(300))


@pytest.mark.parametrize("seed", range(20))
def test_with_calls_cancelled_in_between_nothing_is_lost_either(
    pyloop: asyncio.SelectorEventLoop, seed: int
) -> None:
    # asyncio's own loses what was received in the pass before the cancellation.
    finish(pyloop, _Program(pyloop, 100 + seed, cancels=True).run(300))
