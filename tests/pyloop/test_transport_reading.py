"""What a stream transport delivers: data, pauses, another protocol in mid-flight, the end."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from typing import Any

import pytest
from support.transport_links import BufferedRecorder, Notes, Recorder, open_link

Loop = asyncio.SelectorEventLoop


@pytest.fixture(params=[Recorder, BufferedRecorder], ids=["protocol", "buffered"])
def protocol(request: pytest.FixtureRequest) -> type[Notes]:
    kind: type[Notes] = request.param
    return kind


def test_data_comes_whole_and_in_order(loop: Loop, protocol: type[Notes]) -> None:
    content = os.urandom(700_000)
    with open_link(loop, "tcp", protocol) as link:
        link.send_all(content)
        link.far.shutdown(socket.SHUT_WR)
        assert link.until_lost() is None
        assert link.protocol.data == content
        assert link.protocol.names == ["made", "data", "eof", "lost"]


def test_data_that_is_there_comes_in_one_piece(loop: Loop) -> None:
    with open_link(loop) as link:
        for size in (1, 1000, 10_000):
            content = os.urandom(size)
            link.far.send(content)
            link.settle()
            assert link.protocol.events[-1] == content


def test_one_byte_at_a_time_is_received_like_any_other(loop: Loop, protocol: type[Notes]) -> None:
    with open_link(loop, "tcp", protocol) as link:
        for byte in b"slowly":
            link.far.send(bytes([byte]))
            link.settle(2)
        link.until(lambda: len(link.protocol.data) == 6)
        assert link.protocol.data == b"slowly"


def test_a_peer_that_sends_single_bytes_at_once_is_followed(
    loop: Loop, protocol: type[Notes]
) -> None:
    content = random.Random(1).randbytes(300)
    with open_link(loop, "tcp", protocol) as link:
        for byte in content:
            link.far.send(bytes([byte]))
        link.until(lambda: len(link.protocol.data) == 300)
        assert link.protocol.data == content


def test_received_bytes_stay_as_they_are(loop: Loop) -> None:
    with open_link(loop) as link:
        link.far.send(b"first" * 1000)
        link.settle()
        kept = link.protocol.events[-1]
        link.far.send(b"SECOND" * 1000)
        link.settle()
        assert kept == b"first" * 1000


# -- pausing ------------------------------------------------------------------------------------------


def test_nothing_is_delivered_after_pause_reading_has_returned(
    loop: Loop, protocol: type[Notes]
) -> None:
    with open_link(loop, protocol=protocol) as link:
        link.transport.pause_reading()
        assert not link.transport.is_reading()
        link.far.send(b"held")
        link.far.shutdown(socket.SHUT_WR)
        link.settle()
        assert link.protocol.names == ["made"]
        link.transport.resume_reading()
        assert link.transport.is_reading()
        link.until_lost()
        assert link.protocol.events == ["made", b"held", "eof", ("lost", None)]


def test_a_pause_from_another_callback_of_the_same_iteration_holds(
    loop: Loop, protocol: type[Notes]
) -> None:
    with open_link(loop, protocol=protocol) as link:
        link.far.send(b"held")
        # The loop has polled by the time the second callback runs, and may have the event in hand.
        loop.call_soon(loop.call_soon, link.transport.pause_reading)
        link.settle()
        delivered = link.protocol.data
        link.far.send(b"more")
        link.settle()
        assert link.protocol.data == delivered
        link.transport.resume_reading()
        link.settle()
        assert link.protocol.data == b"heldmore"


def test_pausing_in_data_received_stops_at_once(loop: Loop, protocol: type[Notes]) -> None:
    content = os.urandom(400_000)
    with open_link(loop, "tcp", protocol) as link:

        def pause() -> None:
            assert link.transport.is_reading()
            link.transport.pause_reading()

        link.protocol.on_data = pause
        sent = 0
        turns = 0
        while len(link.protocol.data) < len(content):
            if sent < len(content):
                sent += link.send_some(content[sent:])
            before = len(link.protocol.events)
            link.settle(4)
            assert len(link.protocol.events) <= before + 1
            link.transport.resume_reading()
            turns += 1
            assert turns < 100_000
        assert link.protocol.data == content


def test_pausing_and_resuming_twice_is_the_same_as_once(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.resume_reading()
        link.transport.pause_reading()
        link.transport.pause_reading()
        link.far.send(b"x")
        link.settle()
        assert link.protocol.names == ["made"]
        link.transport.resume_reading()
        link.transport.resume_reading()
        link.settle()
        assert link.protocol.events == ["made", b"x"]


def test_pausing_and_resuming_within_data_received_loses_nothing(
    loop: Loop, protocol: type[Notes]
) -> None:
    with open_link(loop, protocol=protocol) as link:

        def blink() -> None:
            link.transport.pause_reading()
            link.transport.resume_reading()

        link.protocol.on_data = blink
        for number in range(20):
            link.far.send(b"%02d" % number)
            link.settle()
        assert link.protocol.data == b"".join(b"%02d" % number for number in range(20))


def test_connection_made_may_pause(loop: Loop, protocol: type[Notes]) -> None:
    def prepare(made: Any) -> None:
        made.on_made = lambda: made.transport.pause_reading()

    with open_link(loop, protocol=protocol, prepare=prepare) as link:
        assert not link.transport.is_reading()
        link.far.send(b"held")
        link.settle()
        assert link.protocol.names == ["made"]
        link.transport.resume_reading()
        link.settle()
        assert link.protocol.data == b"held"


def test_closing_a_paused_connection_ends_it(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.pause_reading()
        link.far.send(b"unread")
        link.transport.close()
        assert link.until_lost() is None
        assert link.protocol.names == ["made", "lost"]


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_nothing_is_delivered_after_closing_in_data_received(
    loop: Loop, protocol: type[Notes], ending: str
) -> None:
    with open_link(loop, protocol=protocol) as link:
        BufferedRecorder.size = 10
        try:
            link.protocol.on_data = lambda: getattr(link.transport, ending)()
            link.far.send(bytes(100_000))
            link.until_lost()
            assert len(link.protocol.events) == 3
            assert link.protocol.names == ["made", "data", "lost"]
        finally:
            BufferedRecorder.size = 4096


# -- another protocol ---------------------------------------------------------------------------------


def test_a_protocol_set_between_two_messages_gets_the_second(
    loop: Loop, protocol: type[Notes]
) -> None:
    for other in (Recorder, BufferedRecorder):
        with open_link(loop, protocol=protocol) as link:
            link.far.send(b"first")
            link.settle()
            second = other()
            link.transport.set_protocol(second)
            assert link.transport.get_protocol() is second
            link.far.send(b"second")
            link.settle()
            link.far.shutdown(socket.SHUT_WR)
            link.settle()
            assert link.protocol.events == ["made", b"first"]
            assert second.events == [b"second", "eof", ("lost", None)]
            link.protocol.transport = None


@pytest.mark.parametrize("other", [Recorder, BufferedRecorder])
def test_a_protocol_set_in_data_received_gets_the_rest(
    loop: Loop, protocol: type[Notes], other: type[Notes]
) -> None:
    content = os.urandom(300_000)
    with open_link(loop, protocol=protocol) as link:
        first, second = link.protocol, other()
        first.on_data = lambda: link.transport.set_protocol(second)
        link.send_all(content)
        link.until(lambda: len(first.data + second.data) == len(content))
        assert first.data + second.data == content
        assert len(first.events) == 2
        assert second.data
        first.on_data = lambda: None


def test_a_protocol_set_in_connection_made_gets_the_data(loop: Loop) -> None:
    second = BufferedRecorder()

    def prepare(made: Any) -> None:
        made.on_made = lambda: made.transport.set_protocol(second)

    with open_link(loop, prepare=prepare) as link:
        link.far.send(b"for the second")
        link.settle()
        assert link.protocol.events == ["made"]
        assert second.events == [b"for the second"]


def test_a_protocol_set_while_paused_gets_what_has_come_meanwhile(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.pause_reading()
        link.far.send(b"waiting")
        link.settle()
        second = BufferedRecorder()
        link.transport.set_protocol(second)
        link.transport.resume_reading()
        link.settle()
        assert second.events == [b"waiting"]


def test_the_class_of_a_protocol_decides_how_it_is_read_into(loop: Loop) -> None:
    class Both(BufferedRecorder, asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise AssertionError("it is buffered")

    with open_link(loop, protocol=Both) as link:
        link.far.send(b"into the buffer")
        link.settle()
        assert link.protocol.events == ["made", b"into the buffer"]


def test_a_method_replaced_on_a_protocol_is_called(loop: Loop) -> None:
    with open_link(loop) as link:
        caught: list[bytes] = []
        link.far.send(b"one")
        link.settle()
        link.protocol.data_received = caught.append
        link.far.send(b"two")
        link.settle()
        del link.protocol.data_received
        link.far.send(b"three")
        link.settle()
        assert (caught, link.protocol.data) == ([b"two"], b"onethree")


# -- buffers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 4096, 100_000])
def test_a_buffer_of_any_size_is_filled_in_order(loop: Loop, size: int) -> None:
    content = os.urandom(50 if size < 10 else 200_000)
    with open_link(loop, protocol=BufferedRecorder) as link:
        link.protocol.size = size
        link.send_all(content)
        link.until(lambda: len(link.protocol.data) == len(content))
        assert link.protocol.data == content


def test_the_buffer_may_be_a_part_of_a_larger_one(loop: Loop) -> None:
    store = bytearray(b"-" * 20)

    class Part(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(store)[5:10]

        def buffer_updated(self, nbytes: int) -> None:
            self.events.append(bytes(store))

    with open_link(loop, protocol=Part) as link:
        link.far.send(b"abc")
        link.settle()
        assert link.protocol.events == ["made", b"-----abc------------"]


def test_a_buffer_is_let_go_of_before_buffer_updated(loop: Loop) -> None:
    # A protocol may enlarge its bytearray there, which an export would forbid.
    class Growing(BufferedRecorder):
        store = bytearray(10)

        def get_buffer(self, sizehint: int) -> Any:
            return self.store

        def buffer_updated(self, nbytes: int) -> None:
            self.events.append(bytes(self.store[:nbytes]))
            self.store.extend(bytes(100))

    with open_link(loop, protocol=Growing) as link:
        link.far.send(b"abc")
        link.settle()
        link.far.send(b"def")
        link.settle()
        assert link.protocol.events == ["made", b"abc", b"def"]


# -- the end of the stream ----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, False, 0, ""])
def test_the_end_of_the_stream_closes_the_connection(
    loop: Loop, protocol: type[Notes], answer: Any
) -> None:
    with open_link(loop, "tcp", protocol) as link:
        link.protocol.keep_open = answer
        link.protocol.on_eof = lambda: link.transport.write(b"last words")
        link.far.shutdown(socket.SHUT_WR)
        assert link.until_lost() is None
        assert link.protocol.events == ["made", "eof", ("lost", None)]
        assert link.read_to_the_end() == b"last words"


@pytest.mark.parametrize("answer", [True, 1, "yes"])
def test_a_protocol_may_keep_its_side_open(loop: Loop, protocol: type[Notes], answer: Any) -> None:
    with open_link(loop, "tcp", protocol) as link:
        link.protocol.keep_open = answer
        link.far.shutdown(socket.SHUT_WR)
        link.until(lambda: "eof" in link.protocol.names)
        link.settle()
        assert not link.transport.is_closing()
        link.transport.write(b"still here")
        assert link.read() == b"still here"
        link.transport.close()
        assert link.until_lost() is None
        assert link.protocol.events == ["made", "eof", ("lost", None)]


def test_a_peer_that_has_gone_altogether_is_told_as_the_end_of_the_stream(
    loop: Loop, protocol: type[Notes]
) -> None:
    with open_link(loop, protocol=protocol) as link:
        link.far.close()
        assert link.until_lost() is None
        assert link.protocol.events == ["made", "eof", ("lost", None)]


def test_a_reset_is_told_by_its_error(loop: Loop, protocol: type[Notes]) -> None:
    with open_link(loop, "tcp", protocol) as link:
        link.reset()
        assert type(link.until_lost()) is ConnectionResetError
        assert link.protocol.names == ["made", "lost"]


def test_what_came_before_a_reset_is_delivered_first(loop: Loop, protocol: type[Notes]) -> None:
    with open_link(loop, "tcp", protocol) as link:
        link.transport.pause_reading()
        link.far.send(b"before")
        link.reset()
        link.settle()
        assert link.protocol.names == ["made"]
        link.transport.resume_reading()
        assert type(link.until_lost()) is ConnectionResetError
        assert link.protocol.names == ["made", "data", "lost"]
