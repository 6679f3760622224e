"""The one list of CPython tests that are not run on PyLoop, with a reason for each.

Whole modules and classes stand here only where they test another loop's or selector's private
parts, or are copies of one test for another selector; single methods only where they poke a
private part of the stock loop's inside. `METHODS_AT_MOST` bounds the latter, wildcards expanded,
on every Python version. An entry that matches nothing on a version for which it says it holds is
an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

METHODS_AT_MOST = 60
Version = tuple[int, int]


@dataclass(frozen=True)
class Exclusion:
    """Tests left out: `module`, `module.Class` or `module.Class.method`, or wildcards."""

    pattern: str
    reason: str
    since: Version = (3, 11)
    before: Version = (4, 0)
    platform: str = ""  # a prefix of sys.platform; empty is everywhere

    @property
    def level(self) -> str:
        return ("module", "class", "method")[self.pattern.count(".")]

    @property
    def module(self) -> str:
        return self.pattern.partition(".")[0]

    def holds_here(self) -> bool:
        """Whether the entry is meant for this interpreter and platform."""
        here = sys.version_info[:2]
        return self.since <= here < self.before and sys.platform.startswith(self.platform)

    def matches(self, test_id: str) -> bool:
        """Whether *test_id* (`module.Class.method`) is left out by this entry."""
        parts = test_id.split(".")
        patterns = self.pattern.split(".")
        pairs = zip(parts, patterns, strict=False)
        return len(parts) >= len(patterns) and all(fnmatchcase(*pair) for pair in pairs)


_PRIVATE = "tests the private parts of another loop: "
_COPY = (
    "a copy of SelectEventLoopTests for another selector; on PyLoop, which takes none, it runs once"
)

EXCLUSIONS: tuple[Exclusion, ...] = (
    # Whole modules: another loop's private parts.
    Exclusion("test_selector_events", _PRIVATE + "the selector loop, driven by mock sockets"),
    Exclusion("test_proactor_events", _PRIVATE + "the proactor loop, driven by mock sockets"),
    Exclusion("test_windows_events", _PRIVATE + "the Windows loops"),
    Exclusion("test_windows_utils", _PRIVATE + "the pipes of the Windows loops"),
    # Classes: one test for several selectors.
    Exclusion("test_events.EPollEventLoopTests", _COPY, platform="linux"),
    Exclusion("test_events.PollEventLoopTests", _COPY),
    Exclusion("test_events.KqueueEventLoopTests", _COPY, platform="darwin"),
    Exclusion("test_sendfile.EPollEventLoopTests", _COPY, platform="linux"),
    Exclusion("test_sendfile.PollEventLoopTests", _COPY),
    Exclusion("test_sendfile.KqueueEventLoopTests", _COPY, platform="darwin"),
    Exclusion("test_sock_lowlevel.EPollEventLoopTests", _COPY, platform="linux"),
    Exclusion("test_sock_lowlevel.PollEventLoopTests", _COPY),
    Exclusion("test_sock_lowlevel.KqueueEventLoopTests", _COPY, platform="darwin"),
    # Single methods: the stock loop's inside.
    Exclusion(
        "test_base_events.BaseEventLoopTests.test_not_implemented",
        "asserts that BaseEventLoop leaves transports and events to its heirs; PyLoop has them",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test__run_once",
        "appends to the private heap _scheduled and asks a mock selector for its time-out",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test__run_once_schedule_handle",
        "appends to the private heap _scheduled, a read-only view on PyLoop",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test__run_once_cancelled_event_cleanup",
        "counts cancelled timers in the private heap; PyLoop removes a timer when it is cancelled",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test_run_forever_pre_stopped",
        "asks a mock selector how often it was called",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test_single_selecter_event_callback_after_stopping",
        "hands made-up events to the private _process_events through a mock selector",
    ),
    Exclusion(
        "test_base_events.BaseEventLoopTests.test_custom_run_forever_integration",
        "counts calls of a mock _process_events over passes that block without a mock selector",
        since=(3, 13),
    ),
)


def of_module(module: str) -> list[Exclusion]:
    """The entries that concern *module* on this interpreter."""
    return [
        entry for entry in EXCLUSIONS if entry.holds_here() and fnmatchcase(module, entry.module)
    ]


def excluding(test_id: str) -> Exclusion | None:
    """The entry that leaves *test_id* out, if any."""
    matching = (e for e in EXCLUSIONS if e.holds_here() and e.matches(test_id))
    return next(matching, None)


def without_a_match(module: str, test_ids: Iterable[str]) -> list[Exclusion]:
    """Entries of *module* that leave out none of its tests, though they say they hold here."""
    ids = list(test_ids)
    return [
        entry
        for entry in of_module(module)
        if entry.level != "module" and not any(entry.matches(test_id) for test_id in ids)
    ]


def of_unknown_modules(modules: Iterable[str]) -> list[Exclusion]:
    """Entries that name no module of this interpreter, though they say they hold here."""
    names = list(modules)
    return [
        entry
        for entry in EXCLUSIONS
        if entry.holds_here() and not any(fnmatchcase(name, entry.module) for name in names)
    ]
