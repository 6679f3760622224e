"""What pipe transports may be made of, what they make of it, and what they say of themselves."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import tempfile
import weakref
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import finish
from support.sock_pipes import (
    READABLE,
    WRITABLE,
    connected_reader,
    connected_writer,
    ends,
    read_exactly,
)
from support.sock_protocols import RecordingStream, passes


@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
def test_a_regular_file_is_a_value_error(loop: asyncio.SelectorEventLoop, name: str) -> None:
    texts = {
        "connect_read_pipe": "Pipe transport is for pipes/sockets only.",
        "connect_write_pipe": "Pipe transport is only for pipes, sockets and character devices",
    }
    with tempfile.TemporaryFile() as file:
        for _ in range(2):
            with pytest.raises(ValueError) as caught:
                finish(loop, getattr(loop, name)(RecordingStream, file))
            assert str(caught.value) == texts[name]
        file.write(b"still open")


@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
@pytest.mark.parametrize("wrong", [None, "x", 5, object()], ids=["None", "str", "int", "object"])
def test_what_is_no_file_is_an_attribute_error(
    pyloop: asyncio.SelectorEventLoop, name: str, wrong: Any
) -> None:
    # asyncio's own raises the same, and complains of itself once more when it is collected.
    with pytest.raises(AttributeError):
        finish(pyloop, getattr(pyloop, name)(RecordingStream, wrong))


@pytest.mark.parametrize("name", ["connect_read_pipe", "connect_write_pipe"])
def test_a_closed_file_is_an_error(pyloop: asyncio.SelectorEventLoop, name: str) -> None:
    with ends("pipe") as (reading, writing):
        reading.close()
        writing.close()
        end = reading if name == "connect_read_pipe" else writing
        with pytest.raises(ValueError, match="closed file"):
            finish(pyloop, getattr(pyloop, name)(RecordingStream, end))


@pytest.mark.parametrize("over", READABLE)
def test_the_descriptor_of_a_reader_becomes_non_blocking(
    loop: asyncio.SelectorEventLoop, over: str
) -> None:
    with ends(over) as (reading, _):
        os.set_blocking(reading.fileno(), True)

        async def main() -> None:
            async with connected_reader(reading):
                assert not os.get_blocking(reading.fileno())

        finish(loop, main())


def test_the_extra_info_of_a_reader_has_the_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, _):

        async def main() -> None:
            async with connected_reader(reading) as (transport, protocol):
                assert transport.get_extra_info("pipe") is reading
                assert transport.get_extra_info("socket") is None
                assert transport.get_extra_info("unheard of", 5) == 5
                assert transport.get_protocol() is protocol
                assert isinstance(transport, asyncio.ReadTransport)
                assert not isinstance(transport, asyncio.WriteTransport)
                assert not hasattr(transport, "write")
                assert weakref.ref(transport)() is transport
                transport.mine = 5
                assert transport.mine == 5

        finish(loop, main())


def test_the_repr_of_a_reader_tells_its_state(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, _):

        async def main() -> None:
            async with connected_reader(reading) as (transport, _):
                await passes(2)
                number = reading.fileno()
                assert re.fullmatch(rf"<\w+ fd={number} polling>", repr(transport))
                transport.pause_reading()
                assert re.fullmatch(rf"<\w+ fd={number} idle>", repr(transport))
                transport.close()
                assert re.fullmatch(rf"<\w+ closing fd={number} idle>", repr(transport))
                await passes(2)
                assert re.fullmatch(rf"<\w+ closed fd={number} closed>", repr(transport))

        finish(loop, main())


def test_a_forgotten_reader_warns_and_closes_its_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, _):
        transport, _ = finish(loop, loop.connect_read_pipe(asyncio.Protocol, reading))
        run_passes(loop, 2)
        with pytest.warns(ResourceWarning, match="unclosed transport <.*"):
            loop.close()
            del transport
            gc.collect()
        assert reading.closed


@pytest.mark.parametrize("over", WRITABLE)
def test_the_descriptor_of_a_writer_becomes_non_blocking(
    loop: asyncio.SelectorEventLoop, over: str
) -> None:
    with ends(over) as (reading, writing):
        os.set_blocking(writing.fileno(), True)

        async def main() -> None:
            async with connected_writer(writing):
                assert not os.get_blocking(writing.fileno())

        finish(loop, main())


def test_the_extra_info_of_a_writer_has_the_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (_, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, protocol):
                assert transport.get_extra_info("pipe") is writing
                assert transport.get_extra_info("socket") is None
                assert transport.get_extra_info("unheard of", 5) == 5
                assert transport.get_protocol() is protocol
                assert isinstance(transport, asyncio.WriteTransport)
                assert weakref.ref(transport)() is transport
                transport.mine = 5
                assert transport.mine == 5
                other = RecordingStream()
                transport.set_protocol(other)
                assert transport.get_protocol() is other
                transport.set_protocol(protocol)

        finish(loop, main())


def test_the_repr_of_a_writer_tells_its_state(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (reading, writing):

        async def main() -> None:
            async with connected_writer(writing) as (transport, _):
                await passes(2)
                number = writing.fileno()
                assert re.fullmatch(rf"<\w+ fd={number} idle bufsize=0>", repr(transport))
                transport.write(b"x" * 300_000)
                size = transport.get_write_buffer_size()
                assert re.fullmatch(rf"<\w+ fd={number} polling bufsize={size}>", repr(transport))
                transport.close()
                expected = rf"<\w+ closing fd={number} polling bufsize={size}>"
                assert re.fullmatch(expected, repr(transport))
                await read_exactly(reading, 300_000)
                await passes(2)
                assert re.fullmatch(rf"<\w+ closed fd={number} closed>", repr(transport))

        finish(loop, main())


def test_a_forgotten_writer_warns_and_closes_its_pipe(loop: asyncio.SelectorEventLoop) -> None:
    with ends("pipe") as (_, writing):
        transport, _ = finish(loop, loop.connect_write_pipe(asyncio.Protocol, writing))
        run_passes(loop, 2)
        with pytest.warns(ResourceWarning, match="unclosed transport <.*"):
            loop.close()
            del transport
            gc.collect()
        assert writing.closed
