"""Tests that ask a fresh interpreter for a new event loop: the loop made there is ours too.

The child is told by a prologue before the test's own code, and says on stderr which loop it made,
so that the test counts.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

# Test modules whose `assert_python_ok(..., '-c', code)` makes a loop in the child.
MODULES = frozenset({"test_base_events"})
MADE = "loop made by the child: "

PROLOGUE = f"""
import sys, asyncio.unix_events
from {{module}} import {{name}}
def _loop_factory():
    loop = {{name}}()
    print({MADE!r} + type(loop).__name__, file=sys.stderr)
    return loop
for _value in list(vars(asyncio.unix_events).values()):
    if isinstance(_value, type) and '_loop_factory' in vars(_value):
        _value._loop_factory = staticmethod(_loop_factory)
"""


def adapt(module: types.ModuleType, target: type, count: Callable[[type], None]) -> None:
    """Let the child interpreters of *module* use *target*, and *count* what they say they made."""
    if module.__name__.rpartition(".")[2] not in MODULES:
        return
    prologue = PROLOGUE.format(module=target.__module__, name=target.__name__)
    run_child = module.assert_python_ok

    def assert_python_ok(*args: str, **env: str) -> Any:
        *options, code = args
        finished = run_child(*options, prologue + code, **env)
        if MADE + target.__name__ in finished[2].decode(errors="replace"):
            count(target)
        return finished

    module.assert_python_ok = assert_python_ok  # type: ignore[attr-defined]
