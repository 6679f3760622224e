"""Descriptors that close, come back as other sockets, or are copied while sock_* calls use them.

The loop may keep its registration of a socket between two calls; nobody must be able to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

import pytest
from support.descriptors import open_descriptors, opened_since
from support.sock_pairs import bound_udp, fill, finish, move_to, stream_pair


async def _passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _receive_one(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, far: socket.socket, text: bytes
) -> None:
    """A receive that has to wait."""
    receiving = asyncio.create_task(loop.sock_recv(sock, 100))
    await _passes(2)
    assert not receiving.done()
    far.send(text)
    assert await receiving == text


@pytest.mark.parametrize("sockets", ["tcp", "unix"])
def test_a_new_socket_under_an_old_number_gets_its_own_events(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with contextlib.ExitStack() as stack:

        async def main() -> None:
            near, far = stack.enter_context(stream_pair(sockets))
            for turn in range(5):
                for part in range(3):
                    await _receive_one(loop, near, far, b"%d.%d" % (turn, part))
                # Drained to the last byte, with the registration warm. The new pair is made before
                # the number is free: otherwise its other end could get it.
                new, far = stack.enter_context(stream_pair(sockets))
                number = near.fileno()
                near.close()
                near = stack.enter_context(move_to(new, number))

        finish(loop, main())


def test_a_new_socket_under_an_old_number_has_no_drained_state(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

        async def main() -> None:
            nonlocal new
            await _receive_one(loop, near, far, b"old")
            newer.send(b"there already")
            number = near.fileno()
            near.close()
            new = move_to(new, number)
            with new:
                assert await loop.sock_recv(new, 5) == b"there"
                assert await loop.sock_recv(new, 100) == b" already"
                await _receive_one(loop, new, newer, b"later")

        finish(loop, main())


def test_a_new_socket_under_an_old_number_never_gets_the_end_of_the_old_one(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

        async def main() -> None:
            nonlocal new
            await _receive_one(loop, near, far, b"old")
            # A duplicate keeps the old connection, and what the kernel knows of it, alive.
            with near.dup():
                number = near.fileno()
                near.close()
                new = move_to(new, number)
                with new:
                    receiving = asyncio.create_task(loop.sock_recv(new, 10))
                    await _passes(2)
                    far.send(b"for the duplicate")
                    far.close()
                    await _passes(5)
                    assert not receiving.done()
                    newer.send(b"mine")
                    assert await receiving == b"mine"
                    await _receive_one(loop, new, newer, b"mine again")

        finish(loop, main())


def test_another_socket_put_under_the_same_object_gets_its_own_events(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

        async def main() -> None:
            await _receive_one(loop, near, far, b"old")
            # The object and the number stay; what they stand for changes.
            os.dup2(new.fileno(), near.fileno(), inheritable=False)
            await _receive_one(loop, near, newer, b"new")
            await _receive_one(loop, near, newer, b"and again")

        finish(loop, main())


def test_another_object_for_the_same_open_socket_goes_on(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            sock = near
            for turn in range(4):
                await _receive_one(loop, sock, far, b"%d" % turn)
                sock = socket.socket(fileno=sock.detach())
                sock.setblocking(False)
            sock.close()

        finish(loop, main())


def test_a_listener_under_an_old_number_accepts(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), socket.socket() as listening:

        async def main() -> None:
            await _receive_one(loop, near, far, b"old")
            number = near.fileno()
            near.close()
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            with move_to(listening, number) as moved, socket.socket() as client:
                accepting = asyncio.create_task(loop.sock_accept(moved))
                await _passes(2)
                client.setblocking(False)
                client.connect_ex(moved.getsockname())
                accepted, address = await accepting
                accepted.close()
                assert address == client.getsockname()

        finish(loop, main())


def test_a_pipe_under_an_old_number_can_be_watched(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):
        reading, writing = os.pipe()

        async def main() -> None:
            await _receive_one(loop, near, far, b"old")
            number = near.detach()
            os.dup2(reading, number)
            calls: list[int] = []
            loop.add_reader(number, calls.append, 1)
            await _passes(3)
            assert not calls
            os.write(writing, b"x")
            await _passes(3)
            assert calls
            assert loop.remove_reader(number) is True
            os.close(number)

        finish(loop, main())
        os.close(reading)
        os.close(writing)


def test_a_udp_socket_under_an_old_number_receives(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), contextlib.ExitStack() as stack:
        here, there = bound_udp(stack), bound_udp(stack)

        async def main() -> None:
            await _receive_one(loop, near, far, b"old")
            number = near.fileno()
            near.close()
            with move_to(here, number) as moved:
                for text in (b"one", b""):
                    receiving = asyncio.create_task(loop.sock_recvfrom(moved, 10))
                    await _passes(2)
                    there.sendto(text, moved.getsockname())
                    assert await receiving == (text, there.getsockname())

        finish(loop, main())


def test_a_socket_closed_while_a_call_waits_leaves_it_to_its_caller(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            near.close()
            await _passes(3)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving

        finish(loop, main())


def test_a_sender_whose_socket_closes_while_it_waits_can_be_cancelled(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            fill(near)
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 1_000_000))
            await _passes(2)
            near.close()
            await _passes(3)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

        finish(loop, main())


def test_a_new_socket_works_under_the_number_of_one_that_a_call_still_waits_for(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    # On asyncio's own the new socket is taken for registered, and hears nothing.
    with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

        async def main() -> None:
            nonlocal new
            forgotten = asyncio.create_task(pyloop.sock_recv(near, 10))
            await _passes(2)
            number = near.fileno()
            near.close()
            new = move_to(new, number)
            with new:
                await _receive_one(pyloop, new, newer, b"mine")
                far.send(b"for nobody")
                await _passes(3)
                assert not forgotten.done()
                forgotten.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await forgotten
                # The end of the forgotten call takes nothing from the new socket.
                await _receive_one(pyloop, new, newer, b"still mine")

        finish(pyloop, main())


def test_one_cancelled_after_its_number_was_reused_leaves_the_new_one_waiting(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

        async def main() -> None:
            nonlocal new
            forgotten = asyncio.create_task(pyloop.sock_recv(near, 10))
            await _passes(2)
            number = near.fileno()
            near.close()
            new = move_to(new, number)
            with new:
                receiving = asyncio.create_task(pyloop.sock_recv(new, 10))
                await _passes(2)
                forgotten.cancel()
                await _passes(2)
                newer.send(b"mine")
                assert await receiving == b"mine"

        finish(pyloop, main())


def test_closed_sockets_are_really_closed(loop: asyncio.SelectorEventLoop) -> None:
    before = open_descriptors()
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            await _receive_one(loop, near, far, b"warm")
            near.close()
            # The peer sees the end only if nobody keeps a copy.
            assert await loop.sock_recv(far, 10) == b""

        finish(loop, main())
    assert not [link for link in opened_since(before).values() if link.startswith("socket")]


def test_unread_data_wakes_nobody(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> float:
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            far.send(b"0123456789" * 100)
            assert await receiving == b"0123456789"
            await _passes(3)
            before = time.process_time()
            await asyncio.sleep(0.15)
            return time.process_time() - before

        # A loop that is woken without end uses all of the time that it gets.
        assert finish(loop, main()) < 0.05
        assert finish(loop, loop.sock_recv(near, 2000)) == b"0123456789" * 99
