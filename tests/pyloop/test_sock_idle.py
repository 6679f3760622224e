"""Sockets that have something to say to nobody: no state of theirs wakes an idle loop again and again.

Each test measures the processor time of a short sleep: a loop that is woken without end uses
all that it gets of it.
"""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from support.sock_pairs import STREAMS, fill, finish, listener, reset, stream_pair
from support.sock_protocols import passes


async def _warm(loop: asyncio.AbstractEventLoop, near: socket.socket, far: socket.socket) -> None:
    """A receive and a send that had to wait: the loop may keep its registrations now."""
    receiving = asyncio.create_task(loop.sock_recv(near, 10))
    await passes(2)
    far.send(b"x")
    assert await receiving == b"x"
    left = fill(near) + 1000
    sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 1000))
    await passes(2)
    while left:
        left -= len(await loop.sock_recv(far, 1 << 20))
    await sending


async def _time_asleep() -> float:
    await passes(3)
    before = time.process_time()
    await asyncio.sleep(0.15)
    return time.process_time() - before


@pytest.mark.parametrize("sockets", STREAMS)
@pytest.mark.parametrize("state", ["unread", "half-closed", "closed", "over", "reset"])
def test_a_socket_that_was_used_wakes_nobody(
    loop: asyncio.SelectorEventLoop, sockets: str, state: str
) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> float:
            await _warm(loop, near, far)
            if state == "unread":
                far.send(b"x" * 1000)
            elif state == "half-closed":
                far.shutdown(socket.SHUT_WR)
            elif state == "closed":
                far.close()
            elif state == "over":
                far.close()
                near.shutdown(socket.SHUT_RDWR)
            elif sockets == "tcp":
                reset(far)
            else:
                # Closing with bytes unread is the reset of a Unix socket.
                near.send(b"x")
                far.close()
            return await _time_asleep()

        assert finish(loop, main()) < 0.05


@pytest.mark.parametrize("sockets", STREAMS)
def test_a_sender_that_waits_is_not_woken_by_what_can_be_read(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> float:
            await _warm(loop, near, far)
            fill(near)
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 20_000_000))
            await passes(2)
            far.send(b"unread")
            far.shutdown(socket.SHUT_WR)
            used = await _time_asleep()
            assert not sending.done()
            sending.cancel()
            return used

        assert finish(loop, main()) < 0.05


def test_a_receiver_that_waits_is_not_woken_by_room_to_send(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> float:
            await _warm(loop, near, far)
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            used = await _time_asleep()
            assert not receiving.done()
            receiving.cancel()
            return used

        assert finish(loop, main()) < 0.05


def test_connections_that_nobody_accepts_wake_nobody(loop: asyncio.SelectorEventLoop) -> None:
    with listener("tcp") as listening, socket.socket() as first, socket.socket() as second:

        async def main() -> float:
            accepting = asyncio.create_task(loop.sock_accept(listening))
            await passes(2)
            first.setblocking(False)
            first.connect_ex(listening.getsockname())
            accepted, _ = await accepting
            accepted.close()
            second.setblocking(False)
            second.connect_ex(listening.getsockname())
            used = await _time_asleep()
            accepted, address = await loop.sock_accept(listening)
            accepted.close()
            assert address == second.getsockname()
            return used

        assert finish(loop, main()) < 0.05


def test_a_socket_closed_under_a_duplicate_wakes_nobody(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), near.dup() as twin:

        async def main() -> float:
            await _warm(loop, near, far)
            near.close()
            far.send(b"unread")
            used = await _time_asleep()
            twin.setblocking(False)
            assert await loop.sock_recv(twin, 10) == b"unread"
            return used

        assert finish(loop, main()) < 0.05
