"""Owns the stand-in for the package `uvloop`: its public names, made of the loop that is to be tested.

PEERS_LOOP says which loop, PEERS_SOURCE where uvloop's sources lie unpacked. Everything that is not
here (`uvloop._testbase`) is found there; the compiled parts of uvloop are not, on purpose.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final

warnings.filterwarnings("ignore", message=".*policy", category=DeprecationWarning)

__path__.append(os.path.join(os.environ["PEERS_SOURCE"], "uvloop"))

LOOP: Final = os.environ["PEERS_LOOP"]

if LOOP == "pyloop":
    from data_bridge import pyloop

    Loop: type[asyncio.AbstractEventLoop] = pyloop.PyLoop
    EventLoopPolicy: Any = pyloop.EventLoopPolicy
else:
    Loop = asyncio.SelectorEventLoop
    EventLoopPolicy = asyncio.DefaultEventLoopPolicy


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop of the kind that is tested."""
    return Loop()


def install() -> None:
    """Make the loop that is tested the one of the process."""
    asyncio.set_event_loop_policy(EventLoopPolicy())


def run(
    main: Coroutine[Any, Any, Any],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
    debug: bool | None = None,
) -> Any:
    """`uvloop.run()`, with its refusal of loops of another kind."""

    async def checked() -> Any:
        if not isinstance(asyncio.get_running_loop(), Loop):
            raise TypeError("uvloop.run() uses a non-uvloop event loop")
        return await main

    if sys.version_info >= (3, 12):
        return asyncio.run(checked(), loop_factory=loop_factory, debug=debug)
    with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
        return runner.run(checked())
