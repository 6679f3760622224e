"""Descriptors: add_reader and add_writer, level-triggered, replaced, removed, hung up, gone."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass, run_passes

Pair = tuple[socket.socket, socket.socket]
Way = str


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture(params=["reader", "writer"])
def way(request: pytest.FixtureRequest) -> Way:
    return str(request.param)


def add(loop: asyncio.SelectorEventLoop, way: Way) -> Callable[..., None]:
    return loop.add_reader if way == "reader" else loop.add_writer


def remove(loop: asyncio.SelectorEventLoop, way: Way) -> Callable[..., bool]:
    return loop.remove_reader if way == "reader" else loop.remove_writer


def test_a_reader_is_called_while_there_is_something_to_read(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    calls: list[int] = []
    loop.add_reader(near, calls.append, 1)
    run_passes(loop, 5)
    assert calls == []
    far.send(b"ab")
    run_passes(loop, 5)
    # Level-triggered: nobody reads, so every pass calls again.
    assert len(calls) >= 4
    near.recv(1)
    before = len(calls)
    run_passes(loop, 5)
    assert len(calls) >= before + 4
    near.recv(1)
    run_passes(loop, 2)
    before = len(calls)
    run_passes(loop, 5)
    assert len(calls) == before
    assert loop.remove_reader(near) is True


def test_a_writer_is_called_while_there_is_room(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    calls: list[int] = []
    loop.add_writer(near, calls.append, 1)
    run_passes(loop, 5)
    assert len(calls) >= 4
    _fill(near)
    run_passes(loop, 2)
    before = len(calls)
    run_passes(loop, 5)
    assert len(calls) == before
    _empty(far)
    run_passes(loop, 5)
    assert len(calls) > before
    assert loop.remove_writer(near) is True


def test_readiness_wakes_a_sleeping_loop(loop: asyncio.SelectorEventLoop, pair: Pair) -> None:
    near, far = pair

    def readable() -> None:
        near.recv(10)
        loop.stop()

    loop.add_reader(near, readable)
    loop.call_later(0.002, far.send, b"x")
    run_asleep(loop)
    loop.remove_reader(near)


@pytest.mark.parametrize("form", ["number", "socket", "object", "index"])
def test_a_descriptor_is_a_number_or_an_object_with_fileno(
    loop: asyncio.SelectorEventLoop, pair: Pair, way: Way, form: str
) -> None:
    near, far = pair

    class Wrapper:
        def fileno(self) -> int:
            return near.fileno()

    class Number(int):
        pass

    given: Any = {
        "number": near.fileno(),
        "socket": near,
        "object": Wrapper(),
        "index": Number(near.fileno()),
    }[form]
    far.send(b"x")
    calls: list[str] = []
    assert add(loop, way)(given, calls.append, "called") is None
    run_passes(loop, 2)
    assert calls
    # Any form takes away what any form has added.
    assert remove(loop, way)(near.fileno() if form != "number" else near) is True
    assert remove(loop, way)(given) is False


def test_remove_tells_whether_there_was_anything(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is False
    loop.add_reader(near, print)
    assert loop.remove_writer(near) is False
    assert loop.remove_reader(near) is True
    assert loop.remove_reader(near) is False
    loop.add_writer(near, print)
    assert loop.remove_reader(near) is False
    assert loop.remove_writer(near) is True
    assert loop.remove_writer(near) is False


def test_a_removed_callback_does_not_run_though_its_event_has_come(
    loop: asyncio.SelectorEventLoop, pair: Pair, way: Way
) -> None:
    near, far = pair
    far.send(b"x")
    calls: list[str] = []
    add(loop, way)(near, calls.append, "removed")
    # This runs in the pass that finds the event, before its callback.
    loop.call_soon(remove(loop, way), near)
    run_passes(loop, 3)
    assert calls == []


def test_a_replaced_callback_does_not_run_though_its_event_has_come(
    loop: asyncio.SelectorEventLoop, pair: Pair, way: Way
) -> None:
    near, far = pair
    far.send(b"x")
    calls: list[str] = []
    add(loop, way)(near, calls.append, "old")
    loop.call_soon(add(loop, way), near, calls.append, "new")
    run_passes(loop, 3)
    assert set(calls) == {"new"}
    assert remove(loop, way)(near) is True
    assert remove(loop, way)(near) is False


def test_one_descriptor_serves_both_directions(loop: asyncio.SelectorEventLoop, pair: Pair) -> None:
    near, far = pair
    far.send(b"x")
    calls: list[str] = []
    loop.add_reader(near, calls.append, "read")
    loop.add_writer(near, calls.append, "write")
    run_one_pass(loop)
    assert calls == ["read", "write"]
    assert loop.remove_reader(near) is True
    calls.clear()
    run_one_pass(loop)
    assert set(calls) == {"write"}
    loop.add_reader(near, calls.append, "read")
    assert loop.remove_writer(near) is True
    calls.clear()
    run_one_pass(loop)
    assert set(calls) == {"read"}
    assert loop.remove_reader(near) is True


def test_replacing_one_direction_leaves_the_other(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    far.send(b"x")
    calls: list[str] = []
    loop.add_reader(near, calls.append, "read")
    loop.add_writer(near, calls.append, "old write")
    loop.add_writer(near, calls.append, "new write")
    run_one_pass(loop)
    assert calls == ["read", "new write"]
    loop.remove_reader(near)
    loop.remove_writer(near)


def test_a_peer_that_hangs_up_wakes_both_directions(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    _fill(near)
    calls: list[str] = []
    loop.add_reader(near, calls.append, "read")
    loop.add_writer(near, calls.append, "write")
    run_passes(loop, 3)
    assert calls == []
    far.close()
    run_one_pass(loop)
    assert sorted(calls) == ["read", "write"]
    loop.remove_reader(near)
    loop.remove_writer(near)


@pytest.mark.parametrize("end", ["reader", "writer"])
def test_each_end_of_a_pipe_is_woken_when_the_other_is_closed(
    loop: asyncio.SelectorEventLoop, end: str
) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    kept, closed = (reading, writing) if end == "reader" else (writing, reading)
    try:
        while end == "writer":
            os.write(writing, bytes(65536))
    except BlockingIOError:
        pass
    calls: list[str] = []
    add(loop, end)(kept, calls.append, "woken")
    run_passes(loop, 3)
    assert calls == []
    os.close(closed)
    run_one_pass(loop)
    assert calls == ["woken"]
    remove(loop, end)(kept)
    os.close(kept)


def test_a_refused_connection_wakes_a_writer(loop: asyncio.SelectorEventLoop) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
    with socket.socket() as connecting:
        connecting.setblocking(False)
        connecting.connect_ex(address)
        loop.add_writer(connecting, loop.stop)
        run_asleep(loop)
        assert connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        loop.remove_writer(connecting)


def test_end_of_file_wakes_a_reader_every_pass(loop: asyncio.SelectorEventLoop, pair: Pair) -> None:
    near, far = pair
    far.shutdown(socket.SHUT_WR)
    calls: list[int] = []
    loop.add_reader(near, calls.append, 1)
    run_passes(loop, 5)
    assert len(calls) >= 4
    loop.remove_reader(near)


def test_callbacks_may_remove_and_add_within_themselves(
    loop: asyncio.SelectorEventLoop, pair: Pair
) -> None:
    near, far = pair
    far.send(b"x")
    calls: list[int] = []

    def again(number: int) -> None:
        calls.append(number)
        assert loop.remove_reader(near) is True
        if number < 5:
            loop.add_reader(near, again, number + 1)
        else:
            loop.stop()

    loop.add_reader(near, again, 1)
    run_asleep(loop)
    assert calls == [1, 2, 3, 4, 5]
    assert loop.remove_reader(near) is False


def test_a_callback_may_remove_another_descriptor_whose_event_has_come_too(
    loop: asyncio.SelectorEventLoop,
) -> None:
    pairs = [socket.socketpair() for _ in range(10)]
    calls: list[int] = []

    def readable(index: int) -> None:
        calls.append(index)
        for near, _ in pairs:
            loop.remove_reader(near)

    for index, (near, far) in enumerate(pairs):
        far.send(b"x")
        loop.add_reader(near, readable, index)
    run_passes(loop, 3)
    assert len(calls) == 1
    for near, far in pairs:
        near.close()
        far.close()


@pytest.mark.slow
def test_five_hundred_ready_descriptors_are_all_served(loop: asyncio.SelectorEventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(500)]
    served: list[int] = []

    def readable(index: int) -> None:
        pairs[index][0].recv(10)
        served.append(index)
        if len(served) == 1500:
            loop.stop()
        else:
            pairs[index][1].send(b"x")

    for index, (near, far) in enumerate(pairs):
        far.send(b"x")
        loop.add_reader(near, readable, index)
    run_asleep(loop)
    # Fair: nobody is served a second time long before everybody was served once.
    assert all(served.count(index) >= 2 for index in range(500))
    for near, far in pairs:
        assert loop.remove_reader(near) is True
        near.close()
        far.close()


def test_an_exception_in_a_reader_is_reported_and_the_reader_stays(
    loop: asyncio.SelectorEventLoop, pair: Pair, unhandled: list[dict[str, Any]]
) -> None:
    near, far = pair
    calls: list[int] = []

    def fails() -> None:
        near.recv(1)
        calls.append(1)
        raise ZeroDivisionError

    loop.add_reader(near, fails)
    far.send(b"ab")
    run_passes(loop, 3)
    assert calls == [1, 1]
    assert [type(report["exception"]) for report in unhandled] == [ZeroDivisionError] * 2
    unhandled.clear()
    assert loop.remove_reader(near) is True


def test_a_regular_file_is_refused_and_nothing_stays_behind(
    loop: asyncio.SelectorEventLoop, way: Way
) -> None:
    with tempfile.TemporaryFile() as file:
        with pytest.raises(PermissionError):
            add(loop, way)(file, print)
        assert remove(loop, way)(file) is False
        with pytest.raises(PermissionError):
            add(loop, way)(file.fileno(), print)
    run_one_pass(loop)


def test_a_descriptor_of_a_transport_is_refused(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            near.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            descriptor = transport.get_extra_info("socket").fileno()
            for call in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match=f"{descriptor} is used by transport"):
                    call(descriptor, print)
            for take in (loop.remove_reader, loop.remove_writer):
                with pytest.raises(RuntimeError, match="is used by transport"):
                    take(descriptor)
            transport.close()
            await asyncio.sleep(0)

    loop.run_until_complete(main())


def _fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


def _empty(sock: socket.socket) -> None:
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        pass
