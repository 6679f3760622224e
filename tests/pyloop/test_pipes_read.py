"""Read pipe transports: what they read from, the end, pausing, errors, and what they say of themselves."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import socket
import time
from typing import Any

import pytest
from support.sock_pairs import finish
from support.sock_pipes import READABLE, connected_reader, ends, write
from support.sock_protocols import RecordingStream, passes, until


@pytest.mark.parametrize("over", READABLE)
def test_what_is_written_is_read(loop: asyncio.SelectorEventLoop, over: str) -> None:
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                texts = [b"%d," % number * (number + 1) for number in range(50)]
                size = 0
                for text in texts:
                    size += write(writing, text)
                    await until(lambda size=size: len(protocol.received) >= size)
                assert protocol.received == b"".join(texts)
                assert set(protocol.names()) == {"made", "data"}
                assert all(type(part) is bytes for part in protocol.of("data"))

        finish(loop, main())


@pytest.mark.parametrize("over", ["pipe", "fifo", "socket"])
def test_the_end_comes_once_and_then_the_loss(loop: asyncio.SelectorEventLoop, over: str) -> None:
    with ends(over) as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                write(writing, b"last words")
                writing.close()
                await until(lambda: protocol.lost)
                assert protocol.received == b"last words"
                assert protocol.names()[-2:] == ["eof", "lost"]
                assert protocol.calls[-1] == ("lost", None)
                assert transport.is_closing()
                await passes(3)
                assert protocol.names().count("eof") == protocol.names().count("lost") == 1
            assert reading.fileno() == -1 if over == "socket" else reading.closed

        finish(loop, main())


def test_a_terminal_that_hangs_up_ends_with_the_kernels_error(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with ends("terminal") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (_, protocol):
                write(writing, b"last words")
                await until(lambda: protocol.received)
                writing.close()
                await until(lambda: protocol.lost)
                assert protocol.names() == ["made", "data", "lost"]
                # EIO, which is the way of terminals and is not reported.
                assert protocol.calls[-1][1].errno == 5

        finish(loop, main())


def test_a_true_answer_to_the_end_keeps_nothing_open(loop: asyncio.SelectorEventLoop) -> None:
    class Staying(RecordingStream):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading, Staying) as (_, protocol):
                writing.close()
                await until(lambda: protocol.lost)
                assert protocol.names() == ["made", "eof", "lost"]

        finish(loop, main())


def test_much_data_arrives_whole(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(1).randbytes(3_000_000)
    with ends("pipe") as (reading, writing):

        async def main() -> bytes:
            async with connected_reader(reading) as (_, protocol):
                await loop.run_in_executor(None, _write_all, writing, data)
                await until(lambda: protocol.lost)
                await loop.shutdown_default_executor()
                return bytes(protocol.received)

        assert finish(loop, main()) == data


def _write_all(end: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(end.fileno(), view) :]
    end.close()


def test_nothing_is_read_while_reading_is_paused(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                assert transport.is_reading()
                for turn in range(3):
                    transport.pause_reading()
                    transport.pause_reading()
                    assert not transport.is_reading()
                    write(writing, b"%d" % turn)
                    await passes(4)
                    assert len(protocol.received) == turn
                    transport.resume_reading()
                    transport.resume_reading()
                    assert transport.is_reading()
                    await until(lambda turn=turn: len(protocol.received) == turn + 1)
                assert protocol.received == b"012"

        finish(loop, main())


def test_pausing_from_the_callback_holds(loop: asyncio.SelectorEventLoop) -> None:
    class Pausing(RecordingStream):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading, Pausing) as (transport, protocol):
                size = 0
                for _ in range(3):
                    write(writing, b"abc")
                    await until(lambda size=size: len(protocol.received) > size)
                    size = len(protocol.received)
                    write(writing, b"def")
                    await passes(4)
                    assert len(protocol.received) == size
                    transport.resume_reading()
                    await until(lambda size=size: len(protocol.received) > size)
                    size = len(protocol.received)
                    transport.resume_reading()

        finish(loop, main())


def test_pausing_in_connection_made_holds(loop: asyncio.SelectorEventLoop) -> None:
    class Paused(RecordingStream):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            write(writing, b"early")
            async with connected_reader(reading, Paused) as (transport, protocol):
                await passes(4)
                assert protocol.calls == [("made",)]
                transport.resume_reading()
                await until(lambda: protocol.received)

        finish(loop, main())


def test_an_end_while_reading_is_paused_makes_no_work(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> float:
            async with connected_reader(reading) as (transport, protocol):
                await passes(2)
                transport.pause_reading()
                write(writing, b"unread")
                writing.close()
                await passes(3)
                before = time.process_time()
                await asyncio.sleep(0.15)
                used = time.process_time() - before
                assert protocol.names() == ["made"]
                transport.resume_reading()
                await until(lambda: protocol.lost)
                assert protocol.names() == ["made", "data", "eof", "lost"]
                return used

        # A loop that is woken without end uses all of the time that it gets.
        assert finish(loop, main()) < 0.05


def test_closing_ends_it_once(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                write(writing, b"never read")
                transport.close()
                assert transport.is_closing()
                assert not transport.is_reading()
                assert protocol.calls == [("made",)]
                transport.close()
                transport.pause_reading()
                transport.resume_reading()
                await passes(3)
                assert protocol.calls == [("made",), ("lost", None)]
                assert reading.closed

        finish(loop, main())


def test_closing_from_the_callback_is_the_end(loop: asyncio.SelectorEventLoop) -> None:
    class Closing(RecordingStream):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading, Closing) as (_, protocol):
                write(writing, b"x" * 10_000)
                await until(lambda: protocol.lost)
                assert protocol.names() == ["made", "data", "lost"]

        finish(loop, main())


def test_a_protocol_can_be_exchanged(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                other = RecordingStream()
                write(writing, b"first")
                await until(lambda: protocol.received)
                transport.set_protocol(other)
                assert transport.get_protocol() is other
                write(writing, b"second")
                await until(lambda: other.received)
                writing.close()
                await until(lambda: other.lost)
                assert other.names() == ["data", "eof", "lost"]
                assert protocol.names() == ["made", "data"]
                protocol.connection_lost(None)

        finish(loop, main())


def test_a_stream_reader_reads_from_a_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            reader = asyncio.StreamReader()
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), reading
            )
            write(writing, b"one\ntwo\nrest")
            assert await reader.readline() == b"one\n"
            assert await reader.readline() == b"two\n"
            writing.close()
            assert await reader.read() == b"rest"
            transport.close()
            await passes(3)

        finish(loop, main())


def test_a_callback_that_raises_is_reported_and_reading_goes_on(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    class Raising(RecordingStream):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise LookupError("mine")

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading, Raising) as (transport, protocol):
                for number in range(1, 4):
                    write(writing, b"x")
                    await until(lambda number=number: len(unhandled) == number)
                    assert len(protocol.received) == number
                assert [str(report["exception"]) for report in unhandled] == ["mine"] * 3
                assert not transport.is_closing()
                unhandled.clear()

        finish(loop, main())


def test_callbacks_run_in_the_context_of_the_creation(loop: asyncio.SelectorEventLoop) -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")

    class Looking(RecordingStream):
        def data_received(self, data: bytes) -> None:
            self.calls.append(("data", where.get().encode()))
            where.set(data.decode())

    with ends("pipe") as (reading, writing):

        async def main() -> None:
            where.set("creation")
            async with connected_reader(reading, Looking) as (transport, protocol):
                where.set("later")
                for text in (b"one", b"two"):
                    write(writing, text)
                    await until(
                        lambda text=text: len(protocol.of("data")) == int(text != b"one") + 1
                    )
                # Reading that is resumed is registered anew, and so is its context.
                transport.pause_reading()
                transport.resume_reading()
                write(writing, b"three")
                await until(lambda: len(protocol.of("data")) == 3)
                assert protocol.of("data") == [b"creation", b"one", b"later"]

        finish(loop, main())


def test_a_read_error_is_reported_and_ends_it(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    with ends("socket") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                with socket.socket() as unconnected:
                    # The kernel refuses to read from it, and says that it is ready.
                    os.dup2(unconnected.fileno(), reading.fileno(), inheritable=False)
                transport.pause_reading()
                transport.resume_reading()
                await until(lambda: protocol.lost)
                assert isinstance(protocol.calls[-1][1], OSError)
                (report,) = unhandled
                assert report["message"] == "Fatal read error on pipe transport"
                assert report["exception"] is protocol.calls[-1][1]
                assert report["transport"] is transport
                assert report["protocol"] is protocol
                unhandled.clear()

        finish(loop, main())
