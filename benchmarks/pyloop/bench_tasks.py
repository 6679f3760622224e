#!/usr/bin/env python3
"""Tasks and futures: what ordinary asyncio code pays per suspension, task, time-out, exception.

Tasks and futures are asyncio's own C types on every loop here; the floor drives the same types
from a ring with no loop around it, so it shows what they cost by themselves.
"""

from __future__ import annotations

import sys

import cli
from harness import Case


def cases(quick: bool) -> list[Case]:
    """The same sizes quick or not: only the rounds differ."""
    del quick
    return [
        _case("sleep_zero", "await asyncio.sleep(0)", "tasks.sleep_zero", 20_000, floor=True),
        _case(
            "future", "future resolved by call_soon, awaited", "tasks.future", 10_000, floor=True
        ),
        _case("create_task", "await create_task(...)", "tasks.create_task", 10_000, floor=True),
        _case("gather", "create_task + gather, 100 at a time", "tasks.gather", 10_000),
        _case("task_group", "TaskGroup of 100", "tasks.task_group", 10_000),
        _case("wait_for", "wait_for(sleep(0), 10)", "tasks.wait_for", 5_000),
        _case("timeout", "async with asyncio.timeout(10)", "tasks.timeout", 10_000),
        _case("queue", "queue ping-pong", "tasks.queue_ping_pong", 5_000),
        _case("raising_task", "awaited task that raises", "tasks.raising_task", 5_000),
        _case("raising_callback", "callback that raises", "callbacks.raising", 5_000),
    ]


def _case(case_id: str, title: str, work: str, count: int, *, floor: bool = False) -> Case:
    return Case(case_id, title, work, {"count": count}, warm_up={"count": 1000}, floor=floor)


PROGRAM = cli.Program("bench_tasks", "PyLoop Task Benchmark", cases, cli.show_table)

if __name__ == "__main__":
    sys.exit(cli.main(PROGRAM, __doc__))
