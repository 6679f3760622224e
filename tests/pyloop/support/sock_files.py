"""Owns the files that the sendfile tests send, and a reader that takes its time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

from support.sock_pairs import drain

CONTENT = random.Random(11).randbytes(1_500_000)


@contextlib.contextmanager
def sent_file(content: bytes = CONTENT) -> Iterator[Any]:
    """A regular file with that content, at position 0."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file


class Plain(io.BytesIO):
    """A file that is only in memory: nothing for sendfile(2)."""


async def read_all(loop: asyncio.AbstractEventLoop, far: socket.socket, size: int) -> bytes:
    """Read *size* bytes in small steps, with pauses in between."""
    received = bytearray()
    while len(received) < size:
        part = await loop.sock_recv(far, min(60_000, size - len(received)))
        assert part, f"the end after {len(received)} bytes"
        received += part
        await asyncio.sleep(0)
    return bytes(received)


def nothing_more(far: socket.socket) -> bool:
    """Whether nothing is there to be read."""
    return not drain(far)
