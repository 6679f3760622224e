"""Differences from asyncio in sockets and transports that no other file pins: both sides, side by side.

As in test_differences.py: one that turns red on asyncio's side means that docs/differences.md is to be
rewritten.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.children import run_program
from support.running import run_passes, run_until
from support.sock_pairs import stream_pair

from data_bridge.pyloop import PyLoop, _native


@pytest.fixture
def stock(leak_audit: None) -> Iterator[Any]:
    """asyncio's own loop, for the other side of a comparison."""
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def connect(loop: Any, sock: socket.socket) -> Any:
    """A transport for a connected socket, which it closes in the end."""
    transport, _ = loop.run_until_complete(
        loop.create_connection(asyncio.Protocol, sock=sock.dup())
    )
    return transport


def end(loop: Any, transport: Any) -> None:
    transport.abort()
    run_passes(loop, 2)


# ---- writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "at_once"), [(16 * 1024 - 1, False), (16 * 1024, True)])
def test_a_small_write_has_not_left_while_its_callback_runs(
    stock: Any, pyloop: PyLoop, size: int, at_once: bool
) -> None:
    for loop, expected in ((stock, True), (pyloop, at_once)):
        with stream_pair("unix") as (near, far):
            transport = connect(loop, near)
            left: list[bool] = []

            def write_and_look(
                transport: Any = transport, far: Any = far, left: Any = left
            ) -> None:
                transport.write(bytes(size))
                try:
                    left.append(len(far.recv(1, socket.MSG_PEEK)) == 1)
                except BlockingIOError:
                    left.append(False)

            loop.call_soon(write_and_look)
            run_passes(loop, 1)
            assert left == [expected]
            assert len(far.recv(size)) == size
            end(loop, transport)


def test_asking_for_the_size_of_the_buffer_sends_what_waits(stock: Any, pyloop: PyLoop) -> None:
    for loop in (stock, pyloop):
        with stream_pair("unix") as (near, far):
            transport = connect(loop, near)
            seen: list[Any] = []

            def write_and_ask(transport: Any = transport, far: Any = far, seen: Any = seen) -> None:
                transport.write(b"now")
                seen.append(transport.get_write_buffer_size())
                seen.append(far.recv(10))

            loop.call_soon(write_and_ask)
            run_passes(loop, 1)
            assert seen == [0, b"now"]
            end(loop, transport)


def test_what_waits_leaves_before_a_fork_and_leaves_once(kind: str) -> None:
    program = """
        import asyncio, os, socket

        near, far = socket.socketpair()
        loop = new_loop()

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            transport.write(b"once")
            child = os.fork()
            if child == 0:
                # As a child that goes on with the loop: what it would send, it sends now.
                transport.get_write_buffer_size()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            say(far.recv(100).decode())
            await asyncio.sleep(0.01)
            transport.write(b"and more")
            await asyncio.sleep(0.01)
            say(far.recv(100).decode())
            transport.abort()

        loop.run_until_complete(main())
        loop.close()
        far.close()
        """
    assert run_program(kind, program).lines == ["once", "and more"]


def test_a_broken_connection_is_noticed_at_the_end_of_the_iteration(
    stock: Any, pyloop: PyLoop
) -> None:
    for loop, expected in ((stock, True), (pyloop, False)):
        with stream_pair("unix") as (near, far):
            transport = connect(loop, near)
            transport.pause_reading()
            far.close()
            closing: list[bool] = []

            def write_and_look(transport: Any = transport, closing: Any = closing) -> None:
                transport.write(b"for nobody")
                closing.append(transport.is_closing())

            loop.call_soon(write_and_look)
            run_passes(loop, 1)
            assert closing == [expected]
            assert transport.is_closing()
            run_passes(loop, 2)


# ---- transports ---------------------------------------------------------------------------------------


def test_the_class_of_a_transport_is_native(stock: Any, pyloop: PyLoop) -> None:
    for loop, native in ((stock, False), (pyloop, True)):
        with stream_pair("unix") as (near, _):
            transport = connect(loop, near)
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, _native.SocketTransport) == native
            assert (type(transport).__name__ == "_SelectorSocketTransport") == (not native)
            end(loop, transport)


@pytest.mark.parametrize("name", ["_paused", "_closing", "_conn_lost", "_protocol", "_high_water"])
def test_the_fields_of_a_transport_are_read_only(stock: Any, pyloop: PyLoop, name: str) -> None:
    for loop, refused in ((stock, False), (pyloop, True)):
        with stream_pair("unix") as (near, _):
            transport = connect(loop, near)
            try:
                setattr(transport, name, getattr(transport, name))
            except AttributeError:
                assert refused
            else:
                assert not refused
            end(loop, transport)


