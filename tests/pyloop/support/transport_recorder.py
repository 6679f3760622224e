"""Owns the protocols of the transport comparison: they write down what they see, and react to a plan."""

from __future__ import annotations

import asyncio
import random
from array import array
from typing import Any

from support.transport_scripts import BIG, Action, ConnectionPlan

_BLOCK = random.Random(0).randbytes(1 << 16)
_REACTION_LIMIT = 40


def pattern(start: int, size: int) -> bytes:
    """*size* bytes of an endless stream from *start* on, of which no two neighbourhoods are alike."""
    first = start % len(_BLOCK)
    whole = _BLOCK * ((first + size) // len(_BLOCK) + 1)
    return whole[first : first + size]


class Failure(Exception):
    """What a protocol raises because its plan says so."""


class Connection:
    """One connection as its protocols see it: the log, and the moves that the plan asks for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: ConnectionPlan) -> None:
        self.loop = loop
        self.plan = plan
        self.transport: Any = None
        self.log: list[tuple[Any, ...]] = []
        self.received = bytearray()
        self.written = 0
        self.protocols = 0
        self.activity = 0
        self.reactions_left = _REACTION_LIMIT
        self.calls: dict[str, int] = {}
        self.paused_by_plan = False
        self.paused = False
        self.closed = False
        # A TCP peer that has gone answers the first send with a reset, which the second one shows: how
        # many sends two writes are is asyncio's affair and ours.
        self.peer_gone = False
        # More was written than any kernel takes, and the loop has not come to rest without it since.
        self.full = plan.reactions.get("at") is not None
        self.ever_full = self.full

    def note(self, *entry: Any) -> None:
        """Write an entry down."""
        self.activity += 1
        self.log.append(entry)

    def seen(self, name: str) -> bool:
        """Whether the log has such an entry."""
        return any(entry[0] == name for entry in self.log)

    def new_protocol(self, buffered: bool) -> asyncio.BaseProtocol:
        """The next protocol of this connection."""
        self.protocols += 1
        return (_Buffered if buffered else _Plain)(self, self.protocols)

    def got(self, data: bytes, paused: bool) -> None:
        """Bytes came; their borders are nobody's promise. *paused*: reading was paused before."""
        self.activity += 1
        if paused or self.closed:
            self.note("broken", "data after pause_reading or close")
        self.received += data
        if self.log and self.log[-1][0] == "data":
            data = self.log.pop()[1] + data
        self.log.append(("data", bytes(data)))

    def react(self, callback: str) -> None:
        """Make the moves that the plan has for this call of *callback*."""
        turn = self.calls.get(callback, 0)
        self.calls[callback] = turn + 1
        turns = self.plan.reactions.get(callback, ())
        if turn < len(turns):
            self._moves(turns[turn])
        if callback == "data":
            self._react_at_places()

    def _react_at_places(self) -> None:
        places = self.plan.reactions.get("at", ())
        done = self.calls.get("at", 0)
        while done < len(places) and places[done][0] <= len(self.received):
            self.calls["at"] = done = done + 1
            move: Any = places[done - 1][1]
            if move[0] == "pause":
                self.paused_by_plan = True
            self._moves((move,))

    def _moves(self, moves: tuple[Action, ...]) -> None:
        for move in self.possible(moves):
            if self.reactions_left > 0 and move[0] != "none":
                self.reactions_left -= 1
                if move[0] == "raise":
                    raise Failure("as planned")
                self.act(move)

    def possible(self, moves: tuple[Action, ...]) -> tuple[Action, ...]:
        """The moves that can be compared if they are made at once."""
        return moves[:1] if self.peer_gone and self.plan.family == "tcp" else moves

    def act(self, move: Action) -> None:
        """Do what the application does; what it raises is part of what is seen."""
        try:
            self._act(move)
        except Failure:
            raise
        except Exception as exc:
            # asyncio's writelines complains otherwise on 3.11.
            known = (type(exc).__name__, str(exc)) if "lines" not in str(move[0]) else ()
            self.note("raised", move[0], *known)

    def _act(self, move: Action) -> None:
        transport = self.transport
        if self.ever_full and self.seen("lost") and move[0] not in ("close", "pause", "resume"):
            # asyncio's own breaks if close() has waited for a full buffer, and something follows.
            return
        match move:
            case ("write", int(size), int(form)):
                self._write(size, form)
            case ("lines", int(size), int(form)):
                self._lines(size, form)
            case ("big",):
                # (asyncio cannot register a writer any more once it is closing.)
                if self.written < 6 * BIG and not transport.is_closing():
                    self.full = self.ever_full = True
                    self._write(BIG, 0)
            case ("wrong write",):
                transport.write("text")
            case ("wrong lines",):
                if not transport.is_closing():
                    transport.writelines([b"right", 3])
            case ("pause",) if not self.seen("eof"):
                transport.pause_reading()
                self.paused = True
            case ("resume",) if not self.seen("eof"):
                transport.resume_reading()
                self.paused = False
            case ("eof",):
                transport.write_eof()
            case ("swap", bool(buffered)):
                transport.set_protocol(self.new_protocol(buffered))
            case ("limits", high, low):
                transport.set_write_buffer_limits(high=high, low=low)
            case ("close",):
                transport.close()
                self.closed = True
            case ("abort",):
                transport.abort()
                self.closed = True
            case ("fail",):
                # The exception of a plain callback is no business of the connection's.
                self.loop.call_soon(self._fail)
            case _:
                return

    def _fail(self) -> None:
        raise Failure("in a plain callback")

    def _write(self, size: int, form: int) -> None:
        data = pattern(self.written, size)
        # Counted before: the write may call pause_writing, which may write.
        self.written += size
        try:
            self._write_in_form(data, form)
        except Exception:
            self.written -= size
            raise

    def _write_in_form(self, data: bytes, form: int) -> None:
        write = self.transport.write
        if self.full:
            # What asyncio's own has not sent at once it gets wrong in other forms: a later change
            # of a bytearray is sent, and wide items are miscounted.
            form = 0
        if form == 1:
            changing = bytearray(data)
            write(changing)
            changing[:] = bytes(len(data))
        elif form == 2:
            write(memoryview(b"--" + data + b"--")[2:-2])
        elif form == 3 and len(data) % 4 == 0:
            write(memoryview(array("i", data)))
        elif form == 4:
            write(b"")
            write(bytearray(data))
        else:
            write(data)

    def _lines(self, size: int, form: int) -> None:
        # After close, and in a full buffer, asyncio's own differs from one Python to the next.
        if self.full or self.transport.is_closing():
            return
        data = pattern(self.written, size)
        middle = size // 2
        lines: list[Any] = [data[:middle], b"", bytearray(data[middle:])]
        if form == 1:
            # Fewer than the kernel takes at once, and no empty one at the end: asyncio's own would
            # keep that, and show the later change of a bytearray that is written next.
            lines = [data[at : at + 1] for at in range(min(size, 900) - 1)]
            lines.append(memoryview(data)[len(lines) :])
        self.transport.writelines(tuple(lines) if form == 2 else lines)
        self.written += size
        if form == 3:
            lines[2][:] = bytes(len(lines[2]))


class _Shared(asyncio.BaseProtocol):
    """What both kinds of protocol have in common."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number

    def paused_before_read(self) -> bool:
        """Whether reading was paused when the loop began to read."""
        return self.connection.paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection.transport = transport
        self.connection.note("made", self.number)
        self.connection.react("made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.note("lost", self.number, type(exc).__name__)
        self.connection.react("lost")

    def pause_writing(self) -> None:
        self.connection.note("pause", self.number)
        self.connection.react("pause")

    def resume_writing(self) -> None:
        self.connection.note("resume", self.number)
        self.connection.react("resume")

    def eof_received(self) -> Any:
        answers = self.connection.plan.eof_answers
        answer = answers[self.connection.calls.get("eof", 0) % len(answers)]
        if self.paused_before_read() or self.connection.closed:
            self.connection.note("broken", "eof after pause_reading or close")
        self.connection.note("eof", self.number)
        self.connection.react("eof")
        return answer


class _Plain(_Shared, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        if type(data) is not bytes:
            self.connection.note("broken", f"data_received got a {type(data).__name__}")
        self.connection.got(data, self.paused_before_read())
        self.connection.react("data")


class _Buffered(_Shared, asyncio.BufferedProtocol):
    buffer: Any = b""
    paused_before = False

    def paused_before_read(self) -> bool:
        return self.paused_before

    def get_buffer(self, sizehint: int) -> Any:
        connection = self.connection
        # A pause in here does not hold back what this buffer is for.
        self.paused_before = connection.paused
        sizes = connection.plan.buffer_sizes
        turn = connection.calls.get("get_buffer", 0)
        self.buffer = bytearray(sizes[turn % len(sizes)])
        turns = connection.plan.reactions.get("get_buffer", ())
        move: Action = turns[turn][0] if turn < len(turns) else ("none",)
        connection.react("get_buffer")
        if move == ("empty",):
            return bytearray()
        if move == ("readonly",):
            return bytes(10)
        return self.buffer if turn % 2 else memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.connection.got(bytes(self.buffer[:nbytes]), self.paused_before)

        self.connection.react("data")
