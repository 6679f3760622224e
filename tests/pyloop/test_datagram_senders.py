"""Datagram transports and the addresses that they remember: many senders, equal and foreign addresses."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from support.sock_pairs import bound_udp, finish
from support.sock_protocols import RecordingDatagrams, address_of, endpoint, until


class _Echo(RecordingDatagrams):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def test_each_of_many_senders_gets_its_own_answers(loop: asyncio.SelectorEventLoop) -> None:
    ways = random.Random(1)

    async def main() -> None:
        async with endpoint(_Echo, local_addr=("127.0.0.1", 0)) as (server, serving):
            with contextlib.ExitStack() as stack:
                senders = [bound_udp(stack) for _ in range(200)]
                for turn in range(5):
                    ways.shuffle(senders)
                    for number, sender in enumerate(senders):
                        sender.sendto(b"%d %d" % (turn, number), address_of(server))
                        if number % 40 == 39:
                            wanted = turn * 200 + number + 1
                            await until(lambda wanted=wanted: len(serving.received) == wanted)
                    for number, sender in enumerate(senders):
                        text, address = sender.recvfrom(100)
                        assert (text, address) == (b"%d %d" % (turn, number), address_of(server))
                    expected = [sender.getsockname() for sender in senders]
                    assert [call[2] for call in serving.calls[-200:]] == expected

    finish(loop, main())


def test_an_answer_can_go_to_a_sender_of_long_ago(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            with contextlib.ExitStack() as stack:
                senders = [bound_udp(stack) for _ in range(100)]
                for sender in senders:
                    sender.sendto(b"x", address_of(server))
                await until(lambda: len(serving.received) == 100)
                for number, call in enumerate(serving.calls[1:]):
                    server.sendto(b"%d" % number, call[2])
                for number, sender in enumerate(senders):
                    assert sender.recv(100) == b"%d" % number

    finish(loop, main())


def test_addresses_that_are_equal_are_the_same_peer(loop: asyncio.SelectorEventLoop) -> None:
    class Name(str):
        pass

    class Number(int):
        pass

    class Pair(tuple[str, int]):
        pass

    async def main() -> None:
        async with endpoint() as (server, serving):
            host, port = address_of(server)
            async with endpoint() as (client, _):
                for address in (
                    (host, port),
                    (str(host), int(port)),
                    (Name(host), Number(port)),
                    Pair((host, port)),
                    ("localhost", port),
                ):
                    client.sendto(b"x", address)
                await until(lambda: len(serving.received) == 5)
                assert {call[2] for call in serving.calls[1:]} == {address_of(client)}

    finish(loop, main())


def test_ports_beyond_the_last_are_pythons_own_error(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        for port in (65536, -1, 1 << 80):
            async with endpoint() as (transport, protocol):
                transport.sendto(b"x", ("127.0.0.1", port))
                await until(lambda protocol=protocol: protocol.lost)
                assert type(protocol.calls[-1][1]) is OverflowError
        assert len(unhandled) == 3
        unhandled.clear()

    finish(loop, main())


def test_an_address_that_waits_keeps_nothing_alive(loop: asyncio.SelectorEventLoop) -> None:
    class Path_(str):
        transport: Any

    async def main(folder: Path) -> weakref.ref[Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            far.bind(str(folder / "far"))
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, family=socket.AF_UNIX
            )
            path = Path_(folder / "far")
            path.transport = transport
            while not transport.get_write_buffer_size():
                transport.sendto(b"x", path)
            gone = weakref.ref(transport)
            transport.abort()
            return gone

    with tempfile.TemporaryDirectory() as folder:
        gone = finish(loop, main(Path(folder)))
        finish(loop, asyncio.sleep(0.01))
    gc.collect()
    assert gone() is None


def test_what_is_sent_and_received_is_released(pyloop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            port = address_of(transport)[1]
            kept = bytes(bytearray(b"kept" * 100))
            address = ("127.0.0.1", port)
            before = 0
            for turn in range(4):
                for _ in range(100):
                    transport.sendto(kept, address)
                    transport.sendto(kept, ("127.0.0.1", int(str(port))))
                    transport.sendto(kept, ("localhost", port))
                    await until(lambda: len(protocol.received) == 3)
                    protocol.calls.clear()
                if turn == 1:
                    before = sys.getallocatedblocks()
            assert sys.getallocatedblocks() - before < 100
            assert sys.getrefcount(kept) == 2

    finish(pyloop, main())
