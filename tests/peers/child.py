"""Owns one process of the run: one test file of uvloop's, its tests one after the other.

Started by run.py, which puts the stand-in for `uvloop` first on the path. Each line of the file given
is one event in JSON: a test begins, a test ends. A test that takes too long ends the process, so that
run.py can name it and start the rest anew.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import os
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import excluded


class Recorder(unittest.TestResult):
    """Writes down how each test ends, the moment it does."""

    def __init__(self, out: TextIO, seconds: float) -> None:
        super().__init__()
        self.out = out
        self.seconds = seconds
        self.how = "passed"
        self.detail = ""
        self.begun = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.how, self.detail = "passed", ""
        self.begun = time.monotonic()
        self.tell("begins", test)
        faulthandler.dump_traceback_later(self.seconds, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self.tell(self.how, test)

    def tell(self, how: str, test: unittest.TestCase) -> None:
        event = {"how": how, "test": name_of(test), "detail": self.detail}
        if how != "begins":
            event["seconds"] = f"{time.monotonic() - self.begun:.2f}"
        self.out.write(json.dumps(event) + "\n")
        self.out.flush()

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self.fails(self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.fails(self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.fails((self.failures or self.errors)[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.how, self.detail = "skipped", reason

    def fails(self, traceback: str) -> None:
        self.how = "failed"
        self.detail += traceback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40.0, help="for one test")
    parser.add_argument("--only", default="", help="a part of the name of the tests to run")
    parser.add_argument("--all", action="store_true", help="no test with asyncio's rules")
    options = parser.parse_args()

    source = os.environ["PEERS_SOURCE"]
    from uvloop import _testbase as base  # the stand-in, or uvloop itself

    # Behind everything else: the sources hold a directory `uvloop` that is not to be found.
    sys.path.append(source)
    if os.environ["PEERS_LOOP"] == "pyloop":
        put_pyloop_below_asyncio(base)
    module = importlib.import_module(f"tests.{options.module}")
    seen = tests_seen(options.out)
    with options.out.open("a") as out:
        recorder = Recorder(out, options.seconds)
        for test in each_test(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if name_of(test) not in seen and options.only in name_of(test):
                if (
                    f"{options.module}.{name_of(test)}" in excluded.AS_ON_ASYNCIO
                    and not options.all
                ):
                    test.__dict__["implementation"] = "asyncio"
                unittest.TestSuite([test]).run(recorder)
    # A thread that a failed test left in a blocking call would keep the process.
    sys.stdout.flush()
    os._exit(0)


def put_pyloop_below_asyncio(base: Any) -> None:
    """The tests that uvloop runs on asyncio, to pin what it is compared with, run on PyLoop too."""
    import uvloop

    # It asks for the name of the loop's module; the question meant is whose rules hold.
    base.BaseTestCase.is_asyncio_loop = lambda self: True
    loop_class: Any = uvloop.Loop
    loop_class._get_backend_id = lambda loop: loop._selector.fileno()
    base.AIOTestCase.new_loop = lambda self: uvloop.new_event_loop()
    base.AIOTestCase.new_policy = lambda self: uvloop.EventLoopPolicy()


def tests_seen(events: Path) -> set[str]:
    """The tests of *events* that have begun, and those that are not to be."""
    if not events.exists():
        return set()
    return {json.loads(line)["test"] for line in events.read_text().splitlines()}


def each_test(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestSuite):
        for inner in suite:
            yield from each_test(inner)
    else:
        yield suite


def name_of(test: unittest.TestCase) -> str:
    return ".".join(test.id().split(".")[-2:])


if __name__ == "__main__":
    main()
