"""Flow control: water marks, and when a protocol is told to pause and to resume writing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from support.transport_links import open_link, receive, take_reports

from data_bridge.pyloop import PyLoop

Loop = asyncio.SelectorEventLoop

# More than any kernel takes at once.
BIG = 3_000_000


def test_the_water_marks_are_64_and_16_kib_unless_said_otherwise(loop: Loop) -> None:
    with open_link(loop) as link:
        assert link.transport.get_write_buffer_limits() == (16_384, 65_536)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, (16_384, 65_536)),
        ({"high": 1000}, (250, 1000)),
        ({"high": 0}, (0, 0)),
        ({"high": 3}, (0, 3)),
        ({"low": 1000}, (1000, 4000)),
        ({"low": 0}, (0, 0)),
        ({"high": 10, "low": 10}, (10, 10)),
        ({"high": 10, "low": 0}, (0, 10)),
        ({"high": None, "low": None}, (16_384, 65_536)),
    ],
)
def test_water_marks_follow_from_what_is_given(
    loop: Loop, keywords: dict[str, Any], expected: tuple[int, int]
) -> None:
    with open_link(loop) as link:
        link.transport.set_write_buffer_limits(high=1, low=1)
        link.transport.set_write_buffer_limits(**keywords)
        assert link.transport.get_write_buffer_limits() == expected


@pytest.mark.parametrize(("high", "low"), [(1, 2), (1, -1), (-1, None), (0, 1)])
def test_impossible_water_marks_are_a_value_error(loop: Loop, high: int, low: int | None) -> None:
    with open_link(loop) as link:
        with pytest.raises(ValueError, match=r"must be >= low \(-?\d+\) must be >= 0$"):
            link.transport.set_write_buffer_limits(high=high, low=low)
        assert link.transport.get_write_buffer_limits() == (16_384, 65_536)


def test_water_marks_are_taken_by_position_too(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.set_write_buffer_limits(100, 10)
        assert link.transport.get_write_buffer_limits() == (10, 100)


def test_a_protocol_is_paused_once_and_resumed_once(loop: Loop) -> None:
    with open_link(loop) as link:
        for _ in range(3):
            link.inside(lambda: link.transport.write(bytes(BIG)))
        assert link.protocol.events == ["made", "pause"]
        assert len(link.read()) == 3 * BIG
        assert link.protocol.events == ["made", "pause", "resume"]
        link.inside(lambda: link.transport.write(bytes(BIG)))
        assert link.protocol.events == ["made", "pause", "resume", "pause"]


def test_pause_writing_is_called_within_the_write_that_is_too_much(loop: Loop) -> None:
    with open_link(loop) as link:
        seen: list[list[Any]] = []
        link.inside(
            lambda: link.transport.write(bytes(1000)),
            lambda: seen.append(list(link.protocol.events)),
            lambda: link.transport.write(bytes(BIG)),
            lambda: seen.append(list(link.protocol.events)),
        )
        assert seen == [["made"], ["made", "pause"]]


def test_what_the_kernel_takes_does_not_pause(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.set_write_buffer_limits(high=0)
        link.inside(*([lambda: link.transport.write(bytes(100))] * 20))
        assert link.protocol.events == ["made"]
        assert receive(link.far) == bytes(2000)


def test_the_low_mark_decides_when_to_resume(loop: Loop) -> None:
    with open_link(loop) as link:
        for low in (0, 1_000_000):
            del link.protocol.events[:]
            link.transport.set_write_buffer_limits(high=2_000_000, low=low)
            link.transport.write(bytes(2 * BIG))
            assert link.protocol.events == ["pause"]
            sizes: list[int] = []
            link.protocol.on_resume = lambda sizes=sizes: sizes.append(
                link.transport.get_write_buffer_size()
            )
            assert len(link.read()) == 2 * BIG
            assert link.protocol.events == ["pause", "resume"]
            assert sizes[0] <= low


def test_lower_marks_pause_at_once(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.set_write_buffer_limits(high=2 * BIG)
        link.transport.write(bytes(BIG))
        assert link.protocol.events == ["made"]
        link.transport.set_write_buffer_limits(high=10)
        assert link.protocol.events == ["made", "pause"]


def test_a_protocol_may_write_and_close_when_it_is_told(pyloop: PyLoop) -> None:
    # asyncio's own loses the connection twice if it is closed in there.
    with open_link(pyloop) as link:
        link.protocol.on_pause = lambda: link.transport.write(b"paused")
        link.protocol.on_resume = lambda: (
            link.transport.write(b"resumed"),
            link.transport.close(),
        )
        link.inside(lambda: link.transport.write(bytes(BIG)))
        received = link.read_to_the_end()
        assert received[BIG:] == b"pausedresumed"
        assert link.until_lost() is None
        assert link.protocol.names == ["made", "pause", "resume", "lost"]


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_protocol_may_end_the_connection_when_it_is_told_to_resume(
    pyloop: PyLoop, ending: str
) -> None:
    # asyncio's own loses the connection twice.
    with open_link(pyloop) as link:
        link.protocol.on_resume = getattr(link.transport, ending)
        link.transport.write(bytes(BIG))
        received = link.read_to_the_end()
        assert link.until_lost() is None
        assert len(received) == BIG
        assert link.protocol.names == ["made", "pause", "resume", "lost"]


def test_a_lost_transport_can_be_ended_again_after_close_has_waited(pyloop: PyLoop) -> None:
    # asyncio's own raises AttributeError.
    with open_link(pyloop) as link:
        link.transport.write(bytes(BIG))
        link.transport.close()
        link.read_to_the_end()
        link.until_lost()
        link.transport.abort()
        link.transport.write(b"nobody")
        link.settle()
        assert link.protocol.names == ["made", "pause", "resume", "lost"]


def test_a_protocol_that_writes_again_whenever_it_may_is_served(loop: Loop) -> None:
    with open_link(loop) as link:
        left = 5

        def more() -> None:
            nonlocal left
            left -= 1
            if left:
                link.transport.write(bytes(BIG))

        link.protocol.on_resume = more
        link.inside(lambda: link.transport.write(bytes(BIG)))
        received = 0
        while received < 5 * BIG:
            received += len(link.read())
        assert link.protocol.names == ["made", *["pause", "resume"] * 5]


def test_a_full_buffer_that_is_aborted_does_not_resume(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.write(bytes(BIG))
        link.transport.abort()
        link.until_lost()
        assert link.protocol.names == ["made", "pause", "lost"]


def test_the_protocol_that_is_set_when_there_is_room_again_is_told(loop: Loop) -> None:
    with open_link(loop) as link:
        first = link.protocol
        link.transport.write(bytes(BIG))
        second = type(first)()
        link.transport.set_protocol(second)
        link.read()
        assert first.events == ["made", "pause"]
        assert second.events == ["resume"]


@pytest.mark.parametrize("which", ["pause_writing", "resume_writing"])
def test_a_protocol_that_raises_when_it_is_told_is_reported_and_the_connection_goes_on(
    loop: Loop, unhandled: list[dict[str, Any]], which: str
) -> None:
    with open_link(loop) as link:
        error = ZeroDivisionError(which)

        def fail() -> None:
            raise error

        setattr(link.protocol, which, fail)
        link.inside(lambda: link.transport.write(bytes(BIG)))
        assert len(link.read()) == BIG
        (report,) = take_reports(unhandled)
        assert report == {
            "message": f"protocol.{which}() failed",
            "exception": error,
            "transport": link.transport,
            "protocol": link.protocol,
        }
        assert not link.transport.is_closing()
        error.__traceback__ = None


@pytest.mark.parametrize("more", [b"", b"more"])
def test_connection_lost_that_raises_after_close_has_waited_is_reported(
    loop: Loop, unhandled: list[dict[str, Any]], more: bytes
) -> None:
    with open_link(loop) as link:
        error = ZeroDivisionError("as planned")

        def fail() -> None:
            raise error

        link.protocol.on_resume = lambda: link.transport.write(more)
        link.protocol.on_lost = fail
        link.transport.write(bytes(BIG))
        link.transport.close()
        assert len(link.read_to_the_end()) == BIG + len(more)
        (report,) = take_reports(unhandled)
        assert report["message"].startswith("Exception in callback ")
        assert report["exception"] is error
        assert link.protocol.names == ["made", "pause", "resume", "lost"]
        link.protocol.on_lost = lambda: None
        error.__traceback__ = None
        del report


@pytest.mark.parametrize("call", ["get_write_buffer_size", "is_closing", "write_eof"])
def test_resume_writing_that_asks_and_raises_while_closing_is_reported_as_itself(
    loop: Loop, unhandled: list[dict[str, Any]], call: str
) -> None:
    with open_link(loop) as link:
        error = ZeroDivisionError("as planned")
        transport = link.transport
        lost_inside: list[bool] = []

        def ask_and_fail() -> None:
            transport.write(b"more")
            getattr(transport, call)()
            lost_inside.append(link.protocol.lost)
            raise error

        link.protocol.on_resume = ask_and_fail
        transport.write(bytes(BIG))
        transport.close()
        assert len(link.read_to_the_end()) == BIG + 4
        link.until_lost()
        (report,) = take_reports(unhandled)
        assert report["message"] == "protocol.resume_writing() failed"
        assert report["exception"] is error
        assert lost_inside == [False]
        error.__traceback__ = None
        del report


@pytest.mark.parametrize("call", ["get_write_buffer_size", "abort", "close", "write_eof"])
def test_no_call_of_ours_calls_the_protocol_back_at_once(loop: Loop, call: str) -> None:
    for closing in (False, True):
        with open_link(loop) as link:
            link.transport.write(bytes(BIG))
            if closing:
                link.transport.close()
            before = list(link.protocol.names)
            # The kernel has room again, and the loop has not looked yet.
            while receive(link.far):
                pass
            seen: list[list[str]] = []

            def ask(link: Any = link, seen: list[list[str]] = seen) -> None:
                link.transport.write(b"x" * 10)
                getattr(link.transport, call)()
                seen.append(list(link.protocol.names))

            ask()
            assert seen == [before]
            link.read()


def test_drain_of_a_stream_waits_for_the_peer(loop: Loop) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        far.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=near)
        with far:
            writer.write(bytes(BIG))
            draining = asyncio.ensure_future(writer.drain())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not draining.done()
            received = 0
            while received < BIG:
                received += len(await loop.sock_recv(far, 1 << 20))
            await draining
            writer.close()
            await writer.wait_closed()

    loop.run_until_complete(main())
