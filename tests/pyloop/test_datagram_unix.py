"""Datagram transports over Unix sockets: bound, unbound, abstract, stale paths."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sock_pairs import finish
from support.sock_protocols import address_of, endpoint, passes, until


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_two_that_are_bound_talk(loop: asyncio.SelectorEventLoop, folder: Path) -> None:
    async def main() -> None:
        one_path, two_path = str(folder / "one"), str(folder / "two")
        async with endpoint(family=socket.AF_UNIX, local_addr=one_path) as (one, first):
            async with endpoint(
                family=socket.AF_UNIX, local_addr=two_path, remote_addr=one_path
            ) as (two, second):
                assert (address_of(one), address_of(two)) == (one_path, two_path)
                assert two.get_extra_info("peername") == one_path
                two.sendto(b"ask")
                two.sendto(b"again", one_path)
                await until(lambda: len(first.received) == 2)
                assert first.calls[1:] == [
                    ("datagram", b"ask", two_path),
                    ("datagram", b"again", two_path),
                ]
                one.sendto(b"answer", two_path)
                await until(lambda: second.received)
                assert second.calls[1:] == [("datagram", b"answer", one_path)]
                with pytest.raises(ValueError) as caught:
                    two.sendto(b"x", two_path)
                assert str(caught.value) == f"Invalid address: must be None or {one_path}"

    finish(loop, main())


def test_a_sender_without_a_name_has_the_address_that_a_socket_tells(
    loop: asyncio.SelectorEventLoop, folder: Path
) -> None:
    path = str(folder / "server")

    async def main() -> None:
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (_, serving):
            async with endpoint(family=socket.AF_UNIX) as (client, _):
                assert address_of(client) == ""
                client.sendto(b"x", path)
                client.sendto(b"y", path)
                await until(lambda: len(serving.received) == 2)
                assert serving.calls[1:] == [("datagram", b"x", None), ("datagram", b"y", None)]

    with contextlib.ExitStack() as stack:
        near, far = (
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(2)
        )
        near.bind(path)
        far.sendto(b"x", path)
        assert near.recvfrom(10) == (b"x", None)
        os.unlink(path)
    finish(loop, main())


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are of Linux")
def test_an_abstract_address_is_served(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        name = f"\0pyloop-tests-datagram-{os.getpid()}"
        async with endpoint(family=socket.AF_UNIX, local_addr=name) as (server, serving):
            assert address_of(server) == name.encode()
            async with endpoint(
                family=socket.AF_UNIX, local_addr=name + "-2", remote_addr=name
            ) as (client, asking):
                client.sendto(b"ask")
                await until(lambda: serving.received)
                _, text, sender = serving.calls[1]
                assert (text, sender) == (b"ask", (name + "-2").encode())
                server.sendto(b"answer", sender)
                await until(lambda: asking.received)

    finish(loop, main())


def test_a_path_left_by_another_socket_is_taken_over(
    loop: asyncio.SelectorEventLoop, folder: Path
) -> None:
    path = folder / "left"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(path))

    async def main() -> None:
        async with endpoint(family=socket.AF_UNIX, local_addr=str(path)) as (transport, protocol):
            transport.sendto(b"x", str(path))
            await until(lambda: protocol.received)

    finish(loop, main())


def test_a_path_where_nobody_is_bound_is_an_error_that_it_survives(
    loop: asyncio.SelectorEventLoop, folder: Path
) -> None:
    async def main() -> None:
        path = str(folder / "mine")
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (transport, protocol):
            transport.sendto(b"x", str(folder / "nobody"))
            await until(lambda: protocol.of("error"))
            assert type(protocol.of("error")[0]) is FileNotFoundError
            transport.sendto(b"y", path)
            await until(lambda: protocol.received)
            assert protocol.names() == ["made", "error", "datagram"]

    finish(loop, main())


def test_a_connect_to_nobody_is_the_kernels_error(
    loop: asyncio.SelectorEventLoop, folder: Path
) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            async with endpoint(family=socket.AF_UNIX, remote_addr=str(folder / "nobody")):
                pass

    finish(loop, main())


def test_an_empty_datagram_is_received(loop: asyncio.SelectorEventLoop, folder: Path) -> None:
    async def main() -> None:
        path = str(folder / "server")
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (_, serving):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                for text in (b"", b"x", b""):
                    sender.sendto(text, path)
                await until(lambda: len(serving.received) == 3)
                await passes(2)
                assert serving.received == [b"", b"x", b""]

    finish(loop, main())


def test_a_long_datagram_arrives_whole(loop: asyncio.SelectorEventLoop, folder: Path) -> None:
    async def main() -> None:
        path = str(folder / "server")
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (transport, protocol):
            for size in (100_000, 150_000, 10):
                transport.sendto(b"x" * size, path)
                await until(lambda: protocol.received)
                assert protocol.received == [b"x" * size]
                protocol.calls.clear()

    finish(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio of this version wants SOCK_DGRAM")
def test_a_stream_of_packets_keeps_its_limits(loop: asyncio.SelectorEventLoop) -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def main() -> None:
        async with endpoint(sock=near) as (_, protocol):
            for text in (b"one", b"two", b"three"):
                far.send(text)
            await until(lambda: len(protocol.received) == 3)
            assert protocol.received == [b"one", b"two", b"three"]

    with near, far:
        finish(loop, main())
