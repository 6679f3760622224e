"""Starting and ending the servers of the socket workloads: on a loop, or the floor's own process.

``serving(kind, service)`` gives a server with an address and a process number. ``run(job)`` calls
``job`` in a thread while the loop serves; the floor serves by itself. A service that a loop does not
have raises NotImplementedError, which is the loop's own.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from loops import FLOOR, LoopKind

from workloads import io_bulk, io_protocols, placement
from workloads.io_bulk import FileBulk, file
from workloads.io_protocols import Counted
from workloads.load_client import LoadProgram

T = TypeVar("T")
_BACKLOG = 4096
_DATAGRAM_ROOM = 8 << 20
_SO_RCVBUFFORCE = 33


class Server(Protocol):
    """A server that runs."""

    address: str
    pid: int

    def run(self, job: Callable[[], T]) -> T:
        """Call ``job`` while the server serves; returns what it returns."""


def raise_descriptor_limit(needed: int) -> None:
    """Allow this many open descriptors; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        enough = hard == resource.RLIM_INFINITY or hard >= needed
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if enough else needed))
        except (OSError, ValueError):
            raise RuntimeError(f"{needed:,} descriptors are needed, {hard:,} allowed") from None


@contextmanager
def serving(kind: LoopKind, service: str, writes: int = 1) -> Iterator[Server]:
    """Start a server on a core of its own, and end it with the block."""
    unix = service == "unix"
    with tempfile.TemporaryDirectory() if unix else nullcontext("") as folder, placement.apart():
        path = str(Path(folder, "s"))
        if kind.key == FLOOR:
            with _FloorServer(service, path) as server:
                yield server
        else:
            loop_server = _LoopServer(kind.new_loop())
            try:
                loop_server.start(service, path, writes)
                yield loop_server
            finally:
                loop_server.close()


class _FloorServer(LoadProgram):
    """The raw server, a process of its own."""

    def __init__(self, service: str, path: str) -> None:
        listen = f"unix:{path}" if service == "unix" else "127.0.0.1:0"
        work = {"udp": "udp", "bulk": "bulk", "file": "file"}.get(service, "echo")
        options = {"file": f"/proc/{os.getpid()}/fd/{file().fileno()}"} if work == "file" else {}
        super().__init__("floor", listen=listen, service=work, **options)
        self.address = str(self.answer(10)["address"])

    def run(self, job: Callable[[], T]) -> T:
        return job()


class _LoopServer:
    """A server on the loop under test, in this process."""

    def __init__(self, loop: Any) -> None:
        self.address = ""
        self.pid = os.getpid()
        self._loop = loop
        self._server: Any = None
        self._problems: list[str] = []
        loop.set_exception_handler(self._note)

    def start(self, service: str, path: str, writes: int) -> None:
        """Listen; the service is one of ``SERVICES``."""
        FileBulk.failure = None
        if service == "file":
            file()  # made before the clock runs
        begin = SERVICES[service](self._loop, path, writes)
        self.address, self._server = self._loop.run_until_complete(begin)

    def run(self, job: Callable[[], T]) -> T:
        """Run the loop while ``job`` runs in a thread."""
        results: list[T] = []
        failures: list[BaseException] = []

        def body() -> None:
            try:
                results.append(job())
            except BaseException as failure:
                failures.append(failure)
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)

        thread = threading.Thread(target=body)
        self._loop.call_soon(thread.start)
        self._loop.run_forever()
        thread.join()
        if FileBulk.failure is not None:
            raise FileBulk.failure
        if failures:
            raise failures[0]
        if self._problems:
            raise RuntimeError(f"the loop reported: {self._problems[0]}")
        return results[0]

    def close(self) -> None:
        """Let the connections end, then close everything."""
        try:
            self._loop.run_until_complete(self._end())
        finally:
            self._loop.close()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for _ in range(100):
            if Counted.live == 0:
                break
            await asyncio.sleep(0.01)
        Counted.live = 0
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note(self, loop: Any, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self._problems.append(f"{context.get('message')} {problem!r}" if problem else str(context))


Started = tuple[str, Any]
Factory = Callable[[], asyncio.BaseProtocol]


async def _tcp(loop: Any, factory: Factory) -> Started:
    listener = _listener()
    return _name(listener), await loop.create_server(factory, sock=listener, backlog=_BACKLOG)


async def _protocol(loop: Any, path: str, writes: int) -> Started:
    return await _tcp(loop, io_protocols.echo_in_pieces(writes))


async def _buffered(loop: Any, path: str, writes: int) -> Started:
    return await _tcp(loop, io_protocols.BufferedEcho)


async def _bulk(loop: Any, path: str, writes: int) -> Started:
    return await _tcp(loop, io_bulk.Bulk)


async def _file(loop: Any, path: str, writes: int) -> Started:
    return await _tcp(loop, FileBulk)


async def _unix(loop: Any, path: str, writes: int) -> Started:
    server = await loop.create_unix_server(
        io_protocols.echo_in_pieces(writes), path, backlog=_BACKLOG
    )
    return f"unix:{path}", server


async def _streams(loop: Any, path: str, writes: int) -> Started:
    handler = io_protocols.stream_echo(writes)

    def factory() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(loop=loop)
        return asyncio.StreamReaderProtocol(reader, handler, loop=loop)

    return await _tcp(loop, factory)


async def _sockets(loop: Any, path: str, writes: int) -> Started:
    listener = _listener()
    task = loop.create_task(io_protocols.socket_echo(loop, listener))
    return _name(listener), _Accepting(task, listener)


async def _udp(loop: Any, path: str, writes: int) -> Started:
    room = socket.socket(type=socket.SOCK_DGRAM)
    room.setblocking(False)
    try:
        # Beyond the system's limit for those who may; up to it for the others.
        room.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _DATAGRAM_ROOM)
    except OSError:
        room.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_ROOM)
    room.bind(("127.0.0.1", 0))
    address = _name(room)
    transport, _ = await loop.create_datagram_endpoint(io_protocols.DatagramEcho, sock=room)
    return address, transport


class _Accepting:
    """The accepting task and its socket, closed together."""

    def __init__(self, task: Any, listener: socket.socket) -> None:
        self._task = task
        self._listener = listener

    def close(self) -> None:
        """Stop accepting."""
        self._task.add_done_callback(lambda _: self._listener.close())
        self._task.cancel()


def _listener() -> socket.socket:
    # With the protocol's number, as create_server does: asyncio sets TCP_NODELAY only if it is there.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen(_BACKLOG)
    return listener


def _name(bound: socket.socket) -> str:
    host, port = bound.getsockname()
    return f"{host}:{port}"


SERVICES: dict[str, Callable[[Any, str, int], Coroutine[Any, Any, Started]]] = {
    "protocol": _protocol,
    "buffered": _buffered,
    "streams": _streams,
    "sockets": _sockets,
    "unix": _unix,
    "udp": _udp,
    "bulk": _bulk,
    "file": _file,
}
