"""Servers on Unix sockets: paths, what is left of them, and addresses without a path."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running import run_until
from support.transport_links import Recorder

Loop = asyncio.SelectorEventLoop

_CLEANS_UP = (
    "cleanup_socket" in inspect.signature(asyncio.SelectorEventLoop.create_unix_server).parameters
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    # A Unix address holds about a hundred characters.
    found = tmp_path / "s"
    return str(found) if len(str(found)) < 100 else os.path.relpath(found)


def _serve(loop: Loop, **keywords: Any) -> tuple[Any, list[Recorder]]:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    return loop.run_until_complete(loop.create_unix_server(factory, **keywords)), made


def _visit(loop: Loop, address: Any, made: list[Recorder]) -> None:
    count = len(made)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.send(b"hello")
        run_until(loop, lambda: len(made) > count and made[-1].data == b"hello")
        made[-1].transport.write(b"back")
        assert client.recv(10) == b"back"
        assert made[-1].transport.get_extra_info("sockname") == address
        assert made[-1].transport.get_extra_info("peername") == ""
    run_until(loop, lambda: made[-1].lost)


def _end(loop: Loop, server: Any) -> None:
    server.close()
    loop.run_until_complete(asyncio.wait_for(server.wait_closed(), 5))


def test_a_server_on_a_path_is_reached_by_it(loop: Loop, path: str) -> None:
    server, made = _serve(loop, path=path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    for _ in range(3):
        _visit(loop, path, made)
    _end(loop, server)


def test_both_ends_may_be_transports_of_the_same_loop(loop: Loop, path: str) -> None:
    server, made = _serve(loop, path=path)

    async def main() -> None:
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        transport.write(b"x" * 100_000)
        transport.write_eof()
        while not protocol.lost:
            await asyncio.sleep(0)
        assert transport.get_extra_info("peername") == path

    loop.run_until_complete(main())
    run_until(loop, lambda: made[0].lost)
    assert made[0].data == b"x" * 100_000
    _end(loop, server)


def test_a_dead_socket_in_the_way_is_replaced_and_anything_else_is_not(
    loop: Loop, path: str
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    server, made = _serve(loop, path=path)
    _visit(loop, path, made)
    _end(loop, server)
    if os.path.exists(path):
        os.unlink(path)
    Path(path).write_text("a file")
    with pytest.raises(OSError) as caught:
        _serve(loop, path=path)
    assert caught.value.errno == errno.EADDRINUSE
    assert "is already in use" in str(caught.value)
    assert Path(path).read_text() == "a file"
    del caught


def test_paths_may_be_bytes_and_path_objects(loop: Loop, path: str) -> None:
    for given in (Path(path), os.fsencode(path)):
        server, made = _serve(loop, path=given)
        _visit(loop, path, made)
        _end(loop, server)


@pytest.mark.skipif(not _CLEANS_UP, reason="as of 3.13")
def test_the_socket_of_a_closed_server_is_removed(loop: Loop, path: str) -> None:
    server, _ = _serve(loop, path=path)
    assert os.path.exists(path)
    server.close()
    assert not os.path.exists(path)
    loop.run_until_complete(server.wait_closed())


@pytest.mark.skipif(not _CLEANS_UP, reason="as of 3.13")
def test_the_socket_stays_if_it_is_asked_to_or_belongs_to_a_successor(
    loop: Loop, path: str
) -> None:
    server, _ = _serve(loop, path=path, cleanup_socket=False)
    _end(loop, server)
    assert os.path.exists(path)
    first, _ = _serve(loop, path=path)
    os.unlink(path)
    second, made = _serve(loop, path=path)
    _end(loop, first)
    assert os.path.exists(path)
    _visit(loop, path, made)
    _end(loop, second)
    assert not os.path.exists(path)


@pytest.mark.skipif(_CLEANS_UP, reason="up to 3.12")
def test_the_socket_of_a_closed_server_stays(loop: Loop, path: str) -> None:
    server, _ = _serve(loop, path=path)
    _end(loop, server)
    assert os.path.exists(path)


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_a_server_on_an_abstract_address_is_reached_by_it(loop: Loop) -> None:
    address = f"\0streams-{os.getpid()}-{id(loop)}"
    server, made = _serve(loop, path=address)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.send(b"hello")
        run_until(loop, lambda: made and made[0].data == b"hello")
        assert made[0].transport.get_extra_info("sockname") == address.encode()
    run_until(loop, lambda: made[0].lost)
    _end(loop, server)


def test_a_server_on_a_socket_of_ones_own(loop: Loop, path: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server, made = _serve(loop, sock=sock)
    _visit(loop, path, made)
    _end(loop, server)
    assert sock.fileno() == -1


def test_a_bound_clients_name_is_its_path(loop: Loop, path: str) -> None:
    server, made = _serve(loop, path=path)
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(path + "c")
        client.connect(path)
        run_until(loop, lambda: made and made[0].events)
        assert made[0].transport.get_extra_info("peername") == path + "c"
    run_until(loop, lambda: made[0].lost)
    _end(loop, server)


def test_wrong_sockets_are_refused(loop: Loop, path: str) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        for wrong in (tcp, datagram):
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                _serve(loop, sock=wrong)
    with pytest.raises(ValueError, match="path was not specified"):
        _serve(loop)
