"""Transports that met what nobody expects: dead contexts, dead descriptors, exceptions at a bad moment.

Owns what a review of the native transports found. What can crash the interpreter runs in a child whose
allocator fills dead memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from support.children import expect_lines, run_program
from support.running import PATIENCE
from support.transport_links import Link, Notes, Recorder, open_link, take_reports

from data_bridge.pyloop import PyLoop

Loop = asyncio.SelectorEventLoop

_DEAD_MEMORY = {"PYTHONMALLOC": "debug"}
_MUCH = b"x" * 3_000_000

_CONNECTED = """
import asyncio, contextvars, gc, socket, warnings
async def connected(loop, protocol=asyncio.Protocol, near=None, far=None):
    if near is None:
        near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    transport, made = await loop.connect_accepted_socket(protocol, near)
    return transport, made, far
loop = new_loop()
"""


def _expect_ok(kind: str, source: str) -> None:
    program = _CONNECTED + source + "\nloop.close()\nsay('ok')\n"
    expect_lines(run_program(kind, program, environment=_DEAD_MEMORY), "ok")


def test_a_write_after_a_handle_was_run_by_hand_finds_no_dead_context(kind: str) -> None:
    # The loop noted whose context is running, without a reference, and did not strike it out.
    source = """
def callback(transport):
    handle = loop.call_later(1000, len, (), context=contextvars.copy_context())
    handle._run()
    handle.cancel()
    del handle
    transport.write(b'x')
async def main():
    transport, _, far = await connected(loop)
    loop.call_soon(callback, transport)
    while True:
        await asyncio.sleep(0)
        try:
            assert far.recv(9) == b'x'
            break
        except BlockingIOError:
            pass
    transport.close()
    far.close()
    await asyncio.sleep(0)
    del transport
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_write_by_what_dies_with_a_context_finds_no_dead_context(kind: str) -> None:
    source = """
class Last:
    def __init__(self, transport):
        self.transport = transport
    def __del__(self):
        self.transport.write(b'x')
async def main():
    transport, _, far = await connected(loop)
    variable = contextvars.ContextVar('variable')
    for _ in range(100):
        context = contextvars.copy_context()
        context.run(variable.set, Last(transport))
        loop.call_soon(len, (), context=context)
        del context
    got = b''
    while len(got) < 100:
        await asyncio.sleep(0)
        try:
            got += far.recv(1000)
        except BlockingIOError:
            pass
    transport.close()
    far.close()
    await asyncio.sleep(0)
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_write_by_a_thread_between_two_callbacks_finds_no_dead_context(kind: str) -> None:
    # Between callbacks the loop lets others have the GIL; the context of the last one may be gone.
    source = """
import sys, threading, time
async def main():
    transport, _, far = await connected(loop)
    over, written = threading.Event(), []
    def write():
        while not over.is_set():
            transport.write(b'x')
            written.append(None)
            time.sleep(0)
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=write)
    thread.start()
    got = 0
    for _ in range(400):
        for _ in range(100):
            loop.call_soon(sorted, range(200), context=contextvars.copy_context())
        await asyncio.sleep(0)
        try:
            got += len(far.recv(100000))
        except BlockingIOError:
            pass
    over.set()
    thread.join()
    while got < len(written):
        await asyncio.sleep(0)
        try:
            got += len(far.recv(100000))
        except BlockingIOError:
            pass
    assert got == len(written)
    transport.close()
    far.close()
    await asyncio.sleep(0)
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_write_after_a_thread_ran_a_handle_by_hand_finds_no_dead_context(kind: str) -> None:
    # The thread ends its call later than the loop the callback that was running when it began.
    source = """
import threading
async def main():
    transport, _, far = await connected(loop)
    inside, over = threading.Event(), threading.Event()
    handle = loop.call_later(1000, lambda: (inside.set(), over.wait()))
    thread = threading.Thread(target=handle._run)
    def callback():
        thread.start()
        inside.wait()
    loop.call_soon(callback, context=contextvars.copy_context())
    while not inside.is_set():
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    over.set()
    thread.join()
    transport.write(b'x')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert far.recv(9) == b'x'
    handle.cancel()
    transport.close()
    far.close()
    await asyncio.sleep(0)
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_connection_that_ends_twice_releases_its_loop_once(kind: str) -> None:
    # The end took over the reference to the loop and left it in place while the socket was closed.
    source = """
