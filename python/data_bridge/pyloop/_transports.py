"""The cold half of the native transports: what happens once per connection, or when something is wrong.

Owns the reports of failed callbacks, the debug log, the extra information of accepted connections,
and the one-time making of the native types over asyncio's own classes.
"""

from __future__ import annotations

import errno
import inspect
import math
import os
import socket
import stat
import sys
import warnings
from asyncio import (
    base_events,
    constants,
    events,
    protocols,
    selector_events,
    transports,
    trsock,
    unix_events,
)
from typing import IO, TYPE_CHECKING, Any, Final

from . import _native

if TYPE_CHECKING:
    from ._loop import PyLoop

logger = base_events.logger  # type: ignore[attr-defined]


#: The class as it was at import: tests of programs put something else in its place.
SOCKET: Final = socket.socket


def log_reading(transport: Any, what: str) -> None:
    """Say in debug mode that a transport pauses or resumes reading."""
    logger.debug("%r %s reading", transport, what)


def log_debug(transport: Any, what: str) -> None:
    """Say in debug mode what happened to a transport."""
    logger.debug("%r %s", transport, what)


def log_warning(text: str) -> None:
    """Warn through asyncio's logger."""
    logger.warning(text)


def report_failure(transport: Any, exception: BaseException, message: str) -> None:
    """Give an exception to the loop's exception handler, as asyncio's transports do."""
    transport._loop.call_exception_handler(
        {
            "message": message,
            "exception": exception,
            "transport": transport,
            "protocol": transport._protocol,
        }
    )


def fatal_error(transport: Any, exception: BaseException, message: str) -> None:
    """Report the exception that ends a connection, as ``_SelectorTransport._fatal_error`` does."""
    if isinstance(exception, OSError):
        if transport._loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exception)
    else:
        report_failure(transport, exception, message)


def water_marks(high: float | None = None, low: float | None = None) -> tuple[int, int]:
    """The water marks (low, high) that ``set_write_buffer_limits()`` asks for."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")

    def whole(mark: float) -> int:
        return sys.maxsize if mark >= sys.maxsize else math.floor(mark)

    return whole(low), whole(high)


def finalize_transport(transport: Any) -> None:
    """Warn of a transport that was never closed; the native half closes its descriptor."""
    warnings.warn(f"unclosed transport {transport!r}", ResourceWarning, source=transport)  # noqa: B028 - as asyncio


def extra_information(
    sock: socket.socket | None, sockname: object, peername: object
) -> dict[str, object]:
    """Make what ``get_extra_info()`` looks up, for an accepted connection."""
    if sock is None:
        sock = SOCKET()
        sock.close()
    return {
        "peername": peername,
        "socket": trsock.TransportSocket(sock),
        "sockname": sockname,
    }


def socket_of(fd: int, family: int, proto: int) -> socket.socket:
    """Make the socket object of an accepted connection, which owns the descriptor from here on."""
    sock = SOCKET(family, socket.SOCK_STREAM, proto, fileno=fd)
    sock.setblocking(False)
    return sock


def extra_of(sock: socket.socket, extra: dict[str, object] | None) -> dict[str, object]:
    """Complete the extra information of a socket, as ``_SelectorTransport.__init__`` does."""
    if extra is None:
        extra = {}
    extra["socket"] = trsock.TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
    return extra


def check_read_pipe(pipe: IO[bytes] | socket.socket) -> int:
    """The descriptor to read from, non-blocking from here on. Raises ValueError for a file."""
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only.")
    os.set_blocking(fd, False)
    return fd


def check_write_pipe(pipe: IO[bytes] | socket.socket) -> tuple[int, bool]:
    """The descriptor to write to, and whether it becomes readable when its reader goes away."""
    fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    tells = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    if not (tells or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    os.set_blocking(fd, False)
    return fd, tells


def log_closed_by_peer(transport: Any) -> None:
    """Say in debug mode that the other end of a pipe was closed."""
    logger.info("%r was closed by peer", transport)


def fatal_read_error(transport: Any, exception: OSError, message: str) -> None:
    """Report the exception that ends a read pipe; a terminal that hangs up says EIO."""
    if exception.errno == errno.EIO:
        fatal_error(transport, exception, message)
    else:
        report_failure(transport, exception, message)


def log_accepted(server: object, transport: Any) -> None:
    """Say in debug mode that a server has a new connection."""
    peername = transport.get_extra_info("peername")
    logger.debug("%r got a new connection from %r: %r", server, peername, transport._sock)


def accept_failed(loop: PyLoop, exception: BaseException, protocol: object) -> None:
    """Report in debug mode a connection that came to nothing, as ``_accept_connection2`` does."""
    if loop.get_debug():
        context: dict[str, Any] = {
            "message": "Error on transport creation for incoming connection",
            "exception": exception,
        }
        if protocol is not None:
            context["protocol"] = protocol
        loop.call_exception_handler(context)


def accept_exhausted(listener: Any, exception: BaseException) -> None:
    """Stop accepting for a while: the process or the system is out of descriptors or memory."""
    loop, sock = listener._loop, listener._sock
    loop.call_exception_handler(
        {
            "message": "socket.accept() out of system resource",
            "exception": exception,
            "socket": trsock.TransportSocket(sock),
        }
    )
    loop.call_later(constants.ACCEPT_RETRY_DELAY, _accept_again, listener)


def _accept_again(listener: Any) -> None:
    if listener._sock.fileno() != -1:
        listener._loop._start_serving(
            listener._protocol_factory, listener._sock, None, listener._server, listener._backlog
        )


def _before_fork() -> None:
    """Send what the running loop's callbacks have written: the child must not send it again."""
    loop: Any = events._get_running_loop()
    if isinstance(loop, _native.LoopCore):
        loop._write_now()


def set_up() -> None:
    """Make the native transport types; once, before the first loop."""
    selector_transport = selector_events._SelectorTransport  # type: ignore[attr-defined]
    flow_control = transports._FlowControlMixin
    attach = inspect.signature(base_events.Server._attach)  # type: ignore[attr-defined]
    _native._set_up_transports(
        cold=sys.modules[__name__],
        bases=(
            (flow_control,),
            (flow_control, transports.DatagramTransport),
            (transports.ReadTransport,),
            (flow_control, transports.WriteTransport),
        ),
        datagram_header=8 if sys.version_info >= (3, 13) else 0,
        buffered_protocol=protocols.BufferedProtocol,
        server_takes_transport=len(attach.parameters) > 1,
    )
    stream: Any = _native.SocketTransport
    stream.__repr__ = selector_transport.__repr__
    stream.max_size = selector_transport.max_size
    stream._start_tls_compatible = True
    stream._sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    datagram: Any = _native.DatagramTransport
    datagram.__repr__ = selector_transport.__repr__
    datagram.max_size = selector_transport.max_size
    read_pipe: Any = _native.ReadPipeTransport
    write_pipe: Any = _native.WritePipeTransport
    read_pipe.__repr__ = unix_events._UnixReadPipeTransport.__repr__  # type: ignore[attr-defined]
    read_pipe.max_size = unix_events._UnixReadPipeTransport.max_size  # type: ignore[attr-defined]
    write_pipe.__repr__ = unix_events._UnixWritePipeTransport.__repr__  # type: ignore[attr-defined]
    os.register_at_fork(before=_before_fork)
