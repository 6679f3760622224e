"""What a stream transport puts on the wire: from which objects, in which order, when, and when no more."""

from __future__ import annotations

import array
import asyncio
import itertools
import os
import socket
import sys
from typing import Any

import pytest
from support.transport_links import Link, open_link, receive

from data_bridge.pyloop import PyLoop

Loop = asyncio.SelectorEventLoop

# More than any kernel takes at once.
BIG = 3_000_000


def test_every_kind_of_bytes_is_sent(loop: Loop) -> None:
    with open_link(loop) as link:
        wide = array.array("i", [1, 2, 3])
        for data, expected in (
            (b"bytes", b"bytes"),
            (bytearray(b"bytearray"), b"bytearray"),
            (memoryview(b"-view-")[1:5], b"view"),
            (memoryview(wide), wide.tobytes()),
            (memoryview(bytes(12)).cast("B", (3, 4)), bytes(12)),
            (b"", b""),
            (bytearray(), b""),
            (memoryview(b""), b""),
        ):
            link.inside(lambda data=data: link.transport.write(data))  # type: ignore[misc]
            assert receive(link.far) == expected


def test_subclasses_of_bytes_are_sent(loop: Loop) -> None:
    class Named(bytes):
        pass

    class Changing(bytearray):
        pass

    with open_link(loop) as link:
        link.inside(lambda: link.transport.write(Named(b"one")))
        link.inside(lambda: link.transport.write(Changing(b"two")))
        assert receive(link.far) == b"onetwo"


@pytest.mark.parametrize("wrong", ["text", 3, None, [b"x"], array.array("b", [1])])
def test_anything_else_is_a_type_error(loop: Loop, wrong: Any) -> None:
    with open_link(loop) as link:
        with pytest.raises(TypeError) as caught:
            link.transport.write(wrong)
        assert str(caught.value) == (
            f"data argument must be a bytes-like object, not {type(wrong).__name__!r}"
        )
        link.transport.write(b"fine")
        assert link.read() == b"fine"


def test_wide_items_are_sent_whole_when_the_kernel_takes_a_part(pyloop: PyLoop) -> None:
    # asyncio's own counts items where it should count bytes.
    wide = array.array("q", range(400_000))
    with open_link(pyloop) as link:
        link.transport.write(memoryview(wide))
        assert link.transport.get_write_buffer_size() > 0
        assert link.read() == wide.tobytes()


@pytest.mark.parametrize("size", [10, 20_000, BIG])
def test_a_later_change_of_a_bytearray_is_not_seen_on_the_wire(pyloop: PyLoop, size: int) -> None:
    # asyncio's own sends what was changed if it could not send at once.
    content = os.urandom(size)
    with open_link(pyloop) as link:

        def write_and_change() -> None:
            for write in (link.transport.write, lambda data: link.transport.writelines([data])):
                changing = bytearray(content)
                write(changing)
                changing[:] = bytes(size)
                # It is not held on to either.
                changing.clear()

        link.inside(write_and_change)
        assert link.read() == content * 2


