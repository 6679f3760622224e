"""Owns running a test program in a child interpreter: interrupts, forks, process-wide patches.

The program finds `new_loop()` (of the kind under test) and `say(text)` (a line to its parent) in its
globals. It runs with warnings as errors and with faulthandler, so that a crash names its place.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATIENCE = 20.0

_PREAMBLES = {
    "asyncio": "from asyncio import SelectorEventLoop as new_loop\n",
    "pyloop": "from data_bridge.pyloop import new_event_loop as new_loop\n",
}

_PROLOGUE = """\
import sys
def say(text):
    sys.stdout.write(f'{text}\\n')
    sys.stdout.flush()
"""


@dataclass
class Outcome:
    """How a child ended and what it said."""

    status: int
    lines: list[str]
    errors: str
    seconds: float


def run_program(
    kind: str,
    source: str,
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Outcome:
    """Run *source* to its end."""
    child = Child(kind, source, options=options, environment=environment)
    return child.finish(patience)


def expect_lines(outcome: Outcome, *lines: str) -> None:
    """The child ended well, said exactly *lines*, and complained about nothing."""
    assert (outcome.status, outcome.lines) == (0, list(lines)), outcome.errors
    assert outcome.errors == ""


class Child:
    """A running program; its parent reads its lines and sends it signals."""

    def __init__(
        self,
        kind: str,
        source: str,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        program = _PROLOGUE + _PREAMBLES[kind] + textwrap.dedent(source)
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        variables.update(environment or {})
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-W", "error", *options, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
        )
        self._pending = b""
        self._lines: list[str] = []

    def wait_for_line(self, expected: str, patience: float = PATIENCE) -> None:
        """Read lines until *expected* comes; fail if the child ends or takes too long."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + patience
        while True:
            head, separator, rest = self._pending.partition(b"\n")
            if separator:
                self._pending = rest
                self._lines.append(head.decode())
                if self._lines[-1] == expected:
                    return
                continue
            ready, _, _ = select.select(
                [self.process.stdout], [], [], max(0, deadline - time.monotonic())
            )
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                outcome = self.finish(0.5)
                raise AssertionError(f"no line {expected!r}: {outcome.lines}\n{outcome.errors}")
            self._pending += data

    def signal(self, number: int) -> None:
        """Send the child a signal."""
        self.process.send_signal(number)

    def ended_within(self, seconds: float) -> bool:
        """Whether the child ends by itself in that time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self, patience: float = PATIENCE) -> Outcome:
        """Wait for the end; a child that does not end is killed and shown as status -9."""
        try:
            output, errors = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, errors = self.process.communicate()
        self._lines += (self._pending + output).decode().splitlines()
        self._pending = b""
        return Outcome(
            self.process.returncode,
            self._lines,
            errors.decode(),
            time.monotonic() - self.started,
        )
