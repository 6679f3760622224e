"""The numbers that may not fall: how many tests of each module made a PyLoop, by Python version.

`recorded.json` beside `run.py` holds them, by minor version and platform; `run.py --record`
rewrites the entry of the interpreter in use. There is no tolerance: one test fewer on PyLoop is a
failure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import catalogue
from .driver import ModuleRun

FILE = Path(__file__).parent.parent / "recorded.json"


def _read() -> dict[str, Any]:
    text = FILE.read_text() if FILE.exists() else "{}"
    content: dict[str, Any] = json.loads(text)
    return content


def counts() -> dict[str, int] | None:
    """Recorded tests on PyLoop by module for this interpreter; None where none were recorded."""
    entry = _read().get(catalogue.minor_version(), {}).get(sys.platform)
    return None if entry is None else entry["modules"]


def shortfall(run: ModuleRun) -> str:
    """What is missing against the recorded number of this module; empty if nothing is."""
    recorded = (counts() or {}).get(run.name, 0)
    made = len(run.on_our_loop)
    if made >= recorded:
        return ""
    return f"{run.name}: {made} tests ran on PyLoop, recorded are {recorded}"


def write(runs: Iterable[ModuleRun]) -> None:
    """Record the numbers of *runs*, which must be all the modules of this interpreter."""
    modules = {run.name: len(run.on_our_loop) for run in runs}
    content = _read()
    content.setdefault(catalogue.minor_version(), {})[sys.platform] = {
        "interpreter": catalogue.interpreter(),
        "total": sum(modules.values()),
        "modules": dict(sorted(modules.items())),
    }
    FILE.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
