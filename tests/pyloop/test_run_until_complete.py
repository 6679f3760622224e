"""run_until_complete: what it takes, returns and raises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_one_pass


def test_run_until_complete_returns_the_result(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> str:
        await asyncio.sleep(0.001)
        return "result"

    assert loop.run_until_complete(main()) == "result"


def test_run_until_complete_takes_futures_tasks_and_awaitables(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> int:
        return 1

    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 2

    future = loop.create_future()
    loop.call_soon(future.set_result, 3)
    assert loop.run_until_complete(loop.create_task(main())) == 1
    assert loop.run_until_complete(Awaitable()) == 2
    assert loop.run_until_complete(future) == 3
    assert loop.run_until_complete(future) == 3


def test_run_until_complete_raises_what_the_coroutine_raised(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> None:
        raise ZeroDivisionError("from main")

    with pytest.raises(ZeroDivisionError, match="from main"):
        loop.run_until_complete(main())
    run_one_pass(loop)


def test_run_until_complete_raises_cancelled_error(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("why")
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError, match="why"):
        loop.run_until_complete(main())


def test_run_until_complete_stopped_early_says_so(loop: asyncio.SelectorEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)
    future.set_result(5)
    assert loop.run_until_complete(future) == 5


def test_run_until_complete_of_a_future_of_another_loop_is_a_value_error(
    loop_factory: LoopFactory,
) -> None:
    mine, other = loop_factory(), loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        mine.run_until_complete(future)
    run_one_pass(mine)


@pytest.mark.parametrize("bad", [None, 1, "x", print, [1]], ids=repr)
def test_run_until_complete_of_what_is_not_awaitable_is_a_type_error(
    loop: asyncio.SelectorEventLoop, bad: Any
) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(bad)
    assert not loop.is_running()
    run_one_pass(loop)


def test_run_until_complete_does_not_run_what_was_queued_behind_the_end(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []

    async def main() -> None:
        loop.call_soon(lambda: loop.call_soon(ran.append, "much later"))

    loop.run_until_complete(main())
    assert ran == []
    run_one_pass(loop)
    run_one_pass(loop)
    assert ran == ["much later"]
