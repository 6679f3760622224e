"""Callbacks: queued in bulk, chained one to the next, and passes with nothing to do."""

from __future__ import annotations

from loops import LoopKind

from workloads.stopwatch import Stopwatch


def _nothing() -> None:
    pass


def queued(kind: LoopKind, count: int) -> dict[str, float]:
    """Schedule ``count`` callbacks that do nothing, then run them all; both parts are timed."""
    loop = kind.new_callback_loop()
    try:
        watch = Stopwatch()
        for _ in range(count):
            loop.call_soon(_nothing)
        loop.call_soon(loop.stop)
        loop.run_forever()
        return watch.per_operation(count)
    finally:
        loop.close()


def chain(kind: LoopKind, count: int) -> dict[str, float]:
    """Each callback schedules the next: one callback per pass of the loop."""
    loop = kind.new_callback_loop()
    remaining = count

    def step() -> None:
        nonlocal remaining
        remaining -= 1
        if remaining:
            loop.call_soon(step)
        else:
            loop.stop()

    try:
        watch = Stopwatch()
        loop.call_soon(step)
        loop.run_forever()
        figures = watch.per_operation(count)
    finally:
        loop.close()
    if remaining:
        raise AssertionError(f"{remaining} callbacks did not run")
    return figures


def empty_iterations(kind: LoopKind, count: int) -> dict[str, float]:
    """Start the loop, let it make one pass that only stops it, and come back, ``count`` times."""
    loop = kind.new_callback_loop()
    try:
        watch = Stopwatch()
        for _ in range(count):
            loop.call_soon(loop.stop)
            loop.run_forever()
        return watch.per_operation(count)
    finally:
        loop.close()


def raising(kind: LoopKind, count: int) -> dict[str, float]:
    """Callbacks that raise; the exception handler of the program ignores them."""
    loop = kind.new_loop()
    reported = 0

    def ignore(*_: object) -> None:
        nonlocal reported
        reported += 1

    def fail() -> None:
        raise ValueError("on purpose")

    loop.set_exception_handler(ignore)
    try:
        watch = Stopwatch()
        for _ in range(count):
            loop.call_soon(fail)
        loop.call_soon(loop.stop)
        loop.run_forever()
        figures = watch.per_operation(count)
    finally:
        loop.close()
    if reported != count:
        raise AssertionError(f"{reported} of {count} exceptions reached the handler")
    return figures
