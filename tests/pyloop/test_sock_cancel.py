"""A cancelled sock_* call has lost no byte, whenever it was cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from support.sock_pairs import STREAMS, bound_udp, finish, listener, stream_pair
from support.sock_situations import SITUATIONS, Situation

T = TypeVar("T")


@pytest.fixture(params=list(SITUATIONS))
def situation(
    request: pytest.FixtureRequest, loop: asyncio.SelectorEventLoop
) -> Iterator[Situation]:
    """One in which a call has to wait."""
    with contextlib.ExitStack() as stack:
        yield SITUATIONS[request.param](loop, stack)


async def _passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_cancelled_before_it_starts_touches_nothing(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> None:
        situation.release()
        task = asyncio.create_task(situation.start())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _passes(3)
        assert situation.untouched()

    finish(loop, main())


@pytest.mark.parametrize(
    "situation",
    # A connect is under way once it was begun.
    [name for name in SITUATIONS if name != "sock_connect"],
    indirect=True,
)
def test_one_cancelled_while_it_waits_leaves_the_rest_to_the_next(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> None:
        task = asyncio.create_task(situation.start())
        await _passes(2)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        situation.release()
        await _passes(3)
        assert situation.untouched()

    finish(loop, main())


@pytest.mark.parametrize(
    "situation", [name for name in SITUATIONS if name != "sock_connect"], indirect=True
)
def test_one_cancelled_before_the_loop_has_seen_its_event_touches_nothing(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> None:
        task = asyncio.create_task(situation.start())
        await _passes(2)
        situation.release()
        # The event is there, and nobody has looked for it.
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await _passes(3)
        assert situation.untouched()

    finish(loop, main())


def test_a_connect_cancelled_at_any_moment_is_over(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        for count in range(4):
            with contextlib.ExitStack() as stack:
                situation = SITUATIONS["sock_connect"](loop, stack)
                task = asyncio.create_task(situation.start())
                await _passes(count)
                if task.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await task
                else:
                    assert situation.right(task.result())

    finish(loop, main())


@pytest.mark.parametrize("passes", range(5))
@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into"])
def test_a_receive_cancelled_some_passes_after_the_data_has_it_or_leaves_it(
    pyloop: asyncio.SelectorEventLoop, passes: int, name: str
) -> None:
    # asyncio's own receives in one pass and wakes its task in the next; a cancel in between loses the data.
    with stream_pair("tcp") as (near, far):

        async def receive() -> bytes:
            if name == "sock_recv":
                return await pyloop.sock_recv(near, 100)
            buffer = bytearray(100)
            return bytes(buffer[: await pyloop.sock_recv_into(near, buffer)])

        async def main() -> bytes:
            task = asyncio.create_task(receive())
            await _passes(2)
            far.send(b"first")
            await _passes(passes)
            task.cancel()
            received = b""
            with contextlib.suppress(asyncio.CancelledError):
                received = await task
            far.send(b"second")
            while len(received) < 11:
                received += await pyloop.sock_recv(near, 100)
            return received

        assert finish(pyloop, main()) == b"firstsecond"


class _Stream:
    """Pieces of random sizes whose whole is known."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self.whole = self.random.randbytes(size)

    def pieces(self) -> Iterator[bytes]:
        start = 0
        while start < len(self.whole):
            end = start + self.random.choice((1, 2, 10, 100, 200))
            yield self.whole[start:end]
            start = end


