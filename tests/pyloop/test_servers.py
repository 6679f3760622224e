"""Servers: from create_server to wait_closed, as each Python version has it."""

from __future__ import annotations

import asyncio
import errno
import gc
import inspect
import os
import socket
import sys
from typing import Any

import pytest
from support.descriptors import open_descriptors
from support.running import run_passes, run_until
from support.transport_halls import Hall
from support.transport_links import Recorder, receive, reset

from data_bridge.pyloop import PyLoop

Loop = asyncio.SelectorEventLoop

_PARAMETERS = inspect.signature(asyncio.BaseEventLoop.create_server).parameters
_CAN_END_CLIENTS = sys.version_info >= (3, 13)
_WAITS_FOR_CLIENTS = sys.version_info >= (3, 12, 1)


def test_a_server_serves_each_of_its_clients(loop: Loop) -> None:
    hall = Hall(loop)
    clients = hall.connect(5)
    hall.until_made(5)
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    run_until(loop, lambda: sum(len(p.data) for p in hall.made) == 5)
    for protocol in hall.made:
        protocol.transport.write(protocol.data * 3)
    run_passes(loop, 3)
    assert [receive(client) for client in clients] == [b"%d" % n * 3 for n in range(5)]
    for protocol, client in zip(hall.made, clients, strict=True):
        assert protocol.transport.get_extra_info("peername") == client.getsockname()
        assert protocol.transport.get_extra_info("sockname") == hall.address
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert not os.get_inheritable(sock.fileno())
        assert not os.get_blocking(sock.fileno())
    hall.end()


def test_what_a_client_has_sent_before_it_was_accepted_is_read(loop: Loop) -> None:
    hall = Hall(loop)
    (client,) = hall.connect()
    client.send(b"early")
    client.shutdown(socket.SHUT_WR)
    run_until(loop, lambda: hall.made and hall.made[0].lost)
    assert hall.made[0].events == ["made", b"early", "eof", ("lost", None)]
    hall.end()


def test_a_closed_server_accepts_nobody_and_keeps_its_clients(loop: Loop) -> None:
    hall = Hall(loop)
    (client,) = hall.connect()
    hall.until_made(1)
    address = hall.address
    hall.server.close()
    assert hall.server.sockets == ()
    assert not hall.server.is_serving()
    run_passes(loop, 3)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    client.send(b"still here")
    run_until(loop, lambda: hall.made[0].data == b"still here")
    hall.server.close()
    hall.end()


@pytest.mark.skipif(not _WAITS_FOR_CLIENTS, reason="as of 3.12.1")
def test_wait_closed_ends_with_the_last_client(loop: Loop) -> None:
    hall = Hall(loop)
    hall.connect(2)
    hall.until_made(2)
    waiting = loop.create_task(hall.server.wait_closed())
    run_passes(loop, 3)
    assert not waiting.done()
    hall.server.close()
    hall.made[0].transport.close()
    run_passes(loop, 5)
    assert not waiting.done()
    hall.clients[1].close()
    run_until(loop, waiting.done)
    hall.end()


@pytest.mark.skipif(not _CAN_END_CLIENTS, reason="as of 3.13")
@pytest.mark.parametrize("which", ["close_clients", "abort_clients"])
def test_clients_can_be_ended_with_their_server(loop: Loop, which: str) -> None:
    hall = Hall(loop)
    clients = hall.connect(3)
    hall.until_made(3)
    hall.made[0].transport.write(bytes(30_000_000))
    hall.server.close()
    getattr(hall.server, which)()
    run_passes(loop, 5)
    assert [p.lost for p in hall.made] == [which == "abort_clients", True, True]
    assert receive(clients[1]) == b""
    hall.end()
    assert set(hall.server._clients) == set()


