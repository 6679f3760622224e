"""Servers of many bytes in one direction: from memory, from a file, or into nothing.

A connection begins with eight bytes: how many bytes the client wants, or, with the top bit set, how
many it will send, which is confirmed by the same number. The stream that is sent repeats itself
after ``PERIOD`` bytes, so that the client can check any piece by its place.
"""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache
from typing import Any, BinaryIO, ClassVar

from workloads.io_protocols import Counted

PERIOD = 1021
CHUNK = 64 * PERIOD
CLIENT_SENDS = 1 << 63
FILE_LENGTH = 64 * 1024 * PERIOD
_PATTERN = bytes(position & 255 for position in range(PERIOD))
_CHUNK = _PATTERN * 64


class Bulk(Counted, asyncio.Protocol):
    """Sends as fast as ``pause_writing`` and ``resume_writing`` allow, or counts what comes."""

    __slots__ = ("asked", "left", "paused", "received", "size")
    pauses: ClassVar[int] = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the number."""
        super().connection_made(transport)
        self.asked = b""
        self.left = self.received = self.size = 0
        self.paused = False

    def data_received(self, data: bytes) -> None:
        """The number, or a part of what the client sends."""
        if self.size:
            self._count(len(data))
            return
        self.asked += data
        if len(self.asked) < 8:
            return
        number = int.from_bytes(self.asked[:8], "big")
        if number & CLIENT_SENDS:
            self.size = number & ~CLIENT_SENDS
            self._count(len(self.asked) - 8)
        else:
            self.asked, self.left = b"", number
            self.send()

    def send(self) -> None:
        """Write until the transport has enough."""
        write = self.transport.write
        while self.left and not self.paused:
            piece = _CHUNK if self.left >= CHUNK else _CHUNK[: self.left]
            self.left -= len(piece)
            write(piece)

    def pause_writing(self) -> None:
        """The transport's buffer is over its high-water mark."""
        self.paused = True
        Bulk.pauses += 1

    def resume_writing(self) -> None:
        """It has drained."""
        self.paused = False
        self.send()

    def _count(self, length: int) -> None:
        self.received += length
        if self.received == self.size:
            self.transport.write(self.size.to_bytes(8, "big"))
            self.asked, self.received, self.size = b"", 0, 0


class FileBulk(Bulk):
    """Sends by ``loop.sendfile``, without its fallback; what it raises ends the connection."""

    __slots__ = ()
    failure: ClassVar[BaseException | None] = None
    _tasks: ClassVar[set[asyncio.Task[None]]] = set()

    def send(self) -> None:
        """Start a task that sends the file until enough has left."""
        task = asyncio.get_running_loop().create_task(self._send_file(self.left))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume_writing(self) -> None:
        """``sendfile`` waits by itself."""

    async def _send_file(self, left: int) -> None:
        loop: Any = asyncio.get_running_loop()
        try:
            while left:
                piece = min(left, FILE_LENGTH)
                await loop.sendfile(self.transport, file(), 0, piece, fallback=False)
                left -= piece
        except BaseException as problem:
            FileBulk.failure = problem
            self.transport.abort()


@cache
def file() -> BinaryIO:
    """64 MiB of the stream, in a file without a name that lives as long as the process."""
    made = tempfile.TemporaryFile()  # noqa: SIM115 - cached
    for _ in range(FILE_LENGTH // CHUNK):
        made.write(_CHUNK)
    made.flush()
    return made
