"""The Rust half of PyLoop: the loop's core and its handles.

PyLoop (in `_loop.py`) is the core over asyncio.SelectorEventLoop. What has no underscore is for programs, and is
reached through a PyLoop; the rest is between the two halves. Nothing is thread-safe unless it says so, and
nothing blocks but `_run`, `_run_once` and `_wait`. tests/pyloop/test_stub.py holds names, signatures and
texts to those of the module.
"""

# ruff: noqa: E501, PYI021  (the texts are the native module's own, here for editors to show)

import asyncio
from asyncio import AbstractEventLoop, AbstractServer, BaseProtocol, transports
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextvars import Context
from socket import socket
from traceback import StackSummary
from types import ModuleType, TracebackType
from typing import (
    IO,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    final,
)

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Ts = TypeVarTuple("_Ts")
_CoroutineLike: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]

__all__ = [
    "DatagramTransport",
    "LoopCore",
    "ReadPipeTransport",
    "SocketTransport",
    "WritePipeTransport",
    "__version__",
    "_adopt",
    "_after_fork",
    "_at_exit",
    "_before_collection",
    "_live_handles",
    "_set_up",
    "_set_up_sockets",
    "_set_up_transports",
]

__version__: Final[str]

@disjoint_base
class Handle(asyncio.Handle):
    """A callback that call_soon() or call_soon_threadsafe() has queued: what to call, or nothing any more.

    isinstance(handle, asyncio.Handle) holds, though at run time by `__class__` and not by inheritance.
    Weakly referenceable; not made by hand.
    """

    _callback: Callable[..., object] | None
    _args: Sequence[Any] | None  # type: ignore[assignment]
    _context: Context | None
    _loop: AbstractEventLoop
    _cancelled: bool
    _source_traceback: StackSummary | None
    _repr: str | None

    def cancel(self) -> None:
        """Cancel the callback; idempotent. Its arguments are released at once."""

    def cancelled(self) -> bool:
        """Whether the callback was cancelled."""

    def get_context(self) -> Context:
        """The contextvars.Context in which the callback runs."""

    def _run(self) -> None:
        """Run the callback now; an exception goes to the loop's exception handler."""

@final
class TimerHandle(Handle, asyncio.TimerHandle):  # type: ignore[misc]  # no such layout; see below
    """A callback that call_later() or call_at() has scheduled; handles order by deadline, as in asyncio.

    isinstance(handle, asyncio.TimerHandle) holds, though at run time by `__class__` and not by inheritance.
    """

    _when: float
    _scheduled: bool

    def when(self) -> float:
        """The deadline, in seconds of the loop's clock."""

    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __le__(self, other: asyncio.TimerHandle) -> bool: ...
    def __gt__(self, other: asyncio.TimerHandle) -> bool: ...
    def __ge__(self, other: asyncio.TimerHandle) -> bool: ...

@final
class SockCall(Coroutine[Any, Any, _T_co]):
    """A sock_* call of a loop: a coroutine that has not been awaited, waits, or is done.

    A collections.abc.Coroutine, but none of the interpreter's own: inspect.iscoroutine() says no, asyncio.iscoroutine() yes.
    """

    def send(self, value: Any, /) -> Any:
        """Go on until the call waits or ends."""

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        """End the call with an exception."""

    def close(self) -> None:
        """End the call; nothing more is received or sent."""

    __name__: str
    __qualname__: str

    def __await__(self) -> Generator[Any, Any, _T_co]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_suspended(self) -> bool: ...
    @property
    def cr_await(self) -> asyncio.Future[None] | None: ...
    @property
    def cr_origin(self) -> tuple[tuple[str, int, str], ...] | None: ...
    @property
    def cr_frame(self) -> None: ...
    @property
    def cr_code(self) -> None: ...

