"""sock_sendfile: which bytes of the file are sent, where its position is afterwards, and what fails."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile
from typing import Any

import pytest
from support.sock_files import CONTENT, Plain, nothing_more, read_all, sent_file
from support.sock_pairs import STREAMS, drain, fill, finish, reset, stream_pair
from support.sock_protocols import passes

_RANGES = [
    ({}, 0, len(CONTENT)),
    ({"offset": 1000}, 1000, len(CONTENT)),
    ({"count": 1000}, 0, 1000),
    ({"offset": 100_000, "count": 700_000}, 100_000, 800_000),
    ({"offset": len(CONTENT) - 5, "count": 100}, len(CONTENT) - 5, len(CONTENT)),
    ({"count": 2 * len(CONTENT)}, 0, len(CONTENT)),
    ({"offset": True, "count": True}, 1, 2),
]


@pytest.mark.parametrize("sockets", STREAMS)
@pytest.mark.parametrize(("options", "start", "end"), _RANGES, ids=[str(r[0]) for r in _RANGES])
@pytest.mark.parametrize("native", [True, False])
def test_the_bytes_that_were_asked_for_are_sent_and_the_position_is_after_them(
    loop: asyncio.SelectorEventLoop,
    sockets: str,
    options: dict[str, Any],
    start: int,
    end: int,
    native: bool,
) -> None:
    with stream_pair(sockets) as (near, far), sent_file() as file:
        sent = file if native else Plain(CONTENT)

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendfile(near, sent, **options))
            assert await read_all(loop, far, end - start) == CONTENT[start:end]
            assert await sending == end - start
            assert sent.tell() == end
            # Exactly these, and the socket works as before.
            assert nothing_more(far)
            await loop.sock_sendall(near, b"after")
            assert await read_all(loop, far, 5) == b"after"

        finish(loop, main())


def test_the_position_before_does_not_count(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far), sent_file(b"0123456789") as file:

        async def main() -> None:
            file.seek(7)
            assert await loop.sock_sendfile(near, file) == 10
            assert await read_all(loop, far, 10) == b"0123456789"
            assert file.tell() == 10

        finish(loop, main())


@pytest.mark.parametrize("options", [{"offset": 10}, {"offset": 1000}, {"offset": 10, "count": 5}])
def test_beyond_the_end_there_is_nothing(
    loop: asyncio.SelectorEventLoop, options: dict[str, int]
) -> None:
    with stream_pair("unix") as (near, far), sent_file(b"0123456789") as file:

        async def main() -> None:
            assert await loop.sock_sendfile(near, file, **options) == 0
            assert file.tell() == 0
            assert nothing_more(far)

        finish(loop, main())


def test_an_empty_file_is_sent_at_once(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far), sent_file(b"") as file:

        async def main() -> None:
            fill(near)
            assert await loop.sock_sendfile(near, file) == 0
            assert await loop.sock_sendfile(near, Plain()) == 0

        finish(loop, main())


def test_one_file_after_the_other_keeps_its_order(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), sent_file() as file:

        async def sender() -> None:
            for number in range(5):
                await loop.sock_sendall(near, b"head %d" % number)
                await loop.sock_sendfile(near, file, number, 100_000)
            await loop.sock_sendfile(near, Plain(b"the end"))

        async def main() -> None:
            sending = asyncio.create_task(sender())
            for number in range(5):
                assert await read_all(loop, far, 6) == b"head %d" % number
                assert await read_all(loop, far, 100_000) == CONTENT[number : number + 100_000]
            assert await read_all(loop, far, 7) == b"the end"
            await sending

        finish(loop, main())


def test_receiving_goes_on_meanwhile(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far), sent_file() as file:

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendfile(near, file))
            receiving = asyncio.create_task(loop.sock_recv(near, 10))
            await passes(3)
            far.send(b"hello")
            assert await receiving == b"hello"
            assert not sending.done()
            assert await read_all(loop, far, len(CONTENT)) == CONTENT
            assert await sending == len(CONTENT)

        finish(loop, main())


def test_without_the_system_call_and_without_the_fallback_it_is_an_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("unix") as (near, far):
        for file in (Plain(CONTENT), object()):
            with pytest.raises(asyncio.SendfileNotAvailableError) as caught:
                finish(loop, loop.sock_sendfile(near, file, fallback=False))  # type: ignore[arg-type]
            assert str(caught.value) == "not a regular file"
        assert nothing_more(far)


def test_a_pipe_is_sent_by_the_fallback(loop: asyncio.SelectorEventLoop) -> None:
    reading, writing = os.pipe()
    with stream_pair("unix") as (near, far), open(reading, "rb", 0) as file:
        os.write(writing, b"from a pipe")
        os.close(writing)

        async def main() -> None:
            # Its size is 0, and so is what asyncio sends of it without a count.
            assert await loop.sock_sendfile(near, file) == 0
            assert nothing_more(far)

        finish(loop, main())


@pytest.mark.parametrize("options", [{"offset": 0}, {"count": 10}])
def test_a_file_in_text_mode_is_a_value_error(
    loop: asyncio.SelectorEventLoop, options: dict[str, int]
) -> None:
    with stream_pair("unix") as (near, far), tempfile.TemporaryFile("w+") as file:
        with pytest.raises(ValueError) as caught:
            finish(loop, loop.sock_sendfile(near, file, **options))  # type: ignore[arg-type]
        assert str(caught.value) == "file should be opened in binary mode"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"count": 0}, ValueError, "count must be a positive integer (got 0)"),
        ({"count": -5}, ValueError, "count must be a positive integer (got -5)"),
        ({"count": "5"}, TypeError, "count must be a positive integer (got '5')"),
        ({"count": 5.0}, TypeError, "count must be a positive integer (got 5.0)"),
        ({"offset": -5}, ValueError, "offset must be a non-negative integer (got -5)"),
        ({"offset": "5"}, TypeError, "offset must be a non-negative integer (got '5')"),
        ({"offset": None}, TypeError, "offset must be a non-negative integer (got None)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("native", [True, False])
def test_wrong_offsets_and_counts_have_asyncios_texts(
    loop: asyncio.SelectorEventLoop,
    options: dict[str, Any],
    error: type[Exception],
    text: str,
    native: bool,
) -> None:
    with stream_pair("unix") as (near, far), sent_file() as file:
        with pytest.raises(error) as caught:
            finish(loop, loop.sock_sendfile(near, file if native else Plain(CONTENT), **options))
        assert str(caught.value) == text
        assert nothing_more(far)


def test_only_streams_are_served(loop: asyncio.SelectorEventLoop) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, sent_file() as file:
        sock.setblocking(False)
        with pytest.raises(ValueError) as caught:
            finish(loop, loop.sock_sendfile(sock, file))
        assert str(caught.value) == "only SOCK_STREAM type sockets are supported"


def test_what_the_socket_refuses_at_once_is_tried_again_by_the_fallback(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("unix") as (near, far), sent_file() as file:
        far.close()
        with pytest.raises(asyncio.SendfileNotAvailableError) as caught:
            finish(loop, loop.sock_sendfile(near, file, fallback=False))
        assert str(caught.value) == "os.sendfile call failed"
        with pytest.raises(BrokenPipeError):
            finish(loop, loop.sock_sendfile(near, file))
        assert file.tell() in (0, len(CONTENT), 262_144)


@pytest.mark.parametrize("sockets", STREAMS)
def test_a_peer_that_goes_away_in_the_middle_is_an_error(
    loop: asyncio.SelectorEventLoop, sockets: str
) -> None:
    with stream_pair(sockets) as (near, far), sent_file(CONTENT * 12) as file:

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendfile(near, file))
            await read_all(loop, far, 200_000)
            assert not sending.done()
            if sockets == "tcp":
                reset(far)
            else:
                far.close()
            with pytest.raises(ConnectionError):
                await sending
            # What was sent is told by the position.
            assert 200_000 <= file.tell() < len(CONTENT) * 6

        finish(loop, main())


@pytest.mark.parametrize("native", [True, False])
def test_a_cancelled_one_stops_and_what_was_sent_is_a_prefix(
    loop: asyncio.SelectorEventLoop, native: bool
) -> None:
    with stream_pair("unix") as (near, far), sent_file() as file:

        async def main() -> bytes:
            sending = asyncio.create_task(
                loop.sock_sendfile(near, file if native else Plain(CONTENT))
            )
            received = await read_all(loop, far, 150_000)
            assert not sending.done()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            while part := drain(far):
                received += part
            await passes(3)
            assert nothing_more(far)
            assert loop.remove_writer(near) is False
            # The file and the socket are free.
            await loop.sock_sendfile(near, file, 0, 10)
            assert await read_all(loop, far, 10) == CONTENT[:10]
            return received

        received = finish(loop, main())
        assert len(received) < len(CONTENT)
        assert CONTENT.startswith(received)


def test_a_file_that_shrinks_in_the_middle_ends_early(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("unix") as (near, far), sent_file() as file:

        async def main() -> None:
            sending = asyncio.create_task(loop.sock_sendfile(near, file))
            await read_all(loop, far, 100_000)
            os.ftruncate(file.fileno(), 900_000)
            await read_all(loop, far, 800_000)
            assert await sending == 900_000
            assert nothing_more(far)

        finish(loop, main())


def test_an_error_of_the_file_comes_out_of_the_fallback(loop: asyncio.SelectorEventLoop) -> None:
    class Failing(io.BytesIO):
        def readinto(self, _: Any) -> int:
            raise LookupError("mine")

    with stream_pair("unix") as (near, far):
        with pytest.raises(LookupError, match="mine"):
            finish(loop, loop.sock_sendfile(near, Failing(b"x")))
