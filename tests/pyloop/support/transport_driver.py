"""Owns acting out a transport script on a loop, and what is compared afterwards.

The loop comes to rest between any two steps: it has nothing to do any more and the kernel has delivered
everything. Where that takes the kernel a moment (TCP), `patience` says how long it is given.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
import warnings
from collections.abc import Callable
from typing import Any

from support.descriptors import open_descriptors, opened_since
from support.running import run_passes
from support.transport_recorder import Connection, pattern
from support.transport_scripts import KERNEL_BUFFER, Action, ConnectionPlan, Script, Step

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Seen = dict[str, Any]

_RESET = struct.pack("ii", 1, 0)


def act_out(script: Script, factory: LoopFactory, patience: float = 0.0002) -> Seen:
    """Run *script* on a loop of *factory*'s; what it showed, in values that can be compared."""
    before = open_descriptors()
    loop = factory()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = _Run(loop, script, patience)
        try:
            seen = run.run()
        finally:
            loop.close()
            run.close_peers()
            del run, loop
            gc.collect()
    # Of a leaked transport; whether its socket warns too depends on the order of the collection.
    seen["warnings"] = [
        f"{warning.category.__name__}: unclosed transport"
        for warning in caught
        if str(warning.message).startswith("unclosed transport")
    ]
    seen["descriptors left"] = len(opened_since(before))
    return seen


def connect(family: str) -> tuple[socket.socket, socket.socket]:
    """Two ends of a connection with small kernel buffers; non-blocking both."""
    if family == "unix":
        near, far = socket.socketpair()
    else:
        with socket.socket(proto=socket.IPPROTO_TCP) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            far = socket.socket(proto=socket.IPPROTO_TCP)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
            # Nothing may wait for an acknowledgement that comes some time.
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.connect(listener.getsockname())
            near, _ = listener.accept()
    for end in (near, far):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        end.setblocking(False)
    return near, far


