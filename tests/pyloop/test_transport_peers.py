"""Peers that misbehave: no busy loop, no lost descriptor, bounded memory, nobody else's events."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from support.descriptors import open_descriptors
from support.memory import resident_bytes
from support.running import run_passes
from support.transport_links import (
    BufferedRecorder,
    Link,
    Notes,
    Recorder,
    open_link,
    reset,
    socket_pair,
)

Loop = asyncio.SelectorEventLoop


def _cpu_while_idle(loop: Loop, seconds: float = 0.2) -> float:
    """CPU seconds of this process while the loop has nothing to do for *seconds*."""
    run_passes(loop, 10)
    before = time.process_time()
    loop.run_until_complete(asyncio.sleep(seconds))
    return time.process_time() - before


def _unread(link: Link) -> None:
    link.transport.pause_reading()
    link.far.send(b"unread")


def _unread_and_half_closed(link: Link) -> None:
    link.transport.pause_reading()
    link.far.send(b"unread")
    link.far.shutdown(socket.SHUT_WR)


def _paused_and_gone(link: Link) -> None:
    link.transport.pause_reading()
    link.far.close()


def _paused_and_reset(link: Link) -> None:
    link.transport.pause_reading()
    link.reset()


def _kept_open(link: Link) -> None:
    link.protocol.keep_open = True
    link.far.shutdown(socket.SHUT_WR)


def _kept_open_and_gone(link: Link) -> None:
    link.protocol.keep_open = True
    link.far.close()


def _never_read(link: Link) -> None:
    link.transport.write(bytes(30_000_000))


def _never_read_and_closing(link: Link) -> None:
    link.transport.write(bytes(30_000_000))
    link.transport.close()


def _never_read_and_half_closed(link: Link) -> None:
    link.protocol.keep_open = True
    link.transport.write(bytes(30_000_000))
    link.far.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "state",
    [
        _unread,
        _unread_and_half_closed,
        _paused_and_gone,
        _paused_and_reset,
        _kept_open,
        _kept_open_and_gone,
        _never_read,
        _never_read_and_closing,
        _never_read_and_half_closed,
    ],
)
@pytest.mark.slow
def test_a_connection_that_waits_uses_no_cpu(loop: Loop, state: Any) -> None:
    """Slow: looks at the CPU time of a fifth of a second. A loop that spins uses all of it."""
    with open_link(loop, "tcp") as link:
        state(link)
        assert _cpu_while_idle(loop) < 0.1
        assert not link.protocol.lost


def test_what_happened_while_paused_is_told_after_resuming(loop: Loop) -> None:
    for state, ends in (
        (_unread_and_half_closed, type(None)),
        (_paused_and_gone, type(None)),
        (_paused_and_reset, ConnectionResetError),
    ):
        with open_link(loop, "tcp") as link:
            state(link)
            link.settle()
            assert link.protocol.names == ["made"]
            link.transport.resume_reading()
            assert type(link.until_lost()) is ends


def test_a_paused_reader_buffers_nothing_of_what_a_peer_sends(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        link.transport.pause_reading()
        before = resident_bytes()
        sent = 0
        for _ in range(200):
            try:
                sent += link.far.send(bytes(1 << 20))
            except BlockingIOError:
                pass
            link.settle(1)
        assert resident_bytes() - before < 8 << 20
        link.transport.resume_reading()
        link.until(lambda: len(link.protocol.data) == sent)


def test_a_writer_that_heeds_pause_writing_stays_small_with_a_peer_that_never_reads(
    loop: Loop,
) -> None:
    with open_link(loop, "tcp") as link:
        written = 0
        for _ in range(2000):
            if link.protocol.names[-1] != "pause":
                link.inside(lambda: link.transport.write(bytes(50_000)))
                written += 50_000
        assert link.protocol.names[-1] == "pause"
        assert link.transport.get_write_buffer_size() <= 65_536 + 50_000
        link.transport.abort()
        link.until_lost()
        assert link.transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])
def test_idle_connections_hold_no_buffers(loop: Loop, protocol: type[Notes]) -> None:
    made = []
    fars = []
    big = bytes(60_000)
    for _ in range(50):
        near, far = socket_pair("unix")
        transport, recorder = loop.run_until_complete(loop.create_connection(protocol, sock=near))
        made.append((transport, recorder))
        fars.append(far)
    before = resident_bytes()
    for far in fars:
        far.send(big)
        run_passes(loop, 30)
        for _, recorder in made:
            del recorder.events[1:]
            recorder.buffer = None
    assert resident_bytes() - before < 1_500_000
    for connection, far in zip(made, fars, strict=True):
        connection[0].abort()
        far.close()
    run_passes(loop, 5)
    del made, transport, recorder, connection


def test_no_descriptor_is_left_however_a_connection_ends(loop: Loop) -> None:
    before = set(open_descriptors())
    for ending in range(8):
        for family in ("unix", "tcp"):
            with open_link(loop, family) as link:
                match ending:
                    case 0:
                        link.transport.close()
                    case 1:
                        link.transport.abort()
                    case 2:
                        link.far.close()
                    case 3:
                        reset(link.far)
                    case 4:
                        link.transport.write(bytes(10_000_000))
                        link.far.close()
                    case 5:
                        link.far.shutdown(socket.SHUT_WR)
                    case 6:
                        link.transport.write_eof()
                        link.far.close()
                    case 7:
                        link.transport.write(b"x")
                        link.transport.abort()
                link.until_lost()
                assert link.transport.get_extra_info("socket").fileno() == -1
    assert set(open_descriptors()) - before == set()


# -- descriptor numbers -------------------------------------------------------------------------------


def test_a_number_that_is_used_again_at_once_gets_its_own_events_only(loop: Loop) -> None:
    reused = 0
    numbers: set[int] = set()
    for turn in range(60):
        near, far = socket_pair("unix" if turn % 2 else "tcp")
        reused += near.fileno() in numbers
        numbers.add(near.fileno())
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        far.send(b"%d" % turn)
        run_passes(loop, 3)
        assert protocol.data == b"%d" % turn
        # The event of this one may be in hand when it ends.
        far.send(b"late")
        loop.call_soon(loop.call_soon, transport.abort)
        run_passes(loop, 4)
        assert protocol.lost
        assert protocol.data in (b"%d" % turn, b"%dlate" % turn)
        far.close()
    assert reused > 20


def test_a_connection_aborted_by_another_ones_callback_gets_nothing_more(loop: Loop) -> None:
    with open_link(loop) as one, open_link(loop) as two:
        for link, other in ((one, two), (two, one)):
            link.protocol.on_data = other.transport.abort
        one.far.send(b"x")
        two.far.send(b"x")
        one.settle()
        assert sorted([one.protocol.names, two.protocol.names]) == [
            ["made", "data"],
            ["made", "lost"],
        ]


def test_a_new_connection_made_as_another_is_lost_takes_its_number_safely(loop: Loop) -> None:
    successors: list[tuple[asyncio.Task[Any], socket.socket, int]] = []

    with open_link(loop) as link, open_link(loop) as trigger:
        number = link.transport.get_extra_info("socket").fileno()

        def succeed() -> None:
            # One callback after connection_lost the number is free.
            near, far = socket.socketpair()
            task = loop.create_task(loop.create_connection(Recorder, sock=near))
            successors.append((task, far, near.fileno()))

        link.protocol.on_lost = lambda: loop.call_soon(succeed)
        trigger.protocol.on_data = link.transport.abort
        link.far.send(b"for the old one")
        trigger.far.send(b"now")
        link.settle()
        task, far, newer = successors[0]
        assert newer == number
        transport, protocol = task.result()
        assert protocol.events == ["made"]
        far.send(b"for the new one")
        link.settle()
        assert protocol.events == ["made", b"for the new one"]
        transport.abort()
        link.settle()
        far.close()
        link.protocol.on_lost = lambda: None
    successors.clear()


def test_a_firehose_does_not_starve_its_neighbours(loop: Loop) -> None:
    with open_link(loop, "tcp") as firehose, open_link(loop) as quiet:
        firehose.far.setblocking(True)
        turns: list[int] = []

        def refill() -> None:
            # The next piece is there before the loop polls again: this one is always readable.
            firehose.far.send(bytes(100_000))
            turns.append(1)
            if len(turns) < 300 and not quiet.protocol.data:
                loop.call_soon(refill)

        loop.call_soon(refill)
        firehose.settle(3)
        quiet.far.send(b"me too")
        firehose.settle(3)
        assert quiet.protocol.data == b"me too"
        firehose.settle()


def test_a_peer_that_vanishes_before_the_first_iteration_is_survived(loop: Loop) -> None:
    for family in ("unix", "tcp"):
        near, far = socket_pair(family)
        far.send(b"hello")
        far.close() if family == "unix" else reset(far)
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        run_passes(loop, 6)
        assert protocol.names[0] == "made"
        assert protocol.names[-1] == "lost"
        del transport, protocol
