"""What a loop keeps of the sockets, buffers and tasks of sock_* calls, and from where they are called."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import finish, stream_pair
from support.sock_protocols import passes
from support.sock_situations import SITUATIONS, drive


async def _receive_one(
    loop: asyncio.AbstractEventLoop, near: socket.socket, far: socket.socket
) -> None:
    """A receive that has to wait."""
    receiving = asyncio.create_task(loop.sock_recv(near, 10))
    await passes(2)
    far.send(b"x")
    assert await receiving == b"x"


@pytest.mark.parametrize("closed", [True, False])
def test_no_socket_is_kept_alive(loop: asyncio.SelectorEventLoop, closed: bool) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    finish(loop, _receive_one(loop, near, far))
    number = near.fileno()
    reference = weakref.ref(near)
    if closed:
        near.close()
    else:
        assert near.detach() == number
        socket.close(number)
    del near
    gc.collect()
    assert reference() is None
    far.close()


def test_a_thousand_sockets_in_turn_are_all_forgotten(loop: asyncio.SelectorEventLoop) -> None:
    references: list[weakref.ref[socket.socket]] = []

    async def main() -> None:
        for _ in range(200):
            near, far = socket.socketpair()
            with near, far:
                near.setblocking(False)
                await _receive_one(loop, near, far)
                references.append(weakref.ref(near))

    finish(loop, main())
    gc.collect()
    assert not [reference for reference in references if reference() is not None]


class _Data(bytearray):
    """A buffer that can be referred to weakly."""


def test_no_buffer_is_kept_alive(loop: asyncio.SelectorEventLoop) -> None:
    references: list[weakref.ref[_Data]] = []

    async def main(near: socket.socket, far: socket.socket) -> None:
        data, buffer = _Data(b"x" * 1_000_000), _Data(100)
        references.extend((weakref.ref(data), weakref.ref(buffer)))
        sending = asyncio.create_task(loop.sock_sendall(near, data))
        receiving = asyncio.create_task(loop.sock_recv_into(near, buffer))
        await passes(2)
        left = len(data)
        while left:
            left -= len(await loop.sock_recv(far, 1 << 20))
        far.send(b"x")
        await asyncio.gather(sending, receiving)

    with stream_pair("unix") as (near, far):
        finish(loop, main(near, far))
        gc.collect()
        assert [reference() for reference in references] == [None, None]


def test_an_error_keeps_nothing_alive(loop: asyncio.SelectorEventLoop) -> None:
    async def main(sock: socket.socket) -> None:
        for _ in range(3):
            with pytest.raises(OSError):
                await loop.sock_recv(sock, 10)

    with socket.socket() as sock:
        sock.setblocking(False)
        reference = weakref.ref(sock)
        finish(loop, main(sock))
    del sock
    gc.collect()
    assert reference() is None


def test_a_forgotten_loop_with_a_waiting_call_is_collected(
    loop_factory: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    with stream_pair("unix") as (near, far):
        loop = loop_factory()
        call = loop.sock_recv(near, 10)
        future = call.send(None)
        run_passes(loop, 1)
        loop.close()
        reference = weakref.ref(future)
        del call, future
        gc.collect()
        assert reference() is None


@pytest.mark.parametrize("name", list(SITUATIONS))
def test_it_works_in_debug_mode(loop: asyncio.SelectorEventLoop, name: str) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 60
    with contextlib.ExitStack() as stack:
        situation = SITUATIONS[name](loop, stack)
        assert situation.right(drive(loop, situation.start(), situation.release))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("name", list(SITUATIONS))
def test_an_eager_task_runs_it(loop: asyncio.SelectorEventLoop, name: str) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)
    with contextlib.ExitStack() as stack:
        situation = SITUATIONS[name](loop, stack)

        async def main() -> Any:
            task = asyncio.create_task(situation.start())
            while not task.done():
                situation.release()
                await asyncio.sleep(0)
            return task.result()

        assert situation.right(finish(loop, main()))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_an_eager_task_is_done_at_once_where_data_is_there(
    loop: asyncio.SelectorEventLoop,
) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            far.send(b"there")
            task = asyncio.create_task(loop.sock_recv(near, 10))
            assert task.done()
            assert task.result() == b"there"
            task = asyncio.create_task(loop.sock_sendall(near, b"back"))
            assert task.done()

        finish(loop, main())


def test_another_thread_can_hand_one_over(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):
        answers: list[bytes] = []

        def ask() -> None:
            call = loop.sock_recv(near, 10)
            answers.append(asyncio.run_coroutine_threadsafe(call, loop).result(10))
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=ask)
        thread.start()
        loop.call_later(0.01, far.send, b"hello")
        loop.run_forever()
        thread.join()
        assert answers == [b"hello"]


def test_data_that_is_there_takes_no_pass_of_the_loop(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            others: list[int] = []
            loop.call_soon(others.append, 1)
            far.send(b"one two three")
            assert await loop.sock_recv(near, 4) == b"one "
            buffer = bytearray(4)
            assert await loop.sock_recv_into(near, buffer) == 4
            assert buffer == b"two "
            await loop.sock_sendall(near, b"back")
            assert not others

        finish(loop, main())


def test_shielded_and_waited_for_together(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), stream_pair("unix") as (here, there):

        async def main() -> None:
            first = asyncio.create_task(loop.sock_recv(near, 10))
            second = asyncio.create_task(loop.sock_recv(here, 10))
            await passes(2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(first), 0.001)
            there.send(b"second")
            done, pending = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            assert (done, pending) == ({second}, {first})
            far.send(b"first")
            assert await asyncio.gather(first, second) == [b"first", b"second"]

        finish(loop, main())