@pytest.mark.skipif(not _CAN_END_CLIENTS, reason="as of 3.13")
def test_a_server_forgets_clients_that_have_gone(loop: Loop) -> None:
    hall = Hall(loop)
    for _ in range(5):
        (client,) = hall.connect()
        client.close()
    hall.until_made(5)
    run_until(loop, lambda: all(p.lost for p in hall.made))
    assert len(hall.server._clients) == 0
    hall.end()


def test_start_serving_begins_what_create_server_has_left_out(loop: Loop) -> None:
    hall = Hall(loop, start_serving=False)
    assert not hall.server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        hall.connect()
    loop.run_until_complete(hall.server.start_serving())
    loop.run_until_complete(hall.server.start_serving())
    assert hall.server.is_serving()
    hall.connect()
    hall.until_made(1)
    hall.end()


def test_serve_forever_serves_until_it_is_cancelled(loop: Loop) -> None:
    hall = Hall(loop, start_serving=False)
    serving = loop.create_task(hall.server.serve_forever())
    run_passes(loop, 3)
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        loop.run_until_complete(hall.server.serve_forever())
    (client,) = hall.connect()
    hall.until_made(1)
    client.close()
    run_until(loop, lambda: hall.made[0].lost)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(serving)
    assert not hall.server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        loop.run_until_complete(hall.server.serve_forever())
    hall.end()


def test_a_server_is_a_context_manager(loop: Loop) -> None:
    async def main() -> Any:
        async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
            assert server.get_loop() is loop
            assert server.is_serving()
        return server

    assert loop.run_until_complete(main()).sockets == ()


def test_a_server_on_a_socket_of_ones_own(loop: Loop) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    hall = Hall(loop, sock=sock)
    assert hall.server.sockets[0].fileno() == sock.fileno()
    hall.connect()
    hall.until_made(1)
    hall.end()
    assert sock.fileno() == -1


def test_a_server_listens_on_each_address_of_its_host(loop: Loop) -> None:
    if not socket.has_ipv6 or not _can_bind_ipv6():
        pytest.skip("this machine has no IPv6")
    hall = Hall(loop, host=["127.0.0.1", "::1"], port=0)
    assert {sock.family for sock in hall.server.sockets} == {socket.AF_INET, socket.AF_INET6}
    for sock in hall.server.sockets:
        hall.clients.append(socket.create_connection(sock.getsockname()[:2]))
    hall.until_made(2)
    six = next(
        p.transport
        for p in hall.made
        if p.transport.get_extra_info("socket").family == socket.AF_INET6
    )
    assert len(six.get_extra_info("peername")) == 4
    hall.end()


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT here")
def test_two_servers_share_a_port_by_reuse_port(loop: Loop) -> None:
    first = Hall(loop, reuse_port=True)
    port = first.address[1]
    second = Hall(loop, host="127.0.0.1", port=port, reuse_port=True)
    first.connect(20)
    run_until(loop, lambda: len(first.made) + len(second.made) == 20)
    with pytest.raises(OSError) as caught:
        Hall(loop, host="127.0.0.1", port=port)
    assert caught.value.errno == errno.EADDRINUSE
    del caught
    first.end()
    second.end()
    gc.collect()


@pytest.mark.skipif("keep_alive" not in _PARAMETERS, reason="this asyncio has no keep_alive")
@pytest.mark.parametrize("value", [True, False])
def test_keep_alive_is_inherited_by_connections(loop: Loop, value: bool) -> None:
    hall = Hall(loop, keep_alive=value)
    hall.connect()
    hall.until_made(1)
    sock = hall.made[0].transport.get_extra_info("socket")
    assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is value
    hall.end()