@final
class SocketTransport(transports._FlowControlMixin):
    """A connected TCP or Unix stream socket, as asyncio.Transport. Made by the loop."""

    def write(self, data: bytes | bytearray | memoryview[Any], /) -> None:
        """Send bytes, a bytearray or a memoryview; never blocks.

        What is written in a callback leaves at the latest at the end of the loop's iteration. Raises TypeError for other types,
        RuntimeError after write_eof(). Source: asyncio.WriteTransport.write.
        """

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]], /) -> None:
        """Send an iterable of bytes-like objects, in one system call where that is possible."""

    def write_eof(self) -> None:
        """Close the sending side after what waits was sent. Source: asyncio.WriteTransport.write_eof."""

    def can_write_eof(self) -> Literal[True]:
        """True: a socket has two sides."""

    def is_reading(self) -> bool:
        """Whether data is read as it comes."""

    def pause_reading(self) -> None:
        """Stop reading: the protocol gets no more data until resume_reading(). Idempotent."""

    def resume_reading(self) -> None:
        """Read again, in a copy of the current context. Idempotent."""

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent, after an attempt to send them."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The water marks (low, high), in bytes."""

    def set_write_buffer_limits(self, high: float | None = None, low: float | None = None) -> None:
        """Set the water marks, in bytes: above high the protocol's pause_writing() is called, at low or below resume_writing().

        Raises ValueError unless high >= low >= 0. Source: asyncio.WriteTransport.set_write_buffer_limits.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the connection, as asyncio.BaseTransport.get_extra_info names it."""

    def get_protocol(self) -> BaseProtocol:
        """The protocol; None after the connection was lost."""

    def set_protocol(self, protocol: BaseProtocol, /) -> None:
        """Hand the connection to another protocol, from the next callback on."""

    def is_closing(self) -> bool:
        """Whether the transport is closed or about to be."""

    def close(self) -> None:
        """Close after what waits was sent; connection_lost(None) follows. Source: asyncio.BaseTransport.close."""

    def abort(self) -> None:
        """Close at once; what waits is lost. connection_lost(None) follows. Source: asyncio.WriteTransport.abort."""

    def _start_reading(self, waiter: asyncio.Future[None] | None, /) -> None:
        """Read from now on, and wake the waiter if it is not None."""

    def _read_ready(self) -> None:
        """The descriptor is readable."""

    def _write_ready(self) -> None:
        """The descriptor is writable."""

    def _call_connection_lost(self, exc: BaseException | None, /) -> None:
        """Tell the protocol that the connection is lost, and close the descriptor."""

    def _force_close(self, exc: BaseException | None, /) -> None:
        """Close at once, with connection_lost(exc)."""

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        """A future that is done when nothing waits to be sent; no writes until it is reset."""

    def _reset_empty_waiter(self) -> None:
        """Allow writes again."""

    # asyncio's private attributes; read-only.

    max_size: ClassVar[int]
    _start_tls_compatible: ClassVar[bool]
    _sendfile_compatible: ClassVar[Any]

    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _loop(self) -> AbstractEventLoop | None: ...
    @property
    def _protocol(self) -> BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _conn_lost(self) -> int: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _sock(self) -> Any: ...
    @property
    def _sock_fd(self) -> int: ...
    @property
    def _eof(self) -> bool: ...
    @property
    def _server(self) -> AbstractServer | None: ...
    @property
    def _empty_waiter(self) -> asyncio.Future[None] | None: ...
    @property
    def _protocol_connected(self) -> bool: ...

@final
class DatagramTransport(transports._FlowControlMixin, asyncio.DatagramTransport):
    """A UDP or Unix datagram socket, as asyncio.DatagramTransport. Made by the loop."""

    def sendto(self, data: bytes | bytearray | memoryview[Any], addr: Any = None) -> None:
        """Send a datagram to addr, or to the peer; never blocks.

        Errors of the kernel go to the protocol's error_received(). Raises TypeError for other types than bytes, bytearray and
        memoryview, ValueError for an address other than the remote address. Source: asyncio.DatagramTransport.sendto.
        """

    def is_reading(self) -> bool:
        """Whether data is read as it comes."""

    def pause_reading(self) -> None:
        """Stop reading: the protocol gets no more data until resume_reading(). Idempotent."""

    def resume_reading(self) -> None:
        """Read again, in a copy of the current context. Idempotent."""

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent, after an attempt to send them."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The water marks (low, high), in bytes."""

    def set_write_buffer_limits(self, high: float | None = None, low: float | None = None) -> None:
        """Set the water marks, in bytes: above high the protocol's pause_writing() is called, at low or below resume_writing().

        Raises ValueError unless high >= low >= 0. Source: asyncio.WriteTransport.set_write_buffer_limits.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the connection, as asyncio.BaseTransport.get_extra_info names it."""

    def get_protocol(self) -> BaseProtocol:
        """The protocol; None after the connection was lost."""

    def set_protocol(self, protocol: BaseProtocol, /) -> None:
        """Hand the connection to another protocol, from the next callback on."""

    def is_closing(self) -> bool:
        """Whether the transport is closed or about to be."""

    def close(self) -> None:
        """Close after what waits was sent; connection_lost(None) follows. Source: asyncio.BaseTransport.close."""

    def abort(self) -> None:
        """Close at once; what waits is lost. connection_lost(None) follows. Source: asyncio.WriteTransport.abort."""

    def _start_reading(self, waiter: asyncio.Future[None] | None, /) -> None:
        """Read from now on, and wake the waiter if it is not None."""

    def _read_ready(self) -> None:
        """The descriptor is readable."""

    def _write_ready(self) -> None:
        """The descriptor is writable."""

    def _call_connection_lost(self, exc: BaseException | None, /) -> None:
        """Tell the protocol that the connection is lost, and close the descriptor."""

    def _force_close(self, exc: BaseException | None, /) -> None:
        """Close at once, with connection_lost(exc)."""

    # asyncio's private attributes; read-only.

    max_size: ClassVar[int]

    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _loop(self) -> AbstractEventLoop | None: ...
    @property
    def _protocol(self) -> BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _conn_lost(self) -> int: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _sock(self) -> Any: ...
    @property
    def _sock_fd(self) -> int: ...
    @property
    def _address(self) -> Any: ...
    @property
    def _protocol_connected(self) -> bool: ...

