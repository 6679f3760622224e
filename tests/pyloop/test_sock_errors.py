"""The errors that all sock_* calls share: blocking, TLS, closed and busy sockets, closed loops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.running import run_passes
from support.sock_pairs import drain, fill, finish, listener, stream_pair, text_of
from support.sock_situations import SITUATIONS, Call

_CALLS: dict[str, Callable[[asyncio.AbstractEventLoop, Any], Call]] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 10),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(10)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 10),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(10)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_sendfile": lambda loop, sock: _sendfile(loop, sock),
}


async def _sendfile(loop: asyncio.AbstractEventLoop, sock: Any) -> int:
    with tempfile.TemporaryFile() as file:
        return await loop.sock_sendfile(sock, file)


@pytest.fixture(params=list(_CALLS))
def call(request: pytest.FixtureRequest) -> Callable[[asyncio.AbstractEventLoop, Any], Call]:
    """Makes one of the calls on a socket."""
    return _CALLS[request.param]


@contextlib.contextmanager
def _tls_socket() -> Iterator[ssl.SSLSocket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(socket.socket(), do_handshake_on_connect=False) as sock:
        sock.setblocking(False)
        yield sock


def test_a_blocking_socket_is_a_value_error_in_debug_mode(
    loop: asyncio.SelectorEventLoop, call: Callable[[asyncio.AbstractEventLoop, Any], Call]
) -> None:
    loop.set_debug(True)
    with socket.socket() as sock:
        for timeout in (None, 5.0):
            sock.settimeout(timeout)
            with pytest.raises(ValueError) as caught:
                finish(loop, call(loop, sock))
            assert str(caught.value) == "the socket must be non-blocking"


def test_a_blocking_socket_with_data_is_served_outside_debug_mode(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):
        near.setblocking(True)
        far.send(b"hello")
        assert finish(loop, loop.sock_recv(near, 10)) == b"hello"
        finish(loop, loop.sock_sendall(near, b"back"))
        assert far.recv(10) == b"back"
        assert near.gettimeout() is None


def test_a_socket_with_a_time_out_is_served_outside_debug_mode(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with stream_pair("tcp") as (near, far):
        near.settimeout(10)
        far.send(b"hello")
        assert finish(loop, loop.sock_recv(near, 10)) == b"hello"
        assert near.gettimeout() == 10


def test_a_tls_socket_is_a_type_error(
    loop: asyncio.SelectorEventLoop, call: Callable[[asyncio.AbstractEventLoop, Any], Call]
) -> None:
    with _tls_socket() as sock:
        with pytest.raises(TypeError) as caught:
            finish(loop, call(loop, sock))
    assert str(caught.value) == "Socket cannot be of type SSLSocket"


def test_a_closed_socket_is_a_bad_descriptor(
    loop: asyncio.SelectorEventLoop, call: Callable[[asyncio.AbstractEventLoop, Any], Call]
) -> None:
    with stream_pair("tcp") as (near, _):
        near.close()
        if call is _CALLS["sock_sendfile"]:
            # An empty file is sent to anybody.
            assert finish(loop, call(loop, near)) == 0
            return
        with pytest.raises(OSError) as caught:
            finish(loop, call(loop, near))
        assert caught.value.errno == errno.EBADF
        assert str(caught.value) == text_of(errno.EBADF)


@pytest.mark.parametrize(
    "wrong", [None, 5, "socket", object()], ids=["None", "int", "str", "object"]
)
def test_what_is_no_socket_is_an_error(
    loop: asyncio.SelectorEventLoop,
    call: Callable[[asyncio.AbstractEventLoop, Any], Call],
    wrong: Any,
) -> None:
    with pytest.raises((TypeError, AttributeError)):
        finish(loop, call(loop, wrong))


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall"])
def test_a_socket_of_a_transport_is_refused_where_it_would_wait(
    loop: asyncio.SelectorEventLoop, name: str
) -> None:
    with stream_pair("unix") as (near, far):

        async def main() -> None:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            transport.pause_reading()
            fill(near)
            with pytest.raises(RuntimeError) as caught:
                await _CALLS[name](loop, near)
            assert str(caught.value) == (
                f"File descriptor {near.fileno()} is used by transport {transport!r}"
            )
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        finish(loop, main())
        assert near.fileno() == -1


def test_a_socket_that_a_transport_has_left_is_free(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            number = near.fileno()
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with stream_pair("tcp") as (new, newer):
                assert number in (new.fileno(), newer.fileno())
                receiving = asyncio.gather(loop.sock_recv(new, 10), loop.sock_recv(newer, 10))
                await asyncio.sleep(0)
                new.send(b"one")
                newer.send(b"two")
                assert await receiving == [b"two", b"one"]

        finish(loop, main())


@pytest.mark.parametrize("name", list(SITUATIONS))
def test_a_call_that_would_wait_on_a_closed_loop_says_so(
    loop: asyncio.SelectorEventLoop, name: str
) -> None:
    with contextlib.ExitStack() as stack:
        call = SITUATIONS[name](loop, stack).start()
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call.send(None)


@pytest.mark.parametrize("name", list(SITUATIONS))
def test_a_loop_closed_while_a_call_waits_lets_go_of_it(
    loop: asyncio.SelectorEventLoop, name: str
) -> None:
    with contextlib.ExitStack() as stack:
        call = SITUATIONS[name](loop, stack).start()
        future = call.send(None)
        run_passes(loop, 1)
        loop.close()
        call.close()
        del future


def test_a_loop_closed_between_calls_lets_go_of_its_sockets(
    loop_factory: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    with stream_pair("tcp") as (near, far):
        for _ in range(3):
            loop = loop_factory()
            for _ in range(2):

                async def main(loop: asyncio.SelectorEventLoop = loop) -> None:
                    receiving = asyncio.create_task(loop.sock_recv(near, 10))
                    await asyncio.sleep(0)
                    far.send(b"x")
                    assert await receiving == b"x"

                finish(loop, main())
            loop.close()


def test_two_loops_can_serve_one_socket_in_turn(
    loop_factory: Callable[[], asyncio.SelectorEventLoop],
) -> None:
    loops = [loop_factory(), loop_factory()]
    with stream_pair("tcp") as (near, far):
        for number in range(10):
            loop = loops[number % 2]

            async def main(loop: asyncio.SelectorEventLoop = loop, number: int = number) -> None:
                receiving = asyncio.create_task(loop.sock_recv(near, 10))
                await asyncio.sleep(0)
                far.send(b"%d" % number)
                assert await receiving == b"%d" % number

            finish(loop, main())


def test_a_call_leaves_an_error_of_the_callers_alone(loop: asyncio.SelectorEventLoop) -> None:
    with stream_pair("tcp") as (near, far), listener("tcp") as listening:

        async def main() -> None:
            try:
                raise LookupError("mine")
            except LookupError as mine:
                receiving = asyncio.create_task(loop.sock_recv(near, 10))
                await asyncio.sleep(0)
                far.send(b"x")
                assert await receiving == b"x"
                with pytest.raises(OSError) as caught:
                    await loop.sock_recv(listening, 10)
                assert caught.value.__context__ is mine
                await loop.sock_sendall(near, b"y")
                assert drain(far) == b"y"

        finish(loop, main())