class _Peer:
    """The other end, driven by hand."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        self.connection = connection
        self.sock: socket.socket | None = sock
        self.sent = 0
        self.received = bytearray()
        self.ended = ""
        self.shut = False

    def send(self, size: int) -> int:
        """Send what the kernel takes of the next *size* bytes."""
        if self.sock is None or self.shut:
            return size
        try:
            count = self.sock.send(pattern(self.sent, size))
        except BlockingIOError:
            return 0
        except OSError as exc:
            self.connection.note("peer", "send", type(exc).__name__)
            self.shut = True
            return size
        self.sent += count
        return count

    def read(self, size: int = 1 << 20) -> int:
        """Read once; the end, in whichever form, is kept."""
        if self.sock is None or self.ended:
            return 0
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return 0
        except OSError as exc:
            self.ended = type(exc).__name__
            return 0
        if not data:
            self.ended = "eof"
        self.received += data
        return len(data)

    def half_close(self) -> None:
        """Say that no more will come."""
        if self.sock is not None and not self.shut:
            self.shut = True
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self.connection.note("peer", "shutdown", type(exc).__name__)

    def close(self, *, reset: bool = False) -> None:
        """Go, by a reset if it is asked for."""
        if self.sock is not None:
            self.connection.peer_gone = True
            if reset and self.sock.family == socket.AF_INET:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.sock.close()
            self.sock = None
            self.ended = self.ended or "gone"


class _Run:
    def __init__(self, loop: asyncio.AbstractEventLoop, script: Script, patience: float) -> None:
        self.loop = loop
        self.script = script
        self.patience = patience
        self.reports: list[tuple[Any, ...]] = []
        self.connections: list[Connection] = []
        self.peers: list[_Peer] = []
        self.tcp = any(plan.family == "tcp" for plan in script.plans)
        loop.set_debug(script.debug)
        loop.set_exception_handler(lambda _, context: self._reported(context))
        for plan in script.plans:
            self._open(plan)

    def _reported(self, context: dict[str, Any]) -> None:
        self.reports.append(_report(context))
        if len(self.reports) > 1000:
            raise SystemExit(f"reports without end: {context}")

    def _open(self, plan: ConnectionPlan) -> None:
        connection = Connection(self.loop, plan)
        near, far = connect(plan.family)
        self.connections.append(connection)
        self.peers.append(_Peer(connection, far))

        def factory() -> Any:
            return connection.new_protocol(plan.buffered)

        if plan.by == "create_connection":
            opening = self.loop.create_connection(factory, sock=near)
        else:
            opening = self.loop.connect_accepted_socket(factory, near)  # type: ignore[assignment]
        connection.transport, _ = self.loop.run_until_complete(opening)

    def run(self) -> Seen:
        self._settle()
        for step in self.script.steps:
            self._step(step)
            self._rest(step)
        self._end()
        return {
            "logs": [self._history(connection) for connection in self.connections],
            "received": [bytes(connection.received) for connection in self.connections],
            "sent": [peer.sent for peer in self.peers],
            "reached the peer": [self._reached(number) for number in range(len(self.peers))],
            "reports": sorted(self.reports),
        }

    def _history(self, connection: Connection) -> list[tuple[Any, ...]]:
        """The whole log; of a bulk run only what does not depend on when the kernel has room."""
        if self.script.shape == "exact":
            return connection.log
        once = ("made", "eof", "lost", "raised", "broken")
        return [entry for entry in connection.log if entry[0] in once]

    def _reached(self, number: int) -> tuple[str, str]:
        connection, peer = self.connections[number], self.peers[number]
        expected = pattern(0, connection.written)
        if peer.received == expected:
            return ("all", peer.ended)
        return ("a part" if expected.startswith(peer.received) else "WRONG BYTES", peer.ended)

    # -- steps --------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        connection, peer = self.connections[step.connection], self.peers[step.connection]
        if step.actor == "peer":
            self._peer_moves(peer, step.actions[0])
        elif step.inside:
            self.loop.call_soon(self._app_moves, connection, step.actions)
        else:
            self._app_moves(connection, step.actions)

    def _app_moves(self, connection: Connection, actions: tuple[Action, ...]) -> None:
        for action in connection.possible(actions):
            connection.act(action)

    def _peer_moves(self, peer: _Peer, action: Action) -> None:
        match action:
            case ("send", int(size)):
                peer.send(size)
            case ("bytewise", int(count)):
                for _ in range(count):
                    peer.send(1)
            case ("read", int(size)):
                peer.read(size)
            case ("drain",):
                self._drain(peer)
            case ("half close",):
                peer.half_close()
            case ("close",):
                peer.close()
            case ("reset",):
                peer.close(reset=True)
            case ("stream", int(size)):
                self._stream(peer, size)

    def _drain(self, peer: _Peer) -> None:
        """Read until nothing comes any more, and the loop has nothing left to bring."""
        idle = 0
        while idle < 3:
            idle = 0 if peer.read() else idle + 1
            self._settle()

    def _stream(self, peer: _Peer, size: int) -> None:
        """Send *size* bytes and read meanwhile; whatever the protocol has paused goes on at rest."""
        target = peer.sent + size
        stuck = 0
        while peer.sent < target and not peer.shut and stuck < 1000:
            moved = peer.send(min(target - peer.sent, 200_000)) + peer.read()
            stuck = 0 if moved else stuck + 1
            self._pass_on(2)
            if not moved:
                self._resume_what_the_plan_paused()
        self._finish_reading()

    def _finish_reading(self) -> None:
        self._settle()
        while self._resume_what_the_plan_paused():
            self._settle()

    def _resume_what_the_plan_paused(self) -> bool:
        resumed = False
        for connection in self.connections:
            if connection.paused_by_plan:
                connection.paused_by_plan = False
                connection.act(("resume",))
                resumed = True
        return resumed

    # -- rest ---------------------------------------------------------------------------------------

    def _pass_on(self, passes: int) -> None:
        run_passes(self.loop, passes)

    def _settle(self) -> None:
        quiet = 0
        while quiet < 2:
            before = self._activity()
            self._pass_on(5)
            if self.tcp:
                time.sleep(self.patience)
            quiet = quiet + 1 if self._activity() == before else 0

    def _activity(self) -> int:
        return sum(connection.activity for connection in self.connections) + len(self.reports)

    def _rest(self, step: Step) -> None:
        """Come to rest, and write down the state in which the transport is then."""
        self._settle()
        connection = self.connections[step.connection]
        transport = connection.transport
        if self.script.shape == "exact":
            pending = transport.get_write_buffer_size() > 0
            connection.full = connection.full and pending
            connection.note(
                "state",
                transport.is_closing(),
                transport.is_reading(),
                pending,
                connection.seen("lost") or transport.get_protocol().number,
            )

    def _end(self) -> None:
        ending = self.script.ending
        for connection, peer in zip(self.connections, self.peers, strict=True):
            match ending:
                case "close":
                    connection.act(("close",))
                case "abort":
                    connection.act(("abort",))
                case "half close":
                    connection.act(("eof",))
                case "peer half close":
                    peer.half_close()
                case "peer closes":
                    self._drain(peer)
                    peer.close()
            self._settle()
        if ending == "leak":
            return
        for connection, peer in zip(self.connections, self.peers, strict=True):
            self._drain(peer)
            self._finish_reading()
            if not connection.seen("lost"):
                connection.act(("close",))
            self._drain(peer)
            if not connection.seen("lost"):
                # It has more to write than a peer that is gone will read.
                connection.act(("abort",))
            self._settle()

    def close_peers(self) -> None:
        """Let go of everything."""
        for peer in self.peers:
            peer.close()
        for connection in self.connections:
            connection.transport = None


def _report(context: dict[str, Any]) -> tuple[Any, ...]:
    """What a report says, without the names of a loop's own classes and functions."""
    message = str(context["message"])
    if message.startswith("Exception in callback"):
        message = "Exception in callback"
    keys = sorted(set(context) - {"source_traceback"})
    return (message, type(context.get("exception")).__name__, *keys)
