"""Pipe transports that share their descriptor, or whose descriptor nobody can watch."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import tty
from typing import Any

from support.sock_pairs import finish
from support.sock_pipes import connected_reader, connected_writer, ends, read_available
from support.sock_protocols import passes, until


def test_one_end_of_a_terminal_is_read_and_written(loop: asyncio.SelectorEventLoop) -> None:
    data = random.Random(1).randbytes(200_000)
    near, far = pty.openpty()
    tty.setraw(far)

    async def main(near_file: Any, far_file: Any) -> None:
        async with connected_reader(near_file) as (_, reading):
            async with connected_writer(near_file) as (writer, writing):
                writer.write(data)
                received = b""
                count = 0
                # Both directions are ready at once, over and over.
                while len(received) < len(data):
                    count += os.write(far, b"x")
                    received += read_available(far_file)
                    await asyncio.sleep(0)
                assert received == data
                await until(lambda: len(reading.received) == count)
                await passes(2)
                assert writing.names() == ["made", "pause", "resume"]

    with open(near, "r+b", 0) as near_file, open(far, "r+b", 0) as far_file:
        finish(loop, main(near_file, far_file))


def test_a_handler_beside_a_transport_is_called(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (_, protocol):
                await passes(2)
                seen: list[int] = []
                loop.add_writer(writing.fileno(), seen.append, 1)
                await until(lambda: len(seen) > 3)
                # The reader's end makes both ready.
                reading.close()
                await until(lambda: protocol.lost)

        number = writing.fileno()
        finish(loop, main())
        loop.remove_writer(number)


def test_a_reader_replaced_by_a_handler_stays_silent(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_reader(reading) as (_, protocol):
                await passes(2)
                seen: list[bytes] = []
                loop.add_reader(reading.fileno(), lambda: seen.append(os.read(number, 100)))
                os.write(writing.fileno(), b"mine")
                await until(lambda: seen)
                await passes(2)
                assert (seen, protocol.received) == ([b"mine"], b"")

        number = reading.fileno()
        finish(loop, main())


def test_what_cannot_be_watched_is_reported_and_the_caller_goes_on(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]]
) -> None:
    async def main(reading: Any, writing: Any) -> None:
        async with connected_reader(reading) as (_, protocol):
            await until(lambda: unhandled)
            (report,) = unhandled
            assert isinstance(report["exception"], PermissionError)
            assert protocol.calls == [("made",)]
            unhandled.clear()
        async with connected_writer(writing) as (transport, protocol):
            transport.write(b"swallowed")
            assert transport.get_write_buffer_size() == 0
            transport.close()
            await until(lambda: protocol.lost)

    with open(os.devnull, "rb", 0) as reading, open(os.devnull, "wb", 0) as writing:
        finish(loop, main(reading, writing))