def test_connect_accepted_socket_serves_a_socket_from_elsewhere(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, address = listener.accept()
    transport, protocol = loop.run_until_complete(loop.connect_accepted_socket(Recorder, accepted))
    assert accepted.gettimeout() == 0
    assert protocol.events == ["made"]
    assert transport.get_extra_info("peername") == address
    client.send(b"hello")
    run_until(loop, lambda: protocol.data == b"hello")
    transport.write(b"back")
    assert client.recv(10) == b"back"
    client.close()
    run_until(loop, lambda: protocol.lost)


# asyncio's own leaves the accepted socket to the collector, which warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("debug", [False, True])
def test_a_factory_that_raises_costs_one_connection_only(
    loop: Loop, unhandled: list[dict[str, Any]], debug: bool
) -> None:
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    made: list[Recorder | None] = []

    def factory() -> Recorder:
        made.append(None if not made else Recorder())
        if made[-1] is None:
            raise ZeroDivisionError("as planned")
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    refused, welcome = (socket.create_connection(server.sockets[0].getsockname()) for _ in range(2))
    welcome.send(b"hello")
    run_until(loop, lambda: made[1:] and made[1].data == b"hello")
    # asyncio says it in debug mode only.
    said = [(type(report["exception"]), report["message"]) for report in unhandled]
    text = "Error on transport creation for incoming connection"
    assert said == [(ZeroDivisionError, text)] * debug
    unhandled.clear()
    gc.collect()
    refused.settimeout(5)
    assert refused.recv(1) == b""
    refused.close()
    welcome.close()
    run_until(loop, lambda: made[1].lost)
    server.close()
    loop.run_until_complete(server.wait_closed())


def test_connection_made_that_raises_costs_no_other_connection(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    hall = Hall(loop)
    made = hall.made

    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    def factory() -> Recorder:
        made.append(Failing() if not made else Recorder())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(2)]
    run_until(loop, lambda: len(made) == 2 and made[1].events == ["made"])
    assert [type(report["exception"]) for report in unhandled] == [ZeroDivisionError]
    unhandled.clear()
    for client in clients:
        client.close()
    run_until(loop, lambda: all(p.lost for p in made))
    server.close()
    loop.run_until_complete(server.wait_closed())
    hall.end()


def test_clients_that_vanish_are_survived(loop: Loop) -> None:
    hall = Hall(loop)
    before = set(open_descriptors())
    for number in range(30):
        client = socket.create_connection(hall.address)
        if number % 3 == 0:
            client.send(b"short visit")
        reset(client) if number % 2 else client.close()
    run_until(loop, lambda: len(hall.made) == 30 and all(p.lost for p in hall.made))
    for protocol in hall.made:
        assert protocol.names[0] == "made"
        assert protocol.names.count("lost") == 1
    assert set(open_descriptors()) == before
    hall.connect()
    hall.until_made(31)
    hall.end()


def test_a_server_that_is_forgotten_goes_on_serving(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    sock = server.sockets[0]
    address = sock.getsockname()
    del server
    gc.collect()
    client = socket.create_connection(address)
    run_until(loop, lambda: made)
    client.close()
    run_until(loop, lambda: made[0].lost)
    loop._stop_serving(sock._sock)


def test_closing_a_server_that_is_accepting_leaves_nothing(pyloop: PyLoop) -> None:
    # asyncio's own leaves accepted sockets to the collector.
    for delay in range(4):
        hall = Hall(pyloop)
        clients = hall.connect(10)
        _call_after(pyloop, delay, hall.server.close)
        run_passes(pyloop, 10)
        for protocol in hall.made:
            assert protocol.names in ([], ["made"])
        served = sum(protocol.names == ["made"] for protocol in hall.made)
        assert sum(_has_ended(client) for client in clients) == 10 - served
        hall.end()


def test_a_loop_closed_with_a_server_and_clients_leaks_no_descriptor(loop: Loop) -> None:
    hall = Hall(loop)
    hall.connect(2)
    hall.until_made(2)
    hall.server.close()
    for protocol in hall.made:
        protocol.transport.abort()
    run_passes(loop, 3)
    loop.close()
    for client in hall.clients:
        client.close()


def _call_after(loop: Loop, passes: int, call: Any) -> None:
    if passes:
        loop.call_soon(_call_after, loop, passes - 1, call)
    else:
        call()


def _has_ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def _can_bind_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
