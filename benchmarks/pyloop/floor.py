"""Builds and loads the floor: the crate ``pyloop-floor``, callback rings with no loop around them.

Owns the call of cargo and the thin Python ends of the rings. The crate is compiled for the running
interpreter into ``target/floor/<version>`` and loaded from there; nothing is installed. Where
cargo is missing the floor column is left out, with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from asyncio import events
from collections.abc import Coroutine
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LIBRARY_VARIABLE = "PYLOOP_FLOOR_LIBRARY"
_ROOT = Path(__file__).resolve().parents[2]


class FloorUnavailable(Exception):
    """The floor cannot be built here; the message says why."""


def build() -> Path:
    """Compile the crate for this interpreter and return the library; raise FloorUnavailable."""
    if not (_ROOT / "crates" / "pyloop-floor").is_dir():
        raise FloorUnavailable("crates/pyloop-floor is not beside the benchmarks")
    cargo = shutil.which("cargo")
    if cargo is None:
        raise FloorUnavailable("cargo is not on the PATH")
    base = Path(os.environ.get("CARGO_TARGET_DIR", _ROOT / "target"))
    target = base / "floor" / str(sysconfig.get_config_var("SOABI") or sys.version_info.minor)
    environment = os.environ | {
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "CARGO_TARGET_DIR": str(target),
    }
    done = subprocess.run(
        [cargo, "build", "--release", "--quiet", "-p", "pyloop-floor"],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
        raise FloorUnavailable("; ".join(lines[:1]) or f"cargo failed ({done.returncode})")
    for name in ("libpyloop_floor.so", "libpyloop_floor.dylib"):
        library = target / "release" / name
        if library.exists():
            return library
    raise FloorUnavailable("cargo built no library")


@cache
def load() -> SimpleNamespace:
    """Import the library that ``build`` made; returns CallbackRing and TaskLoop."""
    library = os.environ.get(LIBRARY_VARIABLE) or str(build())
    spec = importlib.util.spec_from_file_location("pyloop_floor", library)
    if spec is None or spec.loader is None:
        raise FloorUnavailable(f"{library} is not an extension module for this interpreter")
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    ring, task_ring = _ends(native)
    _check(ring(), task_ring())
    return SimpleNamespace(CallbackRing=ring, TaskLoop=task_ring)


def _ends(native: Any) -> tuple[type[Any], type[Any]]:
    """The rings with the few cold methods that the workloads use around the timed part."""

    class CallbackRing(native.Ring):  # type: ignore[misc]
        """For plain callbacks: ``call_soon``, ``run_forever``, ``stop`` are native."""

        __slots__ = ()

        def close(self) -> None:
            """Nothing is open."""

    class TaskLoop(native.TaskRing):  # type: ignore[misc]
        """For tasks and futures; ``call_soon``, ``create_future``, ``create_task`` are native."""

        __slots__ = ()

        def run_until_complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
            """Run a coroutine as a task on the ring and return its result."""
            events._set_running_loop(self)
            try:
                task = self.create_task(coroutine)
                task.add_done_callback(lambda _: self.stop())
                self.run()
            finally:
                events._set_running_loop(None)
            return task.result()

        def call_exception_handler(self, context: dict[str, Any]) -> None:
            """Asked by tasks and futures that were lost with an exception."""
            raise RuntimeError(context["message"])

        def close(self) -> None:
            """Nothing is open."""

    return CallbackRing, TaskLoop


def _check(ring: Any, loop: Any) -> None:
    """A floor that does not do the work is no floor: order, arguments, stop, tasks."""
    seen: list[Any] = []
    ring.call_soon(seen.append, 1)
    ring.call_soon(lambda *args: seen.append(args), 2, 3)
    ring.call_soon(ring.stop)
    ring.call_soon(seen.append, 4)
    ring.run()
    if seen != [1, (2, 3)]:
        raise FloorUnavailable(f"the callback ring misbehaves: {seen}")

    async def main() -> str:
        future = loop.create_future()
        loop.call_soon(future.set_result, "done")
        return str(await future)

    if loop.run_until_complete(main()) != "done":
        raise FloorUnavailable("the task ring misbehaves")
