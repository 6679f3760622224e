"""Where a run was made: processor, cores, kernel, interpreter. Never a host name or a path."""

from __future__ import annotations

import os
import platform
import sysconfig
from pathlib import Path


def describe() -> dict[str, str]:
    """What a reader needs to judge the figures."""
    return {
        "processor": _processor(),
        "cores": str(_cores()),
        "memory": _memory(),
        # The kernel's version without what its builder appended, which may name a machine.
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({_build()})",
        "compiler": platform.python_compiler(),
    }


def load_average() -> str:
    """The load average now: other work on the machine shows here."""
    return f"{os.getloadavg()[0]:.2f}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "unknown"
    return f"{pages * size / 2**30:.0f} GiB"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def _build() -> str:
    """Profile-guided or not makes a third of the speed of an interpreter."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    profile = "--enable-optimizations" in arguments
    lto = "--with-lto" in arguments
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    words = ["PGO" if profile else "no PGO", "LTO" if lto else "no LTO"]
    return ", ".join(words + (["free-threaded"] if free_threaded else []))
