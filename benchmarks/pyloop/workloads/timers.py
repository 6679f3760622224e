"""Timers: scheduling and firing, cancelling among many pending, lateness, memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any

from loops import LoopKind

from workloads.stopwatch import Stopwatch

_PER_PASS = 100
_HOUR = 3600.0


def _nothing() -> None:
    pass


def mixed_delays(kind: LoopKind, count: int) -> dict[str, float]:
    """``count`` timers of 0 to 9 ms, all scheduled first, then run until the last has fired."""
    loop = kind.new_loop()
    remaining = count

    def fire() -> None:
        nonlocal remaining
        remaining -= 1
        if not remaining:
            loop.stop()

    delays = [(index % 10) * 0.001 for index in range(count)]
    try:
        watch = Stopwatch()
        for delay in delays:
            loop.call_later(delay, fire)
        scheduled, _ = watch.seconds()
        loop.run_forever()
        figures = watch.per_operation(count)
    finally:
        loop.close()
    if remaining:
        raise AssertionError(f"{remaining} timers did not fire")
    return figures | {
        "schedule_ms": scheduled * 1e3,
        "schedule_ns": scheduled * 1e9 / count,
        "total_ms": figures["seconds"] * 1e3,
    }


def due_now(kind: LoopKind, count: int) -> dict[str, float]:
    """``call_later(0)`` for ``count`` callbacks, then one run that fires them all."""
    loop = kind.new_loop()
    try:
        watch = Stopwatch()
        for _ in range(count):
            loop.call_later(0, _nothing)
        loop.call_later(0, loop.stop)
        loop.run_forever()
        return watch.per_operation(count)
    finally:
        loop.close()


def cancel(kind: LoopKind, count: int, pending: int) -> dict[str, float]:
    """``call_later(10, ...)`` and ``cancel()`` at once, ``count`` times in one go, then one pass.

    ``pending`` other timers, of one to two hours, wait meanwhile; they are not timed. The pass is,
    because some loops put off the work of cancelling to it.
    """
    loop = kind.new_loop()
    try:
        for index in range(pending):
            loop.call_later(_HOUR + index % 3600, _nothing)
        _one_pass(loop)
        gc.collect()
        watch = Stopwatch()
        for _ in range(count):
            loop.call_later(10, _nothing).cancel()
        _one_pass(loop)
        return watch.per_operation(count)
    finally:
        loop.close()


def cancel_per_pass(kind: LoopKind, count: int) -> dict[str, float]:
    """The same in a running loop, 100 per pass: what a loop puts off stays small."""
    loop = kind.new_loop()
    passes = max(1, count // _PER_PASS)
    remaining = passes

    def work() -> None:
        nonlocal remaining
        call_later = loop.call_later
        for _ in range(_PER_PASS):
            call_later(10, _nothing).cancel()
        remaining -= 1
        if remaining:
            loop.call_soon(work)
        else:
            loop.stop()

    try:
        watch = Stopwatch()
        loop.call_soon(work)
        loop.run_forever()
        return watch.per_operation(passes * _PER_PASS)
    finally:
        loop.close()


def insert_and_cancel(kind: LoopKind, count: int, pending: int) -> dict[str, float]:
    """Insert ``count`` timers among ``pending`` ones; then cancel them and make one pass."""
    loop = kind.new_loop()
    try:
        for index in range(pending):
            loop.call_later(_HOUR + index % 3600, _nothing)
        delays = [_HOUR + (index * 7919) % 3600 for index in range(count)]
        _one_pass(loop)
        gc.collect()
        watch = Stopwatch()
        handles = [loop.call_later(delay, _nothing) for delay in delays]
        insert, _ = watch.seconds()
        watch = Stopwatch()
        for handle in handles:
            handle.cancel()
        _one_pass(loop)
        cancelled, _ = watch.seconds()
        return {"insert_ns": insert * 1e9 / count, "cancel_ns": cancelled * 1e9 / count}
    finally:
        loop.close()


def lateness(kind: LoopKind, count: int, shortest: float, longest: float) -> dict[str, float]:
    """One timer after another on an otherwise idle loop: how late is each against its delay?

    Judged by ``time.perf_counter`` from just before ``call_later`` to the callback's first line,
    so the cost of scheduling counts as lateness, and no loop is judged by its own clock.
    """
    loop = kind.new_loop()
    step = (longest - shortest) / max(1, count - 1)
    delays = [shortest + step * index for index in range(count)]
    late: list[float] = []
    started = delay = 0.0

    def arm() -> None:
        nonlocal started, delay
        delay = delays[len(late)]
        started = perf_counter()
        loop.call_later(delay, fire)

    def fire() -> None:
        now = perf_counter()
        late.append((now - started - delay) * 1e6)
        if len(late) < count:
            loop.call_soon(arm)
        else:
            loop.stop()

    try:
        loop.call_soon(arm)
        loop.run_forever()
    finally:
        loop.close()
    late.sort()
    return {
        "mean_us": sum(late) / count,
        "p99_us": late[min(count - 1, int(count * 0.99))],
        "max_us": late[-1],
        "early": float(sum(value < 0 for value in late)),
    }


def memory_pending(kind: LoopKind, count: int) -> dict[str, float]:
    """Resident memory that ``count`` pending timers take, and what is left when all are cancelled.

    The handles are kept in a list that exists before the first reading.
    """
    loop = kind.new_loop()
    handles: list[Any] = [None] * count
    try:
        _one_pass(loop)
        before = _resident()
        for index in range(count):
            handles[index] = loop.call_later(_HOUR + index % 3600, _nothing)
        pending = _resident()
        for index in range(count):
            handles[index].cancel()
            handles[index] = None
        _one_pass(loop)
        _one_pass(loop)
        after = _resident()
    finally:
        loop.close()
    return {
        "pending_bytes": (pending - before) / count,
        "left_mib": (after - before) / 2**20,
    }


def memory_cancelled(kind: LoopKind, count: int) -> dict[str, float]:
    """Growth of resident memory over ``count`` timers each cancelled as soon as made."""
    loop = kind.new_loop()
    passes = max(1, count // _PER_PASS)

    def work(remaining: int) -> None:
        for _ in range(_PER_PASS):
            loop.call_later(_HOUR, _nothing).cancel()
        if remaining > 1:
            loop.call_soon(work, remaining - 1)
        else:
            loop.stop()

    def run(rounds: int) -> None:
        loop.call_soon(work, rounds)
        loop.run_forever()

    try:
        run(10)
        before = _resident()
        run(passes)
        _one_pass(loop)
        return {"left_mib": (_resident() - before) / 2**20}
    finally:
        loop.close()


def _one_pass(loop: Any) -> None:
    stop: Callable[[], None] = loop.stop
    loop.call_soon(stop)
    loop.run_forever()


def _resident() -> int:
    """Bytes of resident memory now (Linux); the peak so far elsewhere."""
    gc.collect()
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
