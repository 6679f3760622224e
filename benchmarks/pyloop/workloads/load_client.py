"""The load client's process: started beside the server, asked for one JSON object, never waited for
for ever.

It ends by itself when its standard input closes, so an interrupted run leaves nothing behind.
"""

from __future__ import annotations

import json
import select
import subprocess
from types import TracebackType
from typing import Any, Self

import io_tool

from workloads import placement

_PATIENCE = 5.0


class LoadFailure(Exception):
    """The client gave up; the message says what it met."""


class LoadProgram:
    """One run of ``pyloop-load``; leaving the ``with`` block ends it."""

    def __init__(self, job: str, **options: object) -> None:
        words = [io_tool.program(), job]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self._process.pid

    def answer(self, timeout: float) -> dict[str, Any]:
        """The object that it prints; raises LoadFailure with what it says instead."""
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], timeout)[0]:
            raise LoadFailure(f"the load program said nothing within {timeout:g} s")
        line = output.readline()
        if not line:
            raise LoadFailure(f"the load program died ({self._process.wait(timeout)})")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise LoadFailure(found["error"])
        return found

    def stop(self) -> None:
        """Close its standard input, and see that it ends."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def ask(
    job: str, address: str, server: int, expected: float, /, **options: object
) -> dict[str, Any]:
    """Run one job of the client against a server; it should take ``expected`` seconds."""
    with LoadProgram(job, to=address, server=server, patience=_PATIENCE, **options) as client:
        placement.move_to_client_core(client.pid)
        return client.answer(expected + 3 * _PATIENCE)
