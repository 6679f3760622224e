"""Owns one situation for each sock_* call in which it has to wait, and what ends the wait.

The tests of what all these calls have in common go through the table `SITUATIONS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from support.running import run_until
from support.sock_pairs import (
    bound_udp,
    datagram_pair,
    drain,
    fill,
    fill_datagrams,
    listener,
    stream_pair,
)

Call = Coroutine[Any, Any, Any]


@dataclass
class Situation:
    """A call that must wait.

    `start` makes it, `release` lets it end (and may have to be repeated), `right` judges its result, and
    `untouched` says whether nothing was sent, received or accepted yet.
    """

    start: Callable[[], Call]
    release: Callable[[], object]
    right: Callable[[Any], bool]
    untouched: Callable[[], bool]


def _once(action: Callable[[], object]) -> Callable[[], object]:
    left = [action]
    return lambda: left.pop()() if left else None


def _readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def _recv(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = stack.enter_context(stream_pair("tcp"))
    return Situation(
        lambda: loop.sock_recv(near, 100),
        _once(lambda: far.send(b"hello")),
        lambda result: result == b"hello",
        lambda: _readable(near),
    )


def _recv_into(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = stack.enter_context(stream_pair("unix"))
    buffer = bytearray(100)
    return Situation(
        lambda: loop.sock_recv_into(near, buffer),
        _once(lambda: far.send(b"hello")),
        lambda result: result == 5 and buffer[:6] == b"hello\0",
        lambda: _readable(near),
    )


def _recvfrom(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = bound_udp(stack), bound_udp(stack)
    return Situation(
        lambda: loop.sock_recvfrom(near, 100),
        _once(lambda: far.sendto(b"hello", near.getsockname())),
        lambda result: result == (b"hello", far.getsockname()),
        lambda: _readable(near),
    )


def _recvfrom_into(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = bound_udp(stack), bound_udp(stack)
    buffer = bytearray(100)
    return Situation(
        lambda: loop.sock_recvfrom_into(near, buffer),
        _once(lambda: far.sendto(b"hello", near.getsockname())),
        lambda result: result == (5, far.getsockname()) and buffer[:6] == b"hello\0",
        lambda: _readable(near),
    )


def _sendall(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = stack.enter_context(stream_pair("unix"))
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    data = b"x" * 1_000_000
    fill(near)
    return Situation(
        lambda: loop.sock_sendall(near, data),
        lambda: drain(far),
        lambda result: result is None,
        lambda: b"x" not in drain(far),
    )


def _sendto(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = stack.enter_context(datagram_pair("unix"))
    fill_datagrams(near, far.getsockname())
    return Situation(
        lambda: loop.sock_sendto(near, b"hello", far.getsockname()),
        lambda: drain(far),
        lambda result: result == 5,
        lambda: b"hello" not in drain(far),
    )


def _connect(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    listening = stack.enter_context(listener("tcp"))
    sock = stack.enter_context(socket.socket())
    sock.setblocking(False)

    def unconnected() -> bool:
        try:
            sock.getpeername()
        except OSError:
            return True
        return False

    return Situation(
        lambda: loop.sock_connect(sock, listening.getsockname()),
        lambda: None,
        lambda result: result is None and sock.getpeername() == listening.getsockname(),
        unconnected,
    )


def _accept(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    listening = stack.enter_context(listener("tcp"))
    sock = stack.enter_context(socket.socket())

    def right(result: Any) -> bool:
        accepted, address = result
        with accepted:
            return bool(address == sock.getsockname() == accepted.getpeername())

    def untouched() -> bool:
        with contextlib.suppress(BlockingIOError):
            accepted, _ = listening.accept()
            accepted.close()
            return True
        return False

    return Situation(
        lambda: loop.sock_accept(listening),
        lambda: sock.connect_ex(listening.getsockname()),
        right,
        untouched,
    )


def _sendfile(loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> Situation:
    near, far = stack.enter_context(stream_pair("unix"))
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    file.write(b"x" * 100_000)
    file.flush()
    fill(near)
    return Situation(
        lambda: loop.sock_sendfile(near, file),
        lambda: drain(far),
        lambda result: result == 100_000,
        lambda: b"x" not in drain(far),
    )


SITUATIONS: dict[str, Callable[[asyncio.AbstractEventLoop, contextlib.ExitStack], Situation]] = {
    "sock_recv": _recv,
    "sock_recv_into": _recv_into,
    "sock_recvfrom": _recvfrom,
    "sock_recvfrom_into": _recvfrom_into,
    "sock_sendall": _sendall,
    "sock_sendto": _sendto,
    "sock_connect": _connect,
    "sock_accept": _accept,
    "sock_sendfile": _sendfile,
}


def drive(loop: asyncio.AbstractEventLoop, call: Call, release: Callable[[], object]) -> Any:
    """Run *call* to its end by hand, as a task does; its result."""
    try:
        future = call.send(None)
        while True:
            assert asyncio.isfuture(future)
            assert future.get_loop() is loop
            # As a task says that it has understood the request to wait.
            future._asyncio_future_blocking = False
            run_until(loop, lambda awaited=future: release() is ... or awaited.done())
            future = call.send(None)
    except StopIteration as stop:
        return stop.value
