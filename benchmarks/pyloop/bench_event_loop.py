#!/usr/bin/env python3
"""PyLoop vs Asyncio Performance Benchmark Suite.

Callback scheduling, timer scheduling and the loop's own overhead, with uvloop, rloop and the floor
(the same work with no event loop) as further columns where they are available.
"""

from __future__ import annotations

import sys

import cli
import report
from harness import Case, CaseResult
from loops import ASYNCIO, KINDS, PYLOOP
from results import Suite
from workloads import callbacks, timers

TITLE = "PyLoop vs Asyncio Performance Benchmark Suite"


def cases(quick: bool) -> list[Case]:
    """The same sizes quick or not: they are cheap; only the rounds differ."""
    del quick
    warm_up = {"count": 1000}
    return [
        Case(
            "queued",
            "Callback Scheduling (50k iterations)",
            "callbacks.queued",
            {"count": 50_000},
            warm_up=warm_up,
            floor=True,
        ),
        Case(
            "timers_5k",
            "Timer Scheduling (5k timers)",
            "timers.mixed_delays",
            {"count": 5_000},
            warm_up=warm_up,
        ),
        Case(
            "empty_iterations",
            "Event Loop Overhead (10k iterations)",
            "callbacks.empty_iterations",
            {"count": 10_000},
            warm_up=warm_up,
        ),
        Case(
            "chain",
            "Callback Chain (50k iterations)",
            "callbacks.chain",
            {"count": 50_000},
            warm_up=warm_up,
            floor=True,
        ),
    ]


def bench_pyloop_call_soon(iterations: int = 50_000) -> float:
    """Seconds to schedule and run ``iterations`` callbacks on PyLoop, in this process."""
    return callbacks.queued(KINDS[PYLOOP], iterations)["seconds"]


def bench_asyncio_call_soon(iterations: int = 50_000) -> float:
    """Seconds to schedule and run ``iterations`` callbacks on asyncio, in this process."""
    return callbacks.queued(KINDS[ASYNCIO], iterations)["seconds"]


def bench_pyloop_timers(count: int = 5_000) -> float:
    """Seconds to schedule and fire ``count`` timers of 0 to 9 ms on PyLoop, in this process."""
    return timers.mixed_delays(KINDS[PYLOOP], count)["seconds"]


def bench_asyncio_timers(count: int = 5_000) -> float:
    """Seconds to schedule and fire ``count`` timers of 0 to 9 ms on asyncio, in this process."""
    return timers.mixed_delays(KINDS[ASYNCIO], count)["seconds"]


def bench_pyloop_empty_iterations(iterations: int = 10_000) -> float:
    """Seconds to start and stop PyLoop ``iterations`` times, one pass each, in this process."""
    return callbacks.empty_iterations(KINDS[PYLOOP], iterations)["seconds"]


def bench_asyncio_empty_iterations(iterations: int = 10_000) -> float:
    """Seconds to start and stop asyncio ``iterations`` times, one pass each, in this process."""
    return callbacks.empty_iterations(KINDS[ASYNCIO], iterations)["seconds"]


def show(suite: Suite) -> str:
    """One block per section: throughput, microseconds per operation, duration, speedup."""
    return "\n\n".join(_section(result) for result in suite.results)


def _section(result: CaseResult) -> str:
    metric = result.case.metrics[0]
    head = ["loop", "operations/s", "us/op", "spread", "CPU us/op", "duration", "PyLoop is"]
    rows = []
    for key in report.columns([result]):
        samples = result.loops[key]
        value = samples.value(metric)
        if value is None:
            rows.append([KINDS[key].title, "failed", "-", "-", "-", "-", "-"])
            continue
        spread = samples.spread(metric)
        cpu = sorted(samples.figures["cpu_ns"])[len(samples.figures["cpu_ns"]) // 2]
        rows.append(
            [
                KINDS[key].title,
                f"{1e9 / value:,.0f}",
                f"{value / 1e3:.3f}",
                "-" if spread is None else f"±{spread:.0%}",
                f"{cpu / 1e3:.3f}",
                f"{value * result.case.parameters['count'] / 1e6:.2f} ms",
                "-" if key == PYLOOP else _speedup(result, key),
            ]
        )
    return f"{result.case.title}\n{report.text_table(head, rows)}{_note(result)}"


def _speedup(result: CaseResult, key: str) -> str:
    ratio = result.ratio(PYLOOP, key, result.case.metrics[0])
    if not ratio:
        return "-"
    return f"{1 / ratio:.2f}x faster" if ratio <= 1 else f"{ratio:.2f}x slower"


def _note(result: CaseResult) -> str:
    if result.case.id != "timers_5k":
        return ""
    parts = []
    for key in report.columns([result]):
        values = sorted(result.loops[key].figures.get("schedule_ns", []))
        if values:
            parts.append(f"{KINDS[key].title} {values[len(values) // 2]:,.0f} ns")
    return (
        "\nThe last timer is due after 9 ms, whatever the loop; scheduling alone, per timer: "
        + ", ".join(parts)
    )


PROGRAM = cli.Program("bench_event_loop", TITLE, cases, show)

if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM, __doc__))
