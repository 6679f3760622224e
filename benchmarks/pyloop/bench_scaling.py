#!/usr/bin/env python3
"""How PyLoop scales: callbacks from 1k to 1M queued, timers from 100 to 1M pending.

The sizes of one kind are interleaved, because they are compared with each other. Every queued
callback holds a context, which the garbage collector tracks: a million of them cost every loop, and
the floor, a share that is the collector's. 10k and 1M are therefore measured with it off as well.
"""

from __future__ import annotations

import sys

import cli
from harness import Case, Metric

CALLBACKS = (1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000)
TIMERS = (100, 500, 1_000, 2_500, 5_000, 10_000, 100_000, 1_000_000)
SCHEDULE = Metric("schedule_ms", "scheduling", "ms")
TOTAL = Metric("total_ms", "total", "ms")
_RARE = 5


def name(count: int) -> str:
    """1000 -> 1k, 1000000 -> 1M."""
    if count >= 1_000_000:
        return f"{count // 1_000_000}M"
    return f"{count / 1000:g}k" if count >= 1000 else str(count)


def cases(quick: bool) -> list[Case]:
    """Quick: a million callbacks only with the collector off (a bar needs them); 10k timers."""
    found = [
        Case(
            f"callbacks_{name(count)}",
            f"{name(count)} callbacks",
            "callbacks.queued",
            {"count": count},
            group="callbacks by number queued",
            warm_up={"count": 1000},
            floor=True,
            max_rounds=None if count < 1_000_000 else _RARE,
        )
        for count in CALLBACKS
        if not quick or count < 1_000_000
    ]
    found += [
        Case(
            f"callbacks_{name(count)}_no_gc",
            f"{name(count)} callbacks, collector off",
            "callbacks.queued",
            {"count": count},
            group="callbacks with the collector off",
            warm_up={"count": 1000},
            floor=True,
            max_rounds=2 if quick else _RARE,
            collector=False,
        )
        for count in (10_000, 1_000_000)
    ]
    for count in TIMERS:
        if quick and count > 10_000:
            continue
        found.append(
            Case(
                f"timers_0_9ms_{name(count)}",
                f"{name(count)} timers of 0-9 ms",
                "timers.mixed_delays",
                {"count": count},
                (SCHEDULE, TOTAL),
                group="timers by number pending" if count <= 10_000 else "100k and 1M timers",
                warm_up={"count": 100},
                max_rounds=None if count <= 10_000 else 3,
            )
        )
    return found


PROGRAM = cli.Program("bench_scaling", "PyLoop Scaling Benchmark", cases, cli.show_table)

if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM, __doc__))