@final
class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe, as asyncio.ReadTransport. Made by the loop."""

    def is_reading(self) -> bool:
        """Whether data is read as it comes."""

    def pause_reading(self) -> None:
        """Stop reading: the protocol gets no more data until resume_reading(). Idempotent."""

    def resume_reading(self) -> None:
        """Read again, in a copy of the current context. Idempotent."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the connection, as asyncio.BaseTransport.get_extra_info names it."""

    def get_protocol(self) -> BaseProtocol:
        """The protocol; None after the connection was lost."""

    def set_protocol(self, protocol: BaseProtocol, /) -> None:
        """Hand the connection to another protocol, from the next callback on."""

    def is_closing(self) -> bool:
        """Whether the transport is closed or about to be."""

    def close(self) -> None:
        """Close; connection_lost(None) follows. Source: asyncio.BaseTransport.close."""

    def _start_reading(self, waiter: asyncio.Future[None] | None, /) -> None:
        """Read from now on, and wake the waiter if it is not None."""

    def _read_ready(self) -> None:
        """The descriptor is readable."""

    def _write_ready(self) -> None:
        """The descriptor is writable."""

    def _call_connection_lost(self, exc: BaseException | None, /) -> None:
        """Tell the protocol that the connection is lost, and close the descriptor."""

    # asyncio's private attributes; read-only.

    max_size: ClassVar[int]
    _pipe: IO[bytes] | socket | None

    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _loop(self) -> AbstractEventLoop | None: ...
    @property
    def _protocol(self) -> BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _conn_lost(self) -> int: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _fileno(self) -> int: ...

