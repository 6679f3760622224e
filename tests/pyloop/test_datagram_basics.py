"""Datagram transports: what arrives, from whom, what they say of themselves, and their end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import re
import socket
import struct
import sys
import weakref
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import bound_udp, finish, has_ipv6
from support.sock_protocols import RecordingDatagrams, address_of, endpoint, passes, until

# Older versions drop an empty datagram on its way out.
_SENDS_EMPTY = sys.version_info >= (3, 13)

_LOCAL = [("127.0.0.1", 0), ("::1", 0)]


def _skip_without(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")


@pytest.mark.parametrize("local", _LOCAL, ids=["IPv4", "IPv6"])
def test_datagrams_come_with_their_sender(
    loop: asyncio.SelectorEventLoop, local: tuple[str, int]
) -> None:
    _skip_without(local[0])

    async def main() -> None:
        async with endpoint(local_addr=local) as (one, first):
            async with endpoint(local_addr=local) as (two, second):
                for number in range(20):
                    two.sendto(b"to one %d" % number, address_of(one))
                    one.sendto(b"to two %d" % number, address_of(two))
                await until(lambda: len(first.received) == len(second.received) == 20)
                assert first.calls[1:] == [
                    ("datagram", b"to one %d" % n, address_of(two)) for n in range(20)
                ]
                assert second.calls[1:] == [
                    ("datagram", b"to two %d" % n, address_of(one)) for n in range(20)
                ]

    finish(loop, main())


@pytest.mark.parametrize("local", _LOCAL, ids=["IPv4", "IPv6"])
def test_a_connected_one_sends_to_its_peer_and_hears_only_it(
    loop: asyncio.SelectorEventLoop, local: tuple[str, int]
) -> None:
    _skip_without(local[0])

    async def main() -> None:
        async with endpoint(local_addr=local) as (server, serving):
            async with endpoint(remote_addr=address_of(server)[:2]) as (client, asking):
                client.sendto(b"one")
                client.sendto(b"two", None)
                client.sendto(b"three", address_of(server))
                await until(lambda: len(serving.received) == 3)
                assert serving.calls[1:] == [
                    ("datagram", text, address_of(client)) for text in (b"one", b"two", b"three")
                ]
                with contextlib.ExitStack() as stack:
                    stranger = bound_udp(stack, local[0])
                    stranger.sendto(b"stranger", address_of(client))
                    server.sendto(b"answer", address_of(client))
                    await until(lambda: asking.received)
                    await passes(3)
                assert asking.calls[1:] == [("datagram", b"answer", address_of(server))]

    finish(loop, main())


def test_a_connected_one_refuses_another_address(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (server, _):
            async with endpoint(remote_addr=address_of(server)) as (client, _):
                for wrong in (("127.0.0.1", 1), "127.0.0.1", (), 5):
                    with pytest.raises(ValueError) as caught:
                        client.sendto(b"x", wrong)
                    expected = f"Invalid address: must be None or {address_of(server)}"
                    assert str(caught.value) == expected

    finish(loop, main())


def test_an_empty_datagram_is_received(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            with contextlib.ExitStack() as stack:
                sender = bound_udp(stack)
                for text in (b"", b"x", b"", b""):
                    sender.sendto(text, address_of(transport))
                await until(lambda: len(protocol.received) == 4)
                assert protocol.received == [b"", b"x", b"", b""]
                assert not transport.is_closing()

    finish(loop, main())


@pytest.mark.skipif(not _SENDS_EMPTY, reason="asyncio of this version drops empty datagrams")
@pytest.mark.parametrize("connected", [True, False])
def test_an_empty_datagram_is_sent(loop: asyncio.SelectorEventLoop, connected: bool) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            options = {"remote_addr" if connected else "local_addr": ("127.0.0.1", 0)}
            if connected:
                options["remote_addr"] = address_of(server)
            async with endpoint(**options) as (client, _):
                for text in (b"", b"x", bytearray()):
                    client.sendto(text, None if connected else address_of(server))
                await until(lambda: len(serving.received) == 3)
                assert serving.received == [b"", b"x", b""]

    finish(loop, main())


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        bytearray(b"plain"),
        memoryview(b"plain"),
        memoryview(struct.pack("2i", 1, 2)).cast("i"),
    ],
    ids=["bytes", "bytearray", "memoryview", "ints"],
)
def test_every_kind_of_buffer_is_sent(loop: asyncio.SelectorEventLoop, data: Any) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            async with endpoint() as (client, _):
                client.sendto(data, address_of(server))
                await until(lambda: serving.received)
                assert serving.received == [bytes(memoryview(data).cast("B"))]
                assert type(serving.received[0]) is bytes

    finish(loop, main())


@pytest.mark.parametrize(
    "data", ["text", None, 5, [b"x"], object()], ids=lambda x: type(x).__name__
)
def test_what_is_no_buffer_is_a_type_error(loop: asyncio.SelectorEventLoop, data: Any) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            with pytest.raises(TypeError) as caught:
                transport.sendto(data, address_of(transport))
            assert str(caught.value) == (
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
            assert not transport.is_closing()

    finish(loop, main())


def test_a_buffer_changed_after_the_call_is_sent_as_it_was(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            async with endpoint() as (client, _):
                for use in (lambda data: data, memoryview):
                    data = bytearray(b"as it was")
                    client.sendto(use(data), address_of(server))
                    data[:] = b"changed!!"
                    await until(lambda: serving.received)
                    assert serving.received == [b"as it was"]
                    serving.calls.clear()
                # Nothing is exported any more.
                data.extend(b"more")

    finish(loop, main())


def test_the_extra_info_is_asyncios(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (server, _):
            async with endpoint(remote_addr=address_of(server)) as (client, _):
                sock = client.get_extra_info("socket")
                assert isinstance(sock, asyncio.trsock.TransportSocket)
                assert sock.getsockname() == client.get_extra_info("sockname")
                assert sock.type == socket.SOCK_DGRAM
                assert client.get_extra_info("peername") == address_of(server)
                assert server.get_extra_info("peername") is None
                assert server.get_extra_info("peername", 5) is None
                assert client.get_extra_info("unheard of") is None
                assert client.get_extra_info("unheard of", 5) == 5

    finish(loop, main())


def test_the_repr_tells_its_state(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, _):
            await passes(2)
            number = transport.get_extra_info("socket").fileno()
            expected = rf"<\w+ fd={number} read=polling write=<idle, bufsize=0>>"
            assert re.fullmatch(expected, repr(transport))
            transport.close()
            expected = rf"<\w+ closing fd={number} read=idle write=<idle, bufsize=0>>"
            assert re.fullmatch(expected, repr(transport))
            await passes(2)
            assert re.fullmatch(rf"<\w+ closed fd={number}( .*)?>", repr(transport))

    finish(loop, main())


def test_protocol_and_transport_know_each_other(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            assert protocol.transport is transport
            assert transport.get_protocol() is protocol
            assert isinstance(transport, asyncio.BaseTransport)
            other = RecordingDatagrams()
            transport.set_protocol(other)
            assert transport.get_protocol() is other
            transport.sendto(b"x", address_of(transport))
            await until(lambda: other.received)
            assert other.names() == ["datagram"]
            transport.set_protocol(protocol)
            assert protocol.calls == [("made",)]

    finish(loop, main())


def test_it_is_a_datagram_transport(pyloop: asyncio.SelectorEventLoop) -> None:
    # asyncio's own is one from 3.13 on only.
    async def main() -> None:
        async with endpoint() as (transport, _):
            assert isinstance(transport, asyncio.DatagramTransport)

    finish(pyloop, main())


def test_a_method_replaced_on_the_instance_is_called(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            sent: list[bytes] = []
            plain = transport.sendto

            def sendto(data: bytes, addr: Any = None) -> None:
                sent.append(data)
                plain(data, addr)

            transport.sendto = sendto
            transport.mine = 5
            transport.sendto(b"x", address_of(transport))
            await until(lambda: protocol.received)
            assert (sent, transport.mine) == ([b"x"], 5)
            assert weakref.ref(transport)() is transport
            del transport.sendto

    finish(loop, main())


def test_arguments_can_be_named(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(data=b"x", addr=address_of(transport))
            await until(lambda: protocol.received)
            with pytest.raises(TypeError):
                transport.sendto()
            with pytest.raises(TypeError):
                transport.sendto(b"x", None, 5)

    finish(loop, main())


def test_callbacks_run_in_the_context_of_the_creation(loop: asyncio.SelectorEventLoop) -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")

    class Looking(RecordingDatagrams):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.calls.append(("in", where.get()))
            where.set("made")

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.calls.append(("in", where.get()))
            where.set(data.decode())

    async def main() -> None:
        where.set("creation")
        async with endpoint(Looking, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            where.set("later")
            for text in (b"one", b"two"):
                transport.sendto(text, address_of(transport))
                await passes(3)
            await until(lambda: len(protocol.of("in")) == 3)
            # One copy, made when reading began, which all datagrams share.
            assert protocol.of("in") == ["creation", "creation", "one"]
            assert where.get() == "later"

    finish(loop, main())


def test_closing_ends_it_once(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        for way in ("close", "abort"):
            async with endpoint() as (transport, protocol):
                sock = transport.get_extra_info("socket")
                assert not transport.is_closing()
                getattr(transport, way)()
                assert transport.is_closing()
                assert protocol.calls == [("made",)]
                getattr(transport, way)()
                transport.close()
                transport.abort()
                await passes(3)
                assert protocol.calls == [("made",), ("lost", None)]
                assert sock.fileno() == -1

    finish(loop, main())


def test_nothing_is_received_after_the_close(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            with contextlib.ExitStack() as stack:
                sender = bound_udp(stack)
                sender.sendto(b"early", address_of(transport))
                await until(lambda: protocol.received)
                sender.sendto(b"late", address_of(transport))
                transport.close()
                await passes(3)
            assert protocol.names() == ["made", "datagram", "lost"]

    finish(loop, main())


def test_sending_to_a_peer_after_the_close_is_silent_and_then_warns(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            async with endpoint(remote_addr=address_of(server)) as (client, _):
                client.close()
                await passes(3)
                for _ in range(4):
                    client.sendto(b"x")
                assert not caplog.records
                for _ in range(2):
                    client.sendto(b"x")
                texts = [record.getMessage() for record in caplog.records]
                assert texts == ["socket.send() raised exception."] * 2
                await passes(3)
                assert not serving.received

    finish(loop, main())


def test_a_forgotten_one_warns_and_closes_its_socket(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> int:
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        return int(transport.get_extra_info("socket").fileno())

    number = finish(loop, main())
    run_passes(loop, 2)
    with pytest.warns(ResourceWarning, match="unclosed transport <.*"):
        loop.close()
        gc.collect()
    with pytest.raises(OSError):
        socket.socket(fileno=number).close()


def test_a_script_of_a_server_that_echoes(loop: asyncio.SelectorEventLoop) -> None:
    class Echo(RecordingDatagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data.upper(), addr)

    async def main() -> None:
        async with endpoint(Echo, local_addr=("127.0.0.1", 0)) as (server, _):
            async with endpoint(remote_addr=address_of(server)) as (client, asking):
                for number in range(200):
                    client.sendto(b"abc%d" % number)
                    await until(lambda: asking.received)
                    assert asking.received == [b"ABC%d" % number]
                    asking.calls.clear()

    finish(loop, main())
