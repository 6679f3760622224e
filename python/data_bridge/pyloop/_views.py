"""What ``loop._ready`` and ``loop._scheduled`` show: live, read-only views of the native queues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from . import _native


class _View(Sequence[Any]):
    """A sequence of handles that is looked up anew on each use."""

    __slots__ = ("_core",)

    def __init__(self, core: _native.LoopCore) -> None:
        self._core = core

    def _handles(self) -> list[Any]:
        raise TypeError("a view of nothing")  # pragma: no cover - both views define it

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._handles()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._handles())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._handles()!r})"


class ReadyView(_View):
    """The handles that are ready to run, oldest first."""

    __slots__ = ()

    def __len__(self) -> int:
        return self._core._ready_count()

    def _handles(self) -> list[Any]:
        return self._core._ready_snapshot()

    def clear(self) -> None:
        """Forget them all: the inherited ``close()`` does this."""
        self._core._ready_clear()


class ScheduledView(_View):
    """The pending timers: the earliest first, the others in no particular order, as in asyncio's heap."""

    __slots__ = ()

    def __len__(self) -> int:
        return self._core._scheduled_count()

    def _handles(self) -> list[Any]:
        return self._core._scheduled_snapshot()

    def clear(self) -> None:
        """Forget them all: the inherited ``close()`` does this."""
        self._core._scheduled_clear()
