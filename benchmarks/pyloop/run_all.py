#!/usr/bin/env python3
"""Runs every suite, ends with the bars, and writes the pages and plots from the results.

A full run (some ten minutes) writes BENCHMARK_RESULTS.md, SCALING_ANALYSIS.md, QUICK_REFERENCE.md,
README.md's table, the plots and the raw results/*.json beside this file, or into --output. A quick
run (about a minute) writes only where --output says. --from DIRECTORY measures nothing and writes
the pages again from results written earlier.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import bench_targets
import cli
import pages
import plots
import report
import results
import targets
from harness import FULL, QUICK
from pool import Pool
from results import Suite

_HERE = Path(__file__).resolve().parent


def main() -> int:
    """Measure (or read), show, judge, write."""
    made = cli.parser(__doc__ or "")
    made.add_argument("--output", metavar="DIRECTORY", type=Path, help="where the pages go")
    made.add_argument("--from", dest="source", metavar="DIRECTORY", type=Path, help="read results")
    options = made.parse_args()
    if options.compare or options.json:
        made.error("--compare and --json belong to the single suites; here: --output DIRECTORY")
    start = time.monotonic()
    output = options.output or (None if options.quick else _HERE)
    read = options.source is not None
    suites = _read(options.source, made) if read else _measure(options, made, output)
    if not suites:
        return 1
    found = [result for suite in suites for result in suite.results]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        written = pages.write(suites, output, _HERE / "README.md")
        print("wrote " + ", ".join(path.name for path in written))
        if not plots.available():
            print("no plots: matplotlib is not installed")
    print(f"\nThe bars ({time.monotonic() - start:.0f} s)\n")
    print(targets.show(targets.evaluate(found)))
    failed = any(cli.pyloop_failed(suite) for suite in suites)
    if not failed:
        print("\n✓ All Benchmarks Complete!")
    return 1 if failed else 0


def _measure(
    options: argparse.Namespace, made: argparse.ArgumentParser, output: Path | None
) -> list[Suite]:
    """Run the suites one after another; each result is on disk before the next begins."""
    keys = cli.loop_keys(options, made)
    effort = QUICK if options.quick else FULL
    suites: list[Suite] = []
    note = _note if not options.quick or sys.stderr.isatty() else lambda _: None
    with Pool(keys, collector=not options.no_gc, say=note) as pool:
        if not cli.warm_up(pool):
            return []
        for module in bench_targets.SUITES:
            program = module.PROGRAM
            print(f"{program.title}\n{'=' * len(program.title)}", flush=True)
            suite = cli.run(program, pool, effort, quick=options.quick)
            pool.restart()
            if not suites:
                print("\n".join(report.heading(suite)))
            print(f"\n{program.show(suite)}")
            for line in report.failures(suite):
                print(f"left out: {line}")
            print(flush=True)
            suites.append(suite)
            if output is not None:
                (output / "results").mkdir(parents=True, exist_ok=True)
                results.write(suite, output / "results" / f"{program.name}.json")
    return suites


def _read(directory: Path, made: argparse.ArgumentParser) -> list[Suite]:
    names = [module.PROGRAM.name for module in bench_targets.SUITES]
    folder = directory / "results" if (directory / "results").is_dir() else directory
    files = [folder / f"{name}.json" for name in names if (folder / f"{name}.json").exists()]
    if not files:
        made.error(f"--from: no results of these suites in {directory}")
    try:
        return [results.read(path) for path in files]
    except (OSError, ValueError) as problem:
        made.error(f"--from: {problem}")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