@final
class WritePipeTransport(transports._FlowControlMixin, asyncio.WriteTransport):
    """The writing end of a pipe, as asyncio.WriteTransport. Made by the loop."""

    def write(self, data: bytes | bytearray | memoryview[Any], /) -> None:
        """Write bytes, a bytearray or a memoryview, at once or when the pipe takes more; never blocks.

        Raises AssertionError for other types. Source: asyncio.WriteTransport.write.
        """

    def write_eof(self) -> None:
        """Close after what waits was written; connection_lost(None) follows. Source: asyncio.WriteTransport.write_eof."""

    def can_write_eof(self) -> Literal[True]:
        """True: the end of the pipe is the end of its data."""

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent, after an attempt to send them."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The water marks (low, high), in bytes."""

    def set_write_buffer_limits(self, high: float | None = None, low: float | None = None) -> None:
        """Set the water marks, in bytes: above high the protocol's pause_writing() is called, at low or below resume_writing().

        Raises ValueError unless high >= low >= 0. Source: asyncio.WriteTransport.set_write_buffer_limits.
        """

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the connection, as asyncio.BaseTransport.get_extra_info names it."""

    def get_protocol(self) -> BaseProtocol:
        """The protocol; None after the connection was lost."""

    def set_protocol(self, protocol: BaseProtocol, /) -> None:
        """Hand the connection to another protocol, from the next callback on."""

    def is_closing(self) -> bool:
        """Whether the transport is closed or about to be."""

    def close(self) -> None:
        """Close after what waits was written; connection_lost(None) follows. Source: asyncio.BaseTransport.close."""

    def abort(self) -> None:
        """Close at once; what waits is lost. connection_lost(None) follows. Source: asyncio.WriteTransport.abort."""

    def _start_reading(self, waiter: asyncio.Future[None] | None, /) -> None:
        """Read from now on, and wake the waiter if it is not None."""

    def _read_ready(self) -> None:
        """The descriptor is readable."""

    def _write_ready(self) -> None:
        """The descriptor is writable."""

    def _call_connection_lost(self, exc: BaseException | None, /) -> None:
        """Tell the protocol that the connection is lost, and close the descriptor."""

    # asyncio's private attributes; read-only.

    _pipe: IO[bytes] | socket | None

    @property
    def _extra(self) -> dict[str, Any]: ...
    @property
    def _loop(self) -> AbstractEventLoop | None: ...
    @property
    def _protocol(self) -> BaseProtocol | None: ...
    @property
    def _closing(self) -> bool: ...
    @property
    def _paused(self) -> bool: ...
    @property
    def _conn_lost(self) -> int: ...
    @property
    def _protocol_paused(self) -> bool: ...
    @property
    def _high_water(self) -> int: ...
    @property
    def _low_water(self) -> int: ...
    @property
    def _fileno(self) -> int: ...

@disjoint_base
class LoopCore:
    """The ready queue, timers, clock, reactor and run loop of a PyLoop.

    Of no use by itself: PyLoop's other base, asyncio.SelectorEventLoop, does the rest.
    """

    def __new__(cls, *args: object, **kwargs: object) -> Self: ...

    # For programs.

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        r"""Run *callback(\*args)* on the loop in its next iteration, in order of scheduling.

        *context* is the contextvars.Context to run in; by default a copy of the current one. Returns a Handle with cancel().
        Raises RuntimeError if the loop is closed. Not thread-safe: from other threads use call_soon_threadsafe().
        Source: asyncio.BaseEventLoop.call_soon.
        """

    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle:
        """Like call_soon(), from any thread; wakes the loop if it sleeps. Callbacks of one thread keep their order.

        Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.call_soon_threadsafe.
        """

    def call_soon_batch(
        self, callbacks: Iterable[Callable[[], object]], *, context: Context | None = None
    ) -> None:
        """Queue an iterable of callables without arguments at once, in order, with one wake-up; from any thread.

        All are checked before any is queued: TypeError for one that is not callable or is a coroutine function. Each runs in *context*, or in
        a copy of the current one. Returns None. Raises RuntimeError if the loop is closed. An extension of PyLoop's.
        """

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        r"""Run *callback(\*args)* once, *delay* seconds from now on the loop's clock; never early.

        A negative delay is already due and keeps its place by deadline. Returns a TimerHandle with cancel() and when().
        Raises RuntimeError if the loop is closed. Not thread-safe.
        Source: asyncio.BaseEventLoop.call_later.
        """

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        r"""Run *callback(\*args)* once, when the loop's clock (time(), in seconds) reaches *when*; never early.

        Timers run in order of their deadlines, equal deadlines in order of scheduling. Returns a TimerHandle.
        Raises RuntimeError if the loop is closed. Not thread-safe. Source: asyncio.BaseEventLoop.call_at.
        """

    def time(self) -> float:
        """The loop's clock, in seconds: that of time.monotonic().

        Source: asyncio.BaseEventLoop.time. Safe from any thread.
        """

    def create_future(self) -> asyncio.Future[Any]:
        """A new asyncio.Future of this loop. Source: asyncio.BaseEventLoop.create_future."""

    def create_task(
        self,
        coro: _CoroutineLike[_T],
        *,
        name: object = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]:
        """Schedule a coroutine as an asyncio.Task, or as what the task factory makes of it.

        Raises RuntimeError if the loop is closed. Source: asyncio.BaseEventLoop.create_task.
        """

    def stop(self) -> None:
        """Stop running after the current iteration; callbacks that are ready in it still run.

        Source: asyncio.BaseEventLoop.stop. From another thread use call_soon_threadsafe(loop.stop).
        """

    def is_running(self) -> bool:
        """Whether the loop is running."""

    def is_closed(self) -> bool:
        """Whether the loop was closed."""

    def get_debug(self) -> bool:
        """Whether the loop is in debug mode."""

    # Calls on sockets: each gives a coroutine.

    def sock_recv(self, sock: socket, n: int) -> SockCall[bytes]:
        """Receive up to *n* bytes from a non-blocking socket; b'' is the end of the stream. A coroutine.

        A cancelled call has received nothing. Source: asyncio.AbstractEventLoop.sock_recv.
        """

    def sock_recv_into(self, sock: socket, buf: WriteableBuffer) -> SockCall[int]:
        """Receive into a writable buffer; the number of bytes. A coroutine.

        A cancelled call has received nothing. Source: asyncio.AbstractEventLoop.sock_recv_into.
        """

    def sock_recvfrom(self, sock: socket, bufsize: int) -> SockCall[tuple[bytes, Any]]:
        """Receive a datagram of up to *bufsize* bytes: (data, address). A coroutine.

        Source: asyncio.AbstractEventLoop.sock_recvfrom.
        """

    def sock_recvfrom_into(
        self, sock: socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> SockCall[tuple[int, Any]]:
        """Receive a datagram of up to *nbytes* bytes (0: as many as fit) into a writable buffer: (number of bytes, address).
        A coroutine. Source: asyncio.AbstractEventLoop.sock_recvfrom_into.
        """

    def sock_sendall(self, sock: socket, data: ReadableBuffer) -> SockCall[None]:
        """Send all of a bytes-like object. A coroutine.

        After an error or a cancellation nobody knows how much was sent. Source: asyncio.AbstractEventLoop.sock_sendall.
        """

    def sock_sendto(self, sock: socket, data: ReadableBuffer, address: Any) -> SockCall[int]:
        """Send a datagram to *address*; the number of bytes. A coroutine.

        Source: asyncio.AbstractEventLoop.sock_sendto.
        """

    def sock_accept(self, sock: socket) -> SockCall[tuple[socket, Any]]:
        """Accept a connection of a listening, non-blocking socket: (connection, address). A coroutine.

        The connection is a non-blocking socket. Source: asyncio.AbstractEventLoop.sock_accept.
        """

    # asyncio's private attributes and methods.

    _closed: bool
    _debug: bool
    _stopping: bool
    _thread_id: int | None
    _task_factory: Callable[..., asyncio.Future[Any]] | None
    _ready: Any
    _scheduled: Any

    def _run_once(self) -> None:
        """Run one iteration, as hosts that step the loop themselves ask for; in stock mode asyncio's own."""

    def _add_callback(self, handle: asyncio.Handle) -> None:
        """asyncio's `_add_callback`: queue a handle, native or made in Python, unless it was cancelled."""

    def _add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> Handle:
        r"""Call *callback(\*args)* whenever *fd* is readable, until removed; replaces what was there."""

    def _add_writer(
        self, fd: FileDescriptorLike, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> Handle:
        r"""Call *callback(\*args)* whenever *fd* is writable, until removed; replaces what was there."""

    def _remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Stop watching *fd* for reading; whether it was watched."""

    def _remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Stop watching *fd* for writing; whether it was watched."""

    def _write_to_self(self) -> None: ...

    # For the Python half: opening and running.

    def _open(self) -> None:
        """Make the kernel objects; the loop counts as open from here on."""

    def _shut(self) -> None:
        """Close the kernel objects and release everything that was queued or watched."""

    def _run(self, switch_interval: float) -> None:
        """Run iterations until stopped: the heart of run_forever."""

    def _look_again(self) -> None:
        """Look at the next chance whether somebody replaced a part of the loop."""

    def _is_shadowed(self) -> bool:
        """Whether an instance attribute may shadow a method that the short ways leave out."""

    # For the Python half: the views of the queues and the façade of the reactor.

    def _ready_count(self) -> int:
        """How many entries are ready."""

    def _ready_snapshot(self) -> list[Any]:
        """The ready handles, oldest first; those that asyncio's C code threw away are made anew."""

    def _ready_clear(self) -> None:
        """Forget everything that is ready."""

    def _scheduled_count(self) -> int:
        """How many timers are pending."""

    def _scheduled_snapshot(self) -> list[Any]:
        """The pending timers; the earliest first, the others in no particular order."""

    def _scheduled_clear(self) -> None:
        """Forget every pending timer."""

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait at most *timeout* seconds (None: for ever) for descriptors: a list of (fd, events). For the `_selector` façade."""

    def _watched(
        self, only: int | None = None
    ) -> list[tuple[int, int, asyncio.Handle | None, asyncio.Handle | None]]:
        """All watched descriptors, or *only* one, for the `_selector` façade."""

    def _watch_handles(
        self, fd: int, reader: asyncio.Handle | None, writer: asyncio.Handle | None
    ) -> None:
        """Register handles made by this loop for *fd*, as the façade's register() and modify() are asked."""

    def _unwatch(self, fd: int) -> None:
        """Stop watching *fd* in both directions; KeyError if it is not watched."""

    def _reactor_fileno(self) -> int:
        """The descriptor of the kernel object that the loop waits on, or -1."""

    # For the Python half: sockets and transports.

    def _sock_writable(self, sock: socket, /) -> SockCall[None]:
        """Wait until the socket is writable. A coroutine."""

    def _sock_send_range(
        self, sock: socket, file: int, offset: int, count: int, /
    ) -> SockCall[int]:
        """Send *count* bytes (0: all) of an open file from *offset* on by sendfile(2); the number of bytes. A coroutine."""

    def _new_socket_transport(
        self,
        sock: socket,
        fd: int,
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None,
        extra: dict[str, Any],
        server: AbstractServer | None,
    ) -> SocketTransport:
        """A transport over a non-blocking stream socket; *extra* is its complete extra information."""

    def _new_datagram_transport(
        self,
        sock: socket,
        numbers: tuple[int, int],
        protocol: BaseProtocol,
        address: object,
        waiter: asyncio.Future[None] | None,
        extra: dict[str, Any],
    ) -> DatagramTransport:
        """A transport over a non-blocking datagram socket; *numbers* are its descriptor and family, *extra* is complete."""

    def _new_read_pipe_transport(
        self,
        pipe: IO[bytes] | socket,
        fd: int,
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None,
        extra: dict[str, Any],
    ) -> ReadPipeTransport:
        """A transport that reads from a non-blocking pipe; *extra* is its complete extra information."""

    def _new_write_pipe_transport(
        self,
        pipe: IO[bytes] | socket,
        numbers: tuple[int, bool],
        protocol: BaseProtocol,
        waiter: asyncio.Future[None] | None,
        extra: dict[str, Any],
    ) -> WritePipeTransport:
        """A transport that writes to a non-blocking pipe; *numbers* are its descriptor and whether to watch for the reader's end,
        *extra* is its complete extra information.
        """

    def _listen(
        self,
        protocol_factory: Callable[[], BaseProtocol],
        sock: socket,
        server: AbstractServer | None,
        backlog: int,
        numbers: tuple[int, int, int],
    ) -> None:
        """Accept connections of a listening socket, each with a protocol of the factory's."""

    def _transport_of(self, fd: int) -> Any:
        """The transport that has this descriptor, or None."""

    def _transport_list(self) -> list[tuple[int, Any]]:
        """All transports, by descriptor."""

    def _lend_descriptor(self, fd: int, transport: object) -> None:
        """Let others use a transport's descriptor for a while."""

    def _return_descriptor(self, fd: int, transport: object) -> None:
        """The descriptor is the transport's own again, unless it was closed meanwhile."""

    def _write_now(self) -> None:
        """Send what was written in this iteration now: before a fork, or before something else writes to the same descriptor."""

def _at_exit(main_ident: int) -> None:
    """For `atexit`: stop the loops of all other threads, and wait a moment for those that are in a callback."""

def _set_up(
    *,
    cold: ModuleType,
    handle: type[asyncio.Handle],
    timer_handle: type[asyncio.TimerHandle],
    futures: ModuleType,
    tasks: ModuleType,
    task_step: object,
    task_wakeup: object,
) -> None:
    """Take what the native half needs from asyncio: called once by `_cold`, before the first loop."""

def _set_up_transports(
    cold: ModuleType,
    bases: tuple[tuple[type, ...], ...],
    datagram_header: int,
    buffered_protocol: type[asyncio.BufferedProtocol],
    server_takes_transport: bool,
) -> None:
    """Make the transport types over asyncio's own classes: called once by `_transports`, before the first loop."""

def _set_up_sockets(
    cold: ModuleType,
    socket: type[socket],
    invalid_state: type[asyncio.InvalidStateError],
    fileno: Callable[[], int],
) -> None:
    """Take what the `sock_*` calls need of the standard library: called once by `_sockets`, before the first loop."""

def _adopt(class_: type) -> None:
    """Put the raw methods on the class PyLoop itself, where the interpreter's specialised calls find them."""

def _after_fork() -> None:
    """Told by `os.register_at_fork` in a new child."""

def _before_collection(phase: str, info: dict[str, Any]) -> None:
    """For `gc.callbacks`: lets the collector see every waiting handle before a full collection."""

def _live_handles() -> int:
    """How many native handles are alive; for tests."""
