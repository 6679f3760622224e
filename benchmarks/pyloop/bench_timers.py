#!/usr/bin/env python3
"""Timers: lateness, cost by number pending, cost of cancelling, memory.

Lateness is judged by a clock that is not the loop's; a timer that fires before its delay has
passed counts as early. Memory is resident memory, each reading in a fresh process.
"""

from __future__ import annotations

import sys

import cli
from bench_scaling import name
from harness import Case, Metric

LATENESS = (
    Metric("mean_us", "mean lateness", "us"),
    Metric("p99_us", "p99", "us"),
    Metric("max_us", "max", "us", across_rounds="max"),
    Metric("early", "fired early", "timers", across_rounds="max"),
)
INSERT = Metric("insert_ns", "insert", "ns")
CANCEL = Metric("cancel_ns", "cancel", "ns")
PENDING = (0, 1_000, 10_000, 100_000, 1_000_000)


def cases(quick: bool) -> list[Case]:
    """Quick: fewer timers, up to 100k pending, memory of 100,000 timers."""
    count = 30 if quick else 100
    short = 200 if quick else 1000
    memory = 100_000 if quick else 1_000_000
    found = [
        Case(
            "late_1_10ms",
            f"{count} timers of 1-10 ms",
            "timers.lateness",
            {"count": count, "shortest": 0.001, "longest": 0.010},
            LATENESS,
            warm_up={"count": 3},
            max_rounds=3 if quick else 9,
        ),
        Case(
            "late_100us",
            f"{short:,} timers of 100 us",
            "timers.lateness",
            {"count": short, "shortest": 0.0001, "longest": 0.0001},
            LATENESS,
            warm_up={"count": 20},
            max_rounds=3 if quick else None,
        ),
        _cancel("cancel", "call_later + cancel", 0, quick),
        _cancel("cancel_300k", "call_later + cancel, 300,000 pending", 300_000, quick),
        Case(
            "cancel_per_pass",
            "call_later + cancel, 100 per pass",
            "timers.cancel_per_pass",
            {"count": 20_000},
            warm_up={"count": 1000},
        ),
        Case(
            "due_now",
            "call_later(0) + fire, 20,000 due timers",
            "timers.due_now",
            {"count": 20_000},
            warm_up={"count": 1000},
        ),
    ]
    for pending in PENDING:
        if quick and pending in (1_000, 1_000_000):
            continue
        found.append(
            Case(
                f"insert_{name(pending)}",
                f"{name(pending)} pending",
                "timers.insert_and_cancel",
                {"count": 10_000, "pending": pending},
                (INSERT, CANCEL),
                group="insert and cancel by number pending",
                warm_up={"count": 1000, "pending": 0},
                max_rounds=2 if quick else 3 if pending >= 1_000_000 else None,
            )
        )
    found += [
        Case(
            "memory_pending",
            f"memory, {name(memory)} timers",
            "timers.memory_pending",
            {"count": memory},
            (
                Metric("pending_bytes", "per pending timer", "bytes"),
                Metric("left_mib", "left when all are cancelled", "MiB", across_rounds="max"),
            ),
            warm_up={"count": 100},
            max_rounds=1 if quick else 3,
            fresh_process=True,
        ),
        Case(
            "memory_cancelled",
            f"memory, {name(memory)} timers cancelled one by one",
            "timers.memory_cancelled",
            {"count": memory},
            (Metric("left_mib", "growth", "MiB", across_rounds="max"),),
            warm_up={"count": 100},
            max_rounds=1 if quick else 3,
            fresh_process=True,
        ),
    ]
    return found


def _cancel(case_id: str, title: str, pending: int, quick: bool) -> Case:
    return Case(
        case_id,
        title,
        "timers.cancel",
        {"count": 200_000, "pending": pending},
        group="call_later + cancel, with and without 300,000 pending",
        warm_up={"count": 1000, "pending": 0},
        max_rounds=2 if quick else None,
    )


PROGRAM = cli.Program("bench_timers", "PyLoop Timer Benchmark", cases, cli.show_table)

if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM, __doc__))
