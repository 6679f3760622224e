"""What the runner prints, its JSON, and the verdict: the list of what is wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from . import catalogue, environment, exclusions, record
from .driver import ModuleRun, TestRun

COLUMNS = ("on loop", "no loop", "skipped", "excluded", "environ.", "failed")


def figures(run: ModuleRun) -> tuple[int, ...]:
    """The counts of one module in the order of `COLUMNS`."""
    return (
        len(run.on_our_loop),
        len(run.without_loop),
        len(run.with_outcome("skipped")),
        len(run.excluded),
        len(run.with_outcome("environment")),
        len(run.failed),
    )


def heading() -> str:
    return f"{'module':26}" + "".join(f"{column:>10}" for column in COLUMNS) + f"{'seconds':>9}"


def line(run: ModuleRun) -> str:
    """One line of the table."""
    if run.skipped:
        return f"{run.name:26}  {run.skipped}"
    columns = "".join(f"{number:>10}" for number in figures(run))
    return f"{run.name:26}{columns}{run.seconds:9.1f}"


def totals(runs: Sequence[ModuleRun]) -> str:
    """The last line of the table and the loops that were made."""
    sums = [sum(column) for column in zip(*map(figures, runs), strict=True)] or [0] * len(COLUMNS)
    columns = "".join(f"{number:>10}" for number in sums)
    made: Counter[str] = Counter()
    for run in runs:
        made.update(run.loop_types)
    types = ", ".join(f"{name} {number}" for name, number in made.most_common()) or "none"
    return f"{'total':26}{columns}{sum(r.seconds for r in runs):9.1f}\nloops made: {types}"


def excluded_methods(runs: Iterable[ModuleRun]) -> list[str]:
    """The tests left out one by one, wildcards expanded: those that the bound holds for."""
    methods = {e.pattern for e in exclusions.EXCLUSIONS if e.level == "method"}
    return [
        test for run in runs for test, pattern in sorted(run.excluded.items()) if pattern in methods
    ]


def problems_of(run: ModuleRun) -> list[str]:
    """What is wrong with one module."""
    found = [f"{test.id} {test.outcome}" for test in run.failed]
    found += [f"{test.id} made another loop: {', '.join(test.other_loops)}" for test in run.escaped]
    found += [
        f"exclusion {pattern} matches no test of {catalogue.interpreter()}"
        for pattern in run.unmatched
    ]
    if run.loop == "pyloop" and (missing := record.shortfall(run)):
        found.append(missing)
    return found


def problems_of_the_list(runs: Sequence[ModuleRun], modules: Sequence[str]) -> list[str]:
    """What is wrong with the exclusions as a whole."""
    found = [
        f"exclusion {entry.pattern} names no module of {catalogue.interpreter()}"
        for entry in exclusions.of_unknown_modules(modules)
    ]
    methods = excluded_methods(runs)
    if len(methods) > exclusions.METHODS_AT_MOST:
        found.append(f"{len(methods)} tests are excluded one by one, at most 60 may be: {methods}")
    return found


def details(test: TestRun) -> str:
    """A failed test with its traceback, or the tail of the worker's output."""
    loops = ", ".join(test.loops | test.other_loops) or "none"
    return f"{'-' * 78}\n{test.outcome}: {test.id} (loops: {loops})\n{test.details.rstrip()}"


def failures(runs: Iterable[ModuleRun]) -> str:
    """Every failed test, one traceback for those that end in the same line."""
    alike: dict[str, list[TestRun]] = {}
    for run in runs:
        for test in run.failed:
            last = test.details.rstrip().rpartition("\n")[2]
            alike.setdefault(f"{test.outcome} {last}", []).append(test)
    parts = []
    for first, *others in alike.values():
        parts.append(details(first))
        if others:
            names = ", ".join(test.id for test in others)
            parts.append(f"and {len(others)} more that end in the same line: {names}")
    return "\n".join(parts)


def environment_lines(runs: Iterable[ModuleRun]) -> list[str]:
    """Tests that fail here on asyncio's own loop too, with the reason that is listed for them."""
    lines = []
    for run in runs:
        for test in run.with_outcome("environment"):
            entry = environment.expected(test.id)
            lines.append(f"{test.id}: fails on asyncio here too: {entry.reason if entry else ''}")
    return lines


def lost_against(ours: Sequence[ModuleRun], stock: Sequence[ModuleRun]) -> list[str]:
    """Tests that asyncio's own loop passes here and PyLoop does not run or does not pass."""
    passed = {test.id for run in ours for test in run.with_outcome("passed")}
    return [
        test.id for run in stock for test in run.with_outcome("passed") if test.id not in passed
    ]


def as_json(runs: Sequence[ModuleRun], problems: Sequence[str]) -> dict[str, Any]:
    """Everything, for `--json`."""
    return {
        "interpreter": catalogue.interpreter(),
        "loop": runs[0].loop if runs else "",
        "totals": dict(
            zip(COLUMNS, [sum(c) for c in zip(*map(figures, runs), strict=True)], strict=False)
        ),
        "excluded one by one": excluded_methods(runs),
        "problems": list(problems),
        "modules": {run.name: dataclasses.asdict(run) for run in runs},
    }
