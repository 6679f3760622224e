"""The command line that all benchmark programs share.

Exit status: 0 done, 1 PyLoop cannot be warmed up or a workload of PyLoop failed, 2 wrong use, 3 a
regression against ``--compare``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import report
import results
from harness import FULL, QUICK, Case, Effort, run_cases
from loops import ASYNCIO, FLOOR, KINDS, PYLOOP
from pool import Pool
from results import Suite


@dataclass(frozen=True)
class Program:
    """A benchmark program: its name, its title, its cases, and how it shows its results."""

    name: str
    title: str
    cases: Callable[[bool], list[Case]]
    show: Callable[[Suite], str]


def show_table(suite: Suite) -> str:
    """All cases as one table."""
    return report.text_table(*report.table(suite.results))


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every program takes."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="fewer rounds, smaller sizes")
    made.add_argument("--json", metavar="FILE", help="write every sample to FILE")
    made.add_argument(
        "--compare",
        metavar="BASELINE.json",
        help="compare PyLoop with an earlier --json file; exit status 3 if anything regressed "
        "beyond the noise",
    )
    made.add_argument(
        "--loops",
        metavar="NAMES",
        default=",".join(KINDS),
        help="which columns, separated by commas (default: %(default)s)",
    )
    made.add_argument("--no-gc", action="store_true", help="switch the collector off, for all")
    return made


def loop_keys(options: argparse.Namespace, made: argparse.ArgumentParser) -> list[str]:
    """The loops asked for, in table order; a wrong name ends the program."""
    wanted = [name.strip() for name in options.loops.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in KINDS]
    if unknown:
        made.error(f"unknown loop {unknown[0]!r}: choose from {', '.join(KINDS)}")
    return [key for key in KINDS if key in wanted]


def main(program: Program, description: str, arguments: Sequence[str] | None = None) -> int:
    """Run one program from its command line; returns the exit status."""
    made = parser(description)
    options = made.parse_args(arguments)
    keys = loop_keys(options, made)
    baseline = None
    if options.compare:
        try:
            baseline = results.read(options.compare)
        except (OSError, ValueError) as problem:
            made.error(f"--compare: {problem}")
    print(program.title)
    print("=" * len(program.title), flush=True)
    effort = QUICK if options.quick else FULL
    with Pool(keys, collector=not options.no_gc, say=_note) as pool:
        if not warm_up(pool):
            return 1
        suite = run(program, pool, effort, quick=options.quick)
    print("\n".join(report.heading(suite)))
    print()
    print(program.show(suite))
    for line in report.failures(suite):
        print(f"left out: {line}")
    if options.json:
        results.write(suite, options.json)
    status = 1 if pyloop_failed(suite) else 0
    if baseline is not None and show_changes(suite, baseline):
        status = status or 3
    if status != 1:
        print("\n✓ All Benchmarks Complete!")
    return status


def run(program: Program, pool: Pool, effort: Effort, *, quick: bool) -> Suite:
    """Run the cases of a program on an open pool."""
    found = run_cases(program.cases(quick), pool, effort)
    return Suite(
        name=program.name,
        title=program.title,
        results=found,
        quick=quick,
        versions=pool.versions(),
        absent=dict(pool.absent),
        collector=pool.collector,
    )


def warm_up(pool: Pool) -> bool:
    """1,000 callbacks on every loop; False if PyLoop, or asyncio beside it, cannot run them."""
    usable = True
    for key in list(pool.workers) + list(pool.absent):
        title = KINDS[key].title
        problem = pool.absent.get(key)
        if problem is None:
            try:
                pool.workers[key].ask("callbacks.queued", {"count": 1000})
            except Exception as failure:
                problem = str(failure)
                pool.workers.pop(key).stop()
                pool.absent[key] = problem
        if problem is None:
            print(f"✓ {title} warmup complete", flush=True)
        elif key in (PYLOOP, ASYNCIO):
            print(f"✗ {title} warmup failed: {problem}", flush=True)
            usable = False
        else:
            what = "cannot be built here" if key == FLOOR else "left out"
            print(f"- {title} {what}: {problem}", flush=True)
    print(flush=True)
    return usable


def pyloop_failed(suite: Suite) -> bool:
    """Whether any workload failed on PyLoop."""
    samples = [result.loops.get(PYLOOP) for result in suite.results]
    return any(one is not None and one.error is not None for one in samples)


def show_changes(suite: Suite, baseline: Suite) -> bool:
    """Print the comparison; True if something regressed."""
    changes = results.compare(suite, baseline)
    regressed = [change for change in changes if change.regressed]
    print(f"\ncompared with the run of {baseline.date}: {len(changes)} figures")
    if suite.machine != baseline.machine:
        print("note: the baseline was made on another machine or interpreter")
    for change in regressed:
        print(
            f"REGRESSED {change.name}: {change.factor:.2f} times the baseline "
            f"(noise up to {1 + change.tolerance:.2f})"
        )
    if not changes:
        print("nothing to compare: the baseline has none of these cases")
    elif not regressed:
        print("no regression beyond the noise")
    return bool(regressed)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
