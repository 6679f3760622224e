"""Datagram transports and what goes wrong: refusals, sizes, families, permissions, callbacks that raise."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import bound_udp, finish, has_ipv6, text_of
from support.sock_protocols import RecordingDatagrams, address_of, endpoint, passes, until


def _closed_port() -> tuple[str, int]:
    with contextlib.ExitStack() as stack:
        name = bound_udp(stack).getsockname()
        return str(name[0]), int(name[1])


def test_a_port_where_nobody_listens_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        address = _closed_port()
        async with endpoint(remote_addr=address) as (transport, protocol):
            transport.sendto(b"x")
            await until(lambda: protocol.of("error"))
            refused = protocol.of("error")[0]
            assert type(refused) is ConnectionRefusedError
            assert str(refused) == text_of(errno.ECONNREFUSED)
            assert protocol.names() == ["made", "error"]
            assert not transport.is_closing()
            # The same socket hears its peer when that comes up.
            with contextlib.ExitStack() as stack:
                peer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                peer.setblocking(False)
                peer.bind(address)
                transport.sendto(b"again")
                assert await loop.sock_recvfrom(peer, 10) == (b"again", address_of(transport))
                peer.sendto(b"answer", address_of(transport))
                await until(lambda: protocol.received)

    finish(loop, main())


def test_many_refusals_are_many_errors_and_no_end(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint(remote_addr=_closed_port()) as (transport, protocol):
            for number in range(1, 21):
                transport.sendto(b"x")
                await until(lambda number=number: len(protocol.of("error")) >= number)
            assert set(map(type, protocol.of("error"))) == {ConnectionRefusedError}
            assert set(protocol.names()) == {"made", "error"}

    finish(loop, main())


def test_one_without_a_peer_hears_no_refusal(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", _closed_port())
            transport.sendto(b"self", address_of(transport))
            await until(lambda: protocol.received)
            assert protocol.names() == ["made", "datagram"]

    finish(loop, main())


def test_a_datagram_too_long_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x" * 70_000, address_of(transport))
            await until(lambda: protocol.of("error"))
            assert protocol.of("error")[0].errno == errno.EMSGSIZE
            transport.sendto(b"y" * 65_507, address_of(transport))
            await until(lambda: protocol.received)
            assert protocol.received == [b"y" * 65_507]
            assert protocol.names() == ["made", "error", "datagram"]
            assert transport.get_write_buffer_size() == 0

    finish(loop, main())


def test_a_datagram_too_long_for_a_connected_one_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (server, serving):
            async with endpoint(remote_addr=address_of(server)) as (client, asking):
                client.sendto(b"first")
                client.sendto(b"x" * 70_000)
                client.sendto(b"last")
                await until(lambda: asking.of("error") and len(serving.received) == 2)
                assert asking.of("error")[0].errno == errno.EMSGSIZE
                assert serving.received == [b"first", b"last"]

    finish(loop, main())


def test_broadcast_without_leave_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", ("127.255.255.255", 9))
            await until(lambda: protocol.of("error"))
            assert type(protocol.of("error")[0]) is PermissionError
            assert not transport.is_closing()

    finish(loop, main())


def test_broadcast_with_leave_arrives(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("0.0.0.0", 0)) as (server, serving):
            address = ("127.255.255.255", address_of(server)[1])
            async with endpoint(local_addr=("127.0.0.1", 0), allow_broadcast=True) as (client, _):
                sock = client.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
                client.sendto(b"to all", address)
                await until(lambda: serving.received)
                assert serving.calls[1:] == [("datagram", b"to all", address_of(client))]
            # With a remote address such a transport is not connected, and sends to it nevertheless.
            async with endpoint(remote_addr=address, allow_broadcast=True) as (client, asking):
                assert client.get_extra_info("peername") is None
                client.sendto(b"again")
                await until(lambda: len(serving.received) == 2)
                with pytest.raises(ValueError, match="Invalid address: must be None or"):
                    client.sendto(b"x", ("127.0.0.1", 9))
                server.sendto(b"answer", serving.calls[-1][2])
                await until(lambda: asking.received)

    finish(loop, main())


def test_two_can_share_a_port(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("127.0.0.1", 0), reuse_port=True) as (one, first):
            address = address_of(one)
            async with endpoint(local_addr=address, reuse_port=True) as (two, second):
                assert address_of(two) == address
                with contextlib.ExitStack() as stack:
                    for number in range(50):
                        bound_udp(stack).sendto(b"%d" % number, address)
                    await until(lambda: len(first.received) + len(second.received) == 50)
                both = {*first.received, *second.received}
                assert both == {b"%d" % number for number in range(50)}
            with pytest.raises(OSError) as caught:
                async with endpoint(local_addr=address):
                    pass
            assert caught.value.errno == errno.EADDRINUSE

    finish(loop, main())


def test_an_address_of_another_family_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", ("::1", 9))
            await until(lambda: protocol.of("error"))
            assert isinstance(protocol.of("error")[0], OSError)
            assert not transport.is_closing()
            transport.sendto(b"y", address_of(transport))
            await until(lambda: protocol.received)

    finish(loop, main())


@pytest.mark.parametrize(
    "wrong", [None, "127.0.0.1", 5, ("127.0.0.1",), ("127.0.0.1", "x")], ids=repr
)
def test_what_is_no_address_ends_the_transport(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]], wrong: Any
) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", wrong)
            await until(lambda: protocol.lost)
            assert type(protocol.calls[-1][1]) is TypeError
            assert protocol.names() == ["made", "lost"]
            (report,) = unhandled
            assert report["message"] == "Fatal write error on datagram transport"
            assert report["exception"] is protocol.calls[-1][1]
            assert report["transport"] is transport
            assert report["protocol"] is protocol
            unhandled.clear()

    finish(loop, main())


def test_a_name_as_address_is_resolved(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", ("localhost", address_of(transport)[1]))
            await until(lambda: protocol.received)

    finish(loop, main())


def test_a_list_is_no_address_of_the_peer(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with endpoint() as (server, _):
            async with endpoint(remote_addr=address_of(server)) as (client, _):
                with pytest.raises(ValueError, match="Invalid address: must be None or"):
                    client.sendto(b"x", list(address_of(server)))

    finish(loop, main())


def test_stream_sockets_and_odd_arguments_are_refused(loop: asyncio.SelectorEventLoop) -> None:
    async def main(stream: socket.socket, datagrams: socket.socket) -> None:
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"sock": stream}, ValueError, "A "),
            (
                {"sock": datagrams, "local_addr": ("127.0.0.1", 0)},
                ValueError,
                "socket modifier keyword arguments can not be used when sock is specified.",
            ),
            ({"family": 0}, ValueError, "unexpected address family"),
            ({"local_addr": "127.0.0.1"}, TypeError, "2-tuple is expected"),
            ({"family": socket.AF_UNIX, "local_addr": 5}, TypeError, "string is expected"),
        ]
        for options, error, text in cases:
            with pytest.raises(error) as caught:
                await loop.create_datagram_endpoint(RecordingDatagrams, **options)
            assert str(caught.value).startswith(text)
            assert "expected" in str(caught.value) or options.get("sock") is not stream

    with socket.socket() as stream, contextlib.ExitStack() as stack:
        finish(loop, main(stream, bound_udp(stack)))


def test_a_factory_that_raises_leaves_nothing_open(loop: asyncio.SelectorEventLoop) -> None:
    def factory() -> asyncio.DatagramProtocol:
        raise LookupError("mine")

    with contextlib.ExitStack() as stack:
        sock = bound_udp(stack)
        with pytest.raises(LookupError, match="mine"):
            finish(loop, loop.create_datagram_endpoint(factory, sock=sock))


def test_a_link_local_sender_carries_its_scope(loop: asyncio.SelectorEventLoop) -> None:
    found = _link_local()
    if found is None:
        pytest.skip("no interface has a link-local IPv6 address")
    host, index = found

    async def main() -> None:
        name = f"{host}%{socket.if_indextoname(index)}"
        async with endpoint(local_addr=(name, 0)) as (server, serving):
            assert address_of(server)[3] == index
            async with endpoint(remote_addr=(name, address_of(server)[1])) as (client, asking):
                client.sendto(b"x")
                await until(lambda: serving.received)
                sender = serving.calls[1][2]
                assert sender == address_of(client)
                assert sender[3] == index
                server.sendto(b"y", sender)
                await until(lambda: asking.received)

    finish(loop, main())


def _link_local() -> tuple[str, int] | None:
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as table:
        for line in table:
            digits, index, _, scope, *_ = line.split()
            if scope == "20":
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), int(index, 16)
    return None


def test_the_address_of_an_ipv6_sender_has_four_parts(loop: asyncio.SelectorEventLoop) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")

    async def main() -> None:
        async with endpoint(local_addr=("::1", 0)) as (transport, protocol):
            port = address_of(transport)[1]
            for address in (("::1", port), ("::1", port, 0), ("::1", port, 0, 0)):
                transport.sendto(b"x", address)
            await until(lambda: len(protocol.received) == 3)
            assert {call[2] for call in protocol.calls[1:]} == {("::1", port, 0, 0)}

    finish(loop, main())


def test_multicast_by_the_socket_of_the_transport(loop: asyncio.SelectorEventLoop) -> None:
    group = "239.255.77.77"

    async def main() -> None:
        async with endpoint(local_addr=("0.0.0.0", 0)) as (server, serving):
            async with endpoint(local_addr=("127.0.0.1", 0)) as (client, _):
                here = socket.inet_aton("127.0.0.1")
                try:
                    server.get_extra_info("socket").setsockopt(
                        socket.IPPROTO_IP,
                        socket.IP_ADD_MEMBERSHIP,
                        struct.pack("4s4s", socket.inet_aton(group), here),
                    )
                    client.get_extra_info("socket").setsockopt(
                        socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here
                    )
                except OSError as refused:
                    pytest.skip(f"the kernel refuses multicast on the loopback: {refused}")
                client.sendto(b"to the group", (group, address_of(server)[1]))
                await until(lambda: serving.received)
                assert serving.calls[1:] == [("datagram", b"to the group", address_of(client))]

    finish(loop, main())


class _Raising(RecordingDatagrams):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        if data == b"raise":
            raise LookupError("mine")
        if data == b"leave":
            raise SystemExit(5)


def test_a_callback_that_raises_is_reported_and_the_rest_arrives(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with endpoint(_Raising, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            texts = [b"one", b"raise", b"two", b"raise", b"three"]
            for text in texts:
                transport.sendto(text, address_of(transport))
            await until(lambda: len(protocol.received) == 5)
            await passes(2)
            assert protocol.received == texts
            assert not transport.is_closing()
            assert [str(report["exception"]) for report in unhandled] == ["mine"] * 2
            assert all("callback" in report["message"] for report in unhandled)
            unhandled.clear()

    finish(loop, main())


def test_a_callback_that_leaves_the_program_leaves_the_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    transport, protocol = finish(
        loop, loop.create_datagram_endpoint(_Raising, local_addr=("127.0.0.1", 0))
    )
    for text in (b"one", b"leave", b"two"):
        transport.sendto(text, address_of(transport))
    with pytest.raises(SystemExit):
        run_passes(loop, 10)
    assert protocol.received == [b"one", b"leave"]
    finish(loop, until(lambda: len(protocol.received) == 3))
    assert protocol.received == [b"one", b"leave", b"two"]
    transport.close()
    run_passes(loop, 2)


def test_connection_made_that_raises_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    class Failing(RecordingDatagrams):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("mine")

    async def main() -> None:
        async with endpoint(Failing, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            assert [str(report["exception"]) for report in unhandled] == ["mine"]
            unhandled.clear()
            transport.sendto(b"x", address_of(transport))
            await until(lambda: protocol.received)

    finish(loop, main())


def test_a_descriptor_closed_behind_its_back_is_no_end_of_the_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with endpoint() as (transport, protocol):
            number = transport.get_extra_info("socket").fileno()
            with contextlib.ExitStack() as stack:
                spare = bound_udp(stack)
                # The number stays taken, so that nobody else gets it.
                os.dup2(spare.fileno(), number, inheritable=False)
            await passes(3)
            transport.close()
            await passes(3)
            assert protocol.names()[-1] == "lost"

    finish(loop, main())
