"""The loops that are compared: what each is called, how it is made, whether it is installed.

Owns names, order and factories. Every loop is made the way its own documentation says; nothing
is tuned for or against any of them. The floor is no event loop: see ``floor.py``.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PYLOOP, ASYNCIO, UVLOOP, RLOOP, FLOOR = "pyloop", "asyncio", "uvloop", "rloop", "floor"


@dataclass(frozen=True)
class LoopKind:
    """One column of the tables."""

    key: str
    title: str
    module: str
    distribution: str | None
    colour: str
    source: str

    def installed(self) -> bool:
        """Whether the module can be found; importing it may still fail."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ImportError:
            return False

    def version(self) -> str:
        """The version of the distribution, or of the interpreter for asyncio."""
        if self.distribution is None:
            return platform.python_version()
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            module = importlib.import_module(self.module)
            return str(getattr(module, "__version__", "unknown"))

    def new_loop(self) -> Any:
        """A fresh loop that coroutines, tasks and timers can run on."""
        if self.key == FLOOR:
            return _floor().TaskLoop()
        return _FACTORIES[self.key]()

    def new_callback_loop(self) -> Any:
        """A fresh loop for plain callbacks: the floor has a leaner ring for these."""
        if self.key == FLOOR:
            return _floor().CallbackRing()
        return _FACTORIES[self.key]()


KINDS: dict[str, LoopKind] = {
    kind.key: kind
    for kind in (
        LoopKind(PYLOOP, "PyLoop", "data_bridge.pyloop", "data-bridge-pyloop", "#b5402a", "."),
        LoopKind(ASYNCIO, "Asyncio", "asyncio", None, "#4a6fa5", ""),
        LoopKind(UVLOOP, "uvloop", "uvloop", "uvloop", "#6a994e", "uvloop"),
        LoopKind(RLOOP, "rloop", "rloop", "rloop", "#d4a017", "rloop"),
        LoopKind(FLOOR, "floor", "floor", None, "#8a8a8a", ""),
    )
}
PEERS = (ASYNCIO, UVLOOP, RLOOP)


def _module_factory(module: str) -> Callable[[], Any]:
    def factory() -> Any:
        return importlib.import_module(module).new_event_loop()

    return factory


def _floor() -> Any:
    return importlib.import_module("floor").load()


_FACTORIES: dict[str, Callable[[], Any]] = {
    PYLOOP: _module_factory("data_bridge.pyloop"),
    ASYNCIO: asyncio.new_event_loop,
    UVLOOP: _module_factory("uvloop"),
    RLOOP: _module_factory("rloop"),
}
