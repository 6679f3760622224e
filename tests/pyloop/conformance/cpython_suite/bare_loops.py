"""Tests that build a bare `BaseEventLoop` with mocks for a selector side: they run on our loop.

Such a test module sees another class under that name: ours, deaf to mocks of its selector side,
so that it really polls and really wakes up. The mocks of a set-up land on a stand-in that is
thrown away.
"""

from __future__ import annotations

import functools
import types
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

# The test modules, and the global by which each reaches the class.
MODULES = {"test_base_events": "base_events", "test_pep492": "asyncio", "test_runners": "asyncio"}
SET_UPS = ("setUp", "new_loop")
SELECTOR_SIDE = frozenset({"_selector", "_process_events", "_write_to_self"})


class ModuleView(types.ModuleType):
    """A module seen with some names replaced; all else is read from and written to the module."""

    def __init__(self, module: types.ModuleType, **replaced: object) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(replaced, _viewed=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_viewed"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_viewed"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__dict__["_viewed"], name)


class _Preparing:
    """Stands for a loop during a set-up; what the set-up does to the selector side stays here."""

    def __init__(self, loop: Any) -> None:
        self.__dict__["loop"] = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loop"], name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in SELECTOR_SIDE:
            self.__dict__[name] = value
        else:
            setattr(self.__dict__["loop"], name, value)


def bare_loop(target: type) -> type:
    """Stands for a bare BaseEventLoop: *target*, deaf to mocks of its selector side."""

    def __setattr__(loop: Any, name: str, value: object) -> None:
        if not (name in SELECTOR_SIDE and isinstance(value, mock.Mock)):
            super(cls, loop).__setattr__(name, value)

    cls: Any = type("BareLoop", (target,), {"__setattr__": __setattr__})
    return cls  # type: ignore[no-any-return]


def adapt(module: types.ModuleType, target: type) -> None:
    """Let *module* find *target* where it looks for a bare BaseEventLoop."""
    reached_by = MODULES.get(module.__name__.rpartition(".")[2])
    if reached_by is None:
        return
    view = ModuleView(getattr(module, reached_by), BaseEventLoop=bare_loop(target))
    setattr(module, reached_by, view)
    for case in list(vars(module).values()):
        if isinstance(case, type) and issubclass(case, unittest.TestCase):
            for name in SET_UPS:
                function = vars(case).get(name)
                if function is not None and "BaseEventLoop" in function.__code__.co_names:
                    setattr(case, name, _with_stand_in(function, view))


def _with_stand_in(function: Callable[[Any], Any], view: ModuleView) -> Callable[[Any], Any]:
    cls = view.BaseEventLoop

    @functools.wraps(function)
    def set_up(test: Any) -> Any:
        with mock.patch.dict(view.__dict__, BaseEventLoop=lambda: _Preparing(cls())):
            made = function(test)
        if isinstance(made, _Preparing):
            return made.loop
        if isinstance(getattr(test, "loop", None), _Preparing):
            test.loop = test.loop.loop
        return made

    return set_up
