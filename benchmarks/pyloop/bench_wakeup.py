#!/usr/bin/env python3
"""Waking the loop: call_soon_threadsafe to callback, and what an idle loop costs.

A second thread calls into a loop that sleeps, that is busy, steadily, in bursts and at full rate.
All of it depends on the scheduler of the system and on who holds the GIL: read medians.
"""

from __future__ import annotations

import sys

import cli
from harness import Case, Metric

LATENCY = (
    Metric("median_us", "median latency", "us"),
    Metric("min_us", "min", "us"),
    Metric("p99_us", "p99", "us"),
)
PER_SECOND = Metric("per_second", "throughput", "1/s", higher_is_better=True)
PER_CALL = Metric("ns", "per call", "ns")


def cases(quick: bool) -> list[Case]:
    """Quick: fewer calls, one second of idling; full: ten seconds of it."""
    return [
        Case(
            "wake_asleep",
            "call_soon_threadsafe, loop asleep",
            "wakeup.asleep",
            {"count": 200 if quick else 1000},
            LATENCY,
            warm_up={"count": 10},
        ),
        Case(
            "wake_busy",
            "call_soon_threadsafe, loop busy",
            "wakeup.busy",
            {"count": 30 if quick else 100},
            LATENCY,
            warm_up={"count": 3},
            max_rounds=3 if quick else 6,
        ),
        Case(
            "wake_steady",
            "steady, one call at a time",
            "wakeup.round_trips",
            {"count": 2_000},
            (PER_SECOND, *LATENCY),
            warm_up={"count": 100},
        ),
        Case(
            "wake_burst",
            "burst of 10,000",
            "wakeup.burst",
            {"count": 10_000},
            (PER_SECOND, *LATENCY),
            warm_up={"count": 1000},
        ),
        Case(
            "wake_full_rate",
            "call_soon_threadsafe, 50,000 at full rate",
            "wakeup.full_rate",
            {"count": 50_000},
            (PER_CALL,),
            warm_up={"count": 1000},
        ),
        Case(
            "idle",
            f"idle for {1 if quick else 10} s",
            "wakeup.idle",
            {"seconds": 1.0 if quick else 10.0},
            (
                Metric("wakeups", "wake-ups", "times", across_rounds="max"),
                Metric("cpu_ms_per_second", "CPU time", "ms/s", across_rounds="max"),
            ),
            warm_up={"seconds": 0.01},
            max_rounds=1,
        ),
    ]


PROGRAM = cli.Program("bench_wakeup", "PyLoop Wake-up Benchmark", cases, cli.show_table)

if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM, __doc__))
