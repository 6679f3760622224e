"""A stream transport's states and what it tells about itself, from the first callback to the last."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import weakref
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from support.running import run_passes
from support.transport_links import Link, Recorder, open_link, socket_pair

Loop = asyncio.SelectorEventLoop


@pytest.fixture(params=["unix", "tcp"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_transport_is_what_asyncio_says_a_transport_is(loop: Loop, family: str) -> None:
    with open_link(loop, family) as link:
        for kind in (
            asyncio.Transport,
            asyncio.ReadTransport,
            asyncio.WriteTransport,
            asyncio.BaseTransport,
        ):
            assert isinstance(link.transport, kind)
        assert not isinstance(link.transport, asyncio.DatagramTransport)
        assert link.transport is link.protocol.transport
        assert link.transport.can_write_eof() is True


def test_closing_goes_from_open_by_closing_to_lost(loop: Loop, family: str) -> None:
    with open_link(loop, family) as link:
        transport = link.transport
        assert (transport.is_closing(), transport.is_reading()) == (False, True)
        transport.close()
        assert (transport.is_closing(), transport.is_reading()) == (True, False)
        assert link.protocol.names == ["made"]
        assert link.until_lost() is None
        assert (transport.is_closing(), transport.is_reading()) == (True, False)
        assert link.read_to_the_end() == b""
        assert link.protocol.names == ["made", "lost"]


@pytest.mark.parametrize("first", ["close", "abort"])
@pytest.mark.parametrize("second", ["close", "abort"])
def test_the_connection_is_lost_once_however_often_it_is_ended(
    loop: Loop, first: str, second: str
) -> None:
    with open_link(loop) as link:
        getattr(link.transport, first)()
        getattr(link.transport, second)()
        link.settle()
        getattr(link.transport, second)()
        link.settle()
        assert link.protocol.events == ["made", ("lost", None)]


def test_a_lost_transport_answers_all_questions(loop: Loop, family: str) -> None:
    with open_link(loop, family) as link:
        transport = link.transport
        peername = transport.get_extra_info("peername")
        transport.close()
        link.until_lost()
        transport.pause_reading()
        transport.resume_reading()
        transport.write_eof()
        transport.write(b"nobody")
        transport.set_write_buffer_limits(high=5)
        assert transport.get_write_buffer_limits() == (1, 5)
        assert transport.get_write_buffer_size() == 0
        assert transport.get_protocol() is None
        assert transport.get_extra_info("peername") == peername
        assert "closed" in repr(transport)


def test_extra_info_knows_the_socket_and_both_addresses(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        transport = link.transport
        sock = transport.get_extra_info("socket")
        assert type(sock) is TransportSocket
        assert sock.fileno() >= 0
        assert sock.family == socket.AF_INET
        assert sock.gettimeout() == 0
        assert transport.get_extra_info("sockname") == link.far.getpeername()
        assert transport.get_extra_info("peername") == link.far.getsockname()
        assert type(transport.get_extra_info("peername")) is tuple
        assert transport.get_extra_info("sslcontext") is None
        assert transport.get_extra_info("unheard of", "default") == "default"
        assert transport.get_extra_info(name="unheard of") is None
        with pytest.raises(TypeError):
            transport.get_extra_info()


def test_the_addresses_of_an_unnamed_unix_connection_are_empty(loop: Loop) -> None:
    with open_link(loop) as link:
        assert link.transport.get_extra_info("peername") == ""
        assert link.transport.get_extra_info("sockname") == ""


def test_the_peers_name_is_none_if_it_has_gone_already(loop: Loop) -> None:
    near, far = socket_pair("tcp")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    assert transport.get_extra_info("peername") is None
    run_passes(loop, 5)
    assert protocol.lost
    assert isinstance(protocol.events[-1][1], ConnectionResetError)


def test_tcp_connections_do_not_wait_for_nagle(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        sock = link.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_nagle_is_left_alone_where_the_socket_does_not_say_that_it_is_tcp(loop: Loop) -> None:
    near, far = socket_pair("tcp")
    unsaid = socket.socket(near.family, near.type, 0, fileno=near.detach())
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=unsaid))
    assert unsaid.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    transport.close()
    run_passes(loop, 5)
    assert protocol.lost
    far.close()


def test_repr_tells_the_state_and_what_is_waited_for(loop: Loop) -> None:
    with open_link(loop) as link:
        transport = link.transport
        number = transport.get_extra_info("socket").fileno()
        assert re.fullmatch(
            rf"<\w+ fd={number} read=polling write=<idle, bufsize=0>>", repr(transport)
        )
        transport.pause_reading()
        assert "read=idle" in repr(transport)
        transport.resume_reading()
        transport.write(bytes(3_000_000))
        size = transport.get_write_buffer_size()
        assert 0 < size < 3_000_000
        assert re.fullmatch(
            rf"<\w+ fd={number} read=polling write=<polling, bufsize={size}>>", repr(transport)
        )
        transport.close()
        assert re.match(rf"<\w+ closing fd={number} read=idle write=<polling,", repr(transport))
        transport.abort()
        link.until_lost()
        assert re.fullmatch(rf"<\w+ closed fd={number}>", repr(transport))


def test_repr_of_a_transport_on_a_closed_loop_works(loop: Loop) -> None:
    near, far = socket_pair("unix")
    transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    loop.close()
    assert re.fullmatch(rf"<\w+ fd={near.fileno()}>", repr(transport))
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, _
        gc.collect()
    near.close()
    far.close()


def test_a_leaked_transport_warns_and_closes_its_socket(loop: Loop) -> None:
    near, far = socket_pair("unix")
    number = near.fileno()
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    loop.close()
    with pytest.warns(ResourceWarning, match=rf"unclosed transport <\w+ fd={number}") as caught:
        del transport, protocol
        gc.collect()
    assert len(caught) == 1
    assert near.fileno() == -1
    far.setblocking(True)
    assert far.recv(1) == b""
    far.close()


def test_a_closed_transport_does_not_warn(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.close()
        link.until_lost()
    gc.collect()


def test_the_loop_alone_keeps_a_connection_alive(loop: Loop) -> None:
    near, far = socket_pair("unix")
    seen: list[bytes] = []

    class Keeper(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")

        def data_received(self, data: bytes) -> None:
            seen.append(data)

    loop.run_until_complete(loop.create_connection(Keeper, sock=near))
    del near
    gc.collect()
    assert far.recv(10) == b"hello"
    far.send(b"back")
    run_passes(loop, 5)
    assert seen == [b"back"]
    far.close()
    run_passes(loop, 5)
    gc.collect()


def test_transports_can_be_referenced_weakly_and_die_with_their_connection(loop: Loop) -> None:
    with open_link(loop) as link:
        reference = weakref.ref(link.transport)
        protocol = weakref.ref(link.protocol)
        assert {link.transport: 1}[link.transport] == 1
    gc.collect()
    assert reference() is None
    assert protocol() is None


def test_a_lost_connection_lets_go_of_its_protocol_at_once(loop: Loop) -> None:
    with open_link(loop) as link:
        transport = link.transport
        protocol = weakref.ref(link.protocol)
        transport.close()
        link.until_lost()
        link.protocol = Recorder()
        gc.collect()
        assert protocol() is None


def test_a_replaced_method_is_called_and_goes_away_again(loop: Loop) -> None:
    with open_link(loop) as link:
        written: list[bytes] = []
        link.transport.write = written.append
        link.transport.write(b"caught")
        link.transport.anything_else = 1
        assert vars(link.transport)["anything_else"] == 1
        del link.transport.write
        link.transport.write(b"sent")
        assert (written, link.read()) == ([b"caught"], b"sent")


def test_nothing_comes_before_connection_made_has_returned(loop: Loop, family: str) -> None:
    near, far = socket_pair(family)
    far.send(b"early")
    far.close()
    events: list[str] = []

    class Strict(asyncio.Protocol):
        made = False

        def connection_made(self, transport: Any) -> None:
            events.append("made")
            transport.close()
            transport.write(b"x")
            self.made = True

        def data_received(self, data: bytes) -> None:
            events.append("data")

        def connection_lost(self, exc: Exception | None) -> None:
            assert self.made
            events.append("lost")

    loop.run_until_complete(loop.create_connection(Strict, sock=near))
    run_passes(loop, 5)
    assert events == ["made", "lost"]


def test_create_connection_returns_after_connection_made(loop: Loop) -> None:
    with open_link(loop) as link:
        assert link.protocol.events == ["made"]


def test_a_transport_made_by_a_cancelled_create_connection_is_closed(loop: Loop) -> None:
    near, far = socket_pair("unix")
    protocol: list[Recorder] = []

    def factory() -> Recorder:
        protocol.append(Recorder())
        return protocol[0]

    async def main() -> None:
        task = loop.create_task(loop.create_connection(factory, sock=near))
        while not protocol:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())
    run_passes(loop, 5)
    assert protocol[0].names in (["made", "lost"], ["lost"])
    assert near.fileno() == -1
    far.close()


def test_transports_die_after_the_loop_is_closed_under_them(loop: Loop) -> None:
    near, far = socket_pair("unix")
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    loop.close()
    assert not transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    with pytest.warns(ResourceWarning):
        del transport, protocol
        gc.collect()
    near.close()
    far.close()


def test_writing_on_a_closed_loop_still_sends_at_once(loop: Loop) -> None:
    near, far = socket_pair("unix")
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    loop.close()
    transport.write(b"after")
    assert far.recv(10) == b"after"
    with pytest.warns(ResourceWarning):
        del transport, protocol
        gc.collect()
    near.close()
    far.close()


def test_debug_mode_changes_nothing_that_a_protocol_sees(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 60
    with caplog.at_level("DEBUG", "asyncio"), open_link(loop, "tcp") as link:
        _talk(link)
    messages = " ".join(record.getMessage() for record in caplog.records)
    for said in ("pauses reading", "resumes reading", "received EOF"):
        assert said in messages


def _talk(link: Link) -> None:
    link.far.send(b"one")
    link.settle()
    link.transport.pause_reading()
    link.transport.resume_reading()
    link.transport.write(b"two")
    link.far.shutdown(socket.SHUT_WR)
    assert link.until_lost() is None
    assert link.protocol.events == ["made", b"one", "eof", ("lost", None)]
    assert link.read_to_the_end() == b"two"
