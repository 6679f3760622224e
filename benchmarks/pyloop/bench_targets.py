#!/usr/bin/env python3
"""The bars that PyLoop has set itself: one row each, met or MISSED.

Runs only the cases that the bars need. With --from FILE... it measures nothing and judges files
written earlier with --json. Exit status 4 if a bar is missed and --strict is given.
"""

from __future__ import annotations

import argparse
import sys

import bench_event_loop
import bench_scaling
import bench_tasks
import bench_timers
import bench_wakeup
import cli
import report
import results
import targets
from harness import FULL, QUICK, Case, CaseResult
from pool import Pool

SUITES = (bench_event_loop, bench_scaling, bench_timers, bench_wakeup, bench_tasks)
TITLE = "PyLoop against its bars"


def cases(quick: bool) -> list[Case]:
    """The cases of all suites that a bar needs."""
    wanted = targets.case_ids()
    return [case for suite in SUITES for case in suite.cases(quick) if case.id in wanted]


PROGRAM = cli.Program("bench_targets", TITLE, cases, cli.show_table)


def main() -> int:
    """Measure or read, then judge."""
    made = cli.parser(__doc__ or "")
    made.add_argument("--from", dest="files", nargs="+", metavar="FILE", help="judge these files")
    made.add_argument("--strict", action="store_true", help="exit status 4 if a bar is missed")
    options = made.parse_args()
    if options.compare:
        made.error("--compare belongs to the single suites")
    print(f"{TITLE}\n{'=' * len(TITLE)}", flush=True)
    found = _read(options, made) if options.files else _measure(options, made)
    if found is None:
        return 1
    bars = targets.evaluate(found)
    print(targets.show(bars))
    return 4 if options.strict and not all(bar.met for bar in bars) else 0


def _read(options: argparse.Namespace, made: argparse.ArgumentParser) -> list[CaseResult]:
    try:
        return [result for name in options.files for result in results.read(name).results]
    except (OSError, ValueError) as problem:
        made.error(f"--from: {problem}")


def _measure(options: argparse.Namespace, made: argparse.ArgumentParser) -> list[CaseResult] | None:
    keys = cli.loop_keys(options, made)
    with Pool(keys, collector=not options.no_gc) as pool:
        if not cli.warm_up(pool):
            return None
        suite = cli.run(PROGRAM, pool, QUICK if options.quick else FULL, quick=options.quick)
    print("\n".join([*report.heading(suite), ""]))
    for line in report.failures(suite):
        print(f"left out: {line}")
    if options.json:
        results.write(suite, options.json)
    return suite.results


if __name__ == "__main__":
    sys.exit(main())
