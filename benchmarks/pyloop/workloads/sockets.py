"""Sockets under load: the server runs on the loop in this process, the load comes from another one.

CPU time is the server's own, user and system, read by the client from the process's CPU clock at the
two ends of what it counts. The floor's server is the load program too, in a process of its own.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

from loops import LoopKind

from workloads import io_servers
from workloads.io_bulk import Bulk
from workloads.load_client import LoadProgram, ask

_QUANTILES = ("p50_us", "p90_us", "p99_us", "p999_us")
_SPARE_DESCRIPTORS = 256


def echo(
    kind: LoopKind,
    service: str,
    connections: int,
    size: int,
    seconds: float,
    writes: int = 1,
) -> dict[str, float]:
    """One request outstanding on each connection, answered by its copy."""
    job = "udp" if service == "udp" else "echo"
    return _requests(kind, job, service, connections, size, seconds, writes)


def churn(kind: LoopKind, connections: int, size: int, seconds: float) -> dict[str, float]:
    """Connect, one request, close: so many at a time, counted by completed connections."""
    return _requests(kind, "churn", "protocol", connections, size, seconds, 1)


def bulk(kind: LoopKind, direction: str, size: int, service: str = "bulk") -> dict[str, float]:
    """One connection, many bytes: ``send`` is the server writing, ``receive`` the server reading."""
    job = {"send": "sink", "receive": "source"}[direction]
    Bulk.pauses = 0
    with io_servers.serving(kind, service) as server:
        found = server.run(lambda: ask(job, server.address, server.pid, 60, bytes=size))
    gib = size / 2**30
    return {
        "cpu_s_per_gib": found["server_cpu_ns"] / 1e9 / gib,
        "mib_per_second": size / 2**20 / found["seconds"],
        "pauses": float(Bulk.pauses),
    }


def idle(kind: LoopKind, connections: int) -> dict[str, float]:
    """Resident memory of the server for each connection that was used once and does nothing now."""
    io_servers.raise_descriptor_limit(connections + _SPARE_DESCRIPTORS)

    with io_servers.serving(kind, "protocol") as server:

        def job() -> tuple[int, int]:
            gc.collect()
            before = _resident(server.pid)
            with LoadProgram(
                "idle", to=server.address, server=server.pid, connections=connections
            ) as client:
                client.answer(60)
                gc.collect()
                time.sleep(0.1)
                return before, _resident(server.pid)

        before, after = server.run(job)
    return {"bytes": (after - before) / connections}


def _requests(
    kind: LoopKind,
    job: str,
    service: str,
    connections: int,
    size: int,
    seconds: float,
    writes: int,
) -> dict[str, float]:
    io_servers.raise_descriptor_limit(connections + _SPARE_DESCRIPTORS)
    options: dict[str, Any] = {"connections": connections, "size": size}
    options |= {"seconds": seconds, "warm_up": seconds / 4}
    with io_servers.serving(kind, service, writes) as server:
        found = server.run(lambda: ask(job, server.address, server.pid, 2 * seconds, **options))
    return {
        "cpu_us": found["server_cpu_ns"] / 1e3 / found["requests"],
        "per_second": found["requests"] / found["seconds"],
        "lost": found["lost"],
        **{key: found[key] for key in _QUANTILES},
    }


def _resident(process: int) -> int:
    """Resident memory in bytes: exact, where /proc/<pid>/statm may lag behind."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise OSError("smaps_rollup has no Rss")
