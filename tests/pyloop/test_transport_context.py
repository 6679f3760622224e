"""In which context the callbacks of a connection run, and what of it they share."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import weakref
from typing import Any

from support.running import run_passes
from support.transport_links import Notes, Recorder, open_link, socket_pair

Loop = asyncio.SelectorEventLoop

_place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")


class Placed(Recorder):
    """Writes down where each callback runs, and moves on from there."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def _moved(self, name: str) -> None:
        self.places.append(f"{name} in {_place.get()}")
        _place.set(name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._moved("made")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._moved(data.decode())

    def eof_received(self) -> Any:
        self._moved("eof")
        return super().eof_received()

    def pause_writing(self) -> None:
        self._moved("pause")

    def resume_writing(self) -> None:
        self._moved("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._moved("lost")


def _in_place(place: str, loop: Loop, call: Any) -> None:
    context = contextvars.copy_context()
    context.run(_place.set, place)
    context.run(call)
    run_passes(loop, 6)


def test_reading_has_one_context_made_with_the_transport(loop: Loop) -> None:
    token = _place.set("creation")
    try:
        with open_link(loop, protocol=Placed) as link:
            _place.set("later")
            for data in (b"one", b"two", b"three"):
                link.far.send(data)
                link.settle()
            link.far.shutdown(socket.SHUT_WR)
            link.until_lost()
            assert link.protocol.places == [
                "made in creation",
                "one in creation",
                "two in one",
                "three in two",
                "eof in three",
                "lost in eof",
            ]
            assert _place.get() == "later"
    finally:
        _place.reset(token)


def test_buffered_reading_shares_its_context_too(loop: Loop) -> None:
    places: list[str] = []

    class Buffered(Notes, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> Any:
            places.append(f"get_buffer in {_place.get()}")
            _place.set("get_buffer")
            self.buffer = bytearray(10)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            places.append(f"updated in {_place.get()}")
            _place.set("updated")

    with open_link(loop, protocol=Buffered) as link:
        for _ in range(2):
            link.far.send(b"x")
            link.settle()
        # How often a buffer is asked for without anything to put into it is nobody's promise.
        assert places[:4] == [
            "get_buffer in nowhere",
            "updated in get_buffer",
            "get_buffer in updated",
            "updated in get_buffer",
        ]


def test_resume_reading_takes_the_context_anew(loop: Loop) -> None:
    with open_link(loop, protocol=Placed) as link:
        link.far.send(b"one")
        link.settle()
        link.transport.pause_reading()
        _in_place("resumption", loop, link.transport.resume_reading)
        link.far.send(b"two")
        link.settle()
        link.far.send(b"three")
        link.settle()
        assert link.protocol.places[1:] == ["one in nowhere", "two in resumption", "three in two"]


def test_resume_reading_of_a_transport_that_reads_changes_nothing(loop: Loop) -> None:
    with open_link(loop, protocol=Placed) as link:
        _in_place("resumption", loop, link.transport.resume_reading)
        link.far.send(b"one")
        link.settle()
        assert link.protocol.places[1:] == ["one in nowhere"]


def test_set_protocol_keeps_the_context(loop: Loop) -> None:
    with open_link(loop, protocol=Placed) as link:
        second = Placed()
        _in_place("elsewhere", loop, lambda: link.transport.set_protocol(second))
        link.far.send(b"one")
        link.settle()
        assert second.places == ["one in nowhere"]


def test_connection_lost_runs_in_the_context_of_close(loop: Loop) -> None:
    for ending in ("close", "abort"):
        with open_link(loop, protocol=Placed) as link:
            _in_place("the end", loop, getattr(link.transport, ending))
            assert link.protocol.places == ["made in nowhere", "lost in the end"]


def test_connection_lost_after_a_failing_callback_runs_in_that_callbacks_context(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    with open_link(loop, protocol=Placed) as link:

        def fail() -> None:
            _place.set("failure")
            raise ZeroDivisionError

        link.protocol.on_data = fail
        link.far.send(b"one")
        link.until_lost()
        assert link.protocol.places[-1] == "lost in failure"
        unhandled.clear()


def test_pause_writing_runs_where_the_write_does_and_resume_where_the_buffer_became_full(
    loop: Loop,
) -> None:
    with open_link(loop, protocol=Placed) as link:
        _in_place("writer", loop, lambda: link.transport.write(bytes(3_000_000)))
        assert link.protocol.places[1:] == ["pause in writer"]
        assert len(link.read()) == 3_000_000
        assert [place.split()[0] for place in link.protocol.places[2:]] == ["resume"]
        # asyncio registers the writer before it pauses the protocol: a copy of its own.
        assert link.protocol.places[2] == "resume in writer"


def test_the_connections_of_a_server_have_contexts_of_their_own(loop: Loop) -> None:
    made: list[Placed] = []

    def factory() -> Placed:
        made.append(Placed())
        return made[-1]

    async def main() -> None:
        token = _place.set("server")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        _place.reset(token)
        for number in range(2):
            sock = socket.create_connection(server.sockets[0].getsockname())
            sock.send(b"data")
            while len(made) <= number or len(made[number].places) < 2:
                await asyncio.sleep(0.001)
            sock.close()
        while not all(protocol.lost for protocol in made):
            await asyncio.sleep(0.001)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    for protocol in made:
        assert protocol.places == [
            "made in server",
            "data in server",
            "eof in data",
            "lost in eof",
        ]


def test_a_connection_does_not_keep_the_context_of_its_maker_alive(loop: Loop) -> None:
    class Value:
        pass

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    near, far = socket_pair("unix")

    async def main() -> Any:
        value = Value()
        variable.set(value)
        transport, protocol = await loop.create_connection(Recorder, sock=near)
        return transport, weakref.ref(value)

    transport, value = loop.run_until_complete(main())
    transport.close()
    run_passes(loop, 5)
    gc.collect()
    assert value() is None
    far.close()
