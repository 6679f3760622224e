"""Wake-ups: ``call_soon_threadsafe`` from a second thread, and what an idle loop costs."""

from __future__ import annotations

import queue
import resource
import threading
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from loops import LoopKind

from workloads.stopwatch import Stopwatch

_PAUSE = 0.0005
_BUSY_CALLBACK = 20e-6


def _spread(latencies: list[int]) -> dict[str, float]:
    ordered = sorted(latencies)
    return {
        "min_us": ordered[0] / 1e3,
        "median_us": ordered[len(ordered) // 2] / 1e3,
        "p99_us": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] / 1e3,
    }


def _run_with(loop: Any, producer: Callable[[], None]) -> None:
    """Run the loop while ``producer`` runs in a thread; an exception there is raised here."""
    failures: list[BaseException] = []

    def body() -> None:
        try:
            producer()
        except BaseException as failure:
            failures.append(failure)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=body)
    try:
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()
    finally:
        loop.close()
    if failures:
        raise failures[0]


def asleep(kind: LoopKind, count: int) -> dict[str, float]:
    """One call every half a millisecond into a sleeping loop: from the call to the callback."""
    loop = kind.new_loop()
    latencies: list[int] = []

    def arrived(sent: int) -> None:
        latencies.append(perf_counter_ns() - sent)

    def producer() -> None:
        for _ in range(count):
            time.sleep(_PAUSE)
            loop.call_soon_threadsafe(arrived, perf_counter_ns())
        time.sleep(_PAUSE)

    _run_with(loop, producer)
    return _spread(latencies)


def busy(kind: LoopKind, count: int) -> dict[str, float]:
    """The same into a loop that runs callbacks of 20 microseconds without a pause."""
    loop = kind.new_loop()
    latencies: list[int] = []

    def arrived(sent: int) -> None:
        latencies.append(perf_counter_ns() - sent)

    def work() -> None:
        end = time.perf_counter() + _BUSY_CALLBACK
        while time.perf_counter() < end:
            pass
        if len(latencies) < count:
            loop.call_soon(work)

    def producer() -> None:
        for _ in range(count):
            time.sleep(_PAUSE)
            loop.call_soon_threadsafe(arrived, perf_counter_ns())

    loop.call_soon(work)
    _run_with(loop, producer)
    return _spread(latencies)


def round_trips(kind: LoopKind, count: int) -> dict[str, float]:
    """Steady: call, wait until the callback has answered through a queue, call again."""
    loop = kind.new_loop()
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    latencies: list[int] = []
    figures: dict[str, float] = {}

    def arrived(sent: int) -> None:
        answers.put(perf_counter_ns() - sent)

    def producer() -> None:
        watch = Stopwatch()
        for _ in range(count):
            loop.call_soon_threadsafe(arrived, perf_counter_ns())
            latencies.append(answers.get())
        figures.update(watch.per_operation(count))

    _run_with(loop, producer)
    return figures | _spread(latencies) | {"per_second": 1e9 / figures["ns"]}


def full_rate(kind: LoopKind, count: int) -> dict[str, float]:
    """``count`` calls as fast as a thread can make them, until the last callback has run.

    The callbacks do nothing; the loop is asleep when the first comes.
    """
    loop = kind.new_loop()
    figures: dict[str, float] = {}

    def nothing() -> None:
        pass

    def producer() -> None:
        done = threading.Event()

        def last() -> None:
            figures.update(watch.per_operation(count))
            done.set()

        time.sleep(0.01)
        call = loop.call_soon_threadsafe
        watch = Stopwatch()
        for _ in range(count):
            call(nothing)
        call(last)
        done.wait()

    _run_with(loop, producer)
    return figures


def burst(kind: LoopKind, count: int) -> dict[str, float]:
    """The same with the moment of its call handed to every callback, for the latencies."""
    loop = kind.new_loop()
    latencies: list[int] = []
    figures: dict[str, float] = {}

    def arrived(sent: int) -> None:
        latencies.append(perf_counter_ns() - sent)

    def producer() -> None:
        done = threading.Event()

        def last() -> None:
            figures.update(watch.per_operation(count))
            done.set()

        time.sleep(0.01)
        watch = Stopwatch()
        for _ in range(count):
            loop.call_soon_threadsafe(arrived, perf_counter_ns())
        loop.call_soon_threadsafe(last)
        done.wait()

    _run_with(loop, producer)
    if len(latencies) != count:
        raise AssertionError(f"{len(latencies)} of {count} callbacks ran before the last")
    return figures | _spread(latencies) | {"per_second": 1e9 / figures["ns"]}


def idle(kind: LoopKind, seconds: float) -> dict[str, float]:
    """A loop with nothing but one timer far off: wake-ups before it, and CPU time.

    Wake-ups are the thread's voluntary context switches less the one sleep that has to be.
    """
    loop = kind.new_loop()
    switches: list[int] = []

    def read() -> None:
        switches.append(resource.getrusage(who).ru_nvcsw)

    def finish() -> None:
        read()
        loop.stop()

    who = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
    try:
        loop.call_later(seconds, finish)
        loop.call_soon(read)
        watch = Stopwatch()
        loop.run_forever()
        _, cpu = watch.seconds()
    finally:
        loop.close()
    return {
        "wakeups": max(0.0, switches[1] - switches[0] - 1.0),
        "cpu_ms_per_second": cpu * 1e3 / seconds,
    }