def test_what_was_written_before_a_full_buffer_and_after_it_arrives_in_order(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        pieces = [os.urandom(size) for size in (10, BIG, 20, 1000, 100_000, 1)]
        link.inside(*(lambda piece=piece: link.transport.write(piece) for piece in pieces))
        assert link.read() == b"".join(pieces)


def test_writes_of_many_callbacks_arrive_in_order(loop: Loop) -> None:
    with open_link(loop) as link:
        for number in range(300):
            loop.call_soon(link.transport.write, b"%03d" % number)
        assert link.read() == b"".join(b"%03d" % number for number in range(300))


def test_a_write_outside_the_running_loop_leaves_at_once(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.write(b"now")
        assert receive(link.far) == b"now"
        link.transport.writelines([b"and ", b"now"])
        assert receive(link.far) == b"and now"


def test_a_write_has_left_by_the_next_iteration(loop: Loop) -> None:
    with open_link(loop) as link:
        seen: list[bytes] = []

        def write() -> None:
            link.transport.write(b"question")
            loop.call_soon(lambda: seen.append(receive(link.far)))

        link.inside(write)
        assert seen == [b"question"]


def test_a_write_of_the_last_iteration_has_left_when_the_loop_stops(loop: Loop) -> None:
    with open_link(loop) as link:

        def write_and_stop() -> None:
            link.transport.write(b"last")
            loop.stop()

        loop.call_soon(write_and_stop)
        loop.run_forever()
        assert receive(link.far) == b"last"


def test_a_write_has_left_even_if_the_callback_ends_the_loop(loop: Loop) -> None:
    with open_link(loop) as link:

        def write_and_exit() -> None:
            link.transport.write(b"goodbye")
            raise SystemExit(3)

        loop.call_soon(write_and_exit)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert receive(link.far) == b"goodbye"


@pytest.mark.parametrize("ending", ["close", "abort", "write_eof"])
def test_a_small_write_is_sent_before_the_connection_ends(loop: Loop, ending: str) -> None:
    with open_link(loop) as link:
        link.inside(
            lambda: link.transport.write(b"first"),
            lambda: link.transport.writelines([b"second", b"third"]),
            getattr(link.transport, ending),
        )
        assert link.read_to_the_end() == b"firstsecondthird"


def test_a_write_is_sent_before_its_callback_raises(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    with open_link(loop) as link:

        def answer_and_fail() -> None:
            link.transport.write(b"answer")
            raise ZeroDivisionError

        link.protocol.on_data = answer_and_fail
        link.far.send(b"question")
        link.until_lost()
        assert link.read_to_the_end() == b"answer"
        unhandled.clear()


def test_the_size_of_the_buffer_is_what_the_kernel_did_not_take(loop: Loop) -> None:
    with open_link(loop) as link:
        sizes: list[int] = []
        size = link.transport.get_write_buffer_size
        link.inside(
            lambda: link.transport.write(b"small"),
            lambda: sizes.append(size()),
            lambda: link.transport.write(bytes(BIG)),
            lambda: sizes.append(size()),
            lambda: link.transport.write(b"small"),
            lambda: sizes.append(size()),
        )
        assert sizes[0] == 0
        assert 0 < sizes[1] < BIG
        assert sizes[2] == sizes[1] + 5
        assert len(link.read()) == BIG + 10
        assert size() == 0


# -- writelines ---------------------------------------------------------------------------------------


def test_writelines_takes_what_it_is_given(loop: Loop) -> None:
    with open_link(loop) as link:
        for lines in (
            [b"a", bytearray(b"b"), memoryview(b"c"), b""],
            (b"tuple",),
            [],
            (item for item in (b"gen", b"era", b"tor")),
            {b"key": 1},
            (b"%d" % number for number in range(5000)),
        ):
            link.inside(lambda lines=lines: link.transport.writelines(lines))  # type: ignore[misc]
        expected = b"abctuplegeneratorkey" + b"".join(b"%d" % number for number in range(5000))
        assert link.read() == expected


@pytest.mark.parametrize("wrong", [[b"x", "text"], [1], "text", 5])
def test_writelines_of_something_else_is_a_type_error(loop: Loop, wrong: Any) -> None:
    with open_link(loop) as link:
        with pytest.raises(TypeError):
            link.transport.writelines(wrong)
        link.transport.write(b"fine")
        assert link.read() == b"fine"


def test_writelines_stays_in_order_with_write_when_the_buffer_is_full(loop: Loop) -> None:
    with open_link(loop) as link:
        content = [os.urandom(size) for size in (1_000_000, 5, 1_000_000, 7, 900_000)]
        link.inside(
            lambda: link.transport.writelines(content),
            lambda: link.transport.write(b"between"),
            lambda: link.transport.writelines(content),
        )
        assert link.read() == b"".join(content) + b"between" + b"".join(content)


def test_an_iterator_that_raises_sends_nothing(loop: Loop) -> None:
    def lines() -> Any:
        yield b"begun"
        raise LookupError("no more")

    with open_link(loop) as link:
        with pytest.raises(LookupError):
            link.transport.writelines(lines())
        link.transport.write(b"fine")
        assert link.read() == b"fine"


# -- after the end ------------------------------------------------------------------------------------


def test_write_eof_shuts_one_direction(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        link.inside(lambda: link.transport.write(b"all"), link.transport.write_eof)
        assert link.read_to_the_end() == b"all"
        assert not link.transport.is_closing()
        link.transport.write_eof()
        link.far.send(b"answer")
        link.until(lambda: link.protocol.data == b"answer")
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            link.transport.write(b"more")
        with pytest.raises(RuntimeError, match=r"write.*\(\) after write_eof\(\)$"):
            link.transport.writelines([b"more"])


def test_write_eof_waits_for_what_is_pending(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.write(bytes(BIG))
        link.transport.write_eof()
        assert len(link.read_to_the_end()) == BIG
        assert not link.transport.is_closing()


def test_close_waits_for_what_is_pending_and_abort_does_not(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.write(bytes(BIG))
        link.transport.close()
        link.settle()
        assert link.protocol.names == ["made", "pause"]
        assert len(link.read_to_the_end()) == BIG
        link.until_lost()
        assert link.protocol.events[-1] == ("lost", None)
    with open_link(loop) as link:
        link.transport.write(bytes(BIG))
        link.transport.abort()
        assert link.transport.get_write_buffer_size() == 0
        assert link.until_lost() is None
        assert len(link.read_to_the_end()) < BIG


def test_writes_after_the_end_are_dropped_with_a_warning_after_five(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    with open_link(loop) as link:
        link.transport.abort()
        for _ in range(4):
            link.transport.write(b"dropped")
        assert _warnings(caplog) == []
        for _ in range(3):
            link.transport.write(b"dropped")
        assert _warnings(caplog) == ["socket.send() raised exception."] * 3
        link.until_lost()
        link.transport.write(b"")
        link.transport.write(b"dropped")
        assert len(_warnings(caplog)) == 4
        assert link.read_to_the_end() == b""
        with pytest.raises(TypeError):
            link.transport.write("text")


def test_close_then_write_with_something_pending_still_sends_it(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.write(bytes(BIG))
        link.transport.close()
        link.transport.write(b"the end")
        received = link.read_to_the_end()
        assert len(received) == BIG + 7
        assert received.endswith(b"the end")


def test_writing_to_a_peer_that_has_gone_ends_the_connection(loop: Loop) -> None:
    with open_link(loop) as link:
        link.transport.pause_reading()
        link.far.close()
        link.settle()
        link.inside(lambda: link.transport.write(b"hello"))
        error = link.until_lost()
        assert type(error) is BrokenPipeError
        assert link.protocol.names == ["made", "lost"]


def test_a_reset_while_much_is_pending_ends_the_connection(loop: Loop) -> None:
    with open_link(loop, "tcp") as link:
        link.transport.write(bytes(30_000_000))
        link.reset()
        assert isinstance(link.until_lost(), ConnectionError)
        assert link.protocol.names == ["made", "pause", "lost"]
        assert link.transport.get_write_buffer_size() == 0


def test_sendfile_comes_after_what_was_written_and_before_what_follows(
    loop: Loop, tmp_path: Any
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"file" * 100)

    async def main(link: Link) -> None:
        link.transport.write(b"head")
        with path.open("rb") as file:
            assert await loop.sendfile(link.transport, file) == 400
        link.transport.write(b"tail")

    with open_link(loop) as link:
        loop.run_until_complete(main(link))
        assert link.read() == b"head" + b"file" * 100 + b"tail"


# -- system calls -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="counts by Linux's TCP_INFO")
def test_the_writes_of_one_iteration_leave_in_one_segment(pyloop: PyLoop) -> None:
    with open_link(pyloop, "tcp") as link:
        for calls in (
            [lambda: link.transport.write(b"head"), lambda: link.transport.write(b"body")],
            [lambda: link.transport.writelines([b"one", b"two", bytearray(b"three")])],
            [lambda: link.transport.writelines([b"x"]), lambda: link.transport.write(b"y")],
            list(itertools.repeat(lambda: link.transport.write(bytes(100)), 50)),
        ):
            before = _segments_sent(link)
            link.inside(*calls)
            assert _segments_sent(link) - before == 1
        link.read()


@pytest.mark.skipif(sys.platform != "linux", reason="counts by Linux's TCP_INFO")
def test_answers_to_several_connections_leave_once_each(pyloop: PyLoop) -> None:
    with open_link(pyloop, "tcp") as one, open_link(pyloop, "tcp") as two:
        before = _segments_sent(one), _segments_sent(two)

        def answer() -> None:
            for _ in range(3):
                one.transport.write(b"one")
                two.transport.write(b"two")

        one.inside(answer)
        assert (_segments_sent(one), _segments_sent(two)) == (before[0] + 1, before[1] + 1)
        assert (one.read(), two.read()) == (b"oneoneone", b"twotwotwo")


def _segments_sent(link: Link) -> int:
    """How many segments with data the kernel has sent: with TCP_NODELAY one for each small send."""
    info = link.transport.get_extra_info("socket").getsockopt(
        socket.IPPROTO_TCP, socket.TCP_INFO, 160
    )
    # tcpi_data_segs_out of struct tcp_info.
    return int.from_bytes(info[156:160], sys.byteorder)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "asyncio"]
