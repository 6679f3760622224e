"""``PyLoop``: the native core and asyncio's own event loop, and only what the two need to meet.

What runs once per callback, timer, wake-up or message is native (``_native.LoopCore`` and the
transports); what runs once per server, process or program is inherited from
``asyncio.SelectorEventLoop``. ARCHITECTURE.md has the table.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import weakref
from asyncio import base_events, events, selector_events, sslproto
from collections.abc import AsyncGenerator, Callable
from typing import IO, TYPE_CHECKING, Any, TypeVarTuple, Unpack

from . import _cold, _native, _sockets, _transports
from ._selector import ReactorSelector

if TYPE_CHECKING:
    import ssl

    from _typeshed import FileDescriptorLike

    class _SelectorEventLoop(asyncio.SelectorEventLoop):
        """asyncio's own loop with those of its private names that typeshed leaves out."""

        _csock: socket.socket | None
        _ssock: socket.socket | None
        _current_handle: asyncio.Handle | None
        _internal_fds: int
        _signal_handlers: dict[int, asyncio.Handle]

        def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[object, object]) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[object, object]) -> None: ...
        def _check_callback(self, callback: object, method: str) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        async def _ensure_resolved(self, address: Any, **hints: Any) -> list[Any]: ...
        def _make_datagram_transport(self, *args: Any) -> asyncio.DatagramTransport: ...
        def _make_self_pipe(self) -> None: ...
        def _make_socket_transport(self, *args: Any, **kw: Any) -> asyncio.Transport: ...
        async def _make_subprocess_transport(self, *args: Any, **kw: Any) -> asyncio.Transport: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _start_serving(self, *args: Any, **kw: Any) -> None: ...

        if sys.version_info >= (3, 13):

            def _run_forever_cleanup(self) -> None: ...
            def _run_forever_setup(self) -> None: ...

else:
    _SelectorEventLoop = asyncio.SelectorEventLoop

#: The address families whose connections are accepted natively.
_NATIVE_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_Ts = TypeVarTuple("_Ts")

_cold.set_up()
_transports.set_up()
_sockets.set_up()


