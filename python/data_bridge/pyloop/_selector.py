"""What ``loop._selector`` is: a façade over the native reactor, with the interface of ``selectors``.

asyncio's private attribute is used by tools that step or fake a loop. It tells the truth about what
is watched, and ``select()`` really waits. A replaced ``select`` is honoured: the loop then runs
asyncio's own iteration, which calls it.
"""

from __future__ import annotations

import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from ._loop import PyLoop


class ReactorSelector(selectors.BaseSelector):
    """The descriptors that a PyLoop watches. Keys carry ``(reader, writer)`` handles, as asyncio's own."""

    def __init__(self, loop: PyLoop) -> None:
        self._loop = loop

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "select":
            self._loop._look_again()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "select":
            self._loop._look_again()

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        """Watch *fileobj*; *data* must be a ``(reader, writer)`` pair of this loop's handles."""
        fd = selectors._fileobj_to_fd(fileobj)  # type: ignore[attr-defined]
        if fd in self.get_map():
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        return self._watch(fd, events, data)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        """Change what is watched of *fileobj*."""
        return self._watch(self.get_key(fileobj).fd, events, data)

    def _watch(self, fd: int, events: int, data: Any) -> selectors.SelectorKey:
        if not isinstance(data, tuple) or len(data) != 2:
            raise TypeError(
                "PyLoop watches descriptors for its own handles: "
                "use loop.add_reader() or add_writer()"
            )
        reader, writer = data
        self._loop._watch_handles(
            fd,
            reader if events & selectors.EVENT_READ else None,
            writer if events & selectors.EVENT_WRITE else None,
        )
        return selectors.SelectorKey(fd, fd, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Stop watching *fileobj* in both directions."""
        key = self.get_key(fileobj)
        self._loop._unwatch(key.fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait at most *timeout* seconds, for ever if it is None, and return what is ready."""
        ready = self._loop._wait(timeout)
        keys = self.get_map()
        return [(keys[fd], events) for fd, events in ready]

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """What is watched, by descriptor number."""
        return self._keys()

    def _keys(self, only: int | None = None) -> dict[FileDescriptorLike, selectors.SelectorKey]:
        return {
            fd: selectors.SelectorKey(fd, fd, events, (reader, writer))
            for fd, events, reader, writer in self._loop._watched(only)
        }

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """The key of *fileobj*; KeyError if it is not watched."""
        fd = selectors._fileobj_to_fd(fileobj)  # type: ignore[attr-defined]
        try:
            return self._keys(fd)[fd]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def fileno(self) -> int:
        """The descriptor that the loop waits on."""
        return self._loop._reactor_fileno()

    def close(self) -> None:
        """Close the reactor: what the inherited ``close()`` of the loop does last."""
        self._loop._shut()
