"""Write pipe transports: slow readers, flow control, a reader that goes away, and every way to end."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from support.sock_pairs import finish
from support.sock_pipes import (
    WRITABLE,
    connected_reader,
    connected_writer,
    ends,
    read,
    read_exactly,
    shrink,
)
from support.sock_protocols import passes, until


@pytest.mark.parametrize("over", WRITABLE)
def test_what_is_written_arrives(loop: asyncio.SelectorEventLoop, over: str) -> None:
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), b""):
                    transport.write(data)
                    assert await read_exactly(reading, len(data)) == bytes(data)
                transport.writelines([b"one ", b"two ", bytearray(b"three")])
                assert await read_exactly(reading, 13) == b"one two three"
                assert protocol.calls == [("made",)]

        finish(loop, main())


@pytest.mark.parametrize("over", ["pipe", "fifo", "socket"])
def test_a_large_write_arrives_whole_at_a_slow_reader(
    loop: asyncio.SelectorEventLoop, over: str
) -> None:
    data = random.Random(1).randbytes(2_000_000)
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(data)
                assert 0 < transport.get_write_buffer_size() < len(data)
                transport.write(b"and more")
                assert await read_exactly(reading, len(data) + 8) == data + b"and more"
                await passes(2)
                assert transport.get_write_buffer_size() == 0
                assert protocol.names() == ["made", "pause", "resume"]

        finish(loop, main())


def test_many_small_writes_keep_their_order(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):
        shrink(writing)

        async def main() -> None:
            async with connected_writer(writing) as (transport, _):
                expected = b""
                for number in range(3000):
                    transport.write(b"%d," % number)
                    expected += b"%d," % number
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                assert await read_exactly(reading, len(expected)) == expected

        finish(loop, main())


def test_a_buffer_changed_after_the_call_is_written_as_it_was(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, _):
                small = bytearray(b"small")
                large = bytearray(b"a" * 300_000)
                transport.write(small)
                transport.write(large)
                transport.write(memoryview(small))
                small[:] = b"SMALL"
                large[:] = b"b" * 300_000
                small.extend(b"!")
                large.extend(b"!")
                assert await read_exactly(reading, 300_010) == b"small" + b"a" * 300_000 + b"small"

        finish(loop, main())


def test_writing_is_paused_and_resumed_by_the_marks(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):
        shrink(writing)

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                assert transport.get_write_buffer_limits() == (16384, 65536)
                transport.set_write_buffer_limits(high=10_000, low=5_000)
                assert transport.get_write_buffer_limits() == (5_000, 10_000)
                transport.write(b"x" * 65_536)
                assert protocol.names() == ["made", "pause"]
                transport.write(b"x")
                assert protocol.names() == ["made", "pause"]
                left = 65_537
                while transport.get_write_buffer_size() > 5_000:
                    assert protocol.names() == ["made", "pause"]
                    left -= len(read(reading, 4096))
                    await passes(2)
                await read_exactly(reading, left)
                await passes(2)
                assert protocol.names() == ["made", "pause", "resume"]
                assert transport.get_write_buffer_size() == 0

        finish(loop, main())


@pytest.mark.parametrize("over", ["pipe", "fifo", "socket"])
def test_a_reader_that_goes_away_ends_it_though_nothing_is_written(
    loop: asyncio.SelectorEventLoop, over: str
) -> None:
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                await passes(2)
                reading.close()
                await until(lambda: protocol.lost)
                assert protocol.calls == [("made",), ("lost", None)]
                assert transport.is_closing()

        finish(loop, main())


@pytest.mark.parametrize("over", ["pipe", "fifo", "socket"])
def test_a_reader_that_goes_away_with_bytes_to_come_is_a_broken_pipe(
    loop: asyncio.SelectorEventLoop, over: str
) -> None:
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(b"x" * 1_000_000)
                await passes(3)
                reading.close()
                await until(lambda: protocol.lost)
                lost = protocol.calls[-1][1]
                assert isinstance(lost, BrokenPipeError)
                assert protocol.names() == ["made", "pause", "lost"]
                assert transport.get_write_buffer_size() == 0

        finish(loop, main())


def test_writing_to_a_reader_that_has_gone_is_silent_and_then_warns(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                await passes(2)
                reading.close()
                transport.write(b"x")
                await until(lambda: protocol.lost)
                assert isinstance(protocol.calls[-1][1], BrokenPipeError | None)
                for _ in range(8):
                    transport.write(b"x")
                texts = {record.getMessage() for record in caplog.records}
                assert texts == {"pipe closed by peer or os.write(pipe, data) raised exception."}
                assert 2 <= len(caplog.records) <= 5

        finish(loop, main())


def test_write_eof_sends_what_is_kept_and_then_closes(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(2).randbytes(500_000)
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                assert transport.can_write_eof() is True
                transport.write(data)
                transport.write_eof()
                transport.write_eof()
                assert transport.is_closing()
                transport.write(b"too late")
                assert await read_exactly(reading, len(data)) == data
                await until(lambda: protocol.lost)
                assert protocol.calls[-1] == ("lost", None)
                assert read(reading) == b""
                assert writing.closed

        finish(loop, main())


@pytest.mark.parametrize("way", ["close", "write_eof"])
def test_closing_with_nothing_kept_ends_it_soon(loop: asyncio.SelectorEventLoop, way: str) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(b"small")
                getattr(transport, way)()
                getattr(transport, way)()
                transport.close()
                assert protocol.calls == [("made",)]
                await passes(3)
                assert protocol.calls == [("made",), ("lost", None)]
                assert read(reading) == b"small"
                assert read(reading) == b""
                transport.close()

        finish(loop, main())


def test_closing_sends_what_is_kept(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(b"x" * 300_000)
                transport.close()
                await passes(3)
                assert not protocol.lost
                assert await read_exactly(reading, 300_000) == b"x" * 300_000
                await until(lambda: protocol.lost)
                assert protocol.calls[-1] == ("lost", None)
                assert read(reading) == b""

        finish(loop, main())


def test_aborting_drops_what_is_kept(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(b"x" * 300_000)
                sent = 300_000 - transport.get_write_buffer_size()
                transport.abort()
                assert transport.get_write_buffer_size() == 0
                assert not protocol.lost
                await until(lambda: protocol.lost)
                assert protocol.calls[-1] == ("lost", None)
                assert len(await read_exactly(reading, sent)) == sent
                assert read(reading) == b""

        finish(loop, main())


def test_a_close_that_waits_can_be_cut_short_by_abort(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                transport.write(b"x" * 300_000)
                transport.close()
                await passes(3)
                transport.abort()
                await until(lambda: protocol.lost)
                assert protocol.names().count("lost") == 1

        finish(loop, main())


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]], ids=lambda data: type(data).__name__)
def test_what_is_no_buffer_is_refused(loop: asyncio.SelectorEventLoop, data: Any) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, _):
                with pytest.raises((AssertionError, TypeError)):
                    transport.write(data)
                assert not transport.is_closing()
                transport.write(b"fine")
                assert await read_exactly(reading, 4) == b"fine"

        finish(loop, main())


def test_a_method_replaced_on_the_instance_is_called(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, _):
                seen: list[bytes] = []
                plain = transport.write

                def write(data: bytes) -> None:
                    seen.append(data)
                    plain(data)

                transport.write = write
                transport.write(b"one")
                # That of the base class joins the pieces and calls write().
                transport.writelines([b"two", b"three"])
                assert await read_exactly(reading, 11) == b"onetwothree"
                assert b"".join(seen) == b"onetwothree"
                del transport.write

        finish(loop, main())


def test_a_full_pipe_makes_no_work(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> float:
            async with connected_writer(writing) as (transport, _):
                transport.write(b"x" * 300_000)
                await passes(3)
                before = time.process_time()
                await asyncio.sleep(0.15)
                return time.process_time() - before

        # A loop that is woken without end uses all of the time that it gets.
        assert finish(loop, main()) < 0.05


def test_a_stream_writer_drains_a_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), writing
            )
            writer = asyncio.StreamWriter(transport, protocol, None, loop)
            draining = asyncio.create_task(_fed(writer))
            assert await read_exactly(reading, 1_000_000) == b"x" * 1_000_000
            await draining
            writer.close()
            await writer.wait_closed()
            assert read(reading) == b""

        finish(loop, main())


async def _fed(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(b"x" * 10_000)
        await writer.drain()


def test_a_reader_and_a_writer_joined_are_a_pipeline(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(3).randbytes(1_000_000)
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (_, receiving):
                async with connected_writer(writing) as (transport, _):
                    transport.write(data)
                    transport.write_eof()
                    await until(lambda: receiving.lost)
                    assert receiving.received == data
                    assert receiving.names()[-2:] == ["eof", "lost"]

        finish(loop, main())


def test_the_end_of_a_terminals_reader_leaves_the_writer_alone(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # A character device has no event that tells of it: nobody watches it for reading.
    with ends("terminal") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                await passes(2)
                reading.close()
                await passes(4)
                assert protocol.calls == [("made",)]
                transport.close()
                await until(lambda: protocol.lost)

        finish(loop, main())