class PyLoop(_native.LoopCore, _SelectorEventLoop):
    """An asyncio event loop written in Rust. Takes no arguments: it brings its own selector.

    Everything of ``asyncio.SelectorEventLoop`` works as documented there. ``call_soon_batch()`` is
    an addition. Methods are not thread-safe unless they say so. A loop may run on one thread and
    later on another.

    Raises OSError if the kernel has no more descriptors.
    """

    # Slots for all that the inherited __init__ sets: instances then have no dictionary, and the
    # interpreter's specialised look-ups of methods stay open.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_current_handle",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_facade",
        "_internal_fds",
        "_old_agen_hooks",
        "_signal_handlers",
        "_ssock",
        "_timer_cancelled_count",
        "_unix_server_sockets",
        "slow_callback_duration",
    )

    def __init__(self) -> None:
        self._open()
        self._facade: ReactorSelector | None = None
        super().__init__(ReactorSelector(self))

    @property
    def _selector(self) -> ReactorSelector | None:
        return self._facade

    @_selector.setter
    def _selector(self, selector: ReactorSelector | None) -> None:
        # __init__ sets the façade, close() sets None.
        if selector is not None and (
            type(selector) is not ReactorSelector or selector._loop is not self
        ):
            raise RuntimeError("PyLoop waits in its own reactor: _selector cannot be replaced")
        self._facade = selector

    def run_forever(self) -> None:
        """Run until stop() is called.

        Raises RuntimeError if the loop is closed, is running already, or another loop runs in this thread.
        SystemExit and KeyboardInterrupt of a callback leave the loop, which can run again.
        Source: asyncio.BaseEventLoop.run_forever.
        """
        self._run_forever_setup()
        try:
            self._run(sys.getswitchinterval())
        finally:
            self._run_forever_cleanup()

    if sys.version_info < (3, 13):

        def _run_forever_setup(self) -> None:
            self._check_closed()
            self._check_running()
            self._set_coroutine_origin_tracking(self._debug)
            self._old_agen_hooks = sys.get_asyncgen_hooks()
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,
                finalizer=self._asyncgen_finalizer_hook,
            )
            events._set_running_loop(self)

        def _run_forever_cleanup(self) -> None:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*self._old_agen_hooks)

    # Sockets: asyncio's own hooks, filled with native transports.

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, object] | None = None,
        server: asyncio.AbstractServer | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        if not issubclass(type(sock), _transports.SOCKET):
            # Something that only behaves like one: asyncio's own transport calls its methods.
            return super()._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server
            )
        extra = _transports.extra_of(sock, extra)
        base_events._set_nodelay(sock)  # type: ignore[attr-defined]
        return self._new_socket_transport(sock, sock.fileno(), protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, object] | None = None,
        server: asyncio.AbstractServer | None = None,
        **timeouts: Any,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,  # type: ignore[arg-type]
            server_side,
            server_hostname,
            **timeouts,
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: object = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, object] | None = None,
    ) -> asyncio.DatagramTransport:
        if not issubclass(type(sock), _transports.SOCKET):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        self._ensure_fd_no_transport(sock)
        extra = _transports.extra_of(sock, extra)
        numbers = sock.fileno(), sock.family
        return self._new_datagram_transport(sock, numbers, protocol, address, waiter, extra)

    def _make_read_pipe_transport(
        self,
        pipe: IO[bytes] | socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, object] | None = None,
    ) -> asyncio.ReadTransport:
        extra = {} if extra is None else extra
        extra["pipe"] = pipe
        fd = _transports.check_read_pipe(pipe)
        return self._new_read_pipe_transport(pipe, fd, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: IO[bytes] | socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, object] | None = None,
    ) -> asyncio.WriteTransport:
        extra = {} if extra is None else extra
        extra["pipe"] = pipe
        numbers = _transports.check_write_pipe(pipe)
        return self._new_write_pipe_transport(pipe, numbers, protocol, waiter, extra)

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: asyncio.AbstractServer | None = None,
        backlog: int = 100,
        *timeouts: float,
        **more: object,
    ) -> None:
        if sslcontext is not None or sock.family not in _NATIVE_FAMILIES:
            super()._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts, **more
            )
        else:
            numbers = sock.fileno(), sock.family, sock.proto
            self._listen(protocol_factory, sock, server, backlog, numbers)

    def _ensure_fd_no_transport(self, fd: FileDescriptorLike) -> None:
        try:
            fileno = fd if isinstance(fd, int) else int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
        transport = self._transport_of(fileno)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def _sendfile_native(
        self, transp: _native.SocketTransport, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        # As asyncio's, which takes the transport off its list so that sock_sendfile() accepts the socket.
        fd = transp._sock_fd
        resume_reading = transp.is_reading()
        transp.pause_reading()
        sent = transp._make_empty_waiter()
        try:
            await sent
            self._lend_descriptor(fd, transp)
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            self._return_descriptor(fd, transp)
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> asyncio.Transport:
        # The child, or what it talks to, may wait for what was written before.
        self._write_now()
        return await super()._make_subprocess_transport(*args, **kwargs)

    # Calls on sockets of the caller's: what is done once per message is native.

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket to *address*; host names are looked up first.

        Raises OSError if the connection is refused or fails.
        Source: asyncio.AbstractEventLoop.sock_connect.
        """
        _sockets.check(self, sock)
        if sock.family == socket.AF_INET or sock.family == socket.AF_INET6:
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            _, _, _, _, address = resolved[0]
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):
            # Interrupted, the attempt goes on in the background.
            await self._sock_writable(sock)
        else:
            return
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != 0:
            raise OSError(error, f"Connect call failed {address}")

    if sys.platform == "linux":

        async def _sock_sendfile_native(
            self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
        ) -> int:
            fileno = _sockets.file_to_send(file, count)
            if fileno is None:
                return 0
            return await self._sock_send_range(sock, fileno, offset, count or 0)

    @property
    def _transports(self) -> weakref.WeakValueDictionary[int, asyncio.BaseTransport]:
        return weakref.WeakValueDictionary(self._transport_list())

    @_transports.setter
    def _transports(self, empty: object) -> None:
        # The inherited __init__ sets an empty dictionary.
        pass

    # The native core wakes itself by an eventfd. The pair of sockets of asyncio's self-pipe is made
    # only for signals: signal.set_wakeup_fd() writes single bytes, which an eventfd refuses.

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None
        self._internal_fds += 1

    def _close_self_pipe(self) -> None:
        if self._csock is not None:
            super()._close_self_pipe()
        self._internal_fds -= 1

    def add_signal_handler(
        self,
        sig: int,
        callback: Callable[[*_Ts], object],
        *args: Unpack[_Ts],  # noqa: UP044 - inspect cannot evaluate the text "*_Ts" of an annotation
    ) -> None:
        """Call *callback(\\*args)* on the loop whenever the process receives *sig*.

        Only in the main thread. Raises ValueError for a number that is no signal, RuntimeError for
        one that cannot be caught.
        Source: asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler.
        """
        made = self._csock is None and not self.is_closed()
        if made:
            super()._make_self_pipe()
        try:
            super().add_signal_handler(sig, callback, *args)
        except BaseException:
            if made:
                super()._close_self_pipe()
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of *sig*; whether there was one.

        Source: asyncio.unix_events._UnixSelectorEventLoop.remove_signal_handler.
        """
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers and self._csock is not None:
            if self.is_running():
                # asyncio removes a cancelled handler while it reads from these sockets: close them
                # afterwards.
                self.call_soon(self._close_signal_pipe)
            else:
                self._close_signal_pipe()
        return removed

    def _close_signal_pipe(self) -> None:
        if not self._signal_handlers and self._csock is not None:
            super()._close_self_pipe()


_cold.adopt(PyLoop)
assert issubclass(PyLoop, selector_events.BaseSelectorEventLoop)
