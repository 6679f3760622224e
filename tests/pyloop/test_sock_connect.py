"""sock_connect: addresses and names, refusals with asyncio's texts, and connects that do not get through."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.sock_pairs import bound_udp, finish, has_ipv6, listener, text_of


@contextlib.contextmanager
def _client(family: int = socket.AF_INET) -> Iterator[socket.socket]:
    with socket.socket(family) as sock:
        sock.setblocking(False)
        yield sock


def _peer_of(listening: socket.socket) -> str:
    listening.setblocking(True)
    accepted, _ = listening.accept()
    with accepted:
        accepted.sendall(b"hello")
        return str(accepted.getpeername())


@pytest.mark.parametrize("to", ["tcp", "tcp6", "unix", "abstract"])
def test_it_connects_to_every_kind_of_listener(loop: asyncio.SelectorEventLoop, to: str) -> None:
    if to == "tcp6" and not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")
    with listener(to) as listening, _client(listening.family) as sock:

        async def main() -> None:
            assert await loop.sock_connect(sock, listening.getsockname()) is None
            assert sock.getpeername() == listening.getsockname()
            assert _peer_of(listening) == str(sock.getsockname())
            assert await loop.sock_recv(sock, 10) == b"hello"

        finish(loop, main())


def test_a_name_is_resolved(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, _client() as sock:
        port = listening.getsockname()[1]
        finish(loop, loop.sock_connect(sock, ("localhost", port)))
        assert sock.getpeername() == ("127.0.0.1", port)


def test_a_name_that_nobody_knows_is_a_gaierror(loop: asyncio.SelectorEventLoop) -> None:
    with _client() as sock:
        with pytest.raises(socket.gaierror):
            finish(loop, loop.sock_connect(sock, ("not a name", 80)))


def test_the_loops_own_getaddrinfo_is_asked_for_names(
    loop: asyncio.SelectorEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    with listener("tcp") as listening, _client() as sock:
        address = listening.getsockname()

        def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> list[Any]:
            asked.append((host, port))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        finish(loop, loop.sock_connect(sock, ("somewhere.example", 80)))
        assert asked == [("somewhere.example", 80)]
        assert sock.getpeername() == address


def test_a_refused_connect_has_asyncios_text(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening:
        address = listening.getsockname()
    with _client() as sock:
        with pytest.raises(ConnectionRefusedError) as caught:
            finish(loop, loop.sock_connect(sock, address))
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.strerror == f"Connect call failed {address}"
    assert str(caught.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"


def test_a_refused_connect_over_ipv6_has_asyncios_text(loop: asyncio.SelectorEventLoop) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")
    with listener("tcp6") as listening:
        address = listening.getsockname()
    with _client(socket.AF_INET6) as sock:
        with pytest.raises(ConnectionRefusedError) as caught:
            finish(loop, loop.sock_connect(sock, address))
    assert str(caught.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"


def test_a_path_where_nobody_listens_is_the_kernels_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with listener("unix") as listening:
        path = listening.getsockname()
        listening.close()
        with _client(socket.AF_UNIX) as sock:
            with pytest.raises(ConnectionRefusedError) as caught:
                finish(loop, loop.sock_connect(sock, path))
            assert str(caught.value) == text_of(errno.ECONNREFUSED)
            os.unlink(path)
            with pytest.raises(FileNotFoundError) as missing:
                finish(loop, loop.sock_connect(sock, path))
            assert str(missing.value) == text_of(errno.ENOENT)


def test_a_socket_that_is_connected_is_the_kernels_error(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, _client() as sock:
        # The kernel tells the second connect the success of the first.
        for _ in range(2):
            finish(loop, loop.sock_connect(sock, listening.getsockname()))
        with pytest.raises(OSError) as caught:
            finish(loop, loop.sock_connect(sock, listening.getsockname()))
        assert caught.value.errno == errno.EISCONN


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("127.0.0.1", (TypeError, ValueError)),
        (None, TypeError),
        (("127.0.0.1",), (TypeError, ValueError)),
        (("127.0.0.1", -1), OverflowError),
        (("127.0.0.1", 70_000), OverflowError),
        ((5, 5), (TypeError, AttributeError)),
    ],
    ids=repr,
)
def test_a_wrong_address_is_an_error(
    loop: asyncio.SelectorEventLoop, address: Any, error: Any
) -> None:
    with _client() as sock:
        with pytest.raises(error):
            finish(loop, loop.sock_connect(sock, address))


@pytest.mark.parametrize("address", [("127.0.0.1", 80), None, 5], ids=repr)
def test_a_wrong_address_of_a_unix_socket_is_a_type_error(
    loop: asyncio.SelectorEventLoop, address: Any
) -> None:
    with _client(socket.AF_UNIX) as sock:
        with pytest.raises(TypeError):
            finish(loop, loop.sock_connect(sock, address))


def test_an_address_of_the_other_family_is_an_error(loop: asyncio.SelectorEventLoop) -> None:
    with _client() as sock:
        with pytest.raises((OSError, TypeError, ValueError)):
            finish(loop, loop.sock_connect(sock, ("::1", 80)))


@contextlib.contextmanager
def _full_listener() -> Iterator[socket.socket]:
    """One that answers no more: its queue is full, so a connect to it stays in progress."""
    with listener("tcp", backlog=0) as listening, contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(_client())
            filler.connect_ex(listening.getsockname())
        yield listening


def test_a_connect_in_progress_can_be_cancelled(loop: asyncio.SelectorEventLoop) -> None:
    with _full_listener() as listening, _client() as sock:

        async def main() -> None:
            connecting = asyncio.create_task(loop.sock_connect(sock, listening.getsockname()))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not connecting.done()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await asyncio.sleep(0)
            assert loop.remove_writer(sock) is False

        finish(loop, main())


def test_a_connect_in_progress_can_time_out_and_the_socket_be_closed(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with _full_listener() as listening, _client() as sock:
        with pytest.raises(TimeoutError):
            loop.run_until_complete(
                asyncio.wait_for(loop.sock_connect(sock, listening.getsockname()), 0.01)
            )
        number = sock.fileno()
        sock.close()
        assert loop.remove_writer(number) is False


def test_a_cancelled_lookup_is_over(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, _client() as sock:

        async def main() -> None:
            address = ("localhost", listening.getsockname()[1])
            connecting = asyncio.create_task(loop.sock_connect(sock, address))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting

        finish(loop, main())
        finish(loop, loop.shutdown_default_executor())
        with pytest.raises(OSError):
            sock.getpeername()


def test_many_connect_at_once(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_client()) for _ in range(50)]

        async def main() -> None:
            address = listening.getsockname()
            await asyncio.gather(*(loop.sock_connect(sock, address) for sock in socks))

        finish(loop, main())
        assert {sock.getpeername() for sock in socks} == {listening.getsockname()}


def test_a_udp_socket_connects_at_once(loop: asyncio.SelectorEventLoop) -> None:
    with contextlib.ExitStack() as stack:
        near, far = bound_udp(stack), bound_udp(stack)
        finish(loop, loop.sock_connect(near, far.getsockname()))
        assert near.getpeername() == far.getsockname()


def test_data_can_be_exchanged_at_once_after_the_connect(loop: asyncio.SelectorEventLoop) -> None:
    async def serve(listening: socket.socket) -> None:
        accepted, _ = await loop.sock_accept(listening)
        with accepted:
            while part := await loop.sock_recv(accepted, 100):
                await loop.sock_sendall(accepted, part.upper())

    async def main(listening: socket.socket) -> None:
        serving = asyncio.create_task(serve(listening))
        with _client() as sock:
            await loop.sock_connect(sock, listening.getsockname())
            for number in range(100):
                await loop.sock_sendall(sock, b"abc%d" % number)
                assert await loop.sock_recv(sock, 100) == b"ABC%d" % number
        await serving

    with listener("tcp") as listening:
        finish(loop, main(listening))