import sys
class Socket(socket.socket):
    transport = None
    def close(self):
        transport, self.transport = self.transport, None
        if transport is not None:
            transport._call_connection_lost(None)
        super().close()
async def main():
    counts = []
    loop.set_exception_handler(lambda *_: None)
    for _ in range(3):
        plain, far = socket.socketpair()
        near = Socket(fileno=plain.detach())
        transport, protocol, far = await connected(loop, near=near, far=far)
        near.transport = transport
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        far.close()
        del near, transport, protocol
        gc.collect()
        counts.append(sys.getrefcount(loop))
    assert counts[0] == counts[1] == counts[2], counts
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_transport_that_its_finalizer_closed_writes_to_no_stranger(kind: str) -> None:
    # The descriptor was closed, and its number used again, but only close() kept writes from it.
    source = """
warnings.simplefilter('ignore', ResourceWarning)
loop.set_exception_handler(lambda *_: None)
back = []
class Back(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def __del__(self):
        back.append(self.transport)
async def main():
    transport, protocol, far = await connected(loop, Back)
    number = transport._sock_fd
    transport.pause_reading()
    del transport, protocol
    await asyncio.sleep(0)
    gc.collect()
    strangers = socket.socketpair()
    assert number in [s.fileno() for s in strangers]
    back[0].write(b'stray' * 5000)
    await asyncio.sleep(0)
    for stranger in strangers:
        stranger.setblocking(False)
        try:
            assert not stranger.recv(1 << 20)
        except BlockingIOError:
            pass
        stranger.close()
    back.clear()
    far.close()
loop.run_until_complete(main())
gc.collect()
back.clear()
"""
    _expect_ok(kind, source)


class _Strange(bytes):
    def __len__(self) -> int:
        raise ZeroDivisionError("no length")


def _released() -> memoryview:
    view = memoryview(b"released")
    view.release()
    return view


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (_released, ValueError),
        (lambda: _Strange(b"strange"), ZeroDivisionError),
        pytest.param(
            lambda: memoryview(ctypes.c_int(3)),
            TypeError,
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12), reason="3.11 says that its length is 1"
            ),
        ),
    ],
    ids=["released", "raises", "no_dimension"],
)
def test_data_whose_length_cannot_be_had_is_the_writers_error(
    loop: Loop, make: Callable[[], Any], error: type[Exception]
) -> None:
    with open_link(loop) as link:
        with pytest.raises(error):
            link.transport.write(make())
        assert not link.transport.is_closing()
        link.transport.write(b"still there")
        assert link.read() == b"still there"


class _Interrupted(Recorder):
    def resume_writing(self) -> None:
        super().resume_writing()
        raise KeyboardInterrupt


def _read_through_interrupts(link: Link) -> bytes:
    received = bytearray()
    for _ in range(4):
        try:
            received += link.read()
        except KeyboardInterrupt:
            received += b""
    return bytes(received)


@pytest.mark.parametrize("ending", ["close", "write_eof"])
def test_an_interrupt_while_writing_resumes_does_not_keep_a_connection_from_its_end(
    pyloop: PyLoop, ending: str
) -> None:
    # asyncio stops with an AssertionError in each iteration instead.
    with open_link(pyloop, protocol=_Interrupted) as link:
        link.transport.write(_MUCH)
        assert link.transport.get_write_buffer_size()
        getattr(link.transport, ending)()
        _read_through_interrupts(link)
        assert "resume" in link.protocol.names
        if ending == "close":
            assert link.until_lost() is None
        else:
            assert link.read_to_the_end() == b""


