"""Owns the protocols of the datagram and pipe tests: they write down what they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any


class Recording:
    """Keeps every call as a tuple of its name and its arguments, in order."""

    transport: Any = None

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def connection_made(self, transport: Any) -> None:
        """The transport is there."""
        self.transport = transport
        self.calls.append(("made",))

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.calls.append(("lost", exc))

    def pause_writing(self) -> None:
        """Its buffer is above the high-water mark."""
        self.calls.append(("pause",))

    def resume_writing(self) -> None:
        """Its buffer is below the low-water mark."""
        self.calls.append(("resume",))

    def names(self) -> list[str]:
        """What was called, without the arguments."""
        return [call[0] for call in self.calls]

    def of(self, name: str) -> list[Any]:
        """The (first) arguments of the calls of that name."""
        return [call[1] for call in self.calls if call[0] == name]

    @property
    def lost(self) -> bool:
        """Whether connection_lost was called."""
        return "lost" in self.names()


class RecordingDatagrams(Recording, asyncio.DatagramProtocol):
    """A datagram protocol that records."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """A datagram."""
        self.calls.append(("datagram", data, addr))

    def error_received(self, exc: Exception) -> None:
        """An error of the socket that it survives."""
        self.calls.append(("error", exc))

    @property
    def received(self) -> list[bytes]:
        """The datagrams without their senders."""
        return self.of("datagram")


class RecordingStream(Recording, asyncio.Protocol):
    """A stream protocol that records."""

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        self.calls.append(("data", data))

    def eof_received(self) -> bool | None:
        """The end of what the peer has to say."""
        self.calls.append(("eof",))
        return None

    @property
    def received(self) -> bytes:
        """All bytes so far."""
        return b"".join(self.of("data"))


async def until(condition: Callable[[], object]) -> None:
    """Run passes until *condition* holds; whoever runs this bounds the time."""
    while not condition():
        await asyncio.sleep(0)


async def passes(count: int) -> None:
    """Let the loop make some passes."""
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def endpoint(
    protocol: Callable[[], Any] = RecordingDatagrams, **options: Any
) -> AsyncIterator[tuple[Any, Any]]:
    """A datagram endpoint of the running loop, gone at the end of the block."""
    if not options:
        options["local_addr"] = ("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(protocol, **options)
    try:
        yield transport, made
    finally:
        if not made.lost:
            transport.abort()
            await until(lambda: made.lost)


def address_of(transport: Any) -> Any:
    """Where the socket of *transport* is bound."""
    return transport.get_extra_info("sockname")
