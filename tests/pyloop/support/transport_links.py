"""Owns one connection under test: a transport with a protocol that takes notes, and its peer by hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from support.running import run_passes, run_until

_RESET = struct.pack("ii", 1, 0)


class Notes:
    """What both kinds of protocol write down; a test may put `on_data` and its kin on one."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: Any = None
        self.keep_open: Any = None
        self.on_made: Callable[[], None] = _nothing
        self.on_data: Callable[[], None] = _nothing
        self.on_pause: Callable[[], None] = _nothing
        self.on_resume: Callable[[], None] = _nothing
        self.on_eof: Callable[[], None] = _nothing
        self.on_lost: Callable[[], None] = _nothing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")
        self.on_made()

    def eof_received(self) -> Any:
        self.events.append("eof")
        self.on_eof()
        return self.keep_open

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.on_pause()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.on_resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", exc))
        self.on_lost()

    @property
    def lost(self) -> bool:
        """Whether connection_lost was called."""
        return any(isinstance(event, tuple) and event[0] == "lost" for event in self.events)

    @property
    def data(self) -> bytes:
        """All bytes received."""
        return b"".join(event for event in self.events if isinstance(event, bytes))

    @property
    def names(self) -> list[str]:
        """The events without their details, runs of data as one."""
        found: list[str] = []
        for event in self.events:
            name = event[0] if isinstance(event, tuple) else event
            name = "data" if isinstance(name, bytes) else name
            if name != "data" or found[-1:] != ["data"]:
                found.append(name)
        return found


class Recorder(Notes, asyncio.Protocol):
    """A protocol that takes notes."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.events.append(data)
        self.on_data()


class BufferedRecorder(Notes, asyncio.BufferedProtocol):
    """A buffered protocol that takes notes."""

    size = 4096

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint == -1
        self.buffer = bytearray(self.size)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= self.size
        self.events.append(bytes(self.buffer[:nbytes]))
        self.on_data()


class Link:
    """A transport, its protocol and its peer."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Any, protocol: Any, far: socket.socket
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.protocol = protocol
        self.far = far

    def settle(self, passes: int = 8) -> None:
        """Run until there should be nothing left to do."""
        run_passes(self.loop, passes)

    def until(self, condition: Callable[[], object]) -> None:
        """Run until *condition* holds."""
        run_until(self.loop, condition)

    def until_lost(self) -> BaseException | None:
        """Run until connection_lost was called; its argument."""
        run_until(self.loop, lambda: self.protocol.lost)
        lost: tuple[str, BaseException | None] = self.protocol.events[-1]
        assert lost[0] == "lost"
        return lost[1]

    def inside(self, *calls: Callable[[], object]) -> None:
        """Make *calls* in one callback of the running loop, and settle."""

        def callback() -> None:
            for call in calls:
                call()

        self.loop.call_soon(callback)
        self.settle()

    def send_some(self, content: bytes) -> int:
        """Have the peer send what the kernel takes of *content*; how much that was."""
        try:
            return self.far.send(content)
        except BlockingIOError:
            return 0

    def send_all(self, content: bytes) -> None:
        """Have the peer send *content*; the loop runs meanwhile."""
        sent = 0
        while sent < len(content):
            sent += self.send_some(content[sent:])
            self.settle(2)

    def read(self) -> bytes:
        """All that has reached the peer; the loop runs as long as more comes."""
        received = bytearray()
        idle = 0
        while idle < 3:
            data = receive(self.far)
            idle = 0 if data else idle + 1
            received += data
            self.settle(3)
        return bytes(received)

    def read_to_the_end(self) -> bytes:
        """All until the peer sees the end; fails if it does not come."""
        received = bytearray()
        ended: list[bool] = []

        def look() -> bool:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return False
            received.extend(data)
            if not data:
                ended.append(True)
            return bool(ended)

        run_until(self.loop, look)
        return bytes(received)

    def reset(self) -> None:
        """Have the peer reset the connection (TCP)."""
        reset(self.far)


def receive(sock: socket.socket) -> bytes:
    """What there is to read; nothing at the end, and nothing if nothing is there."""
    try:
        return sock.recv(1 << 20)
    except (BlockingIOError, ConnectionResetError):
        return b""


def reset(sock: socket.socket) -> None:
    """Close with a reset instead of an orderly end (TCP)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def socket_pair(family: str) -> tuple[socket.socket, socket.socket]:
    """Two connected non-blocking sockets."""
    if family == "unix":
        near, far = socket.socketpair()
    else:
        with socket.socket(proto=socket.IPPROTO_TCP) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            far = socket.socket(proto=socket.IPPROTO_TCP)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.connect(listener.getsockname())
            near, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


@contextlib.contextmanager
def open_link(
    loop: asyncio.AbstractEventLoop,
    family: str = "unix",
    protocol: type[Notes] = Recorder,
    prepare: Callable[[Any], None] = lambda protocol: None,
) -> Iterator[Link]:
    """A new connection; *prepare* sees the protocol first. Cleared away at the end, whatever is left."""
    near, far = socket_pair(family)

    def factory() -> Any:
        made = protocol()
        prepare(made)
        return made

    transport, made = loop.run_until_complete(loop.create_connection(factory, sock=near))
    link = Link(loop, transport, made, far)
    # A test may look at who else keeps them alive.
    del transport, made, near
    try:
        yield link
    finally:
        if not loop.is_closed():
            # asyncio's own cannot be aborted again after close() has waited for a full buffer.
            if not (link.transport.is_closing() and link.transport.get_protocol() is None):
                link.transport.abort()
            link.settle()
        far.close()
        # A protocol and its transport know each other.
        link.transport = link.protocol = link.loop = None
        gc.collect()


def take_reports(unhandled: list[dict[str, Any]], count: int = 1) -> list[dict[str, Any]]:
    """What the exception handler was told, taken out so that the fixture does not object."""
    taken = list(unhandled)
    unhandled.clear()
    assert len(taken) == count, taken
    return taken


def _nothing() -> None:
    return None
