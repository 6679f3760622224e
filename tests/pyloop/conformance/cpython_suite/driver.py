"""Starts one worker a module, outlives its crashes and hangs, reads its journal.

A worker that dies or hangs costs the one test it was in: a new worker goes on with the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import catalogue, environment, exclusions

SECONDS_PER_TEST = 90.0
SECONDS_PER_MODULE = 600.0
WORKERS_PER_MODULE = 6
STDERR_LINES = 60
# The longest first, so that two workers end together.
LONGEST_FIRST = ("test_tasks", "test_events", "test_ssl", "test_subprocess", "test_sendfile")


@dataclass
class TestRun:
    """One CPython test: how it ended and which loops it made."""

    id: str
    outcome: str  # passed, failed, skipped, crashed, hung, environment
    loops: dict[str, int] = field(default_factory=dict)
    other_loops: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    details: str = ""
    unraisable: list[str] = field(default_factory=list)
    on_asyncio: str = ""  # outcome of the same test on asyncio's own loop, where that was asked


@dataclass
class ModuleRun:
    """One CPython test module on one loop."""

    name: str
    loop: str
    tests: list[TestRun] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)  # test id: pattern of the exclusion
    unmatched: list[str] = field(default_factory=list)
    skipped: str = ""  # why the whole module was not run
    seconds: float = 0.0

    def with_outcome(self, *outcomes: str) -> list[TestRun]:
        return [test for test in self.tests if test.outcome in outcomes]

    @property
    def on_our_loop(self) -> list[TestRun]:
        """Tests that made the loop under test: the only ones that count."""
        return [t for t in self.tests if t.loops and t.outcome in ("passed", "failed")]

    @property
    def without_loop(self) -> list[TestRun]:
        return [t for t in self.tests if not t.loops and t.outcome in ("passed", "failed")]

    @property
    def escaped(self) -> list[TestRun]:
        """Tests that made a loop of another kind than the one under test."""
        return [test for test in self.tests if test.other_loops]

    @property
    def failed(self) -> list[TestRun]:
        return self.with_outcome("failed", "crashed", "hung")

    @property
    def loop_types(self) -> Counter[str]:
        """Loops made, by type."""
        made: Counter[str] = Counter()
        for test in self.tests:
            made.update(test.loops)
            made.update(test.other_loops)
        return made


def run_module(
    name: str,
    loop: str,
    only: Iterable[str] | None = None,
    *,
    package: str = catalogue.PACKAGE,
    seconds: float = SECONDS_PER_TEST,
) -> ModuleRun:
    """Run one module (or *only* some tests of it), *seconds* at most for each test.

    A failure that is listed in `environment` is tried again on asyncio's own loop.
    """
    run = ModuleRun(name, loop)
    whole = next((e for e in exclusions.of_module(name) if e.level == "module"), None)
    if whole is not None and only is None:
        run.skipped = f"excluded: {whole.reason}"
        return run
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        _Attempts(run, Path(scratch), only, package, seconds).run()
    run.seconds = time.monotonic() - began
    if loop != "asyncio":
        look_at_environment(run, package)
    return run


def look_at_environment(run: ModuleRun, package: str = catalogue.PACKAGE) -> None:
    """Run listed failures again on asyncio: those that fail there too are no fault of ours."""
    listed = [test for test in run.failed if environment.expected(test.id)]
    if not listed:
        return
    stock = run_module(run.name, "asyncio", [test.id for test in listed], package=package)
    outcomes = {test.id: test.outcome for test in stock.tests}
    for test in listed:
        test.on_asyncio = outcomes.get(test.id, "not run")
        if test.on_asyncio in ("failed", "crashed", "hung"):
            test.outcome = "environment"


class _Attempts:
    """The workers that one module takes, usually one."""

    def __init__(
        self,
        run: ModuleRun,
        scratch: Path,
        only: Iterable[str] | None,
        package: str,
        seconds: float,
    ) -> None:
        self._run = run
        self._module = f"{package}.{run.name}"
        self._seconds = seconds
        self._journal = scratch / "journal"
        self._done = scratch / "done"
        self._stderr = scratch / "stderr"
        self._directory = scratch / "directory"
        self._directory.mkdir()
        self._deadline = time.monotonic() + SECONDS_PER_MODULE
        self._only = scratch / "only" if only is not None else None
        if self._only is not None and only is not None:
            self._only.write_text("\n".join(only))

    def run(self) -> None:
        for _ in range(WORKERS_PER_MODULE):
            self._done.write_text("\n".join(test.id for test in self._run.tests))
            self._journal.write_text("")
            status = self._start_worker()
            if self._read_journal(status):
                return
            if time.monotonic() > self._deadline:
                break
        self._blame(TestRun(f"{self._run.name}.(the rest)", "crashed"), "not run: gave up")

    def _start_worker(self) -> str:
        command = [sys.executable, "-X", "faulthandler", "-m", f"{__package__}.worker"]
        command += [self._module, "--loop", self._run.loop, "--journal", str(self._journal)]
        command += ["--seconds", str(self._seconds), "--done", str(self._done)]
        command += ["--directory", str(self._directory)]
        if self._only is not None:
            command += ["--only", str(self._only)]
        with self._stderr.open("wb") as stderr:
            worker = subprocess.Popen(
                command,
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                status = worker.wait(self._deadline - time.monotonic())
            except subprocess.TimeoutExpired:
                worker.send_signal(signal.SIGABRT)  # faulthandler writes where each thread was
                worker.wait()
                return "hung"
            finally:
                _kill_group(worker.pid)
        if status == 0:
            return "ended"
        return "hung" if "Timeout (" in self._stderr_tail() else f"crashed with status {status}"

    def _read_journal(self, status: str) -> bool:
        """Take over what the worker wrote; True if the module is finished."""
        current: str | None = None
        finished = False
        for line in self._journal.read_text().splitlines():
            fields: dict[str, Any] = json.loads(line)
            match fields.pop("event"):
                case "tests":
                    self._run.excluded = fields["excluded"]
                    self._run.unmatched = fields["unmatched"]
                case "start":
                    current = fields["id"]
                case "stop":
                    current = None
                    self._run.tests.append(TestRun(**fields))
                case "module skipped":
                    self._run.skipped = fields["reason"]
                    finished = True
                case "done":
                    finished = True
        if status != "ended":
            outcome = "hung" if status == "hung" else "crashed"
            where = current or f"{self._run.name}.{'(exit)' if finished else '(no test)'}"
            self._blame(TestRun(where, outcome), status)
        return finished or (current is None and status != "ended")

    def _blame(self, test: TestRun, status: str) -> None:
        test.details = f"{status}\n{self._stderr_tail()}"
        self._run.tests.append(test)

    def _stderr_tail(self) -> str:
        lines = self._stderr.read_text(errors="replace").splitlines()
        return "\n".join(lines[-STDERR_LINES:])


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


class Runs:
    """Modules under way, `jobs` at a time; ask for each with `result`."""

    def __init__(self, names: Iterable[str], loop: str, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(jobs)
        order = sorted(names, key=lambda n: (n not in LONGEST_FIRST, n))
        self._futures: dict[str, Future[ModuleRun]] = {
            name: self._pool.submit(run_module, name, loop) for name in order
        }

    def result(self, name: str) -> ModuleRun:
        return self._futures[name].result()

    def all_results(self) -> list[ModuleRun]:
        return [future.result() for future in self._futures.values()]

    def on_each(self, report: Callable[[ModuleRun], None]) -> None:
        """Call *report* with every module as it ends (from a worker thread)."""
        for future in self._futures.values():
            future.add_done_callback(lambda done: report(done.result()))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The modules that match one of *patterns* (all if there is none), `test_` optional."""
    wanted = list(patterns)
    return [
        name
        for name in names
        if not wanted or any(fnmatchcase(name, p) or fnmatchcase(name, f"test_{p}") for p in wanted)
    ]
