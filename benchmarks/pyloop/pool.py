"""The parent's side of the workers: starting, asking, and surviving their deaths."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import floor
from loops import FLOOR, KINDS, LoopKind

_WORKER = Path(__file__).with_name("worker.py")


class WorkerFailure(Exception):
    """A workload failed, or its process died; the message goes into the loop's column."""


class Worker:
    """One process for one loop; started on the first question, and again after a death."""

    def __init__(self, kind: LoopKind) -> None:
        self.kind = kind
        self.version: str | None = None
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the worker

    def start(self) -> None:
        """Start the process and wait until its loop has been made once."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), self.kind.key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.version = str(self._read(60)["version"])

    def ask(
        self,
        work: str,
        parameters: dict[str, Any],
        *,
        warm_up: dict[str, Any] | None = None,
        collector: bool = True,
        timeout: float = 60.0,
    ) -> dict[str, float]:
        """Run one workload there and return its figures."""
        self.start()
        process = self._process
        assert process is not None and process.stdin is not None
        question = {
            "work": work,
            "parameters": parameters,
            "warm_up": warm_up or {},
            "collector": collector,
        }
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        figures: dict[str, float] = self._read(timeout)["figures"]
        return figures

    def stop(self) -> None:
        """End the process; a later question starts a new one."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read(self, timeout: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdout is not None
        if not select.select([process.stdout], [], [], timeout)[0]:
            process.kill()
            self.stop()
            raise WorkerFailure(f"no answer within {timeout:g} s")
        line = process.stdout.readline()
        if not line:
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailure(answer["error"])
        return answer

    def _death(self) -> WorkerFailure:
        process = self._process
        assert process is not None
        self.stop()
        code = process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        said = next((line for line in reversed(lines) if "Error" in line or "panic" in line), "")
        return WorkerFailure(f"process died ({how}) {said}".strip())


class Pool:
    """The workers of one run, and why the missing ones are missing."""

    def __init__(
        self,
        keys: Iterable[str],
        *,
        collector: bool = True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.collector = collector
        self.workers: dict[str, Worker] = {}
        self.absent: dict[str, str] = {}
        for key in keys:
            kind = KINDS[key]
            if key == FLOOR:
                say("building the floor (cargo build --release -p pyloop-floor) ...")
                try:
                    os.environ[floor.LIBRARY_VARIABLE] = str(floor.build())
                except floor.FloorUnavailable as reason:
                    self.absent[key] = str(reason)
                    continue
            elif not kind.installed():
                self.absent[key] = f"not installed (python -m pip install {kind.source})"
                continue
            worker = Worker(kind)
            try:
                worker.start()
            except WorkerFailure as failure:
                worker.stop()
                self.absent[key] = str(failure)
                continue
            self.workers[key] = worker

    def versions(self) -> dict[str, str]:
        """Title and version of every loop that runs."""
        return {key: worker.version or "" for key, worker in self.workers.items() if key != FLOOR}

    def restart(self) -> None:
        """End all processes, so that the next questions meet fresh ones."""
        for worker in self.workers.values():
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.restart()
