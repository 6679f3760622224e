"""Owns how much memory this process really holds."""

from __future__ import annotations

import os
import resource
import sys


def resident_bytes() -> int:
    """What is resident now; where that cannot be read, the highest it has been."""
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
