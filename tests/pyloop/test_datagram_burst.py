"""Many datagrams at once: all arrive in order, in few wake-ups, and nobody else starves meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.sock_pairs import bound_udp, finish
from support.sock_protocols import RecordingDatagrams, address_of, endpoint, passes, until

# What fits into a socket's buffer as Linux has it by default.
_SMALL = 200


@contextlib.asynccontextmanager
async def _burst(
    count: int, protocol: Any = RecordingDatagrams, size: int = 20
) -> AsyncIterator[tuple[Any, Any]]:
    """A transport whose socket holds *count* datagrams of *size* bytes that nobody has read."""
    async with endpoint(protocol, local_addr=("127.0.0.1", 0)) as (transport, made):
        _make_room(transport.get_extra_info("socket"), count * (size + 1500))
        with contextlib.ExitStack() as stack:
            sender = bound_udp(stack)
            for number in range(count):
                sender.sendto(_text(number, size), address_of(transport))
        yield transport, made


def _text(number: int, size: int = 20) -> bytes:
    return (b"%d," % number).ljust(size, b".")


def _make_room(sock: Any, size: int) -> None:
    if size <= 400_000:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= size:
        return
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError as refused:
        pytest.skip(f"the kernel gives no buffer of {size} bytes: {refused}")


def test_a_burst_of_a_thousand_arrives_whole_and_in_order(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _burst(1000) as (_, protocol):
            await until(lambda: len(protocol.received) >= 1000)
            assert protocol.received == [_text(number) for number in range(1000)]

    finish(loop, main())


def test_a_burst_takes_few_passes_and_is_not_received_in_a_single_one(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio's own receives one in each pass.
    async def main() -> None:
        async with _burst(1000, size=1000) as (_, protocol):
            others = 0
            while len(protocol.received) < 1000:
                await asyncio.sleep(0)
                others += 1
            # Others had their turns in between, and these were few.
            assert 3 <= others <= 200
            assert protocol.received == [_text(number, 1000) for number in range(1000)]

    finish(pyloop, main())


def test_two_bursts_are_received_side_by_side(pyloop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _burst(1000, size=1000) as (_, first), _burst(1000, size=1000) as (_, second):
            await until(lambda: len(first.received) == 1000 or len(second.received) == 1000)
            # Neither had to wait for the end of the other.
            assert min(len(first.received), len(second.received)) > 300
            await until(lambda: len(first.received) == len(second.received) == 1000)

    finish(pyloop, main())


def test_a_timer_fires_in_the_middle_of_a_burst(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _burst(1000, size=1000) as (_, protocol):
            seen: list[int] = []
            loop.call_later(0, lambda: seen.append(len(protocol.received)))
            await until(lambda: len(protocol.received) == 1000)
            assert seen[0] < 1000

    finish(loop, main())


class _Ending(RecordingDatagrams):
    how = "close"

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        if data == _text(50):
            getattr(self.transport, self.how)()


@pytest.mark.parametrize("how", ["close", "abort"])
def test_nothing_is_delivered_after_a_close_in_the_middle(
    loop: asyncio.SelectorEventLoop, how: str
) -> None:
    async def main() -> None:
        async with _burst(_SMALL, _Ending) as (transport, protocol):
            protocol.how = how
            await until(lambda: protocol.lost)
            await passes(3)
            assert protocol.received == [_text(number) for number in range(51)]
            assert protocol.calls[-1] == ("lost", None)
            assert protocol.names().count("lost") == 1

    finish(loop, main())


def test_one_that_raises_in_the_middle_hides_none(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    class Raising(RecordingDatagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.received) % 10 == 0:
                raise LookupError(len(self.received))

    async def main() -> None:
        async with _burst(_SMALL, Raising) as (_, protocol):
            await until(lambda: len(protocol.received) == _SMALL)
            await passes(2)
            assert protocol.received == [_text(number) for number in range(_SMALL)]
            raised = [report["exception"].args[0] for report in unhandled]
            assert raised == list(range(10, _SMALL + 1, 10))
            unhandled.clear()

    finish(loop, main())


def test_a_protocol_exchanged_in_the_middle_gets_the_rest(
    loop: asyncio.SelectorEventLoop,
) -> None:
    other = RecordingDatagrams()

    class Giving(RecordingDatagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == _text(50):
                self.transport.set_protocol(other)

    async def main() -> None:
        async with _burst(_SMALL, Giving) as (transport, protocol):
            await until(lambda: len(other.received) == _SMALL - 51)
            assert protocol.received == [_text(number) for number in range(51)]
            assert other.received == [_text(number) for number in range(51, _SMALL)]
            transport.set_protocol(protocol)

    finish(loop, main())


def test_answers_from_the_middle_of_a_burst_arrive(loop: asyncio.SelectorEventLoop) -> None:
    class Answering(RecordingDatagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data.upper(), addr)

    async def main() -> None:
        async with endpoint(Answering, local_addr=("127.0.0.1", 0)) as (server, _):
            async with endpoint(remote_addr=address_of(server)) as (client, asking):
                for number in range(_SMALL):
                    client.sendto(b"abc%d" % number)
                await until(lambda: len(asking.received) == _SMALL)
                assert asking.received == [b"ABC%d" % number for number in range(_SMALL)]

    finish(loop, main())


def test_what_a_burst_sent_in_one_callback_is_in_order(loop: asyncio.SelectorEventLoop) -> None:
    ways = random.Random(1)

    async def main() -> None:
        async with endpoint() as (server, serving):
            async with endpoint() as (client, _):
                sent: list[bytes] = []
                for _ in range(30):
                    for _ in range(ways.randrange(1, 6)):
                        text = b"%d" % len(sent) + b"." * ways.randrange(5000)
                        sent.append(text)
                        client.sendto(text, address_of(server))
                    await passes(ways.randrange(3))
                    await until(lambda: len(serving.received) == len(sent))
                assert serving.received == sent

    finish(loop, main())


def test_a_datagram_is_on_its_way_before_the_loop_sleeps(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (client, _):
            with contextlib.ExitStack() as stack:
                far = bound_udp(stack)
                far.setblocking(True)
                far.settimeout(5)
                client.sendto(b"x", far.getsockname())
                # Read by a thread: this loop has nothing to wake up for.
                text = await loop.run_in_executor(None, far.recv, 10)
                assert text == b"x"
        await loop.shutdown_default_executor()

    finish(loop, main())


def test_a_datagram_of_the_largest_size_arrives_whole(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(2).randbytes(65_507)

    async def main() -> None:
        async with endpoint() as (transport, protocol):
            for text in (data, b"short", data[:3000]):
                transport.sendto(text, address_of(transport))
            await until(lambda: len(protocol.received) == 3)
            assert protocol.received == [data, b"short", data[:3000]]

    finish(loop, main())
