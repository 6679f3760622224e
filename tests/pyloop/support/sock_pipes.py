"""Owns the pipes, FIFOs, sockets and terminals that the tests of pipe transports read and write."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import socket
import tempfile
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from support.sock_protocols import RecordingStream, until

READABLE = ("pipe", "fifo", "socket", "terminal")
WRITABLE = ("pipe", "fifo", "socket", "terminal")


@contextlib.contextmanager
def ends(kind: str) -> Iterator[tuple[Any, Any]]:
    """A file object to read from and one to write to; both are unbuffered and are closed after."""
    with contextlib.ExitStack() as stack:
        if kind == "socket":
            reading, writing = socket.socketpair()
            stack.enter_context(reading)
            stack.enter_context(writing)
            yield reading, writing
            return
        if kind == "fifo":
            path = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "fifo")
            os.mkfifo(path)
            numbers = [os.open(path, os.O_RDONLY | os.O_NONBLOCK), os.open(path, os.O_WRONLY)]
        elif kind == "terminal":
            numbers = list(pty.openpty())
            # As it is, a terminal would echo and wait for whole lines.
            tty.setraw(numbers[1])
        else:
            numbers = list(os.pipe())
        modes = ("rb", "wb")
        yield tuple(
            stack.enter_context(open(number, mode, 0))
            for number, mode in zip(numbers, modes, strict=True)
        )


def write(end: Any, data: bytes) -> int:
    """Write to an end, file or socket."""
    return int(end.send(data) if isinstance(end, socket.socket) else os.write(end.fileno(), data))


def read(end: Any, size: int = 1 << 20) -> bytes:
    """Read from an end, file or socket."""
    return bytes(end.recv(size) if isinstance(end, socket.socket) else os.read(end.fileno(), size))


def shrink(end: Any) -> None:
    """Make the kernel's buffer of a pipe a page."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)


def read_available(end: Any) -> bytes:
    """What can be read now."""
    os.set_blocking(end.fileno(), False)
    try:
        return read(end)
    except BlockingIOError:
        return b""


async def read_exactly(end: Any, size: int) -> bytes:
    """Read *size* bytes, at the pace of the loop."""
    received = bytearray()
    while len(received) < size:
        received += read_available(end)
        await asyncio.sleep(0)
    return bytes(received)


@contextlib.asynccontextmanager
async def connected_reader(
    end: Any, protocol: Callable[[], Any] = RecordingStream
) -> AsyncIterator[tuple[Any, Any]]:
    """A read pipe transport over *end*, gone at the end of the block."""
    loop = asyncio.get_running_loop()
    transport, made = await loop.connect_read_pipe(protocol, end)
    try:
        yield transport, made
    finally:
        transport.close()
        await until(lambda: made.lost)


@contextlib.asynccontextmanager
async def connected_writer(
    end: Any, protocol: Callable[[], Any] = RecordingStream
) -> AsyncIterator[tuple[Any, Any]]:
    """A write pipe transport over *end*, gone at the end of the block."""
    loop = asyncio.get_running_loop()
    transport, made = await loop.connect_write_pipe(protocol, end)
    try:
        yield transport, made
    finally:
        if not made.lost:
            transport.abort()
            await until(lambda: made.lost)
