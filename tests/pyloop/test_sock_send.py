"""What sock_sendall and sock_sendto put on the wire, with slow readers and every kind of buffer."""

from __future__ import annotations

import array
import asyncio
import errno
import random
import socket
from typing import Any

import pytest
from support.sock_pairs import (
    STREAMS,
    datagram_pair,
    drain,
    fill,
    fill_datagrams,
    finish,
    reset,
    stream_pair,
    text_of,
)


async def _receive(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = await loop.sock_recv(sock, min(size, 1 << 20))
        assert part
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@pytest.mark.parametrize("sockets", STREAMS)
def test_a_large_sendall_arrives_whole_at_a_slow_reader(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    data = random.Random(1).randbytes(1000) * 12_000
    with stream_pair(sockets) as (near, far):

        async def main() -> bytes:
            sending = asyncio.create_task(loop.sock_sendall(near, data))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not sending.done()
            received = bytearray()
            while len(received) < len(data):
                received += await loop.sock_recv(far, 200_000)
                await asyncio.sleep(0)
            assert await sending is None
            return bytes(received)

        assert finish(loop, main()) == data


@pytest.mark.parametrize(
    "data",
    [
        b"plain",
        bytearray(b"plain"),
        memoryview(b"plain"),
        memoryview(b"-p-l-a-i-n")[1::2].tobytes(),
        array.array("b", b"plain"),
        b"",
    ],
    ids=["bytes", "bytearray", "memoryview", "copied", "array", "empty"],
)
def test_every_kind_of_buffer_is_sent(loop: asyncio.SelectorEventLoop, data: Any) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            assert await loop.sock_sendall(near, data) is None
            await loop.sock_sendall(near, b"!")
            assert await _receive(loop, far, len(data) + 1) == bytes(data) + b"!"

        finish(loop, main())


@pytest.mark.parametrize("data", ["text", None, 5, [1], object()], ids=lambda data: repr(data)[:7])
@pytest.mark.parametrize("full", [True, False])
def test_what_is_no_buffer_is_a_type_error(
    loop: asyncio.SelectorEventLoop, data: Any, full: bool
) -> None:
    with stream_pair("tcp") as (near, far):
        if full:
            fill(near)
        with pytest.raises(TypeError, match="a bytes-like object is required, not "):
            finish(loop, loop.sock_sendall(near, data))


def test_a_buffer_with_gaps_is_refused(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):
        with pytest.raises(BufferError):
            finish(loop, loop.sock_sendall(near, memoryview(b"abcdef")[::2]))


def test_items_wider_than_a_byte_are_sent_whole(pyloop: asyncio.SelectorEventLoop) -> None:
    # asyncio's compares the bytes that went with the number of items: such a buffer hangs there.
    numbers = array.array("i", range(400_000))
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            sending = asyncio.create_task(pyloop.sock_sendall(near, memoryview(numbers)))
            assert await _receive(pyloop, far, len(numbers) * 4) == numbers.tobytes()
            await sending
            await pyloop.sock_sendall(near, memoryview(numbers)[:3])
            assert await _receive(pyloop, far, 12) == numbers[:3].tobytes()

        finish(pyloop, main())
        assert drain(far) == b""


def test_a_bytearray_is_exported_while_it_is_sent_and_let_go_after(
    loop: asyncio.SelectorEventLoop,
) -> None:
    data = bytearray(3_000_000)
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendall(near, data))
            await asyncio.sleep(0)
            with pytest.raises(BufferError):
                data.extend(b"more")
            await _receive(loop, far, 3_000_000)
            await sending

        finish(loop, main())
    data.extend(b"more")


def test_a_cancelled_sendall_lets_its_buffer_go(loop: asyncio.SelectorEventLoop) -> None:
    data = bytearray(3_000_000)
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendall(near, data))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

        finish(loop, main())
        data.extend(b"more")
        left = len(drain(far))
        assert 0 < left < 3_000_000
        # Nothing of it is sent later.
        finish(loop, asyncio.sleep(0.01))
        assert drain(far) == b""


def test_what_a_cancelled_sendall_sent_is_a_prefix(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(2).randbytes(2_000_000)
    with stream_pair("unix") as (near, far):

        async def main() -> bytes:
            sending = asyncio.create_task(loop.sock_sendall(near, data))
            await asyncio.sleep(0)
            received = bytearray(await loop.sock_recv(far, 100_000))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            while part := drain(far):
                received += part
            return bytes(received)

        received = finish(loop, main())
        assert received
        assert len(received) < len(data)
        assert data.startswith(received)


def test_sendalls_one_after_the_other_keep_their_order(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far):

        async def sender() -> None:
            for number in range(300):
                await loop.sock_sendall(near, b"%d," % number * 500)
            near.close()

        async def main() -> bytes:
            sending = asyncio.create_task(sender())
            received = bytearray()
            while part := await loop.sock_recv(far, 10_000):
                received += part
            await sending
            return bytes(received)

        assert finish(loop, main()) == b"".join(b"%d," % number * 500 for number in range(300))


@pytest.mark.parametrize("sockets", STREAMS)
def test_sending_to_one_who_has_gone_is_a_broken_pipe(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with stream_pair(sockets) as (near, far):
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)) as caught:
            for _ in range(5):
                finish(loop, loop.sock_sendall(near, b"x"))
        assert caught.value.errno is not None


