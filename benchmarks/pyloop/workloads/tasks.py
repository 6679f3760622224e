"""Tasks and futures: what coroutines pay per suspension, per task, per time-out.

All of it is ordinary asyncio code run by ``run_until_complete``. The clock runs inside the main
coroutine, so making and closing the loop is not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from loops import LoopKind

from workloads.stopwatch import Stopwatch

_GROUP = 100
_FAR = 10.0

Figures = dict[str, float]


def _run(kind: LoopKind, main: Callable[[], Coroutine[Any, Any, Figures]]) -> Figures:
    loop = kind.new_loop()
    try:
        figures: Figures = loop.run_until_complete(main())
        return figures
    finally:
        loop.close()


async def _nothing() -> None:
    pass


def sleep_zero(kind: LoopKind, count: int) -> Figures:
    """``await asyncio.sleep(0)``."""

    async def main() -> Figures:
        watch = Stopwatch()
        for _ in range(count):
            await asyncio.sleep(0)
        return watch.per_operation(count)

    return _run(kind, main)


def future(kind: LoopKind, count: int) -> Figures:
    """A future made, resolved by ``call_soon``, awaited."""

    async def main() -> Figures:
        loop = asyncio.get_running_loop()
        watch = Stopwatch()
        for _ in range(count):
            waiter: asyncio.Future[None] = loop.create_future()
            loop.call_soon(waiter.set_result, None)
            await waiter
        return watch.per_operation(count)

    return _run(kind, main)


def create_task(kind: LoopKind, count: int) -> Figures:
    """``await asyncio.create_task(...)`` of a coroutine that returns at once."""

    async def main() -> Figures:
        watch = Stopwatch()
        for _ in range(count):
            await asyncio.create_task(_nothing())
        return watch.per_operation(count)

    return _run(kind, main)


def gather(kind: LoopKind, count: int) -> Figures:
    """``create_task`` + ``gather``, 100 tasks at a time; the figure is per task."""

    async def main() -> Figures:
        rounds = max(1, count // _GROUP)
        watch = Stopwatch()
        for _ in range(rounds):
            await asyncio.gather(*[asyncio.create_task(_nothing()) for _ in range(_GROUP)])
        return watch.per_operation(rounds * _GROUP)

    return _run(kind, main)


def task_group(kind: LoopKind, count: int) -> Figures:
    """``asyncio.TaskGroup`` of 100 tasks; the figure is per task."""

    async def main() -> Figures:
        rounds = max(1, count // _GROUP)
        watch = Stopwatch()
        for _ in range(rounds):
            async with asyncio.TaskGroup() as group:
                for _ in range(_GROUP):
                    group.create_task(_nothing())
        return watch.per_operation(rounds * _GROUP)

    return _run(kind, main)


def wait_for(kind: LoopKind, count: int) -> Figures:
    """``asyncio.wait_for(asyncio.sleep(0), 10)``: a timer set and cancelled around a pause."""

    async def main() -> Figures:
        watch = Stopwatch()
        for _ in range(count):
            await asyncio.wait_for(asyncio.sleep(0), _FAR)
        return watch.per_operation(count)

    return _run(kind, main)


def timeout(kind: LoopKind, count: int) -> Figures:
    """``async with asyncio.timeout(10)`` around nothing; a pause after every 100."""

    async def main() -> Figures:
        rounds = max(1, count // _GROUP)
        watch = Stopwatch()
        for _ in range(rounds):
            for _ in range(_GROUP):
                async with asyncio.timeout(_FAR):
                    pass
            await asyncio.sleep(0)
        return watch.per_operation(rounds * _GROUP)

    return _run(kind, main)


def queue_ping_pong(kind: LoopKind, count: int) -> Figures:
    """Two tasks hand an item to and fro through two queues; the figure is per round trip."""

    async def main() -> Figures:
        there: asyncio.Queue[int] = asyncio.Queue(1)
        back: asyncio.Queue[int] = asyncio.Queue(1)

        async def answer() -> None:
            for _ in range(count):
                await back.put(await there.get())

        task = asyncio.create_task(answer())
        watch = Stopwatch()
        for index in range(count):
            await there.put(index)
            await back.get()
        figures = watch.per_operation(count)
        await task
        return figures

    return _run(kind, main)


def raising_task(kind: LoopKind, count: int) -> Figures:
    """An awaited task that raises, and whose exception is caught."""

    async def fail() -> None:
        raise ValueError("on purpose")

    async def main() -> Figures:
        caught = 0
        watch = Stopwatch()
        for _ in range(count):
            try:
                await asyncio.create_task(fail())
            except ValueError:
                caught += 1
        figures = watch.per_operation(count)
        if caught != count:
            raise AssertionError(f"{caught} of {count} exceptions were caught")
        return figures

    return _run(kind, main)
