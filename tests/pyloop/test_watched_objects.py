"""Objects with ``fileno()`` that are watched: kept alive meanwhile, and known when they are closed."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any
from unittest import mock

import pytest
from support.running import run_until

Loop = asyncio.SelectorEventLoop


class Watched(socket.socket):
    """A socket that a weak reference can watch, and that says when it dies."""


def _pair() -> tuple[Watched, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    return Watched(fileno=near.detach()), far


def test_a_watched_object_stays_alive_until_it_is_no_longer_watched(loop: Loop) -> None:
    near, far = _pair()
    number, alive = near.fileno(), weakref.ref(near)
    seen: list[bytes] = []

    def read() -> None:
        sock = alive()
        assert sock is not None
        seen.append(sock.recv(10))

    loop.add_reader(near, read)
    del near
    gc.collect()
    far.send(b"x")
    run_until(loop, lambda: seen)
    assert seen == [b"x"]
    sock: Any = alive()
    assert loop.remove_reader(number)
    sock.close()
    far.close()
    del sock
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_an_object_that_was_closed_meanwhile_can_still_be_removed(loop: Loop, side: str) -> None:
    near, far = _pair()
    getattr(loop, f"add_{side}")(near, int)
    near.close()
    assert getattr(loop, f"remove_{side}")(near) is True
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        getattr(loop, f"remove_{side}")(near)
    far.close()


def test_a_cycle_through_a_watched_object_dies_with_its_loop() -> None:
    from data_bridge.pyloop import new_event_loop

    loop = new_event_loop()
    near, far = _pair()
    alive = weakref.ref(near)
    loop.add_reader(near, near.recv, loop)
    loop.close()
    near.close()
    far.close()
    del near, loop
    gc.collect()
    assert alive() is None


def test_connections_are_made_where_a_test_has_replaced_the_socket_class(loop: Loop) -> None:
    made: list[asyncio.BaseTransport] = []

    class Noted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    server = loop.run_until_complete(loop.create_server(Noted, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    real = socket.socket

    def replaced(*args: Any, **keywords: Any) -> socket.socket:
        return real(*args, **keywords)

    with mock.patch("socket.socket", replaced):
        connect = loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport, _ = loop.run_until_complete(connect)
        run_until(loop, lambda: made)
        assert made[0].get_extra_info("socket").fileno() >= 0
    transport.close()
    made[0].close()
    server.close()
    loop.run_until_complete(server.wait_closed())
