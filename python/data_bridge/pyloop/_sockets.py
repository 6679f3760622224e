"""The cold half of the ``sock_*`` calls: once per process, in debug mode, or when something is wrong.

Owns asyncio's checks of a socket, the texts of wrong calls, the warning of a call that was never
awaited, and what an error of sendfile(2) means.
"""

from __future__ import annotations

import _socket
import errno
import io
import os
import socket
import sys
import warnings
from asyncio import base_events, exceptions, unix_events
from typing import TYPE_CHECKING, Any

from . import _native, _transports

if TYPE_CHECKING:
    from types import FrameType

    from ._loop import PyLoop


def check(loop: PyLoop, sock: Any) -> None:
    """asyncio's checks, at the first step of a call."""
    base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
    if loop.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


def is_plain() -> bool:
    """Whether nobody has replaced a method of ``socket.socket`` that the native half leaves out."""
    return all(
        getattr(_transports.SOCKET, name) is getattr(_socket.socket, name)
        for name in ("fileno", "recv", "recv_into", "send")
    )


def origin() -> tuple[tuple[str, int, str], ...] | None:
    """Where the call is being made, as a coroutine's ``cr_origin``; None if nobody wants to know."""
    depth = sys.get_coroutine_origin_tracking_depth()
    if depth == 0:
        return None
    frame: FrameType | None = sys._getframe(1)
    found: list[tuple[str, int, str]] = []
    while frame is not None and len(found) < depth:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return tuple(found)


def warn_unawaited(call: Any) -> None:
    """Warn of a call that was never awaited, as the interpreter does of its own coroutines."""
    warnings._warn_unawaited_coroutine(call)  # type: ignore[attr-defined]


def file_to_send(file: Any, count: int | None) -> int | None:
    """The descriptor of a file for sendfile(2); None if it is empty. As ``_sock_sendfile_native``."""
    if not hasattr(unix_events.os, "sendfile"):  # type: ignore[attr-defined]
        raise exceptions.SendfileNotAvailableError("os.sendfile() is not available")
    try:
        fileno: int = file.fileno()
    except (AttributeError, io.UnsupportedOperation) as error:
        raise exceptions.SendfileNotAvailableError("not a regular file") from error
    try:
        size = os.fstat(fileno).st_size
    except OSError as error:
        raise exceptions.SendfileNotAvailableError("not a regular file") from error
    return fileno if count or size else None


def sendfile_error(error: OSError, waited: bool, sent: bool) -> Exception:
    """What ``_sock_sendfile_native_impl`` makes of an error of sendfile(2)."""
    if not sent:
        # Not a file that can be mapped, for one: the fallback may do.
        return exceptions.SendfileNotAvailableError("os.sendfile call failed")
    if waited and error.errno == errno.ENOTCONN and type(error) is not ConnectionError:
        normalized = ConnectionError("socket is not connected", errno.ENOTCONN)
        normalized.__cause__ = error
        return normalized
    return error


class Signatures:
    """The calls' parameters: Python's own rules for arguments by name, and its texts for wrong ones."""

    @staticmethod
    def sock_recv(sock: Any, n: Any) -> tuple[Any, ...]:
        return sock, n

    @staticmethod
    def sock_recv_into(sock: Any, buf: Any) -> tuple[Any, ...]:
        return sock, buf

    @staticmethod
    def sock_recvfrom(sock: Any, bufsize: Any) -> tuple[Any, ...]:
        return sock, bufsize

    @staticmethod
    def sock_recvfrom_into(sock: Any, buf: Any, nbytes: Any = 0) -> tuple[Any, ...]:
        return sock, buf, nbytes

    @staticmethod
    def sock_sendall(sock: Any, data: Any) -> tuple[Any, ...]:
        return sock, data

    @staticmethod
    def sock_sendto(sock: Any, data: Any, address: Any) -> tuple[Any, ...]:
        return sock, data, address

    @staticmethod
    def sock_accept(sock: Any) -> tuple[Any, ...]:
        return (sock,)

    @staticmethod
    def sock_connect(sock: Any) -> tuple[Any, ...]:
        return (sock,)


def set_up() -> None:
    """Give the native half what it needs; once, before the first loop."""
    # Not a descriptor of any socket: only the method of one that has none.
    fileno = _socket.socket.__new__(_socket.socket).fileno
    _native._set_up_sockets(
        sys.modules[__name__], socket.socket, exceptions.InvalidStateError, fileno
    )
