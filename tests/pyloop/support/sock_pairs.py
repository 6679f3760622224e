"""Owns the sockets that the tests of sock_* calls talk through, and what is done to them from outside.

Every socket that comes from here is non-blocking and is closed at the end of its `with` block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from typing import TypeVar

import pytest

from support.running import PATIENCE

T = TypeVar("T")

STREAMS = ("tcp", "unix")


def finish(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[T]) -> T:
    """Run *loop* until *awaitable* is done; a hang is a TimeoutError."""
    return loop.run_until_complete(asyncio.wait_for(awaitable, PATIENCE))


@contextlib.contextmanager
def stream_pair(kind: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets: "tcp" over the loopback interface, or "unix"."""
    if kind == "unix":
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        with listener("tcp") as listening:
            listening.setblocking(True)
            near = socket.create_connection(listening.getsockname())
            far, _ = listening.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


@contextlib.contextmanager
def datagram_pair(kind: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two bound datagram sockets, not connected: "udp" on the loopback interface, or "unix"."""
    with contextlib.ExitStack() as stack:
        if kind == "udp":
            near, far = (bound_udp(stack) for _ in range(2))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            near, far = (
                stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                for _ in range(2)
            )
            near.bind(os.path.join(folder, "near"))
            far.bind(os.path.join(folder, "far"))
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def bound_udp(stack: contextlib.ExitStack, host: str = "127.0.0.1") -> socket.socket:
    """A bound, non-blocking UDP socket on a free port of *host*."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    made.setblocking(False)
    made.bind((host, 0))
    return made


@contextlib.contextmanager
def listener(kind: str, backlog: int = 100) -> Iterator[socket.socket]:
    """A listening socket: "tcp", "tcp6", "unix" (a path), or "abstract"."""
    with contextlib.ExitStack() as stack:
        if kind.startswith("tcp"):
            family, host = (
                (socket.AF_INET6, "::1") if kind == "tcp6" else (socket.AF_INET, "127.0.0.1")
            )
            made = stack.enter_context(socket.socket(family))
            made.bind((host, 0))
        else:
            made = stack.enter_context(socket.socket(socket.AF_UNIX))
            if kind == "abstract":
                if sys.platform != "linux":
                    pytest.skip("abstract addresses are of Linux")
                made.bind(f"\0pyloop-tests-{os.getpid()}-{time.monotonic_ns()}")
            else:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                made.bind(os.path.join(folder, "socket"))
        made.setblocking(False)
        made.listen(backlog)
        yield made


def text_of(number: int) -> str:
    """What the error of that number says as an exception."""
    return f"[Errno {number}] {os.strerror(number)}"


def has_ipv6() -> bool:
    """Whether the loopback interface has its IPv6 address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes no more; the number of bytes that it took."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"." * 65536)
    return total


def fill_datagrams(sock: socket.socket, address: str | tuple[str, int]) -> int:
    """Send one-byte datagrams until the kernel takes no more; their number."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.sendto(b".", address)
            total += 1
    return total


def drain(sock: socket.socket) -> bytes:
    """What can be received now."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := sock.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def move_to(sock: socket.socket, number: int) -> socket.socket:
    """The same open socket under the descriptor *number*, which must be free (or gives way)."""
    if sock.fileno() != number:
        os.dup2(sock.fileno(), number, inheritable=False)
        family, kind, proto = sock.family, sock.type, sock.proto
        sock.close()
        sock = socket.socket(family, kind, proto, fileno=number)
    sock.setblocking(False)
    return sock
