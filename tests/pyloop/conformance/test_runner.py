"""The conformance runner can fail: each kind of failure is provoked, and must be seen and named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cpython_suite import catalogue, driver, environment, exclusions, record, report

pytestmark = [
    pytest.mark.skipif(not catalogue.modules(), reason=catalogue.NOT_SHIPPED),
    pytest.mark.slow,  # interpreters are started, and one of them has to hang
    pytest.mark.timeout(2 * driver.SECONDS_PER_TEST),
]


@pytest.fixture(scope="module")
def ill() -> driver.ModuleRun:
    return driver.run_module("ill_tests", "pyloop", package="specimens", seconds=3)


def outcome(run: driver.ModuleRun, name: str) -> driver.TestRun:
    return next(test for test in run.tests if test.id.endswith(name))


def test_every_way_to_a_loop_ends_in_pyloop() -> None:
    run = driver.run_module("ways_to_a_loop", "pyloop", package="specimens")
    assert report.problems_of(run) == []
    assert [test.id for test in run.without_loop] == []
    assert len(run.on_our_loop) >= 10
    assert set(run.loop_types) == {"PyLoop", "TestLoop"}


def test_the_stock_loop_goes_through_the_same_machinery() -> None:
    run = driver.run_module("ways_to_a_loop", "asyncio", package="specimens")
    assert report.problems_of(run) == []
    assert set(run.loop_types) == {"_UnixSelectorEventLoop", "TestLoop"}


def test_a_crash_is_one_failure_with_the_stack(ill: driver.ModuleRun) -> None:
    crashed = outcome(ill, "test_a_crashes")
    assert crashed.outcome == "crashed"
    assert "in test_a_crashes" in crashed.details


def test_a_hang_is_one_failure_with_the_stack(ill: driver.ModuleRun) -> None:
    hung = outcome(ill, "test_e_hangs")
    assert hung.outcome == "hung"
    assert "in test_e_hangs" in hung.details


def test_what_follows_a_crash_and_a_hang_still_runs(ill: driver.ModuleRun) -> None:
    assert outcome(ill, "test_h_is_well").outcome == "passed"
    assert outcome(ill, "test_f_is_skipped").outcome == "skipped"
    ids = [test.id for test in ill.tests]
    assert len(ids) == len(set(ids)) == 9


def test_a_loop_of_another_kind_is_a_problem_that_names_the_test(ill: driver.ModuleRun) -> None:
    named = [problem for problem in report.problems_of(ill) if "made another loop" in problem]
    assert named == ["ill_tests.Ill.test_b_escapes made another loop: BaseSelectorEventLoop"]


def test_only_tests_that_made_a_pyloop_count(ill: driver.ModuleRun) -> None:
    assert [t.id for t in ill.on_our_loop] == [
        "ill_tests.Ill.test_c_fails",
        "ill_tests.Ill.test_h_is_well",
    ]


def test_failures_of_subtests_and_of_class_set_ups_are_failures(ill: driver.ModuleRun) -> None:
    assert outcome(ill, "test_d_fails_in_a_subtest").outcome == "failed"
    unprepared = [test for test in ill.failed if "setUpClass" in test.id]
    assert len(unprepared) == 1 and "on purpose" in unprepared[0].details


def test_fewer_tests_than_recorded_are_a_problem(
    ill: driver.ModuleRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "counts", lambda: {"ill_tests": 3})
    assert "ill_tests: 2 tests ran on PyLoop, recorded are 3" in report.problems_of(ill)


def test_an_exclusion_without_a_match_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = exclusions.Exclusion("ill_tests.Ill.test_gone", "a reason")
    good = exclusions.Exclusion("ill_tests.Ill.test_[a-e]_*", "a reason")
    later = exclusions.Exclusion("ill_tests.Ill.test_new", "a reason", since=(3, 99))
    monkeypatch.setattr(exclusions, "EXCLUSIONS", (stale, good, later))
    assert exclusions.without_a_match("ill_tests", ["ill_tests.Ill.test_a_crashes"]) == [stale]
    assert exclusions.of_unknown_modules(["test_tasks"]) == [stale, good]
    assert exclusions.excluding("ill_tests.Ill.test_e_hangs") is good
    assert exclusions.excluding("ill_tests.Ill.test_h_is_well") is None


def test_a_listed_failure_is_excused_only_if_asyncio_fails_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = environment.Expected("ill_tests.Ill.*", "fails on purpose")
    monkeypatch.setattr(environment, "EXPECTED", (listed,))
    only = ["ill_tests.Ill.test_c_fails", "ill_tests.Ill.test_h_is_well"]
    run = driver.run_module("ill_tests", "pyloop", only, package="specimens")
    assert outcome(run, "test_c_fails").outcome == "environment"
    assert report.environment_lines([run]) == [
        "ill_tests.Ill.test_c_fails: fails on asyncio here too: fails on purpose"
    ]
    passes_on_asyncio = driver.TestRun("ill_tests.Ill.test_h_is_well", "failed")
    run.tests = [passes_on_asyncio]
    driver.look_at_environment(run, package="specimens")
    assert (passes_on_asyncio.outcome, passes_on_asyncio.on_asyncio) == ("failed", "passed")
