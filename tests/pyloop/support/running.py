"""Owns the small ways in which tests drive a loop: a pass, a few passes, until something holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 10.0


def run_one_pass(loop: asyncio.AbstractEventLoop) -> None:
    """Run what is ready now, poll once, and return."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def run_passes(loop: asyncio.AbstractEventLoop, count: int) -> None:
    """Run *count* whole iterations without leaving run_forever in between."""

    def step(left: int) -> None:
        if left > 1:
            loop.call_soon(step, left - 1)
        else:
            loop.stop()

    loop.call_soon(step, count)
    loop.run_forever()


def run_until(
    loop: asyncio.AbstractEventLoop,
    condition: Callable[[], object],
    patience: float = PATIENCE,
) -> None:
    """Run iterations until *condition* holds; fail after *patience* seconds."""
    deadline = time.monotonic() + patience

    def look() -> None:
        if condition() or time.monotonic() > deadline:
            loop.stop()
        else:
            loop.call_soon(look)

    loop.call_soon(look)
    loop.run_forever()
    assert condition(), f"did not come true within {patience} s"


def run_asleep(loop: asyncio.AbstractEventLoop, patience: float = PATIENCE) -> None:
    """Run until something stops the loop, letting it sleep; fail after *patience* seconds.

    The guard is a far timer: the loop has nothing else of ours to do, so it really blocks in its poll.
    """
    late: list[bool] = []

    def give_up() -> None:
        late.append(True)
        loop.stop()

    guard = loop.call_later(patience, give_up)
    try:
        loop.run_forever()
    finally:
        guard.cancel()
    assert not late, f"nothing stopped the loop within {patience} s"


def spin(seconds: float) -> None:
    """Keep this thread busy, as a slow callback does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
