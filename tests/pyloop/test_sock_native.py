"""What only PyLoop's own sock_* calls do: their type, what they keep of a descriptor, patched sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import warnings
from typing import Any
from unittest import mock

import pytest
from support.running import run_passes
from support.sock_files import CONTENT, read_all, sent_file
from support.sock_pairs import bound_udp, fill, finish, stream_pair
from support.sock_protocols import passes

from data_bridge.pyloop import PyLoop, _native


async def _receive_one(loop: PyLoop, near: Any, far: socket.socket, text: bytes) -> None:
    """A receive that has to wait."""
    receiving = asyncio.create_task(loop.sock_recv(near, 100))
    await passes(2)
    assert not receiving.done()
    far.send(text)
    assert await receiving == text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sock_recv", (10,)),
        ("sock_recv_into", (bytearray(10),)),
        ("sock_recvfrom", (10,)),
        ("sock_recvfrom_into", (bytearray(10),)),
        ("sock_sendall", (b"x",)),
        ("sock_sendto", (b"x", ("127.0.0.1", 9))),
        ("sock_accept", ()),
    ],
)
def test_the_calls_are_native(pyloop: PyLoop, name: str, arguments: tuple[Any, ...]) -> None:
    with socket.socket() as sock:
        call = getattr(pyloop, name)(sock, *arguments)
        assert type(call) is _native.SockCall
        assert call.__qualname__ == f"PyLoop.{name}"
        assert repr(call).startswith(f"<coroutine object PyLoop.{name} at 0x")
        assert (call.cr_running, call.cr_suspended, call.cr_await) == (False, False, None)
        assert (call.cr_frame, call.cr_code, call.cr_origin) == (None, None, None)
        call.close()


def test_one_that_waits_says_for_what(pyloop: PyLoop) -> None:
    with stream_pair("unix") as (near, _):
        call: Any = pyloop.sock_recv(near, 10)
        future = call.send(None)
        assert call.cr_await is future
        assert call.cr_suspended is True
        call.close()
        assert call.cr_await is None


def test_debug_mode_says_where_one_that_was_never_awaited_was_made(pyloop: PyLoop) -> None:
    pyloop.set_debug(True)
    with stream_pair("unix") as (near, _):

        async def main() -> None:
            pyloop.sock_recv(near, 10)

        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            finish(pyloop, main())
            gc.collect()
    (warning,) = seen
    assert "coroutine 'PyLoop.sock_recv' was never awaited" in str(warning.message)
    assert "Coroutine created at" in str(warning.message)
    assert "pyloop.sock_recv(near, 10)" in str(warning.message)


def test_arguments_by_name_are_asyncios(pyloop: PyLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            await pyloop.sock_sendall(sock=near, data=b"hello")
            assert await pyloop.sock_recv(far, n=3) == b"hel"
            buffer = bytearray(10)
            assert await pyloop.sock_recv_into(sock=far, buf=buffer) == 2

        finish(pyloop, main())
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'n'"):
        pyloop.sock_recv(1)  # type: ignore[call-arg]


def test_a_registration_that_nobody_waits_on_is_not_shown(pyloop: PyLoop) -> None:
    selector: Any = pyloop._selector
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            for _ in range(2):
                receiving = asyncio.create_task(pyloop.sock_recv(near, 10))
                await passes(2)
                key = selector.get_key(near)
                reader, writer = key.data
                assert (key.events, writer) == (1, None)
                assert isinstance(reader, asyncio.Handle)
                far.send(b"x")
                await receiving
                assert not selector.get_map()
                with pytest.raises(KeyError):
                    selector.get_key(near)

        finish(pyloop, main())


def test_both_directions_are_shown_while_both_wait(pyloop: PyLoop) -> None:
    selector: Any = pyloop._selector
    with stream_pair("unix") as (near, _):

        async def main() -> None:
            fill(near)
            tasks = [
                asyncio.create_task(pyloop.sock_recv(near, 10)),
                asyncio.create_task(pyloop.sock_sendall(near, b"x" * 10)),
            ]
            await passes(2)
            key = selector.get_key(near)
            assert key.events == 3
            assert all(isinstance(handle, asyncio.Handle) for handle in key.data)
            tasks[0].cancel()
            await passes(2)
            assert selector.get_key(near).events == 2
            tasks[1].cancel()
            await passes(2)
            assert not selector.get_map()

        finish(pyloop, main())


def test_all_who_wait_to_receive_are_served_in_the_end(pyloop: PyLoop) -> None:
    # On asyncio's own loop the earlier ones are never woken.
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            tasks = []
            for _ in range(3):
                tasks.append(asyncio.create_task(pyloop.sock_recv(near, 1)))
                await passes(2)
            far.send(b"a")
            assert await tasks[2] == b"a"
            for text in (b"b", b"c"):
                assert sum(task.done() for task in tasks) == text[0] - ord("a")
                far.send(text)
                await passes(5)
            assert sorted([await task for task in tasks]) == [b"a", b"b", b"c"]

        finish(pyloop, main())


def test_an_end_that_came_with_the_data_is_told(pyloop: PyLoop) -> None:
    with stream_pair("tcp") as (near, far):

        async def main() -> None:
            receiving = asyncio.create_task(pyloop.sock_recv(near, 100))
            await passes(2)
            far.send(b"last")
            far.close()
            assert await receiving == b"last"
            assert await pyloop.sock_recv(near, 100) == b""

        async def at_once() -> bytes:
            first = await pyloop.sock_recv(near, 100)
            return first + b"|" + await pyloop.sock_recv(near, 100)

        finish(pyloop, main())
    with stream_pair("tcp") as (near, far):

        async def in_one_step() -> None:
            receiving = asyncio.create_task(at_once())
            await passes(2)
            far.send(b"last")
            far.close()
            assert await receiving == b"last|"

        finish(pyloop, in_one_step())


def test_what_follows_urgent_data_is_received(pyloop: PyLoop) -> None:
    # A receive ends before the urgent byte, so a short one does not mean that nothing is left.
    with stream_pair("tcp") as (near, far):

        async def both() -> bytes:
            first = await pyloop.sock_recv(near, 100)
            return first + await pyloop.sock_recv(near, 100)

        async def main() -> None:
            receiving = asyncio.create_task(both())
            await passes(2)
            far.send(b"before")
            far.send(b"!", socket.MSG_OOB)
            far.send(b"after")
            assert await receiving == b"beforeafter"

        finish(pyloop, main())


def test_what_follows_a_descriptor_is_received(pyloop: PyLoop) -> None:
    # A receive from a Unix socket ends where a descriptor was sent.
    with stream_pair("unix") as (near, far):

        async def both() -> bytes:
            first = await pyloop.sock_recv(near, 100)
            return first + await pyloop.sock_recv(near, 100)

        async def main() -> None:
            receiving = asyncio.create_task(both())
            await passes(2)
            with open(os.devnull) as file:
                socket.send_fds(far, [b"with"], [file.fileno()])
            far.send(b"without")
            assert await receiving == b"withwithout"

        finish(pyloop, main())


def test_a_new_socket_in_the_step_of_an_event_of_the_old_one_is_waited_for(pyloop: PyLoop) -> None:
    with contextlib.ExitStack() as stack:
        near, far = stack.enter_context(stream_pair("tcp"))
        new, newer = stack.enter_context(stream_pair("tcp"))

        async def swap() -> bytes:
            nonlocal near
            assert await pyloop.sock_recv(near, 100) == b"old"
            number = near.fileno()
            # Freed here, so that the next object may even get its address.
            near.close()
            del near
            os.dup2(new.fileno(), number, inheritable=False)
            replaced = stack.enter_context(socket.socket(fileno=number))
            replaced.setblocking(False)
            return await pyloop.sock_recv(replaced, 100)

        async def main() -> None:
            receiving = asyncio.create_task(swap())
            await passes(2)
            far.send(b"old")
            await passes(5)
            assert not receiving.done()
            newer.send(b"new")
            assert await receiving == b"new"

        finish(pyloop, main())


@pytest.mark.parametrize("name", ["recv", "recv_into", "send"])
def test_a_method_that_a_subclass_replaces_is_called(pyloop: PyLoop, name: str) -> None:
    calls: list[str] = []

    class Socket(socket.socket):
        def recv(self, *args: Any) -> bytes:
            calls.append("recv")
            return super().recv(*args)

        def recv_into(self, *args: Any) -> int:
            calls.append("recv_into")
            return super().recv_into(*args)

        def send(self, *args: Any) -> int:
            calls.append("send")
            return super().send(*args[:1])

    with stream_pair("unix") as (plain, far), Socket(fileno=plain.detach()) as near:
        near.setblocking(False)

        async def main() -> None:
            if name == "recv":
                await _receive_one(pyloop, near, far, b"hello")
            elif name == "recv_into":
                far.send(b"hello")
                assert await pyloop.sock_recv_into(near, bytearray(10)) == 5
            else:
                data = b"0123456789" * 100_000
                sending = asyncio.create_task(pyloop.sock_sendall(near, data))
                assert await read_all(pyloop, far, len(data)) == data
                await sending

        finish(pyloop, main())
    assert calls.count(name) > (name != "recv_into")


def test_a_method_replaced_on_the_class_is_called(pyloop: PyLoop) -> None:
    with stream_pair("unix") as (near, far):
        finish(pyloop, _receive_one(pyloop, near, far, b"before"))
        with mock.patch.object(socket.socket, "recv", return_value=b"patched"):
            assert finish(pyloop, pyloop.sock_recv(near, 10)) == b"patched"
        finish(pyloop, _receive_one(pyloop, near, far, b"after"))


def test_a_blocking_socket_never_blocks_the_loop(pyloop: PyLoop) -> None:
    # asyncio's own would stand still until something comes.
    with stream_pair("tcp") as (near, far):
        near.setblocking(True)

        async def main() -> None:
            await _receive_one(pyloop, near, far, b"hello")

        finish(pyloop, main())


def test_a_pass_that_has_only_idle_sockets_does_not_look_at_them(pyloop: PyLoop) -> None:
    with stream_pair("tcp") as (near, far):
        finish(pyloop, _receive_one(pyloop, near, far, b"warm"))
        far.send(b"unread")
        assert pyloop._wait(0) == []
        # Disarmed by that look: more data is told to nobody.
        far.send(b"more")
        assert pyloop._wait(0) == []
        assert finish(pyloop, pyloop.sock_recv(near, 100)) == b"unreadmore"


def test_a_replaced_select_still_wakes_calls(pyloop: PyLoop) -> None:
    selector: Any = pyloop._selector
    calls: list[float | None] = []
    select = selector.select

    def counting(timeout: float | None = None) -> Any:
        calls.append(timeout)
        return select(timeout)

    with stream_pair("tcp") as (near, far), mock.patch.object(selector, "select", counting):

        async def main() -> None:
            for number in range(3):
                await _receive_one(pyloop, near, far, b"%d" % number)
            data = b"x" * 5_000_000
            sending = asyncio.create_task(pyloop.sock_sendall(near, data))
            assert await read_all(pyloop, far, len(data)) == data
            await sending

        finish(pyloop, main())
    assert calls
    assert not selector.get_map()


def test_an_overridden_call_soon_that_raises_wakes_the_others_all_the_same() -> None:
    class Loop(PyLoop):
        broken = False

        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            if Loop.broken and "wakeup" in repr(callback).lower():
                Loop.broken = False
                raise LookupError("mine")
            return super().call_soon(callback, *args, context=context)

    loop = Loop()
    with contextlib.closing(loop), stream_pair("tcp") as one, stream_pair("tcp") as two:
        pairs = [one, two]
        calls: list[Any] = [loop.sock_recv(near, 10) for near, _ in pairs]
        tasks = [loop.create_task(call) for call in calls]
        run_passes(loop, 2)
        for _, far in pairs:
            far.send(b"x")
        Loop.broken = True
        with pytest.raises(LookupError, match="mine"):
            while True:
                run_passes(loop, 1)
        run_passes(loop, 3)
        assert sorted(task.done() for task in tasks) == [False, True]
        for task in tasks:
            task.cancel()
        run_passes(loop, 3)
        assert not [task for task in tasks if not task.done() and task.cancelling() == 0]
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_call_that_is_dropped_while_it_waits_leaves_nothing_behind(pyloop: PyLoop) -> None:
    selector: Any = pyloop._selector
    with stream_pair("unix") as (near, _):
        call: Any = pyloop.sock_recv(near, 10)
        future = call.send(None)
        assert selector.get_map()
        del call
        assert not selector.get_map()
        assert not future.done()


@pytest.mark.skipif(sys.platform != "linux", reason="sendfile(2) is inherited elsewhere")
def test_the_position_of_a_file_tells_what_a_cancelled_sendfile_has_sent(pyloop: PyLoop) -> None:
    # asyncio's own leaves it where it was.
    with stream_pair("unix") as (near, far), sent_file() as file:

        async def main() -> None:
            sending = asyncio.create_task(pyloop.sock_sendfile(near, file))
            received = await read_all(pyloop, far, 150_000)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            sent = file.tell()
            received += await read_all(pyloop, far, sent - len(received))
            assert received == CONTENT[:sent]

        finish(pyloop, main())


def test_a_datagram_error_is_told_once(pyloop: PyLoop) -> None:
    with contextlib.ExitStack() as stack:
        near, gone = bound_udp(stack), bound_udp(stack)
        near.connect(gone.getsockname())
        gone.close()

        async def main() -> None:
            near.send(b"to nobody")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(pyloop.sock_recvfrom(near, 10), 5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pyloop.sock_recvfrom(near, 10), 0.01)

        finish(pyloop, main())
