"""sock_accept: what it gives, how it waits, and what becomes of connections nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import pytest
from support.sock_pairs import finish, has_ipv6, listener, stream_pair


def _client(stack: contextlib.ExitStack, listening: socket.socket) -> socket.socket:
    sock = stack.enter_context(socket.socket(listening.family))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        sock.connect(listening.getsockname())
    return sock


@pytest.mark.parametrize("to", ["tcp", "tcp6", "unix", "abstract"])
@pytest.mark.parametrize("waits", [True, False])
def test_it_gives_a_socket_and_its_address(
    loop: asyncio.SelectorEventLoop, to: str, waits: bool
) -> None:
    if to == "tcp6" and not has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")
    with listener(to) as listening, contextlib.ExitStack() as stack:

        async def main() -> None:
            if not waits:
                client = _client(stack, listening)
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await asyncio.sleep(0)
            if waits:
                client = _client(stack, listening)
            answer = await accepting
            assert type(answer) is tuple
            accepted, address = answer
            with accepted:
                assert type(accepted) is socket.socket
                assert accepted.gettimeout() == 0
                assert not os.get_blocking(accepted.fileno())
                assert not accepted.get_inheritable()
                assert (accepted.family, accepted.type, accepted.proto) == (
                    listening.family,
                    listening.type,
                    listening.proto,
                )
                assert address == client.getsockname()
                assert accepted.getsockname() == listening.getsockname()
                client.send(b"hello")
                assert await loop.sock_recv(accepted, 10) == b"hello"

        finish(loop, main())


def test_a_default_timeout_does_not_make_it_blocking(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, contextlib.ExitStack() as stack:
        socket.setdefaulttimeout(5)
        try:
            _client(stack, listening)
            accepted, _ = finish(loop, loop.sock_accept(listening))
        finally:
            socket.setdefaulttimeout(None)
        with accepted:
            assert accepted.gettimeout() == 0


def test_many_are_accepted_one_after_the_other(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, contextlib.ExitStack() as stack:

        async def main() -> None:
            for _ in range(10):
                clients = [_client(stack, listening) for _ in range(20)]
                accepted = set()
                for _ in clients:
                    sock, address = await loop.sock_accept(listening)
                    stack.enter_context(sock)
                    accepted.add(address)
                assert accepted == {client.getsockname() for client in clients}

        finish(loop, main())


def test_a_cancelled_accept_loses_no_connection(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, contextlib.ExitStack() as stack:

        async def main() -> None:
            for phase in range(4):
                accepting = asyncio.create_task(loop.sock_accept(listening))
                for _ in range(phase):
                    await asyncio.sleep(0)
                accepting.cancel()
                client = _client(stack, listening)
                with pytest.raises(asyncio.CancelledError):
                    await accepting
                accepted, address = await loop.sock_accept(listening)
                accepted.close()
                assert address == client.getsockname()

        finish(loop, main())


def test_a_connection_that_was_reset_in_the_queue_is_still_accepted(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with listener("tcp") as listening, contextlib.ExitStack() as stack:
        client = _client(stack, listening)
        client.close()
        accepted, _ = finish(loop, loop.sock_accept(listening))
        with accepted:
            assert finish(loop, loop.sock_recv(accepted, 10)) == b""


def test_a_socket_that_does_not_listen_is_the_kernels_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, _):
        with pytest.raises(OSError) as caught:
            finish(loop, loop.sock_accept(near))
        assert caught.value.errno == errno.EINVAL


def test_a_listener_closed_while_it_waits_leaves_the_call_to_its_caller(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with listener("tcp") as listening:

        async def main() -> None:
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await asyncio.sleep(0)
            listening.close()
            await asyncio.sleep(0.01)
            accepting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await accepting

        finish(loop, main())


def test_accepted_sockets_that_nobody_takes_are_closed(loop: asyncio.SelectorEventLoop) -> None:
    with listener("unix") as listening, contextlib.ExitStack() as stack:

        async def main() -> None:
            client = _client(stack, listening)
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await accepting
            accepting.result()[0].close()
            assert await loop.sock_recv(client, 10) == b""

        finish(loop, main())