@pytest.mark.parametrize("sockets", STREAMS)
@pytest.mark.parametrize("into", [True, False])
def test_receives_cancelled_at_random_moments_lose_no_byte(
    pyloop: asyncio.SelectorEventLoop, sockets: str, into: bool
) -> None:
    # asyncio's own can lose what it received in the pass in which the time-out ended the task.
    stream = _Stream(3, 10_000)
    with stream_pair(sockets) as (near, far):

        async def sender() -> None:
            for piece in stream.pieces():
                await pyloop.sock_sendall(far, piece)
                await _passes(stream.random.randrange(30))
            far.close()

        async def receive(size: int) -> bytes:
            if not into:
                return await pyloop.sock_recv(near, size)
            buffer = bytearray(size)
            return bytes(buffer[: await pyloop.sock_recv_into(near, buffer)])

        async def main() -> tuple[bytes, int]:
            sending = asyncio.create_task(sender())
            received = bytearray()
            cancelled = 0
            ways = random.Random(4)
            while True:
                task = asyncio.create_task(receive(ways.choice((1, 50, 700))))
                await _passes(ways.randrange(20))
                task.cancel()
                try:
                    part = await task
                except asyncio.CancelledError:
                    cancelled += 1
                    continue
                if not part:
                    break
                received += part
            await sending
            return bytes(received), cancelled

        received, cancelled = finish(pyloop, main())
    assert received == stream.whole
    assert cancelled > 10


def test_receives_timed_out_at_random_moments_lose_no_byte(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    stream = _Stream(5, 10_000)
    with stream_pair("tcp") as (near, far):

        async def sender() -> None:
            for piece in stream.pieces():
                await pyloop.sock_sendall(far, piece)
                await asyncio.sleep(stream.random.random() * 0.0005)
            far.close()

        async def main() -> tuple[bytes, int]:
            sending = asyncio.create_task(sender())
            received = bytearray()
            late = 0
            ways = random.Random(6)
            while True:
                try:
                    part = await asyncio.wait_for(
                        pyloop.sock_recv(near, 700), ways.random() * 0.0005
                    )
                except TimeoutError:
                    late += 1
                    continue
                if not part:
                    break
                received += part
            await sending
            return bytes(received), late

        received, late = finish(pyloop, main())
    assert received == stream.whole
    assert late > 5


async def _taken(
    call: Callable[[], Awaitable[T]], arrive: Callable[[], object], ways: random.Random
) -> T:
    """The result of a call that was cancelled around the moment at which something arrived for it."""
    task = asyncio.ensure_future(call())
    await _passes(ways.randrange(3))
    arrive()
    await _passes(ways.randrange(5))
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return await asyncio.wait_for(call(), 1)


@pytest.mark.parametrize("name", ["sock_recvfrom", "sock_recvfrom_into"])
def test_datagrams_whose_receivers_are_cancelled_are_not_lost(
    pyloop: asyncio.SelectorEventLoop, name: str
) -> None:
    ways = random.Random(7)
    buffer = bytearray(10)
    with contextlib.ExitStack() as stack:
        near, far = bound_udp(stack), bound_udp(stack)

        async def main() -> None:
            for number in range(200):
                answer = await _taken(
                    lambda: getattr(pyloop, name)(near, 10 if name == "sock_recvfrom" else buffer),
                    lambda number=number: far.sendto(b"%d" % number, near.getsockname()),
                    ways,
                )
                text = answer[0] if name == "sock_recvfrom" else bytes(buffer[: answer[0]])
                assert text == b"%d" % number

        finish(pyloop, main())


def test_connections_whose_accepts_are_cancelled_are_not_lost(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    ways = random.Random(8)
    with listener("tcp") as listening, contextlib.ExitStack() as stack:

        async def main() -> None:
            for _ in range(100):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                accepted, address = await _taken(
                    lambda: pyloop.sock_accept(listening),
                    lambda client=client: client.connect_ex(listening.getsockname()),
                    ways,
                )
                accepted.close()
                assert address == client.getsockname()

        finish(pyloop, main())


def test_all_of_many_that_wait_can_be_cancelled_together(loop: asyncio.SelectorEventLoop) -> None:
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(stream_pair("unix")) for _ in range(100)]

        async def main() -> None:
            for _ in range(3):
                tasks = [asyncio.create_task(loop.sock_recv(near, 10)) for near, _ in pairs]
                await _passes(2)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                assert all(task.cancelled() for task in tasks)
            for near, far in pairs:
                far.send(b"x")
                assert await loop.sock_recv(near, 10) == b"x"

        finish(loop, main())
