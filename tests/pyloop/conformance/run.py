"""Run CPython's own asyncio tests, of the interpreter in use, on PyLoop.

    python tests/pyloop/conformance/run.py                     all modules, two at a time
    python tests/pyloop/conformance/run.py --module test_tasks one (or more, or wildcards)
    python tests/pyloop/conformance/run.py --asyncio           the same on asyncio's own loop
    python tests/pyloop/conformance/run.py --compare           both, and what PyLoop loses

Exit status 1 if a test failed, a test made a loop that is not PyLoop, an exclusion matches
nothing, or fewer tests than recorded ran on PyLoop. A test counts as "on loop" only if it made a
PyLoop.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cpython_suite import catalogue, driver, environment, record, report, substitution

MOST_PROBLEMS = 40


def main() -> int:
    options = parse_arguments()
    modules = driver.matching(catalogue.modules(), options.module)
    if catalogue.directory() is None:
        print(f"{catalogue.interpreter()}: {catalogue.NOT_SHIPPED}")
        return 0
    if not modules:
        print(f"no module of {catalogue.interpreter()} matches {' '.join(options.module)}")
        return 2
    loop = "asyncio" if options.asyncio else "pyloop"
    try:
        substitution.loop_class(loop)
    except ImportError as missing:
        print(missing)
        return 2
    runs = run_all(modules, loop, options)
    problems = [problem for run in runs for problem in report.problems_of(run)]
    problems += report.problems_of_the_list(runs, catalogue.modules())
    if options.compare:
        stock = run_all(modules, "asyncio", options)
        problems += [f"{t}: passed on asyncio only" for t in report.lost_against(runs, stock)]
    if options.json:
        options.json.write_text(json.dumps(report.as_json(runs, problems), indent=2) + "\n")
    if options.record:
        return write_record(runs, problems)
    return give_verdict(runs, problems)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--module", action="append", default=[], metavar="NAME")
    loops = parser.add_mutually_exclusive_group()
    loops.add_argument("--asyncio", action="store_true", help="the baseline: asyncio's own loop")
    loops.add_argument("--compare", action="store_true", help="PyLoop, then asyncio's own loop")
    loops.add_argument("--record", action="store_true", help="rewrite recorded.json on success")
    parser.add_argument("--jobs", type=int, default=2, help="modules at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every test")
    options = parser.parse_args()
    if options.record and options.module:
        parser.error("--record takes all the modules")
    return options


def run_all(modules: list[str], loop: str, options: argparse.Namespace) -> list[driver.ModuleRun]:
    """Run *modules* on *loop*, printing the table as they end."""
    name = "PyLoop" if loop == "pyloop" else "asyncio's own loop"
    print(f"CPython's test.test_asyncio on {name}, {catalogue.interpreter()}", flush=True)
    print(report.heading(), flush=True)
    runs = driver.Runs(modules, loop, options.jobs)

    def show(run: driver.ModuleRun) -> None:
        lines = [report.line(run)]
        if options.verbose:
            lines += [f"    {t.outcome:8} {t.seconds:6.2f} {t.id}" for t in run.tests]
        print("\n".join(lines), flush=True)

    runs.on_each(show)
    try:
        results = [runs.result(module) for module in modules]
    finally:
        runs.close()
    print(report.totals(results), flush=True)
    if failures := report.failures(results):
        print(failures, flush=True)
    return results


def write_record(runs: list[driver.ModuleRun], problems: list[str]) -> int:
    """Record the numbers, unless a test failed; a number may fall only by this."""
    failures = [test.id for run in runs for test in (*run.failed, *run.escaped)]
    if failures:
        print(f"nothing recorded: {len(failures)} tests failed: {' '.join(failures)}")
        return 1
    record.write(runs)
    print(f"recorded in {record.FILE.name}")
    for problem in problems:
        print(f"  before: {problem}")
    return 0


def give_verdict(runs: list[driver.ModuleRun], problems: list[str]) -> int:
    methods = report.excluded_methods(runs)
    print(f"excluded one by one: {len(methods)} tests")
    for line in report.environment_lines(runs):
        print(f"environment: {line}")
    if runs[0].loop == "asyncio":
        # On asyncio itself a listed failure is what the list says, and no problem.
        problems = [p for p in problems if not environment.expected(p.split()[0])]
    elif record.counts() is None:
        print(f"no recorded numbers for {catalogue.minor_version()} here: see --record")
    for problem in problems[:MOST_PROBLEMS]:
        print(f"✗ {problem}")
    if len(problems) > MOST_PROBLEMS:
        print(f"✗ and {len(problems) - MOST_PROBLEMS} more: see --json")
    if not problems:
        print("✓ nothing failed, nothing escaped, nothing is stale")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
