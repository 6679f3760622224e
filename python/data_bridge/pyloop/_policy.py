"""Owns install(), uninstall(), is_installed() and the event loop policy that they put in place.

asyncio keeps one policy for the process and asks it for every loop that nobody else made: asyncio.run(),
asyncio.Runner and asyncio.new_event_loop() all do, from 3.11 to 3.15. Only the names have changed: 3.14
moved the class, the getter and the setter behind an underscore and left shims that warn; 3.16 is to
remove them. `_find_policies` is the one place that knows.

Ground rule: no record is kept here. What install() replaced hangs on the policy that replaced it, so
uninstall() can only ever undo an installation that is still in force.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._run import new_event_loop

if TYPE_CHECKING:
    from ._loop import PyLoop

    if sys.version_info >= (3, 14):
        from asyncio.events import _AbstractEventLoopPolicy as AnyPolicy
        from asyncio.unix_events import _DefaultEventLoopPolicy as DefaultPolicy
    else:
        from asyncio import AbstractEventLoopPolicy as AnyPolicy
        from asyncio import DefaultEventLoopPolicy as DefaultPolicy

NO_POLICIES: Final = (
    "this Python's asyncio has no event loop policies, so PyLoop cannot be installed for the whole"
    " process: use data_bridge.pyloop.run(main()),"
    " asyncio.run(main(), loop_factory=data_bridge.pyloop.new_event_loop),"
    " or python -m data_bridge.pyloop on Python 3.11 to 3.15"
)


class _Policies(NamedTuple):
    """asyncio's policy machinery, by the names that do not warn."""

    default: type[Any]
    current: Callable[[], AnyPolicy]
    replace: Callable[[AnyPolicy], None]


def _find_policies(package: ModuleType, version: tuple[int, int]) -> _Policies | None:
    """The machinery of *package* (asyncio), or None where this version no longer has one."""
    if version < (3, 14):
        return _Policies(
            package.DefaultEventLoopPolicy,
            package.get_event_loop_policy,
            package.set_event_loop_policy,
        )
    events = package.events
    # Named in full, so that a search for the private names of asyncio in use finds them.
    current = getattr(events, "_get_event_loop_policy", None)
    replace = getattr(events, "_set_event_loop_policy", None)
    default = getattr(package.unix_events, "_DefaultEventLoopPolicy", None)
    if current is None or replace is None or default is None:
        return None
    return _Policies(default, current, replace)


_policies = _find_policies(asyncio, sys.version_info[:2])
_installing = threading.Lock()

HAS_POLICIES: Final = _policies is not None

if not TYPE_CHECKING:
    DefaultPolicy = object if _policies is None else _policies.default


class EventLoopPolicy(DefaultPolicy):
    """asyncio's default policy, except that the loops it makes are PyLoops.

    The current loop of each thread, child watchers (3.11 to 3.13) and the warnings about both are the
    default policy's own. `install()` is the usual way to put one in place;
    ``asyncio.set_event_loop_policy(EventLoopPolicy())`` does the same where a framework asks for a
    policy, with a DeprecationWarning from 3.14 on. Python 3.16 is to remove policies: this name is
    missing there, and AttributeError says what to use.
    """

    # What install() found in place; None on a policy that install() did not make.
    _replaced: AnyPolicy | None = None

    def new_event_loop(self) -> PyLoop:
        """Make a new PyLoop. Safe from any thread; does not block; raises as new_event_loop() does."""
        return new_event_loop()


def install() -> None:
    """Make asyncio use PyLoop for every loop it makes from now on, in every thread.

    That covers asyncio.run(), asyncio.Runner and asyncio.new_event_loop() wherever they are called without
    a loop factory of their own. A loop that already exists or runs is not touched, but as with any change
    of policy, a current loop set by asyncio.set_event_loop() before must be set again.
    Child processes made by multiprocessing's spawn or forkserver start without it.

    Does nothing where a PyLoop policy is already in force. Safe from any thread; does not block; emits no
    DeprecationWarning. Raises RuntimeError on a Python without event loop policies (3.16).
    """
    if _policies is None:
        raise RuntimeError(NO_POLICIES)
    with _installing:
        found = _policies.current()
        if isinstance(found, EventLoopPolicy):
            return
        policy = EventLoopPolicy()
        policy._replaced = found
        _policies.replace(policy)


def uninstall() -> None:
    """Put back the policy that install() found, the very object.

    Does nothing where PyLoop is not installed, and where the policy in force is somebody else's: one that
    was set after install(), or an EventLoopPolicy that was set by hand. Loops that exist live on.
    Safe from any thread; does not block; raises nothing.
    """
    if _policies is None:
        return
    with _installing:
        policy = _policies.current()
        if isinstance(policy, EventLoopPolicy) and policy._replaced is not None:
            _policies.replace(policy._replaced)


def is_installed() -> bool:
    """Whether asyncio makes PyLoops now: a PyLoop policy is in force, set by install() or by hand.

    Safe from any thread; does not block; raises nothing.
    """
    return _policies is not None and isinstance(_policies.current(), EventLoopPolicy)
