"""Which core the server runs on and which the client.

Two processes that talk are put on one core by the scheduler or on two, as it likes, and stay there
for a while. On one core they take turns, and a request costs the server half as much CPU time, at the
same throughput. So that every loop meets the same, each has its core: the server the last of those
that the process may use, everything else of the run the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def allowed() -> list[int]:
    """The cores of this process, in order; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def apart() -> Iterator[None]:
    """Put this thread, and what it starts, on the server's core until the block is left."""
    cores = allowed()
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(0, {cores[-1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def move_to_client_core(process: int) -> None:
    """Put a process that was just started on the client's core."""
    if len(_ALL) >= 2:
        os.sched_setaffinity(process, {_ALL[0]})


_ALL = allowed()
