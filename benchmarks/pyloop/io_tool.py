"""Builds the load client: the crate ``pyloop-load``, which is the raw servers' program too.

Owns the call of cargo. The program is compiled into ``target/release``, or where CARGO_TARGET_DIR
says, and nothing is installed; workers find it by an environment variable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAM_VARIABLE = "PYLOOP_LOAD_PROGRAM"
_ROOT = Path(__file__).resolve().parents[2]


class ToolUnavailable(Exception):
    """The load client cannot be built here; the message says why."""


def build() -> Path:
    """Compile the program and return its path; raise ToolUnavailable."""
    if sys.platform != "linux":
        raise ToolUnavailable("it needs epoll and the CPU clock of another process: Linux only")
    if not (_ROOT / "crates" / "pyloop-load").is_dir():
        raise ToolUnavailable("crates/pyloop-load is not beside the benchmarks")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise ToolUnavailable("cargo is not on the PATH")
    target = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    done = subprocess.run(
        [cargo, "build", "--release", "--quiet", "-p", "pyloop-load"],
        cwd=_ROOT,
        env=os.environ | {"CARGO_TARGET_DIR": str(target)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
        raise ToolUnavailable("; ".join(lines[:1]) or f"cargo failed ({done.returncode})")
    program = (_ROOT / target / "release" / "pyloop-load").resolve()
    if not program.exists():
        raise ToolUnavailable("cargo built no program")
    return program


def program() -> str:
    """The program that the parent has built, or build it now."""
    return os.environ.get(PROGRAM_VARIABLE) or str(build())
