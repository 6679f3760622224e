"""CPython's own asyncio tests pass on PyLoop: one pytest test a module, each in its own process.

A crash or a hang fails the one module and names the CPython test; `run.py` beside this file does
the same from the command line. How it works: `cpython_suite/__init__.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cpython_suite import catalogue, driver, exclusions, report

MODULES = catalogue.modules()
JOBS = min(2, os.cpu_count() or 1)

pytestmark = [
    pytest.mark.skipif(not MODULES, reason=catalogue.NOT_SHIPPED),
    pytest.mark.leaves_traces("workers run in other threads and processes while a test waits"),
    pytest.mark.slow,  # whole test suites of real sockets, children and sleeps
    # A module waits for its turn; the driver has time-outs of its own, and knows which test hangs.
    pytest.mark.timeout(2 * driver.SECONDS_PER_MODULE),
]


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest) -> Iterator[driver.Runs]:
    """The modules that this session asks for, two of them under way at a time."""
    chosen: list[str] = [
        str(item.callspec.params["module"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.function is test_module_passes_on_pyloop
        and hasattr(item, "callspec")
    ]
    under_way = driver.Runs(chosen, "pyloop", JOBS)
    yield under_way
    under_way.close()


@pytest.mark.parametrize("module", MODULES)
def test_module_passes_on_pyloop(module: str, runs: driver.Runs) -> None:
    run = runs.result(module)
    if run.skipped:
        pytest.skip(run.skipped)
    problems = report.problems_of(run)
    if problems:
        pytest.fail("\n".join([*problems, report.failures([run])]), pytrace=False)
    for line in report.environment_lines([run]):
        print(line)


def test_every_exclusion_names_a_module_of_this_interpreter() -> None:
    assert [e.pattern for e in exclusions.of_unknown_modules(MODULES)] == []


def test_whole_modules_are_excluded_only_for_other_loops() -> None:
    left_out = {e.pattern for e in exclusions.EXCLUSIONS if e.level == "module"}
    assert left_out <= {
        "test_selector_events",
        "test_proactor_events",
        "test_windows_events",
        "test_windows_utils",
    }


def test_every_exclusion_has_a_reason_of_its_own_length() -> None:
    assert [e.pattern for e in exclusions.EXCLUSIONS if len(e.reason) < 30] == []


def test_at_most_sixty_tests_are_excluded_one_by_one(runs: driver.Runs) -> None:
    excluded = report.excluded_methods(runs.all_results())
    assert len(excluded) <= exclusions.METHODS_AT_MOST, excluded
