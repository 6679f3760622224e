"""What sock_recv and its kin give: the bytes, the end, the sender, and the errors of wrong arguments."""

from __future__ import annotations

import array
import asyncio
import errno
import mmap
import socket
from typing import Any

import pytest
from support.sock_pairs import STREAMS, datagram_pair, finish, reset, stream_pair, text_of


@pytest.mark.parametrize("sockets", STREAMS)
def test_data_that_is_there_is_received_at_once(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> None:
            far.send(b"hello world")
            assert await loop.sock_recv(near, 5) == b"hello"
            assert await loop.sock_recv(near, 100) == b" world"

        finish(loop, main())


@pytest.mark.parametrize("sockets", STREAMS)
def test_a_receiver_waits_for_data(loop: asyncio.SelectorEventLoop, sockets: str) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> None:
            for number in range(20):
                task = asyncio.create_task(loop.sock_recv(near, 100))
                await asyncio.sleep(0)
                assert not task.done()
                far.send(b"%d" % number)
                assert await task == b"%d" % number

        finish(loop, main())


@pytest.mark.parametrize("sockets", STREAMS)
def test_the_end_is_empty_bytes_again_and_again(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> None:
            task = asyncio.create_task(loop.sock_recv(near, 100))
            await asyncio.sleep(0)
            far.shutdown(socket.SHUT_WR)
            assert await task == b""
            buffer = bytearray(3)
            for _ in range(3):
                assert await loop.sock_recv(near, 100) == b""
                assert await loop.sock_recv_into(near, buffer) == 0
            # The other direction is open.
            await loop.sock_sendall(near, b"still")
            assert far.recv(100) == b"still"

        finish(loop, main())


@pytest.mark.parametrize("sockets", STREAMS)
def test_data_before_the_end_comes_first(loop: asyncio.SelectorEventLoop, sockets: str) -> None:
    with stream_pair(sockets) as (near, far):

        async def main() -> None:
            task = asyncio.create_task(loop.sock_recv(near, 3))
            await asyncio.sleep(0)
            far.send(b"abcdef")
            far.close()
            assert await task == b"abc"
            assert await loop.sock_recv(near, 3) == b"def"
            assert await loop.sock_recv(near, 3) == b""

        finish(loop, main())


def test_one_byte_at_a_time_arrives(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def sender() -> None:
            for number in range(200):
                await loop.sock_sendall(far, bytes([number]))
                if number % 3 == 0:
                    await asyncio.sleep(0)
            far.close()

        async def main() -> bytes:
            sending = asyncio.create_task(sender())
            parts = []
            while part := await loop.sock_recv(near, 7):
                assert len(part) <= 7
                parts.append(part)
            await sending
            return b"".join(parts)

        assert finish(loop, main()) == bytes(range(200))


@pytest.mark.parametrize("size", [1, 4096, 16384, 65536, 262144, 1 << 20])
def test_what_is_received_is_no_longer_than_what_came(
    loop: asyncio.SelectorEventLoop, size: int
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            for text in (b"abc", b"d" * 20_000):
                await loop.sock_sendall(far, text)
                received = b""
                while len(received) < len(text):
                    part = await loop.sock_recv(near, size)
                    assert type(part) is bytes
                    received += part
                assert received == text

        finish(loop, main())


def test_receiving_nothing_gives_nothing_at_once(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            far.send(b"x")
            assert await loop.sock_recv(near, 0) == b""
            assert await loop.sock_recv(near, 1) == b"x"

        finish(loop, main())


class _Seven:
    def __index__(self) -> int:
        return 7


def test_arguments_can_be_named(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far), datagram_pair("udp") as (here, there):

        async def main() -> None:
            await loop.sock_sendall(sock=far, data=b"0123456789abcdef")
            assert await loop.sock_recv(sock=near, n=2) == b"01"
            assert await loop.sock_recv(n=_Seven(), sock=near) == b"2345678"  # type: ignore[arg-type]
            buffer = bytearray(4)
            assert await loop.sock_recv_into(sock=near, buf=buffer) == 4
            assert buffer == b"9abc"
            for text in (b"one", b"two"):
                size = await loop.sock_sendto(sock=there, data=text, address=here.getsockname())
                assert size == 3
            assert await loop.sock_recvfrom(sock=here, bufsize=10) == (b"one", there.getsockname())
            answer = await loop.sock_recvfrom_into(sock=here, buf=buffer, nbytes=2)
            assert answer == (2, there.getsockname())
            assert buffer == b"twbc"

        finish(loop, main())


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        (-1, ValueError, "negative buffersize in recv"),
        ("1", TypeError, "'str' object cannot be interpreted as an integer"),
        (None, TypeError, "'NoneType' object cannot be interpreted as an integer"),
        (1.0, TypeError, "'float' object cannot be interpreted as an integer"),
        (2**70, OverflowError, ""),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["sock_recv", "sock_recvfrom"])
@pytest.mark.parametrize("state", ["there", "fresh", "drained"])
def test_a_wrong_size_is_the_sockets_error(
    loop: asyncio.SelectorEventLoop,
    name: str,
    size: Any,
    error: type[Exception],
    text: str,
    state: str,
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            await _prepare(loop, near, far, state)
            with pytest.raises(error) as caught:
                await getattr(loop, name)(near, size)
            assert text in str(caught.value)
            if state != "there":
                far.send(b"x")
            assert await loop.sock_recv(near, 10) == b"x"

        finish(loop, main())


async def _prepare(
    loop: asyncio.AbstractEventLoop, near: socket.socket, far: socket.socket, state: str
) -> None:
    """Leave data for *near*, or nothing: as it was made, or after all that came was received."""
    if state == "there":
        far.send(b"x")
    elif state == "drained":
        receiving = asyncio.create_task(loop.sock_recv(near, 10))
        await asyncio.sleep(0)
        far.send(b"y")
        assert await receiving == b"y"


@pytest.mark.parametrize("buffer", ["text", b"bytes", None, 5, memoryview(b"fixed")], ids=repr)
@pytest.mark.parametrize("name", ["sock_recv_into", "sock_recvfrom_into"])
@pytest.mark.parametrize("state", ["there", "fresh", "drained"])
def test_a_buffer_that_cannot_be_written_is_a_type_error(
    loop: asyncio.SelectorEventLoop, name: str, buffer: Any, state: str
) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            await _prepare(loop, near, far, state)
            with pytest.raises(TypeError):
                await getattr(loop, name)(near, buffer)
            if state != "there":
                far.send(b"x")
            assert await loop.sock_recv(near, 10) == b"x"

        finish(loop, main())


def _buffers() -> list[Any]:
    return [
        bytearray(8),
        memoryview(bytearray(16))[4:12],
        array.array("i", [0, 0]),
        mmap.mmap(-1, 8),
    ]


@pytest.mark.parametrize("which", range(4), ids=["bytearray", "slice", "array", "mmap"])
@pytest.mark.parametrize("waits", [True, False])
def test_any_writable_buffer_is_filled(
    loop: asyncio.SelectorEventLoop, which: int, waits: bool
) -> None:
    buffer = _buffers()[which]
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            if not waits:
                far.send(b"abcdefghijkl")
            task = asyncio.create_task(loop.sock_recv_into(near, buffer))
            await asyncio.sleep(0)
            if waits:
                far.send(b"abcdefghijkl")
            assert await task == 8
            assert await loop.sock_recv(near, 100) == b"ijkl"

        finish(loop, main())
    assert bytes(memoryview(buffer).cast("B")) == b"abcdefgh"


def test_a_buffer_is_let_go_when_the_call_is_done(loop: asyncio.SelectorEventLoop) -> None:
    buffer = bytearray(8)
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            task = asyncio.create_task(loop.sock_recv_into(near, buffer))
            await asyncio.sleep(0)
            far.send(b"ab")
            assert await task == 2
            # A buffer that is exported refuses to grow.
            buffer.extend(b"more")
            task = asyncio.create_task(loop.sock_recv_into(near, buffer))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        finish(loop, main())
    buffer.extend(b"and more")


def test_a_buffer_that_shrinks_while_the_call_waits_is_safe(
    loop: asyncio.SelectorEventLoop,
) -> None:
    buffer = bytearray(100_000)
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            task = asyncio.create_task(loop.sock_recv_into(near, buffer))
            await asyncio.sleep(0)
            try:
                del buffer[4:]
            except BufferError:
                pass
            far.send(b"abcdefgh")
            size = await task
            assert size == min(8, len(buffer))
            assert buffer[:size] == b"abcdefgh"[:size]

        finish(loop, main())


def test_a_receiver_sees_the_reset_of_its_peer(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            task = asyncio.create_task(loop.sock_recv(near, 100))
            await asyncio.sleep(0)
            reset(far)
            with pytest.raises(ConnectionResetError) as caught:
                await task
            assert str(caught.value) == text_of(errno.ECONNRESET)
            assert await loop.sock_recv(near, 100) == b""

        finish(loop, main())


def test_a_socket_that_is_not_connected_is_the_kernels_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            finish(loop, loop.sock_recv(sock, 10))


class _Spelling(socket.socket):
    """Does with data what proxies and tests do."""

    def recv(self, *arguments: Any) -> bytes:
        return super().recv(*arguments).upper()

    def send(self, data: Any, *arguments: Any) -> int:
        return super().send(bytes(data).lower(), *arguments)


def test_a_subclass_of_socket_is_asked_by_its_own_methods(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("unix") as (near, far):
        with _Spelling(fileno=near.detach()) as spelling:
            spelling.setblocking(False)

            async def main() -> None:
                far.send(b"there")
                assert await loop.sock_recv(spelling, 100) == b"THERE"
                task = asyncio.create_task(loop.sock_recv(spelling, 100))
                await asyncio.sleep(0)
                far.send(b"later")
                assert await task == b"LATER"
                await loop.sock_sendall(spelling, b"QUIET")
                assert far.recv(100) == b"quiet"

            finish(loop, main())
