"""Owns the ImportError of a package that cannot start: what is wrong, and the command that mends it.

Imported only when that happened. It must itself be readable by any Python 3 that may find the package.
"""

from __future__ import annotations

import importlib.machinery
import shlex
import sys
from pathlib import Path

HEADLINE = "Failed to import PyLoop from data_bridge native module"

_NATIVE = "data_bridge.pyloop._native"
_OWN_LOOP = "use asyncio's own loop there"


def import_error(error: BaseException) -> ImportError:
    """The ImportError to raise in place of *error*, whose place is its __cause__."""
    reason, remedy = _explain(error)
    return ImportError(f"{HEADLINE}: {reason}\n{remedy}", name=_NATIVE)


def _explain(error: BaseException) -> tuple[str, str]:
    """What went wrong and what to do, the widest cause first: a wrong platform also lacks the module."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.implementation.name != "cpython":
        return (
            f"it runs on CPython only, and this is {sys.implementation.name}",
            f"Run the program with CPython 3.11 or newer, or {_OWN_LOOP}.",
        )
    if not sys.platform.startswith(("linux", "darwin")):
        return (
            f"it runs on Linux and macOS only, and this is {sys.platform}",
            f"Choose the loop by sys.platform, and {_OWN_LOOP}.",
        )
    if sys.version_info < (3, 11):
        return (
            f"it needs Python 3.11 or newer, and this is {python}",
            "Run the program with a newer Python: python3.11 -m pip install data-bridge-pyloop",
        )
    if "subinterpreter" in str(error):
        return (
            f"it does not load in a subinterpreter ({error})",
            f"Import it in the main interpreter, and {_OWN_LOOP}.",
        )
    return _explain_build(error, python), f"Mend it with: {_remedy(Path(__file__).parent)}"


def _explain_build(error: BaseException, python: str) -> str:
    if not (isinstance(error, ModuleNotFoundError) and error.name == _NATIVE):
        return f"its build does not fit or is damaged ({type(error).__name__}: {error})"
    others = sorted(file.name for file in Path(__file__).parent.glob("_native.*.so"))
    if others:
        wanted = importlib.machinery.EXTENSION_SUFFIXES[0]
        return f"it is built for another Python ({', '.join(others)}), and this one wants {wanted}"
    return f"it is not built for this Python {python}"


def _remedy(package: Path) -> str:
    """The command that builds or fetches the module again, by where *package* lies."""
    python = shlex.quote(sys.executable or "python")
    tree = package.parents[2]
    if (tree / "crates" / "data-bridge-pyloop").is_dir():
        return f"{python} -m pip install -e {shlex.quote(str(tree))}"
    return f"{python} -m pip install --force-reinstall data-bridge-pyloop"
