"""Owns the view of this process's open descriptors: what is open, and what each one is."""

from __future__ import annotations

import os
from collections import Counter

_FOLDER = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


def open_descriptors() -> dict[int, str]:
    """Every open descriptor with what it points at (the number alone where links cannot be read)."""
    found: dict[int, str] = {}
    for name in os.listdir(_FOLDER):
        try:
            found[int(name)] = os.readlink(f"{_FOLDER}/{name}")
        except OSError:
            # The descriptor that listed the folder is gone by now; on macOS links cannot be read.
            try:
                os.fstat(int(name))
            except OSError:
                continue
            found[int(name)] = f"descriptor {name}"
    return found


def opened_since(before: dict[int, str]) -> dict[int, str]:
    """The descriptors that are open now and were not (or were something else) in *before*."""
    return {fd: link for fd, link in open_descriptors().items() if before.get(fd) != link}


def kinds(descriptors: dict[int, str]) -> Counter[str]:
    """How many descriptors of each kind: 'eventpoll', 'eventfd', 'socket', 'pipe', ..."""
    return Counter(_kind(link) for link in descriptors.values())


def _kind(link: str) -> str:
    if link.startswith("anon_inode:"):
        return link.removeprefix("anon_inode:").strip("[]")
    return link.partition(":")[0]
