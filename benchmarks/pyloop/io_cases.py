"""The cells of the socket benchmarks: which work, how many connections, how long a message.

Owns names, sizes and the choice of cells; knows nothing of how they are measured or judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness import Case, Metric

CPU = Metric("cpu_us", "server CPU per request", "us")
RATE = Metric("per_second", "throughput", "1/s", higher_is_better=True)
LATENCIES = (
    Metric("p50_us", "p50", "us"),
    Metric("p90_us", "p90", "us"),
    Metric("p99_us", "p99", "us"),
    Metric("p999_us", "p99.9", "us"),
)
LOST = Metric("lost", "datagrams lost", "times", across_rounds="max")
CPU_PER_GIB = Metric("cpu_s_per_gib", "server CPU per GiB", "s")
BULK_RATE = Metric("mib_per_second", "throughput", "MiB/s", higher_is_better=True)
MEMORY = Metric("bytes", "memory per idle connection", "bytes")

MODES = {
    "protocol": "protocol",
    "buffered": "buffered protocol",
    "streams": "streams",
    "sockets": "sock_recv + sock_sendall",
    "unix": "Unix stream, protocol",
    "udp": "UDP",
}
# The modes that can answer in several writes.
IN_PIECES = ("protocol", "streams", "unix")
CONNECTIONS = (1, 50, 1000)
SIZES = (64, 1 << 10, 16 << 10, 64 << 10, 100 << 10, 1 << 20)
_LARGEST_DATAGRAM = 65_507
GIB = 1 << 30


@dataclass(frozen=True)
class Length:
    """How much one run of each workload does."""

    seconds: float
    bulk: int
    file: int
    idle: int


QUICK = Length(seconds=0.12, bulk=GIB // 8, file=GIB // 4, idle=1_000)
FULL = Length(seconds=0.25, bulk=GIB, file=GIB, idle=10_000)


def size_name(size: int) -> str:
    """1024 as ``1k``, 1048576 as ``1M``."""
    if size >= 1 << 20 and size % (1 << 20) == 0:
        return f"{size >> 20}M"
    return f"{size >> 10}k" if size >= 1 << 10 and size % (1 << 10) == 0 else str(size)


def _size_title(size: int) -> str:
    name = size_name(size)
    return {"M": f"{name[:-1]} MiB", "k": f"{name[:-1]} KiB"}.get(name[-1], f"{name} B")


def echo(mode: str, connections: int, size: int, length: Length, writes: int = 1) -> Case:
    """One cell of ping-pong."""
    plural = "s" if connections != 1 else ""
    title = f"{MODES[mode]}, {connections:,} connection{plural}, {_size_title(size)}"
    parameters = {"service": mode, "connections": connections, "size": size}
    parameters |= {"seconds": length.seconds, "writes": writes}
    return Case(
        f"{mode}_{connections}x{size_name(size)}" + (f"_{writes}writes" if writes > 1 else ""),
        title + (f", {writes} writes" if writes > 1 else ""),
        "sockets.echo",
        parameters,
        (CPU, RATE, *LATENCIES, *((LOST,) if mode == "udp" else ())),
        floor=True,
        timeout=40.0,
    )


def churn(length: Length) -> Case:
    """Connections opened, used once and closed, fifty at a time."""
    return Case(
        "churn",
        "connect, one request of 1 KiB, close; 50 at a time",
        "sockets.churn",
        {"connections": 50, "size": 1024, "seconds": length.seconds},
        (CPU, RATE, *LATENCIES),
        floor=True,
        timeout=40.0,
    )


def bulk(length: Length) -> list[Case]:
    """A gigabyte in one direction: out of memory, into nothing, out of a file."""
    rows = [
        ("bulk_send", "server writes", "send", "bulk", length.bulk),
        ("bulk_receive", "server reads", "receive", "bulk", length.bulk),
        ("sendfile", "server sends a file", "send", "file", length.file),
    ]
    return [
        Case(
            id,
            f"{title}, {size / GIB:g} GiB",
            "sockets.bulk",
            {"direction": direction, "size": size, "service": service},
            (CPU_PER_GIB, BULK_RATE),
            warm_up={"size": 1 << 24},
            floor=True,
            timeout=120.0,
        )
        for id, title, direction, service, size in rows
    ]


def idle(length: Length) -> Case:
    """Memory of connections that do nothing; a fresh process for each reading."""
    return Case(
        "idle",
        f"{length.idle:,} idle connections",
        "sockets.idle",
        {"connections": length.idle},
        (MEMORY,),
        warm_up={"connections": 10},  # more would leave room that hides what is measured
        max_rounds=2,
        fresh_process=True,
        floor=True,
        timeout=120.0,
    )


def beside(length: Length) -> list[Case]:
    """What is not ping-pong."""
    return [churn(length), *bulk(length), idle(length)]


def default(length: Length, *, few: bool = False) -> list[Case]:
    """Sizes at 50 connections and connections at 1 KiB for every mode; few: one cell a mode."""
    cells = [(50, 1 << 10)]
    if not few:
        cells = [(50, size) for size in SIZES] + [(1, 1 << 10), (1000, 1 << 10)]
    made = [
        echo(mode, connections, size, length)
        for mode in MODES
        for connections, size in cells
        if fits(mode, size)
    ]
    made.append(echo("protocol", 10, 64 << 10, length))
    pieces = ("protocol",) if few else ("protocol", "streams")
    made += [echo(mode, 50, 1 << 10, length, writes=4) for mode in pieces]
    return made + beside(length)


def chosen(
    modes: Iterable[str],
    connections: Sequence[int],
    sizes: Sequence[int],
    writes: int,
    length: Length,
) -> list[Case]:
    """Every combination of what was asked for, less what cannot be."""
    return [
        echo(mode, count, size, length, writes)
        for mode in modes
        for count in connections
        for size in sizes
        if fits(mode, size) and (writes == 1 or mode in IN_PIECES)
    ]


def fits(mode: str, size: int) -> bool:
    """Whether a message of this size can be one datagram, where it has to be."""
    return mode != "udp" or size <= _LARGEST_DATAGRAM
