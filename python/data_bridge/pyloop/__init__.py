"""PyLoop: an asyncio event loop written in Rust.

A program that runs on asyncio runs on PyLoop unchanged::

    import asyncio
    from data_bridge import pyloop

    async def main():
        await asyncio.sleep(0.1)
        return type(asyncio.get_running_loop()).__name__

    print(pyloop.run(main()))            # PyLoop

To choose it where somebody else makes the loop, pass ``loop_factory=pyloop.new_event_loop``, or call
`install()` once; ``python -m data_bridge.pyloop app.py`` runs a program that knows nothing of PyLoop.
"""

from __future__ import annotations

try:
    # The native module before all else: were it missing, its own absence should be the cause, not an
    # import of it half-way through another module.
    from ._native import __version__  # noqa: I001
    from ._loop import PyLoop
except Exception as error:
    from ._diagnose import import_error

    raise import_error(error) from error

from . import _policy
from ._policy import install, is_installed, uninstall
from ._run import new_event_loop, run

__all__ = [
    "PyLoop",
    "__version__",
    "install",
    "is_installed",
    "new_event_loop",
    "run",
    "uninstall",
]

if _policy.HAS_POLICIES:
    from ._policy import EventLoopPolicy as EventLoopPolicy

    __all__ += ["EventLoopPolicy"]
else:

    def __getattr__(name: str) -> object:
        if name == "EventLoopPolicy":
            raise AttributeError(_policy.NO_POLICIES)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
