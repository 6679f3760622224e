"""A load client for the example shop: keep-alive connections, one process, no event loop.

It multiplexes plain sockets with `selectors`, so that it favours none of the loops under test and
costs as little as Python can. Every response is checked: its status, and its whole body's length.

    python examples/load_client.py --port 8000 --connections 32 --seconds 3

prints one JSON object: requests, seconds, requests per second, latencies in milliseconds. It speaks
to 127.0.0.1 only and ends by itself.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_QUOTE = json.dumps(
    {
        "lines": [
            {"product": 3, "quantity": 24},
            {"product": 1, "quantity": 2},
            {"product": 5, "quantity": 10},
        ]
    }
).encode()


def _request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


# What one connection asks for, over and over: mostly small JSON, one file in eight requests.
REQUESTS: tuple[tuple[bytes, int], ...] = (
    (_request("GET", "/products/3"), 200),
    (_request("POST", "/quotes", _QUOTE), 201),
    (_request("GET", "/products/7"), 200),
    (_request("POST", "/quotes", _QUOTE), 201),
    (_request("GET", "/products/99"), 404),
    (_request("POST", "/quotes", _QUOTE), 201),
    (_request("GET", "/"), 200),
    (_request("GET", "/terms"), 200),
)


class BadResponse(Exception):
    """The server answered with something else than was asked for."""


@dataclass(slots=True)
class Connection:
    """One keep-alive connection: it asks, waits for the whole answer, and asks again."""

    sock: socket.socket
    turn: int
    expected: int = 0
    sent_at: float = 0.0
    received: bytes = b""

    def ask(self) -> None:
        """Send the next request of the list."""
        request, self.expected = REQUESTS[self.turn % len(REQUESTS)]
        self.turn += 1
        self.received = b""
        self.sent_at = time.perf_counter()
        self.sock.sendall(request)

    def take_answer(self) -> bool:
        """Receive what has come; True once the answer is complete. Raises BadResponse."""
        chunk = self.sock.recv(65536)
        if not chunk:
            raise BadResponse(f"connection closed after {self.received!r}")
        self.received += chunk
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return False
        status = int(head[9:12])
        if status != self.expected:
            raise BadResponse(
                f"status {status} instead of {self.expected}: {self.received[:300]!r}"
            )
        length = _content_length(head)
        if len(body) > length:
            raise BadResponse(f"{len(body)} bytes of body, {length} announced")
        return len(body) == length


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0:
        raise BadResponse(f"no Content-Length in {head!r}")
    end = lowered.find(b"\r\n", start + 2)
    return int(lowered[start + 17 : end if end > 0 else None])


@dataclass(slots=True)
class Load:
    """What was measured."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The figures, with the latencies boiled down to a few percentiles."""
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "seconds": round(self.seconds, 4),
            "requests_per_second": round(len(ordered) / self.seconds, 1),
            "p50_ms": round(_percentile(ordered, 0.50) * 1e3, 3),
            "p99_ms": round(_percentile(ordered, 0.99) * 1e3, 3),
            "max_ms": round(ordered[-1] * 1e3, 3),
            "statuses": dict(self.statuses),
        }


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run_load(port: int, connections: int, seconds: float) -> Load:
    """Keep *connections* requests in flight for *seconds*, and take the last answers too."""
    load = Load()
    selector = selectors.DefaultSelector()
    try:
        for number in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), timeout=10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(sock, selectors.EVENT_READ, Connection(sock, turn=number))
        begin = time.perf_counter()
        end = begin + seconds
        for key in list(selector.get_map().values()):
            key.data.ask()
        while selector.get_map():
            ready = selector.select(timeout=10)
            if not ready:
                raise BadResponse("no answer within 10 seconds")
            for key, _ in ready:
                connection: Connection = key.data
                if not connection.take_answer():
                    continue
                now = time.perf_counter()
                load.latencies.append(now - connection.sent_at)
                load.statuses[connection.expected] += 1
                if now < end:
                    connection.ask()
                else:
                    selector.unregister(connection.sock)
                    connection.sock.close()
        load.seconds = time.perf_counter() - begin
    finally:
        for key in list((selector.get_map() or {}).values()):
            key.data.sock.close()
        selector.close()
    return load


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    try:
        load = run_load(options.port, options.connections, min(options.seconds, 60.0))
    except (BadResponse, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(load.as_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