def test_a_sender_that_waits_sees_the_reset_of_its_peer(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            fill(near)
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 20_000_000))
            await asyncio.sleep(0)
            assert not sending.done()
            reset(far)
            with pytest.raises(ConnectionResetError) as caught:
                await sending
            assert str(caught.value) == text_of(errno.ECONNRESET)

        finish(loop, main())


def test_a_sender_that_waits_sees_its_peer_close(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            fill(near)
            sending = asyncio.create_task(loop.sock_sendall(near, b"x" * 20_000_000))
            await asyncio.sleep(0)
            far.close()
            with pytest.raises(BrokenPipeError) as caught:
                await sending
            assert str(caught.value) == text_of(errno.EPIPE)

        finish(loop, main())


@pytest.mark.parametrize("sockets", ["udp", "unix"])
def test_sendto_gives_the_size_and_the_datagram_arrives(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with datagram_pair(sockets) as (near, far):

        async def main() -> None:
            for text in (b"hello", bytearray(b"hello!"), memoryview(b"hello, you")[:7], b""):
                size = await loop.sock_sendto(near, text, far.getsockname())
                assert size == len(text)
                answer = await loop.sock_recvfrom(far, 100)
                assert answer == (bytes(text), near.getsockname())

        finish(loop, main())


def test_a_sendto_waits_for_room(loop: asyncio.SelectorEventLoop) -> None:
    with datagram_pair("unix") as (near, far):

        async def main() -> None:
            count = fill_datagrams(near, far.getsockname())
            sending = asyncio.create_task(loop.sock_sendto(near, b"last", far.getsockname()))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not sending.done()
            for _ in range(count):
                assert await loop.sock_recv(far, 10) == b"."
            assert await sending == 4
            assert await loop.sock_recvfrom(far, 10) == (b"last", near.getsockname())

        finish(loop, main())


@pytest.mark.parametrize(
    ("data", "address", "error"),
    [
        ("text", ("127.0.0.1", 1), TypeError),
        (b"x", None, TypeError),
        (b"x", "127.0.0.1", TypeError),
        (b"x", ("127.0.0.1",), TypeError),
        (b"x", ("127.0.0.1", 99999), OverflowError),
        (b"x" * 70_000, ("127.0.0.1", 1), OSError),
    ],
    ids=["str", "none", "no tuple", "short", "port", "long"],
)
def test_a_wrong_sendto_is_the_sockets_error(
    loop: asyncio.SelectorEventLoop, data: Any, address: Any, error: type[Exception]
) -> None:
    with datagram_pair("udp") as (near, far):
        with pytest.raises(error) as caught:
            finish(loop, loop.sock_sendto(near, data, address))
        with pytest.raises(error) as expected:
            near.sendto(data, address)
        assert str(caught.value) == str(expected.value)


def test_datagrams_keep_their_limits(loop: asyncio.SelectorEventLoop) -> None:
    with datagram_pair("udp") as (near, far):

        async def main() -> None:
            for text in (b"abcdef", b"", b"ghi", b"jklmno", b"x" * 60_000):
                await loop.sock_sendto(near, text, far.getsockname())
            assert await loop.sock_recvfrom(far, 4) == (b"abcd", near.getsockname())
            assert await loop.sock_recvfrom(far, 4) == (b"", near.getsockname())
            assert await loop.sock_recv(far, 100) == b"ghi"
            buffer = bytearray(3)
            assert await loop.sock_recvfrom_into(far, buffer) == (3, near.getsockname())
            assert buffer == b"jkl"
            text, sender = await loop.sock_recvfrom(far, 100_000)
            assert (len(text), sender) == (60_000, near.getsockname())
            assert not drain(far)

        finish(loop, main())


def test_a_refusal_reaches_the_connected_udp_socket(loop: asyncio.SelectorEventLoop) -> None:
    with datagram_pair("udp") as (near, far):
        address = far.getsockname()
        far.close()

        async def main() -> None:
            await loop.sock_connect(near, address)
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await asyncio.sleep(0)
            await loop.sock_sendall(near, b"x")
            with pytest.raises(ConnectionRefusedError) as caught:
                await receiving
            assert str(caught.value) == text_of(errno.ECONNREFUSED)

        finish(loop, main())


def test_a_connected_udp_socket_receives_from_its_peer(loop: asyncio.SelectorEventLoop) -> None:
    with datagram_pair("udp") as (near, far):

        async def main() -> None:
            await loop.sock_connect(near, far.getsockname())
            await loop.sock_sendall(near, b"ask")
            text, sender = await loop.sock_recvfrom(far, 10)
            assert text == b"ask"
            await loop.sock_sendto(far, b"answer", sender)
            assert await loop.sock_recv(near, 10) == b"answer"

        finish(loop, main())