class _Leaving(Notes, asyncio.Protocol):
    """Writes its last words, and leaves the loop when they are gone."""

    also: Callable[[], None]

    def resume_writing(self) -> None:
        self.transport.write(b"last words")
        self.also()

    def connection_lost(self, exception: BaseException | None) -> None:
        super().connection_lost(exception)
        raise SystemExit("the first")


def test_an_exit_at_the_end_of_an_iteration_is_not_lost_to_another_transports_error(
    loop: Loop,
) -> None:
    # The other transports wrote, and failed, with the first exception still set.
    with open_link(loop) as broken, open_link(loop, protocol=_Leaving) as leaving:
        broken.transport.pause_reading()
        leaving.protocol.also = lambda: broken.transport.write(b"to nobody")
        leaving.transport.write(_MUCH)
        assert leaving.transport.get_write_buffer_size()
        leaving.transport.close()
        broken.far.close()
        with pytest.raises(SystemExit, match="the first"):
            leaving.read()
            leaving.until_lost()
        broken.settle()
        assert broken.until_lost() is not None or broken.protocol.lost


def test_a_transport_may_be_asked_while_its_error_is_put_into_words(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's error became an exception, by os.strerror(), while the shared room was in use.
    with open_link(loop, "tcp") as link:
        real = os.strerror

        def strerror(number: int) -> str:
            monkeypatch.setattr(os, "strerror", real)
            link.transport._read_ready()
            return real(number)

        linger = struct.pack("ii", 1, 0)
        link.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        monkeypatch.setattr(os, "strerror", strerror)
        link.far.close()
        link.until(lambda: link.protocol.lost)


class _Undecided:
    def __bool__(self) -> bool:
        raise ZeroDivisionError("no truth")


class _OddFuture(asyncio.Future[None]):
    def cancelled(self) -> Any:
        return _Undecided()


def test_a_waiter_that_cannot_say_whether_it_was_cancelled_raises_its_own_error(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    private: Any = loop
    transport = private._make_socket_transport(near, Recorder(), _OddFuture(loop=loop))
    link = Link(loop, transport, transport.get_protocol(), far)
    link.settle()
    [report] = take_reports(unhandled)
    assert isinstance(report["exception"], ZeroDivisionError)
    transport.close()
    link.settle()
    far.close()


def test_two_threads_that_ask_for_the_socket_of_a_connection_get_the_same(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The socket object was made twice over the same descriptor, which it closes when it dies.
    made: list[Any] = []

    class Accepted(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.append(transport)

    server = loop.run_until_complete(loop.create_server(Accepted, "127.0.0.1", 0))
    with socket.create_connection(server.sockets[0].getsockname()) as far:
        link = Link(loop, None, None, far)
        link.until(lambda: made)
        real = socket.socket.setblocking
        seen: list[Any] = []

        def ask() -> None:
            seen.append(made[0]._sock)

        def setblocking(self: socket.socket, flag: bool) -> None:
            # Another thread asks while the answer to this one is being made.
            monkeypatch.setattr(socket.socket, "setblocking", real)
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            real(self, flag)

        monkeypatch.setattr(socket.socket, "setblocking", setblocking)
        ask()
        monkeypatch.setattr(socket.socket, "setblocking", real)
        ask()
        assert all(sock is made[0]._sock for sock in seen)
        seen.clear()
        made.pop().abort()
        link.settle()
    server.close()
    link.settle()


def test_what_was_being_sent_on_a_socket_goes_on_when_it_gets_a_transport(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)

    async def main() -> int:
        sending = asyncio.ensure_future(loop.sock_sendall(near, _MUCH))
        await asyncio.sleep(0)
        transport, _ = await loop.connect_accepted_socket(Recorder, near)
        received = 0
        async with asyncio.timeout(PATIENCE / 4):
            while received < len(_MUCH):
                await asyncio.sleep(0)
                try:
                    received += len(far.recv(1 << 20))
                except BlockingIOError:
                    continue
        await sending
        transport.close()
        await asyncio.sleep(0)
        return received

    try:
        assert loop.run_until_complete(main()) == len(_MUCH)
    finally:
        # asyncio objects to the removal of its own writer.
        unhandled.clear()
        far.close()
        near.close()


class _Ending:
    """A buffer whose export, or return, ends the connection."""

    def __init__(self, end: Callable[[], None], when: str) -> None:
        self.end, self.when = end, when
        self.contents = bytearray(16)

    def __len__(self) -> int:
        return 16

    def __buffer__(self, flags: int) -> memoryview:
        if self.when == "export":
            self.end()
        return memoryview(self.contents)

    def __release_buffer__(self, view: memoryview) -> None:
        if self.when == "return":
            self.end()


class _EndingBytes(_Ending, bytes):
    def __new__(cls, end: Callable[[], None], when: str) -> Self:
        return bytes.__new__(cls, b"x")


class _EndingRoom(Notes, asyncio.BufferedProtocol):
    when = ""

    def get_buffer(self, sizehint: int) -> Any:
        return _Ending(lambda: self.transport._call_connection_lost(None), self.when)

    def buffer_updated(self, nbytes: int) -> None:
        self.events.append(nbytes)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes export buffers from 3.12 on")
@pytest.mark.parametrize("when", ["export", "return"])
def test_a_buffer_that_ends_the_connection_ends_it_and_no_more(pyloop: PyLoop, when: str) -> None:
    # asyncio trips over its missing loop; the native half looked for its own and found null.
    with open_link(pyloop) as link:
        link.transport.write(_EndingBytes(lambda: link.transport._call_connection_lost(None), when))
        assert link.protocol.lost
    with open_link(pyloop, protocol=_EndingRoom) as link:
        link.protocol.when = when
        link.far.shutdown(socket.SHUT_WR)
        link.until(lambda: link.protocol.lost)


def test_a_crowd_that_waits_for_one_socket_is_woken_without_a_deep_stack(kind: str) -> None:
    # Each was woken from within the call that woke the one before.
    source = """
async def main():
    near, far = socket.socketpair()
    near.setblocking(False)
    waiting = [asyncio.ensure_future(loop.sock_recv(near, 1)) for _ in range(100_000)]
    await asyncio.sleep(0)
    far.send(b'x')
    while not any(task.done() for task in waiting):
        await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    near.close()
    far.close()
loop.run_until_complete(main())
"""
    _expect_ok(kind, source)


def test_a_connection_on_the_number_of_a_descriptor_that_was_closed_behind_a_transport(
    kind: str,
) -> None:
    # asyncio refuses it; the native one was made, heard nothing, and was closed by the old transport.
    if kind == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("asyncio refuses it from 3.12 on")
    source = """
import os
warnings.simplefilter('ignore', ResourceWarning)
made = []
class Server(asyncio.Protocol):
    data = b''
    def connection_made(self, transport):
        self.transport = transport
        made.append(self)
    def data_received(self, data):
        self.data += data
async def main():
    server = await loop.create_server(Server, '127.0.0.1', 0)
    address = server.sockets[0].getsockname()
    first = socket.create_connection(address)
    while not made:
        await asyncio.sleep(0)
    second = socket.socket()
    second.setblocking(False)
    os.close(made[0].transport._sock_fd)
    try:
        second.connect(address)
    except BlockingIOError:
        pass
    for _ in range(20):
        await asyncio.sleep(0.001)
    try:
        second.send(b'hello')
    except OSError:
        assert len(made) == 1
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert [server.data for server in made[1:]] in ([], [b'hello'])
    say('ok')
    os._exit(0)
loop.run_until_complete(main())
"""
    expect_lines(run_program(kind, _CONNECTED + source), "ok")