def test_the_data_of_a_write_has_no_name(stock: Any, pyloop: PyLoop) -> None:
    for loop, refused in ((stock, False), (pyloop, True)):
        with stream_pair("unix") as (near, far):
            transport = connect(loop, near)
            try:
                transport.write(data=b"named")
            except TypeError:
                assert refused
            else:
                assert not refused
                assert far.recv(10) == b"named"
            end(loop, transport)


def test_the_transports_of_a_loop_are_listed_anew_at_each_look(stock: Any, pyloop: PyLoop) -> None:
    for loop, same in ((stock, True), (pyloop, False)):
        with stream_pair("unix") as (near, _):
            transport = connect(loop, near)
            assert list(loop._transports.values()) == [transport]
            assert (loop._transports is loop._transports) == same
            end(loop, transport)


# ---- servers ------------------------------------------------------------------------------------------


def test_a_servers_protocol_factory_runs_in_no_task(stock: Any, pyloop: PyLoop) -> None:
    for loop, in_task in ((stock, True), (pyloop, False)):
        seen: list[Any] = []

        class Noted(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None, seen: Any = seen) -> None:
                seen.append("lost")

        def factory(loop: Any = loop, seen: Any = seen, made: Any = Noted) -> asyncio.Protocol:
            seen.append(asyncio.current_task(loop) is not None)
            protocol: asyncio.Protocol = made()
            return protocol

        server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
        with socket.create_connection(server.sockets[0].getsockname()):
            run_until(loop, lambda seen=seen: seen)
        run_until(loop, lambda seen=seen: "lost" in seen)
        assert seen == [in_task, "lost"]
        server.close()
        run_passes(loop, 2)


@pytest.mark.parametrize(("kind", "called"), [(asyncio.SelectorEventLoop, True), (PyLoop, False)])
def test_private_hooks_of_sockets_are_not_called(kind: Any, called: bool, leak_audit: None) -> None:
    seen: set[str] = set()

    class Watched(kind):  # type: ignore[misc]
        def _accept_connection(self, *arguments: Any, **more: Any) -> Any:
            seen.add("accept")
            return super()._accept_connection(*arguments, **more)

        def _sock_recv(self, *arguments: Any) -> Any:
            seen.add("receive")
            return super()._sock_recv(*arguments)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()
        server.close()
        with stream_pair("unix") as (near, far):
            receiving = asyncio.ensure_future(loop.sock_recv(near, 10))
            await asyncio.sleep(0.001)
            far.send(b"data")
            assert await receiving == b"data"

    with asyncio.Runner(loop_factory=Watched) as runner:
        runner.run(main())
    assert seen == ({"accept", "receive"} if called else set())


# ---- sock_* -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sock_recv", "sock_sendall", "sock_accept"])
def test_a_native_call_is_no_coroutine_function(stock: Any, pyloop: PyLoop, name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(stock, name))
    assert not inspect.iscoroutinefunction(getattr(pyloop, name))


def test_the_earlier_of_two_receivers_is_not_forgotten(stock: Any, pyloop: PyLoop) -> None:
    for loop, forgotten in ((stock, True), (pyloop, False)):
        with stream_pair("tcp") as (near, far):
            earlier = loop.create_task(loop.sock_recv(near, 2))
            run_passes(loop, 1)
            later = loop.create_task(loop.sock_recv(near, 2))
            run_passes(loop, 1)
            far.send(b"onetwo")
            run_until(loop, lambda later=later: later.done())
            run_passes(loop, 2)
            assert later.result() == b"on"
            assert earlier.done() != forgotten
            if not forgotten:
                assert earlier.result() == b"et"
            earlier.cancel()
            run_passes(loop, 2)


def test_a_file_put_under_a_socket_in_the_step_that_received_from_it_is_not_noticed(
    stock: Any, pyloop: PyLoop
) -> None:
    for loop, noticed in ((stock, True), (pyloop, False)):
        with stream_pair("tcp") as (near, far), stream_pair("tcp") as (new, newer):

            async def swap(loop: Any = loop, near: Any = near, new: Any = new) -> bytes:
                assert await loop.sock_recv(near, 10) == b"old"
                os.dup2(new.fileno(), near.fileno(), inheritable=False)
                received: bytes = await loop.sock_recv(near, 10)
                return received

            swapping = loop.create_task(swap())
            run_passes(loop, 2)
            far.send(b"old")
            run_passes(loop, 5)
            newer.send(b"new")
            run_passes(loop, 5)
            assert swapping.done() == noticed
            if not noticed:
                swapping.cancel()
                run_passes(loop, 2)
                # The next call finds out.
                swapping = loop.create_task(loop.sock_recv(near, 10))
                run_passes(loop, 5)
            assert swapping.result() == b"new"
