"""One socket used by several at once: two tasks, add_reader beside sock_* calls, duplicates."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import pytest
from support.running import run_passes
from support.sock_pairs import STREAMS, fill, finish, stream_pair


async def _passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("sockets", STREAMS)
def test_one_task_receives_while_another_sends(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    there, back = random.Random(1).randbytes(2_000_000), random.Random(2).randbytes(1_500_000)

    async def receive(sock: socket.socket, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            received += await loop.sock_recv(sock, 30_000)
        return bytes(received)

    with stream_pair(sockets) as (near, far):

        async def main() -> None:
            answers = await asyncio.gather(
                loop.sock_sendall(near, there),
                loop.sock_sendall(far, back),
                receive(near, len(back)),
                receive(far, len(there)),
            )
            assert answers == [None, None, back, there]

        finish(loop, main())


def test_a_sender_that_ends_leaves_the_receiver_waiting(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            filled = fill(near)
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 100))
            await _passes(3)
            assert not sending.done()
            left = filled + 100
            while left:
                left -= len(await loop.sock_recv(far, 1 << 20))
            await sending
            assert not receiving.done()
            far.send(b"answer")
            assert await receiving == b"answer"

        finish(loop, main())


def test_a_receiver_that_ends_leaves_the_sender_waiting(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            filled = fill(near)
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 100))
            for text in (b"one", b"two"):
                receiving = asyncio.create_task(loop.sock_recv(near, 10))
                await _passes(2)
                far.send(text)
                assert await receiving == text
            cancelled = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            cancelled.cancel()
            await _passes(2)
            assert not sending.done()
            left = filled + 100
            while left:
                left -= len(await loop.sock_recv(far, 1 << 20))
            await sending

        finish(loop, main())


def test_the_later_of_two_receivers_gets_the_first_data(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            earlier = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            later = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            far.send(b"data")
            assert await later == b"data"
            assert not earlier.done()
            earlier.cancel()
            with pytest.raises(asyncio.CancelledError):
                await earlier
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            far.send(b"more")
            assert await receiving == b"more"

        finish(loop, main())


def test_cancelling_the_earlier_of_two_receivers_leaves_the_later_waiting(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            earlier = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            later = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            earlier.cancel()
            await _passes(3)
            assert earlier.cancelled()
            far.send(b"data")
            assert await later == b"data"

        finish(loop, main())


def test_two_receivers_in_turn_lose_nothing(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            lock = asyncio.Lock()
            received: list[bytes] = []

            async def receiver() -> None:
                while len(received) < 50:
                    async with lock:
                        if len(received) < 50:
                            received.append(await loop.sock_recv(near, 2))

            tasks = [asyncio.create_task(receiver()) for _ in range(2)]
            for number in range(10, 60):
                await loop.sock_sendall(far, b"%d" % number)
                await _passes(number % 3)
            await asyncio.gather(*tasks)
            assert b"".join(received) == b"".join(b"%d" % number for number in range(10, 60))

        finish(loop, main())


def test_a_reader_that_was_there_before_gives_way_to_a_receiver(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            calls: list[int] = []
            loop.add_reader(near, calls.append, 1)
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            far.send(b"data")
            assert await receiving == b"data"
            await _passes(2)
            assert not calls
            assert loop.remove_reader(near) is False

        finish(loop, main())


def test_a_reader_set_between_calls_is_called_and_removed_again(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            calls: list[int] = []
            for number in range(3):
                receiving = asyncio.create_task(loop.sock_recv(near, 10))
                await _passes(2)
                far.send(b"data")
                assert await receiving == b"data"
                assert loop.remove_reader(near) is False

                loop.add_reader(near, calls.append, number)
                await _passes(3)
                assert not calls
                far.send(b"xy")
                await _passes(3)
                # Level-triggered: again and again until somebody reads.
                assert len(calls) >= 2
                assert set(calls) == {number}
                assert loop.remove_reader(near) is True
                calls.clear()
                await _passes(3)
                assert not calls
                assert await loop.sock_recv(near, 1) == b"x"
                assert await loop.sock_recv(near, 1) == b"y"

        finish(loop, main())


def test_a_writer_set_between_calls_is_called_and_removed_again(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            calls: list[int] = []
            for _ in range(3):
                left = fill(near)
                sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 10))
                await _passes(2)
                left += 10
                while left:
                    left -= len(await loop.sock_recv(far, 1 << 20))
                await sending
                assert loop.remove_writer(near) is False
                loop.add_writer(near, calls.append, 1)
                await _passes(3)
                assert len(calls) >= 2
                assert loop.remove_writer(near) is True
                calls.clear()
                await _passes(3)
                assert not calls

        finish(loop, main())


def test_a_reader_set_while_a_receiver_waits_takes_its_place(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            calls: list[int] = []
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            loop.add_reader(near, calls.append, 1)
            far.send(b"data")
            await _passes(3)
            assert calls
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            # What the receiver leaves behind is not the reader's.
            calls.clear()
            await _passes(3)
            assert calls
            assert loop.remove_reader(near) is True
            assert await loop.sock_recv(near, 10) == b"data"

        finish(loop, main())


def test_a_reader_removed_while_a_receiver_waits_leaves_the_data(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            assert loop.remove_reader(near) is True
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            far.send(b"data")
            assert await loop.sock_recv(near, 10) == b"data"

        finish(loop, main())


def test_a_receiver_and_a_writer_of_the_users_go_together(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            calls: list[int] = []
            loop.add_writer(near, calls.append, 1)
            for text in (b"one", b"two"):
                receiving = asyncio.create_task(loop.sock_recv(near, 10))
                await _passes(2)
                far.send(text)
                assert await receiving == text
            assert calls
            assert loop.remove_writer(near) is True
            calls.clear()
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await _passes(2)
            assert not calls
            far.send(b"three")
            assert await receiving == b"three"

        finish(loop, main())


def test_a_transport_can_take_over_a_socket_that_calls_have_used(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class Keeping(asyncio.Protocol):
        def __init__(self) -> None:
            self.received = b""
            self.lost = loop.create_future()

        def data_received(self, data: bytes) -> None:
            self.received += data

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            receiving = asyncio.create_task(loop.sock_recv(near, 3))
            await _passes(2)
            far.send(b"heading")
            assert await receiving == b"hea"
            transport, protocol = await loop.create_connection(Keeping, sock=near)
            transport.write(b"answer")
            assert await loop.sock_recv(far, 10) == b"answer"
            far.send(b", rest")
            far.close()
            assert await protocol.lost is None
            assert protocol.received == b"ding, rest"

        finish(loop, main())


def test_a_duplicate_is_a_socket_of_its_own(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), near.dup() as twin:
        twin.setblocking(False)

        async def main() -> None:
            for text in (b"one", b"two", b"three"):
                for sock in (near, twin):
                    receiving = asyncio.create_task(loop.sock_recv(sock, 10))
                    await _passes(2)
                    far.send(text)
                    assert await receiving == text
            near.close()
            receiving = asyncio.create_task(loop.sock_recv(twin, 10))
            await _passes(2)
            far.send(b"four")
            assert await receiving == b"four"

        finish(loop, main())


def test_two_that_wait_on_duplicates_are_both_told_of_the_end(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far), near.dup() as twin:
        twin.setblocking(False)

        async def main() -> None:
            tasks = [asyncio.create_task(loop.sock_recv(sock, 10)) for sock in (near, twin)]
            await _passes(2)
            far.close()
            assert await asyncio.gather(*tasks) == [b"", b""]

        finish(loop, main())


def test_many_sockets_wait_at_once(loop: asyncio.SelectorEventLoop) -> None:
    order = list(range(200))
    random.Random(3).shuffle(order)
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(stream_pair("unix")) for _ in order]

        async def main() -> None:
            for _ in range(2):
                tasks = [asyncio.create_task(loop.sock_recv(near, 10)) for near, _ in pairs]
                await _passes(2)
                for number in order:
                    pairs[number][1].send(b"%d" % number)
                assert await asyncio.gather(*tasks) == [b"%d" % n for n in sorted(order)]

        finish(loop, main())
        run_passes(loop, 2)
