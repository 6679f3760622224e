"""Which asyncio test modules this interpreter ships; nothing is loaded here.

New modules of later Python versions are found by themselves, because the list is read from the
directory.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

PACKAGE = "test.test_asyncio"
NOT_SHIPPED = "skipped: this interpreter has no test.test_asyncio"


def interpreter() -> str:
    """The interpreter in use, as the reports name it: `CPython 3.13.0`."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def minor_version() -> str:
    """The key of the recorded numbers: `3.13`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def directory() -> Path | None:
    """The directory of CPython's asyncio tests, or None where the distribution left them out."""
    try:
        package = importlib.util.find_spec(PACKAGE)
        support = importlib.util.find_spec("test.support")
    except ModuleNotFoundError:
        return None
    if package is None or support is None or package.origin is None:
        return None
    return Path(package.origin).parent


def modules() -> list[str]:
    """Names of the test modules, such as `test_tasks`; empty where there are none."""
    where = directory()
    if where is None:
        return []
    return sorted(path.stem for path in where.glob("test_*.py"))
