"""Datagram transports that cannot send at once: the buffer, its sizes and marks, and how it empties.

A Unix socket is used, whose kernel queue is short and whose sender is told when there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import re
import socket
import tempfile
import time
from asyncio import selector_events
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import drain, finish
from support.sock_protocols import RecordingDatagrams, passes, until

# What asyncio of this version adds for the header of each datagram in the buffer.
_HEADER = 8 if "header" in inspect.getsource(selector_events._SelectorDatagramTransport) else 0


@contextlib.asynccontextmanager
async def _connected(
    protocol: Any = RecordingDatagrams,
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A transport connected to a plain socket that reads only when the test does."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        near, far = (
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(2)
        )
        far.setblocking(False)
        far.bind(os.path.join(folder, "far"))
        near.bind(os.path.join(folder, "near"))
        near.connect(os.path.join(folder, "far"))
        transport, made = await loop.create_datagram_endpoint(protocol, sock=near)
        try:
            yield transport, made, far
        finally:
            if not made.lost:
                transport.abort()
                await until(lambda: made.lost)


def _fill(transport: Any) -> int:
    """Send until the transport has to keep a datagram; how many were sent before."""
    count = 0
    while not transport.get_write_buffer_size():
        transport.sendto(b"%d" % count)
        count += 1
    return count - 1


async def _read(loop: asyncio.AbstractEventLoop, far: socket.socket, count: int) -> list[bytes]:
    return [await loop.sock_recv(far, 1 << 20) for _ in range(count)]


def test_what_the_kernel_does_not_take_is_kept_and_sent_in_order(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            count = _fill(transport) + 1
            for number in range(count, count + 500):
                transport.sendto(b"%d" % number)
            received = await _read(loop, far, count + 500)
            assert received == [b"%d" % number for number in range(count + 500)]
            assert protocol.calls == [("made",)]
            # And it works as before.
            transport.sendto(b"later")
            assert await loop.sock_recv(far, 10) == b"later"

    finish(loop, main())


def test_the_buffer_counts_bytes_and_headers_as_asyncio_does(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _connected() as (transport, _, far):
            assert transport.get_write_buffer_size() == 0
            number = _fill(transport)
            kept = len(b"%d" % number) + _HEADER
            assert transport.get_write_buffer_size() == kept
            transport.sendto(b"x" * 100)
            assert transport.get_write_buffer_size() == kept + 100 + _HEADER
            transport.sendto(memoryview(b"y" * 50))
            assert transport.get_write_buffer_size() == kept + 150 + 2 * _HEADER

    finish(loop, main())


def test_an_emptied_buffer_has_no_size(pyloop: asyncio.SelectorEventLoop) -> None:
    # Some versions of asyncio forget to take the headers off again.
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            for _ in range(3):
                sent = _fill(transport) + 1
                for _ in range(20):
                    transport.sendto(b"x" * 100)
                await _read(pyloop, far, sent + 20)
                await passes(3)
                assert transport.get_write_buffer_size() == 0
            assert protocol.calls == [("made",)]

    finish(pyloop, main())


@pytest.mark.skipif(not _HEADER, reason="asyncio of this version drops empty datagrams")
def test_an_empty_datagram_waits_its_turn(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, _, far):
            sent = _fill(transport) + 1
            before = transport.get_write_buffer_size()
            transport.sendto(b"")
            assert transport.get_write_buffer_size() == before + _HEADER
            transport.sendto(b"after")
            assert (await _read(loop, far, sent + 2))[-2:] == [b"", b"after"]

    finish(loop, main())


def test_a_buffer_changed_while_it_waits_is_sent_as_it_was(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _connected() as (transport, _, far):
            sent = _fill(transport) + 1
            data = bytearray(b"as it was")
            transport.sendto(data)
            transport.sendto(memoryview(data)[3:])
            data[:] = b"changed!!"
            data.extend(b"more")
            assert (await _read(loop, far, sent + 2))[-2:] == [b"as it was", b"it was"]

    finish(loop, main())


def test_writing_is_paused_and_resumed_by_the_marks(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=1000, low=500)
            assert transport.get_write_buffer_limits() == (500, 1000)
            sent = _fill(transport) + 1
            while transport.get_write_buffer_size() <= 900:
                transport.sendto(b"x" * 92)
                sent += 1
            assert protocol.names() == ["made"]
            transport.sendto(b"x" * 92)
            assert protocol.names() == ["made", "pause"]
            transport.sendto(b"x" * 92)
            assert protocol.names() == ["made", "pause"]
            await _read(loop, far, sent + 2)
            await passes(3)
            assert protocol.names() == ["made", "pause", "resume"]

    finish(loop, main())


def test_a_mark_of_zero_pauses_with_the_first_that_is_kept(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, _):
            transport.set_write_buffer_limits(high=0)
            transport.sendto(b"one")
            assert protocol.names() == ["made"]
            _fill(transport)
            assert protocol.names() == ["made", "pause"]

    finish(loop, main())


def test_sending_from_resume_writing_goes_on(loop: asyncio.SelectorEventLoop) -> None:
    class Going(RecordingDatagrams):
        left = 20

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.sendto(b"from resume")

    async def main() -> None:
        async with _connected(Going) as (transport, protocol, far):
            transport.set_write_buffer_limits(high=2000, low=1999)
            _fill(transport)
            while protocol.names().count("pause") < 1:
                transport.sendto(b"x" * 92)
            received: list[bytes] = []
            while b"from resume" not in received:
                received.append(await loop.sock_recv(far, 1000))
            assert "resume" in protocol.names()

    finish(loop, main())


def test_closing_sends_what_is_kept_and_then_ends(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            count = _fill(transport) + 1
            for number in range(count, count + 50):
                transport.sendto(b"%d" % number)
            transport.close()
            assert transport.is_closing()
            await passes(3)
            assert protocol.names() == ["made"]
            received = await _read(loop, far, count + 50)
            assert received == [b"%d" % number for number in range(count + 50)]
            await until(lambda: protocol.lost)
            assert protocol.calls == [("made",), ("lost", None)]

    finish(loop, main())


def test_aborting_drops_what_is_kept(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            count = _fill(transport)
            transport.sendto(b"x" * 100)
            transport.abort()
            assert protocol.names() == ["made"]
            await passes(3)
            assert protocol.calls == [("made",), ("lost", None)]
            assert [far.recv(10) for _ in range(count)] == [b"%d" % n for n in range(count)]
            with pytest.raises(BlockingIOError):
                far.recv(10)

    finish(loop, main())


def test_a_peer_that_closes_is_an_error_that_it_survives(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, protocol, far):
            far.close()
            transport.sendto(b"x")
            await until(lambda: protocol.of("error"))
            assert isinstance(protocol.of("error")[0], ConnectionError)
            assert not transport.is_closing()

    finish(loop, main())


def test_the_repr_tells_what_is_kept(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _connected() as (transport, _, far):
            await passes(2)
            _fill(transport)
            size = transport.get_write_buffer_size()
            number = transport.get_extra_info("socket").fileno()
            expected = rf"<\w+ fd={number} read=polling write=<polling, bufsize={size}>>"
            assert re.fullmatch(expected, repr(transport))

    finish(loop, main())


def test_a_full_peer_makes_no_work(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> float:
        async with _connected() as (transport, _, far):
            _fill(transport)
            await passes(3)
            before = time.process_time()
            await asyncio.sleep(0.15)
            return time.process_time() - before

    # A loop that is woken without end uses all of the time that it gets.
    assert finish(loop, main()) < 0.05


def test_one_without_a_peer_sends_all_to_a_slow_reader(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            path = os.path.join(folder, "far")
            far = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            far.setblocking(False)
            far.bind(path)
            transport, protocol = await loop.create_datagram_endpoint(
                RecordingDatagrams, family=socket.AF_UNIX
            )
            for number in range(2000):
                transport.sendto(b"%d" % number, path)
            assert transport.get_write_buffer_size() > 0
            # The kernel says that there is room to such a sender even where there is none.
            received: list[bytes] = []
            while len(received) < 2000:
                received.append(await loop.sock_recv(far, 10))
                if len(received) % 100 == 0:
                    await passes(1)
            assert received == [b"%d" % number for number in range(2000)]
            assert protocol.calls == [("made",)]
            transport.close()
            await until(lambda: protocol.lost)

    finish(loop, main())


def test_a_loop_closed_with_a_full_buffer_lets_go_of_it(loop: asyncio.SelectorEventLoop) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        near, far = (
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(2)
        )
        far.bind(os.path.join(folder, "far"))
        near.bind(os.path.join(folder, "near"))
        near.connect(os.path.join(folder, "far"))
        # A protocol that keeps its transport would be a cycle, whose parts end in any order.
        transport, _ = finish(
            loop, loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=near)
        )
        _fill(transport)
        run_passes(loop, 2)
        with pytest.warns(ResourceWarning, match="unclosed transport <.*"):
            loop.close()
            del transport
            gc.collect()
        assert near.fileno() == -1
        far.setblocking(False)
        assert drain(far)
