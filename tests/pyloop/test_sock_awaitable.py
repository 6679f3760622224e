"""What a sock_* call gives back: a coroutine to everybody who looks, that does nothing until awaited."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import types
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from support.running import run_passes, run_until
from support.sock_pairs import finish
from support.sock_situations import SITUATIONS, Situation, drive

from data_bridge.pyloop import PyLoop


@pytest.fixture(params=list(SITUATIONS))
def name(request: pytest.FixtureRequest) -> str:
    """Which of the calls."""
    return str(request.param)


@pytest.fixture
def situation(name: str, loop: asyncio.SelectorEventLoop) -> Iterator[Situation]:
    """One in which that call has to wait."""
    with contextlib.ExitStack() as stack:
        yield SITUATIONS[name](loop, stack)


async def _wrapped(call: Any) -> Any:
    return await call


def test_it_is_awaited_and_gives_its_result(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> Any:
        task = asyncio.ensure_future(_wrapped(situation.start()))
        while not task.done():
            await asyncio.sleep(0)
            if not task.done():
                situation.release()
        return await task

    assert situation.right(finish(loop, main()))


@pytest.mark.parametrize(
    "way", ["create_task", "ensure_future", "wait_for", "gather", "Task", "TaskGroup", "timeout"]
)
def test_it_can_be_handed_to_what_takes_coroutines(
    loop: asyncio.SelectorEventLoop, situation: Situation, way: str
) -> None:
    async def through(call: Any) -> Any:
        if way == "create_task":
            return await asyncio.create_task(call)
        if way == "ensure_future":
            return await asyncio.ensure_future(call)
        if way == "wait_for":
            return await asyncio.wait_for(call, 10)
        if way == "gather":
            return (await asyncio.gather(call))[0]
        if way == "Task":
            return await asyncio.Task(call, loop=loop)
        if way == "TaskGroup":
            async with asyncio.TaskGroup() as group:
                task = group.create_task(call)
            return task.result()
        async with asyncio.timeout(10):
            return await call

    async def main() -> Any:
        task = asyncio.ensure_future(through(situation.start()))
        while not task.done():
            await asyncio.sleep(0)
            if not task.done():
                situation.release()
        return await task

    assert situation.right(finish(loop, main()))


def test_run_until_complete_takes_it(loop: asyncio.SelectorEventLoop, situation: Situation) -> None:
    def release() -> None:
        situation.release()
        repeated[0] = loop.call_soon(release)

    repeated = [loop.call_soon(release)]
    result = loop.run_until_complete(situation.start())
    repeated[0].cancel()
    assert situation.right(result)


def test_it_looks_like_a_coroutine(
    loop: asyncio.SelectorEventLoop, situation: Situation, name: str
) -> None:
    call = situation.start()
    assert inspect.isawaitable(call)
    assert asyncio.iscoroutine(call)
    assert isinstance(call, collections.abc.Coroutine)
    assert isinstance(call, collections.abc.Awaitable)
    assert not asyncio.isfuture(call)
    assert name in call.__qualname__
    assert call.__name__ == name
    assert name in repr(call)
    call.close()


def test_a_task_that_runs_it_shows_its_name(
    loop: asyncio.SelectorEventLoop, situation: Situation, name: str
) -> None:
    task = loop.create_task(situation.start())
    assert name in repr(task)
    run_passes(loop, 1)
    assert name in repr(task)
    assert isinstance(task.get_stack(), list)
    assert asyncio.iscoroutine(task.get_coro())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        finish(loop, task)


def test_pyloops_own_are_no_coroutine_of_the_interpreter(pyloop: PyLoop) -> None:
    with contextlib.ExitStack() as stack:
        call = stack.enter_context(
            contextlib.closing(SITUATIONS["sock_recv"](pyloop, stack).start())
        )
        assert asyncio.iscoroutine(call)
        assert not isinstance(call, types.CoroutineType)
        assert not inspect.iscoroutine(call)


def test_nothing_happens_before_it_is_awaited(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    situation.release()
    run_passes(loop, 3)
    assert situation.untouched()
    call.close()


def test_one_that_is_never_awaited_warns_and_touches_nothing(
    loop: asyncio.SelectorEventLoop, situation: Situation, name: str
) -> None:
    situation.release()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        situation.start()
        gc.collect()
    assert [entry.category for entry in seen] == [RuntimeWarning]
    text = str(seen[0].message)
    assert text.startswith("coroutine '")
    assert text.endswith(f"{name}' was never awaited")
    run_passes(loop, 3)
    assert situation.untouched()


def test_wrong_arguments_are_told_when_it_is_awaited(
    loop: asyncio.SelectorEventLoop, name: str
) -> None:
    arguments = {
        "sock_accept": 0,
        "sock_sendto": 2,
    }.get(name, 1)
    call = getattr(loop, name)("not a socket", *[None] * arguments)
    with pytest.raises((AttributeError, TypeError)):
        finish(loop, call)


def test_a_wrong_number_of_arguments_is_told_at_the_call(
    loop: asyncio.SelectorEventLoop, name: str
) -> None:
    with pytest.raises(TypeError):
        getattr(loop, name)()
    with pytest.raises(TypeError):
        getattr(loop, name)(1, 2, 3, 4, 5, 6)
    with pytest.raises(TypeError):
        getattr(loop, name)(1, 2, 3, unheard_of=4)


def test_closing_one_that_was_not_awaited_ends_it_without_a_warning(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    call.close()
    call.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        loop.run_until_complete(_wrapped(call))


def test_a_second_await_of_a_finished_one_is_an_error(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    assert situation.right(drive(loop, call, situation.release))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            loop.run_until_complete(_wrapped(call))
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            call.throw(LookupError())
    call.close()


def test_a_second_await_of_one_under_way_is_an_error(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> None:
        call = situation.start()
        first = asyncio.ensure_future(_wrapped(call))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await call
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    finish(loop, main())


def test_it_can_be_driven_by_hand(loop: asyncio.SelectorEventLoop, situation: Situation) -> None:
    assert situation.right(drive(loop, situation.start(), situation.release))


def test_a_value_sent_to_one_not_started_is_an_error(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        call.send(1)
    # It was not started by that.
    assert situation.right(drive(loop, call, situation.release))


def test_an_exception_thrown_before_the_start_ends_it(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    with pytest.raises(LookupError, match="mine"):
        call.throw(LookupError("mine"))
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)


def test_an_exception_thrown_while_it_waits_comes_out_of_it(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    future = call.send(None)
    thrown = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        call.throw(thrown)
    assert caught.value is thrown
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)
    future.cancel()
    run_passes(loop, 2)


def test_closing_one_that_waits_ends_it(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    future = call.send(None)
    call.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)
    future.cancel()
    run_passes(loop, 2)


def test_the_future_that_it_waits_for_can_be_cancelled_by_hand(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    future = call.send(None)
    future._asyncio_future_blocking = False
    assert future.cancel()
    run_until(loop, future.cancelled)
    with pytest.raises(asyncio.CancelledError):
        call.send(None)


def test_one_that_waits_can_be_forgotten(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    call = situation.start()
    future = call.send(None)
    future.cancel()
    del call, future
    gc.collect()
    run_passes(loop, 2)


def test_tasks_of_it_carry_their_context(
    loop: asyncio.SelectorEventLoop, situation: Situation
) -> None:
    async def main() -> Any:
        tasks = [asyncio.create_task(situation.start(), name="mine")]
        await asyncio.sleep(0)
        assert [task.get_name() for task in tasks] == ["mine"]
        while not tasks[0].done():
            situation.release()
            await asyncio.sleep(0)
        return tasks[0].result()

    assert situation.right(finish(loop, main()))
