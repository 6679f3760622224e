"""The asyncio REPL of python -m data_bridge.pyloop on a terminal: a pseudo-terminal and a child on it.

All tests here are slow: a REPL with its console starts for each.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.slow

PATIENCE = 20.0
_ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]|[=>()][0-9A-B]?)")


class Terminal:
    """A REPL on a pseudo-terminal that is its controlling one: what is typed, and what it shows."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        variables.update({"TERM": "xterm", "PYTHON_HISTORY": os.devnull, **environment})
        self.child = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._shown = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until *text* shows after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._shown.find(text.encode())) < 0:
            data = self._read(deadline - time.monotonic())
            assert data, f"{text!r} did not come; shown: {self._shown.decode(errors='replace')}"
            self._shown = _ESCAPES.sub(b"", self._shown + data)
        self._shown = self._shown[found + len(text) :]

    def status(self) -> int:
        """The exit status, once the child has said all it had to say."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        return self.child.wait(max(0, deadline - time.monotonic()))

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self._master)

    def _read(self, patience: float) -> bytes:
        ready, _, _ = select.select([self._master], [], [], max(0, patience))
        try:
            return os.read(self._master, 65536) if ready else b""
        except OSError:  # Linux: the other side is closed
            return b""


@pytest.fixture(params=["basic", "pyrepl"])
def repl(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """The REPL at its prompt, with each console that this Python has."""
    if request.param == "pyrepl" and sys.version_info < (3, 13):
        pytest.skip("the console with colours came in 3.13")
    environment = {"PYTHON_BASIC_REPL": "1"} if request.param == "basic" else {}
    terminal = Terminal("-m", "data_bridge.pyloop", **environment)
    try:
        terminal.wait_for("asyncio REPL")
        terminal.wait_for("import asyncio")
        terminal.wait_for(">>> ")
        yield terminal
    finally:
        terminal.close()


def test_the_repl_awaits_at_top_level_on_a_pyloop(repl: Terminal) -> None:
    repl.type("await asyncio.sleep(0, 'top ' + 'level')\n")
    repl.wait_for("'top level'")
    repl.type("type(asyncio.get_running_loop()).__qualname__.upper()\n")
    repl.wait_for("'PYLOOP'")


def test_an_interrupt_in_the_repl_cancels_the_await_and_leaves_the_repl_alive(
    repl: Terminal,
) -> None:
    # A callback says so, not the task: 3.13.0's own REPL hangs where the signal hits the task's step.
    later = "asyncio.get_running_loop().call_later(0.1, print, 'be' + 'gun')"
    repl.type(f"_ = {later}; await asyncio.sleep(3600)\n")
    repl.wait_for("begun")
    repl.type("\x03")
    repl.wait_for(">>> ")
    repl.type("print('ali' + 've')\n")
    repl.wait_for("alive")


def test_exit_leaves_the_repl_with_its_status(repl: Terminal) -> None:
    repl.type("exit(3)\n")
    expected = Terminal("-m", "asyncio", PYTHON_BASIC_REPL="1")
    try:
        expected.wait_for(">>> ")
        expected.type("exit(3)\n")
        assert repl.status() == expected.status()
    finally:
        expected.close()


def test_the_end_of_input_leaves_the_repl(repl: Terminal) -> None:
    repl.type("\x04")
    repl.wait_for("exiting asyncio REPL...")
    assert repl.status() == 0


def test_a_dash_on_a_terminal_is_the_repl_too() -> None:
    terminal = Terminal("-m", "data_bridge.pyloop", "-", PYTHON_BASIC_REPL="1")
    try:
        terminal.wait_for("asyncio REPL")
        terminal.wait_for(">>> ")
        terminal.type("exit()\n")
        assert terminal.status() == 0
    finally:
        terminal.close()
