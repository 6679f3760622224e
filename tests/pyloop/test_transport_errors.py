"""Callbacks that raise, and sockets that are not fit for a connection: who is told what, and who dies."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.descriptors import open_descriptors
from support.running import run_passes
from support.transport_links import (
    BufferedRecorder,
    Notes,
    Recorder,
    open_link,
    receive,
    socket_pair,
    take_reports,
)

from data_bridge.pyloop import PyLoop

Loop = asyncio.SelectorEventLoop


def _raiser(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("protocol", "callback"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "buffer_updated"),
        (BufferedRecorder, "eof_received"),
    ],
)
def test_a_callback_that_raises_is_reported_and_its_connection_dies_alone(
    loop: Loop, unhandled: list[dict[str, Any]], protocol: type[Notes], callback: str
) -> None:
    error = ZeroDivisionError("as planned")
    with open_link(loop, protocol=protocol) as link, open_link(loop) as other:
        setattr(link.protocol, callback, _raiser(error))
        link.far.send(b"data") if callback != "eof_received" else link.far.close()
        other.far.send(b"data")
        assert link.until_lost() is error
        (report,) = take_reports(unhandled)
        assert report == {
            "message": f"Fatal error: protocol.{callback}() call failed.",
            "exception": error,
            "transport": link.transport,
            "protocol": link.protocol,
        }
        other.settle()
        assert other.protocol.events == ["made", b"data"]
        other.transport.write(b"well")
        assert other.read() == b"well"
        error.__traceback__ = None


def test_an_os_error_of_a_callback_ends_the_connection_without_a_report(loop: Loop) -> None:
    error = OSError("as planned")
    with open_link(loop) as link:
        link.protocol.data_received = _raiser(error)
        link.far.send(b"data")
        assert link.until_lost() is error
        error.__traceback__ = None


@pytest.mark.parametrize(
    ("buffer", "error_type", "message"),
    [
        (bytearray(), RuntimeError, "Fatal error: protocol.get_buffer() call failed."),
        (None, TypeError, "Fatal error: protocol.get_buffer() call failed."),
        (5, TypeError, "Fatal error: protocol.get_buffer() call failed."),
        (b"read-only", TypeError, "Fatal read error on socket transport"),
        ("a string", TypeError, "Fatal read error on socket transport"),
        ([1, 2], TypeError, "Fatal read error on socket transport"),
    ],
)
def test_a_buffer_that_cannot_be_filled_is_a_fatal_error(
    loop: Loop,
    unhandled: list[dict[str, Any]],
    buffer: Any,
    error_type: type[Exception],
    message: str,
) -> None:
    with open_link(loop, protocol=BufferedRecorder) as link:
        link.protocol.get_buffer = lambda sizehint: buffer
        link.far.send(b"data")
        error = link.until_lost()
        assert type(error) is error_type
        (report,) = take_reports(unhandled)
        assert (report["message"], report["exception"]) == (message, error)
        assert set(report) == {"message", "exception", "transport", "protocol"}
        if error_type is RuntimeError:
            assert str(error) == "get_buffer() returned an empty buffer"


def test_connection_made_that_raises_is_reported_and_the_connection_goes_on(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    error = ZeroDivisionError("as planned")
    with open_link(
        loop, prepare=lambda made: setattr(made, "connection_made", _raiser(error))
    ) as link:
        (report,) = take_reports(unhandled)
        assert report["message"].startswith("Exception in callback ")
        assert report["exception"] is error
        assert set(report) == {"message", "exception", "handle"}
        link.far.send(b"data")
        link.settle()
        assert link.protocol.events == [b"data"]
        del report
        error.__traceback__ = None


def test_connection_lost_that_raises_is_reported_and_the_socket_is_closed(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    error = ZeroDivisionError("as planned")
    with open_link(loop) as link:
        number = link.transport.get_extra_info("socket").fileno()
        link.protocol.on_lost = _raiser(error)
        link.transport.close()
        link.until_lost()
        link.settle()
        (report,) = take_reports(unhandled)
        assert report["message"].startswith("Exception in callback ")
        assert report["exception"] is error
        assert set(report) == {"message", "exception", "handle"}
        assert link.transport.get_protocol() is None
        assert link.read_to_the_end() == b""
        assert number not in open_descriptors()
        del report
        error.__traceback__ = None


def test_a_protocol_without_the_callbacks_is_reported(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    class Bare:
        def connection_made(self, transport: Any) -> None:
            pass

    near, far = socket_pair("unix")
    transport, _ = loop.run_until_complete(loop.create_connection(Bare, sock=near))
    far.send(b"data")
    run_passes(loop, 6)
    reports = take_reports(unhandled, 2)
    assert {type(report["exception"]) for report in reports} == {AttributeError}
    assert near.fileno() == -1
    far.close()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("protocol", "callback"),
    [
        (Recorder, "data_received"),
        (Recorder, "eof_received"),
        (Recorder, "connection_lost"),
        (BufferedRecorder, "get_buffer"),
        (BufferedRecorder, "buffer_updated"),
    ],
)
def test_an_exit_of_a_callback_leaves_the_loop_which_can_run_again(
    loop: Loop, protocol: type[Notes], callback: str, error: BaseException
) -> None:
    with open_link(loop, protocol=protocol) as link, open_link(loop) as other:
        setattr(link.protocol, callback, _raiser(error))
        link.far.send(b"data") if "eof" not in callback else link.far.close()
        if callback == "connection_lost":
            link.transport.close()
        other.far.send(b"data")
        with pytest.raises(type(error)) as caught:
            run_passes(loop, 10)
        assert caught.value is error
        delattr(link.protocol, callback)
        other.settle()
        assert other.protocol.data == b"data"
        if callback not in ("connection_lost", "eof_received"):
            assert not link.transport.is_closing()
        error.__traceback__ = None
        del caught


def test_an_exit_of_pause_writing_leaves_the_loop_too(loop: Loop) -> None:
    _exit_while_writing(loop, "pause_writing")


def test_an_exit_of_resume_writing_leaves_the_loop_too(pyloop: PyLoop) -> None:
    # asyncio's own transport is broken afterwards.
    _exit_while_writing(pyloop, "resume_writing")


def _exit_while_writing(loop: Loop, callback: str) -> None:
    error = SystemExit(4)
    with open_link(loop) as link:
        setattr(link.protocol, callback, _raiser(error))
        loop.call_soon(link.transport.write, bytes(3_000_000))
        received = b""
        with pytest.raises(SystemExit):
            run_passes(loop, 5)
            while True:
                received += receive(link.far)
                run_passes(loop, 1)
        delattr(link.protocol, callback)
        assert len(received + link.read()) == 3_000_000
        link.transport.write(b"well")
        assert link.read() == b"well"
        error.__traceback__ = None


def test_what_was_read_and_the_callback_left_the_loop_over_is_not_read_again(loop: Loop) -> None:
    with open_link(loop) as link:
        link.protocol.on_data = _raiser(KeyboardInterrupt())
        link.far.send(b"once")
        with pytest.raises(KeyboardInterrupt):
            run_passes(loop, 5)
        del link.protocol.on_data
        link.protocol.on_data = lambda: None
        link.far.send(b"twice")
        link.settle()
        assert link.protocol.events == ["made", b"once", b"twice"]


# -- sockets ------------------------------------------------------------------------------------------


def test_a_blocking_socket_is_made_non_blocking(loop: Loop) -> None:
    near, far = socket.socketpair()
    assert near.gettimeout() is None
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    assert near.gettimeout() == 0
    transport.write(bytes(3_000_000))
    assert transport.get_write_buffer_size() > 0
    transport.abort()
    run_passes(loop, 5)
    far.close()


def test_a_socket_that_is_closed_or_detached_is_refused(loop: Loop) -> None:
    closed, far = socket.socketpair()
    closed.close()
    detached, other = socket.socketpair()
    number = detached.detach()
    for unfit in (closed, detached):
        with pytest.raises((OSError, ValueError)):
            loop.run_until_complete(loop.create_connection(Recorder, sock=unfit))
    os.close(number)
    far.close()
    other.close()
    gc.collect()


def test_a_datagram_socket_is_refused(loop: Loop) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="A Stream Socket was expected, got"):
            loop.run_until_complete(loop.create_connection(Recorder, sock=sock))
        with pytest.raises(ValueError, match="A Stream Socket was expected, got"):
            loop.run_until_complete(loop.connect_accepted_socket(Recorder, sock))


def test_an_unconnected_socket_is_lost_as_soon_as_it_is_used(loop: Loop) -> None:
    sock = socket.socket()
    sock.setblocking(False)
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=sock))
    run_passes(loop, 5)
    transport.write(b"nobody")
    run_passes(loop, 5)
    assert protocol.names[0] == "made"
    assert protocol.names[-1] == "lost"
    assert isinstance(protocol.events[-1][1], OSError)


def test_a_watched_descriptor_of_a_transport_is_refused(loop: Loop) -> None:
    with open_link(loop) as link:
        number = link.transport.get_extra_info("socket").fileno()
        for call in (
            lambda: loop.add_reader(number, print),
            lambda: loop.add_writer(number, print),
            lambda: loop.remove_reader(number),
            lambda: loop.remove_writer(number),
        ):
            with pytest.raises(
                RuntimeError, match=f"File descriptor {number} is used by transport"
            ):
                call()
        link.transport.close()
        link.until_lost()
        assert not loop.remove_reader(number)


def test_a_socket_closed_behind_the_transport_leaves_the_rest_alone(loop: Loop) -> None:
    near, far = socket_pair("unix")
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    with open_link(loop) as other:
        near.close()
        run_passes(loop, 5)
        transport.abort()
        run_passes(loop, 5)
        assert protocol.names == ["made", "lost"]
        other.far.send(b"heard")
        other.settle()
        assert other.protocol.data == b"heard"
    far.close()


def test_writing_to_a_socket_closed_behind_the_transport_is_a_fatal_error(loop: Loop) -> None:
    near, far = socket_pair("unix")
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    transport.pause_reading()
    near.close()
    transport.write(b"nowhere")
    run_passes(loop, 5)
    assert protocol.names == ["made", "lost"]
    assert isinstance(protocol.events[-1][1], OSError)
    far.close()


def test_a_factory_that_raises_closes_nothing_that_is_not_its_own(loop: Loop) -> None:
    near, far = socket_pair("unix")
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(loop.create_connection(_raiser(ZeroDivisionError()), sock=near))
    far.close()
    near.close()


def test_a_transport_and_its_protocol_are_collected_after_a_failure(
    loop: Loop, unhandled: list[dict[str, Any]]
) -> None:
    with open_link(loop) as link:
        link.protocol.data_received = _raiser(ZeroDivisionError())
        link.far.send(b"x")
        link.until_lost()
        reference = weakref.ref(link.transport)
        unhandled.clear()
    gc.collect()
    assert reference() is None
