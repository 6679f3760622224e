"""loop.sendfile: a file between the writes of a transport, with reading paused meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.sock_files import CONTENT, Plain, nothing_more, read_all, sent_file
from support.sock_pairs import STREAMS, drain, finish, reset, stream_pair
from support.sock_protocols import RecordingStream, passes, until


@contextlib.asynccontextmanager
async def _connected(
    sockets: str, protocol: Any = RecordingStream
) -> AsyncIterator[tuple[Any, Any, socket.socket]]:
    """A transport, its protocol, and the plain socket at its other end."""
    loop = asyncio.get_running_loop()
    with stream_pair(sockets) as (near, far):
        transport, made = await loop.create_connection(protocol, sock=near)
        try:
            yield transport, made, far
        finally:
            transport.abort()
            await until(lambda: made.lost)


@pytest.mark.parametrize("sockets", STREAMS)
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("options", "start", "end"),
    [
        ({}, 0, len(CONTENT)),
        ({"offset": 1000}, 1000, len(CONTENT)),
        ({"offset": 10, "count": 500_000}, 10, 500_010),
        ({"count": 5}, 0, 5),
    ],
    ids=["whole", "offset", "count", "few"],
)
def test_a_file_arrives_between_the_writes_around_it(
    loop: asyncio.SelectorEventLoop,
    sockets: str,
    native: bool,
    options: dict[str, int],
    start: int,
    end: int,
) -> None:
    with sent_file() as regular:
        file = regular if native else Plain(CONTENT)

        async def main() -> None:
            async with _connected(sockets) as (transport, protocol, far):

                async def sender() -> int:
                    transport.write(b"head,")
                    transport.write(b"more;")
                    sent = await loop.sendfile(transport, file, **options)
                    transport.write(b"tail")
                    return int(sent)

                sending = asyncio.create_task(sender())
                size = 10 + end - start + 4
                assert await read_all(loop, far, size) == (
                    b"head,more;" + CONTENT[start:end] + b"tail"
                )
                assert await sending == end - start
                assert file.tell() == end
                assert nothing_more(far)
                assert "lost" not in protocol.names()
                # And the transport works as before.
                assert transport.get_protocol() is protocol
                far.send(b"question")
                await until(lambda: protocol.received)
                transport.write(b"answer")
                assert await read_all(loop, far, 6) == b"answer"

        finish(loop, main())


@pytest.mark.parametrize("native", [True, False])
def test_much_that_was_written_before_goes_first(
    loop: asyncio.SelectorEventLoop, native: bool
) -> None:
    with sent_file() as regular:
        file = regular if native else Plain(CONTENT)

        async def main() -> None:
            async with _connected("unix") as (transport, _, far):
                transport.write(b"x" * 1_000_000)
                assert transport.get_write_buffer_size() > 0
                sending = asyncio.create_task(loop.sendfile(transport, file))
                assert await read_all(loop, far, 1_000_000) == b"x" * 1_000_000
                assert await read_all(loop, far, len(CONTENT)) == CONTENT
                assert await sending == len(CONTENT)

        finish(loop, main())


def test_files_one_after_the_other_with_writes_between(loop: asyncio.SelectorEventLoop) -> None:
    with sent_file() as file:

        async def main() -> None:
            async with _connected("tcp") as (transport, _, far):

                async def sender() -> None:
                    for number in range(5):
                        transport.write(b"part %d:" % number)
                        await loop.sendfile(transport, file, number * 1000, 200_000)

                sending = asyncio.create_task(sender())
                for number in range(5):
                    assert await read_all(loop, far, 7) == b"part %d:" % number
                    expected = CONTENT[number * 1000 : number * 1000 + 200_000]
                    assert await read_all(loop, far, 200_000) == expected
                await sending

        finish(loop, main())


def test_writes_in_the_middle_of_it_are_refused(loop: asyncio.SelectorEventLoop) -> None:
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, _, far):
                sending = asyncio.create_task(loop.sendfile(transport, file))
                await read_all(loop, far, 100_000)
                assert not sending.done()
                with pytest.raises(RuntimeError, match="unable to write; sendfile is in progress"):
                    transport.write(b"x")
                with pytest.raises(
                    RuntimeError, match="unable to write.*; sendfile is in progress"
                ):
                    transport.writelines([b"x", b"y"])
                rest = await read_all(loop, far, len(CONTENT) - 100_000)
                assert rest == CONTENT[100_000:]
                assert await sending == len(CONTENT)
                transport.write(b"now")
                assert await read_all(loop, far, 3) == b"now"

        finish(loop, main())


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_reading_is_paused_meanwhile_and_then_as_before(
    loop: asyncio.SelectorEventLoop, native: bool, paused: bool
) -> None:
    with sent_file() as regular:
        file = regular if native else Plain(CONTENT)

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, far):
                if paused:
                    transport.pause_reading()
                sending = asyncio.create_task(loop.sendfile(transport, file))
                await read_all(loop, far, 100_000)
                far.send(b"meanwhile")
                await passes(5)
                assert not transport.is_reading()
                assert not protocol.received
                await read_all(loop, far, len(CONTENT) - 100_000)
                assert await sending == len(CONTENT)
                await passes(5)
                assert transport.is_reading() is not paused
                assert bool(protocol.received) is not paused
                transport.resume_reading()
                await until(lambda: protocol.received == b"meanwhile")

        finish(loop, main())


def test_a_closing_transport_is_refused(loop: asyncio.SelectorEventLoop) -> None:
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, _):
                transport.close()
                for _ in range(2):
                    with pytest.raises(RuntimeError) as caught:
                        await loop.sendfile(transport, file)
                    assert str(caught.value) == "Transport is closing"
                    await until(lambda: protocol.lost)

        finish(loop, main())


def test_a_pipe_and_a_datagram_transport_are_refused(loop: asyncio.SelectorEventLoop) -> None:
    reading, writing = os.pipe()
    with sent_file() as file, open(reading, "rb", 0), open(writing, "wb", 0) as end:

        async def main() -> None:
            pipe, protocol = await loop.connect_write_pipe(RecordingStream, end)
            with pytest.raises(RuntimeError) as caught:
                await loop.sendfile(pipe, file)
            assert str(caught.value) == f"sendfile is not supported for transport {pipe!r}"
            pipe.close()
            await until(lambda: protocol.lost)

        finish(loop, main())


def test_what_the_system_call_cannot_send_needs_the_fallback(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        async with _connected("unix") as (transport, protocol, far):
            with pytest.raises(asyncio.SendfileNotAvailableError) as caught:
                await loop.sendfile(transport, Plain(CONTENT), fallback=False)
            assert str(caught.value) == "not a regular file"
            assert not transport.is_closing()
            assert transport.is_reading()
            transport.write(b"fine")
            assert await read_all(loop, far, 4) == b"fine"

    finish(loop, main())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"count": 0}, ValueError),
        ({"count": "5"}, TypeError),
        ({"offset": -5}, ValueError),
        ({"offset": "5"}, TypeError),
    ],
    ids=str,
)
def test_wrong_offsets_and_counts_leave_the_transport_as_it_was(
    loop: asyncio.SelectorEventLoop, options: dict[str, Any], error: type[Exception]
) -> None:
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, far):
                with pytest.raises(error, match="must be a (positive|non-negative) integer"):
                    await loop.sendfile(transport, file, **options)
                assert transport.is_reading()
                transport.write(b"fine")
                assert await read_all(loop, far, 4) == b"fine"
                far.send(b"hello")
                await until(lambda: protocol.received)

        finish(loop, main())


def test_a_file_in_text_mode_is_a_value_error(loop: asyncio.SelectorEventLoop) -> None:
    with tempfile.TemporaryFile("w+") as file:

        async def main() -> None:
            async with _connected("unix") as (transport, _, far):
                with pytest.raises(ValueError, match="file should be opened in binary mode"):
                    await loop.sendfile(transport, file)
                assert nothing_more(far)

        finish(loop, main())


@pytest.mark.parametrize("sockets", STREAMS)
@pytest.mark.parametrize("native", [True, False])
def test_a_peer_that_goes_away_in_the_middle_is_an_error_and_the_end(
    loop: asyncio.SelectorEventLoop, sockets: str, native: bool
) -> None:
    with sent_file(CONTENT * 12) as regular:
        file = regular if native else Plain(CONTENT * 12)

        async def main() -> None:
            async with _connected(sockets) as (transport, protocol, far):
                sending = asyncio.create_task(loop.sendfile(transport, file))
                await read_all(loop, far, 200_000)
                assert not sending.done()
                if sockets == "tcp":
                    reset(far)
                else:
                    far.close()
                with pytest.raises(ConnectionError):
                    await sending
                await until(lambda: protocol.lost)
                assert protocol.names().count("lost") == 1

        finish(loop, main())


@pytest.mark.parametrize("native", [True, False])
def test_a_cancelled_one_gives_the_transport_back(
    loop: asyncio.SelectorEventLoop, native: bool
) -> None:
    with sent_file() as regular:
        file = regular if native else Plain(CONTENT)

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, far):
                sending = asyncio.create_task(loop.sendfile(transport, file))
                received = await read_all(loop, far, 150_000)
                assert not sending.done()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                for _ in range(20):
                    received += drain(far)
                    await asyncio.sleep(0)
                assert len(received) < len(CONTENT)
                assert CONTENT.startswith(received)
                assert transport.is_reading()
                assert transport.get_protocol() is protocol
                transport.write(b"after")
                assert await read_all(loop, far, 5) == b"after"
                far.send(b"hello")
                await until(lambda: protocol.received)

        finish(loop, main())


def test_one_cancelled_before_what_was_written_has_gone_sends_nothing_of_the_file(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio's own leaves such a transport unusable: it believes that the file is still being sent.
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, _, far):
                transport.write(b"x" * 1_000_000)
                sending = asyncio.create_task(pyloop.sendfile(transport, file))
                await passes(3)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                transport.write(b"after")
                assert await read_all(pyloop, far, 1_000_005) == b"x" * 1_000_000 + b"after"
                assert nothing_more(far)

        finish(pyloop, main())


def test_one_whose_transport_is_aborted_in_the_middle_can_be_cancelled(
    pyloop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio's own reports an InvalidStateError of its waiter.
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, far):
                sending = asyncio.create_task(pyloop.sendfile(transport, file))
                await read_all(pyloop, far, 100_000)
                transport.abort()
                await until(lambda: protocol.lost)
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError, RuntimeError):
                    await sending
                drain(far)
                assert far.recv(10) == b""

        finish(pyloop, main())


def test_writing_is_not_paused_for_the_protocol_by_a_file(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with sent_file() as file:

        async def main() -> None:
            async with _connected("unix") as (transport, protocol, far):
                sending = asyncio.create_task(loop.sendfile(transport, file))
                assert await read_all(loop, far, len(CONTENT)) == CONTENT
                await sending
                assert protocol.names() == ["made"]

        finish(loop, main())


def test_a_stream_writer_sends_a_file_between_its_lines(loop: asyncio.SelectorEventLoop) -> None:
    with sent_file() as file, stream_pair("tcp") as (near, far):

        async def main() -> None:
            reader, writer = await asyncio.open_connection(sock=near)
            writer.write(b"head\n")
            sending = asyncio.create_task(loop.sendfile(writer.transport, file))
            assert await read_all(loop, far, 5 + len(CONTENT)) == b"head\n" + CONTENT
            assert await sending == len(CONTENT)
            writer.write(b"tail\n")
            await writer.drain()
            assert await read_all(loop, far, 5) == b"tail\n"
            far.send(b"thanks\n")
            assert await reader.readline() == b"thanks\n"
            writer.close()
            await writer.wait_closed()

        finish(loop, main())
