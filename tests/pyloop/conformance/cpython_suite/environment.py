"""Tests that cannot pass on some machines on any loop, with the reason; never just dropped.

An entry does not excuse PyLoop: the driver runs the failed test again on asyncio's own loop, on
the same machine, and only a test that fails there too counts as "environment".
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Expected:
    """A test (`module.Class.method`, or wildcards) and what the machine lacks or the test does."""

    pattern: str
    reason: str


EXPECTED: tuple[Expected, ...] = ()


def expected(test_id: str) -> Expected | None:
    """The entry for *test_id*, if any."""
    return next((entry for entry in EXPECTED if fnmatchcase(test_id, entry.pattern)), None)
