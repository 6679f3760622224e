"""Runs one CPython test module on one loop, in this process, and writes down each test as it goes.

One JSON object a line: `tests` (what was found), `start` and `stop` of each test, `done` at the
end. The driver learns from a `start` without `stop` which test crashed or hung.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from . import child_interpreters, exclusions, substitution


def test_id(test: unittest.TestCase) -> str:
    """`module.Class.method`, of the class that is run, not of the one it inherits from."""
    cls = type(test)
    return ".".join((cls.__module__.rpartition(".")[2], cls.__qualname__, test._testMethodName))


def name_of(test: object) -> str:
    """The id of a test, or what unittest calls a class or module whose set-up failed."""
    return test_id(test) if isinstance(test, unittest.TestCase) else str(test)


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        elif isinstance(test, unittest.TestCase):
            yield test


class Journal(unittest.TestResult):
    """A test result that writes each test's outcome and the loops it made."""

    def __init__(self, out: TextIO, counter: substitution.LoopCounter, seconds: float) -> None:
        super().__init__()
        self._out = out
        self._counter = counter
        self._seconds = seconds
        self._current: str | None = None
        self._began = 0.0
        self._outcome = "passed"
        self._details: list[str] = []
        sys.unraisablehook = self._note_unraisable
        self._unraisable: list[str] = []

    def write(self, event: str, **fields: Any) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = test_id(test)
        self._outcome = "passed"
        self._details = []
        self._unraisable = []
        self._began = time.monotonic()
        self._counter.take()
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        self.write("start", id=self._current)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        if self._current is not None:  # 3.12.1 stops a test that it skipped and never started
            self._write_stop()
        self._current = None
        faulthandler.dump_traceback_later(self._seconds, exit=True)

    def _write_stop(self) -> None:
        ours, others = self._counter.take()
        self.write(
            "stop",
            id=self._current,
            outcome=self._outcome,
            loops=ours,
            other_loops=others,
            seconds=round(time.monotonic() - self._began, 3),
            details="\n".join(self._details),
            unraisable=self._unraisable,
        )

    def _note(self, outcome: str, details: str) -> None:
        # A subtest's failure is not undone by the skip of another.
        if self._outcome in ("passed", "skipped"):
            self._outcome = outcome
        self._details.append(details)

    def _note_unraisable(self, unraisable: Any) -> None:
        last = traceback.format_exception_only(unraisable.exc_type, unraisable.exc_value)
        self._unraisable.append(f"{unraisable.err_msg}: {''.join(last).strip()}")
        sys.__unraisablehook__(unraisable)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        text = "".join(traceback.format_exception(*err))
        if self._current is None:  # setUpClass, tearDownModule and the like
            self.write("stop", id=name_of(test), outcome="failed", details=text)
        else:
            self._note("failed", text)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note("failed", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = f"{subtest}\n" + "".join(traceback.format_exception(*err))
            self._note("failed", text)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if self._current is None:  # a whole class, or (in 3.12.1) a method skipped by a decorator
            self.write("stop", id=name_of(test), outcome="skipped", details=reason)
        else:
            self._note("skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note("skipped", "fails as CPython expects it to")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._note("failed", "CPython expects this test to fail, and it passed")


def run(options: argparse.Namespace, out: TextIO) -> None:
    support: Any = importlib.import_module("test.support")

    # As regrtest does by default, less its savings of time: nothing beyond the loopback interface.
    support.use_resources = {"cpu": None, "subprocess": None, "walltime": None}
    os.chdir(options.directory)
    target = substitution.loop_class(options.loop)
    counter = substitution.install(target)
    journal = Journal(out, counter, options.seconds)
    faulthandler.dump_traceback_later(options.seconds, exit=True)
    module = importlib.import_module(options.module)
    substitution.adapt(module, target)
    child_interpreters.adapt(module, target, counter.count)
    found = list(flatten(unittest.defaultTestLoader.loadTestsFromModule(module)))
    chosen = choose(found, options)
    short_name = options.module.rpartition(".")[2]
    journal.write(
        "tests",
        excluded={i: e.pattern for i in map(test_id, found) if (e := exclusions.excluding(i))},
        unmatched=[e.pattern for e in exclusions.without_a_match(short_name, map(test_id, found))],
    )
    unittest.TestSuite(chosen).run(journal)
    journal.write("done")


def choose(found: list[unittest.TestCase], options: argparse.Namespace) -> list[unittest.TestCase]:
    """The tests to run: not excluded, not done by an earlier worker, and asked for."""
    done = set(options.done.read_text().split()) if options.done else set()
    only = set(options.only.read_text().split()) if options.only else None

    def is_chosen(name: str) -> bool:
        if only is not None:
            return name in only and name not in done
        return name not in done and exclusions.excluding(name) is None

    return [test for test in found if is_chosen(test_id(test))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="dotted name of the test module")
    parser.add_argument("--loop", choices=("pyloop", "asyncio"), required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="where the tests may write")
    parser.add_argument("--seconds", type=float, required=True, help="time-out of one test")
    parser.add_argument("--done", type=Path, help="a file of tests that need not run again")
    parser.add_argument("--only", type=Path, help="a file of the only tests to run")
    options = parser.parse_args()
    faulthandler.enable()
    with options.journal.open("a", encoding="utf-8") as out:
        try:
            run(options, out)
        except unittest.SkipTest as skip:
            out.write(json.dumps({"event": "module skipped", "reason": str(skip)}) + "\n")
    # The interpreter now ends in the ordinary way: the driver sees a crash or a hang in there.
    faulthandler.dump_traceback_later(options.seconds, exit=True)


if __name__ == "__main__":
    main()
