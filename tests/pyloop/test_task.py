"""Tasks and futures made by the loop: factories, names, contexts, eager starts, lost exceptions."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_one_pass, run_passes

Reports = list[dict[str, Any]]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def _answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


def test_tasks_and_futures_are_asyncios_own(loop: asyncio.SelectorEventLoop) -> None:
    task = loop.create_task(_answer())
    future = loop.create_future()
    assert type(task) is asyncio.Task
    assert type(future) is asyncio.Future
    assert task.get_loop() is loop and future.get_loop() is loop
    assert loop.run_until_complete(task) == 42
    future.cancel()


def test_a_task_starts_in_the_next_pass_and_not_at_once(loop: asyncio.SelectorEventLoop) -> None:
    steps: list[str] = []

    async def coroutine() -> None:
        steps.append("started")

    async def main() -> None:
        task = loop.create_task(coroutine())
        steps.append("created")
        await task

    loop.run_until_complete(main())
    assert steps == ["created", "started"]


def test_task_steps_and_callbacks_share_one_order(loop: asyncio.SelectorEventLoop) -> None:
    steps: list[str] = []

    async def coroutine(name: str) -> None:
        for number in range(3):
            steps.append(f"{name}{number}")
            loop.call_soon(steps.append, f"cb {name}{number}")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(coroutine("a"), coroutine("b"))

    loop.run_until_complete(main())
    expected: list[str] = []
    for number in range(3):
        expected += [f"a{number}", f"b{number}", f"cb a{number}", f"cb b{number}"]
    # The callbacks queued in a pass stand before the steps that the same pass queued.
    assert [step for step in steps if not step.startswith("cb")] == [
        "a0", "b0", "a1", "b1", "a2", "b2",
    ]  # fmt: skip
    assert sorted(steps) == sorted(expected)
    assert steps.index("cb a0") < steps.index("a1") < steps.index("b1")


def test_name_context_and_future_of_a_task(loop: asyncio.SelectorEventLoop) -> None:
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def look() -> str:
        return variable.get()

    named = loop.create_task(look(), name="a name", context=context)
    numbered = loop.create_task(look(), name=5)
    plain = loop.create_task(look())
    assert named.get_name() == "a name"
    assert numbered.get_name() == "5"
    assert plain.get_name().startswith("Task-")
    assert loop.run_until_complete(asyncio.gather(named, numbered, plain)) == [
        "given", "unset", "unset",
    ]  # fmt: skip
    if sys.version_info >= (3, 12):
        assert named.get_context() is context


def test_automatic_names_are_counted_up(loop: asyncio.SelectorEventLoop) -> None:
    tasks = [loop.create_task(_answer()) for _ in range(3)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in tasks]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    loop.run_until_complete(asyncio.gather(*tasks))


@pytest.mark.parametrize("bad", [None, 5, "x", print, _answer], ids=lambda bad: type(bad).__name__)
def test_a_task_of_what_is_no_coroutine_is_a_type_error(
    loop: asyncio.SelectorEventLoop, bad: Any
) -> None:
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(bad)


def test_wrong_keywords_of_create_task_are_a_type_error(loop: asyncio.SelectorEventLoop) -> None:
    coroutine = _answer()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, unknown=1)
    with pytest.raises(TypeError):
        loop.create_task()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, "positional name")
    coroutine.close()


def test_create_task_takes_its_coroutine_by_keyword(loop: asyncio.SelectorEventLoop) -> None:
    assert loop.run_until_complete(loop.create_task(coro=_answer(3))) == 3


def test_an_object_that_behaves_as_a_coroutine_can_be_a_task(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class Steps(Coroutine[Any, Any, str]):
        """What compiled code (Cython, Rust) offers instead of a coroutine."""

        left = 3

        def send(self, value: Any) -> None:
            self.left -= 1
            if not self.left:
                raise StopIteration("done")

        def throw(self, *error: Any) -> None:
            raise error[0]

        def close(self) -> None:
            pass

        def __await__(self) -> Generator[Any, Any, str]:
            raise AssertionError("a task drives it by send")

    assert loop.run_until_complete(loop.create_task(Steps())) == "done"


# Exceptions nobody sees


def test_an_exception_never_retrieved_is_reported_when_the_task_dies(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("lost")

    task = loop.create_task(fails())
    run_passes(loop, 3)
    assert unhandled == []
    del task
    gc.collect()
    (report,) = unhandled
    assert report["message"] == "Task exception was never retrieved"
    assert str(report["exception"]) == "lost"
    unhandled.clear()


def test_a_pending_task_destroyed_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    async def waits_for_ever() -> None:
        await loop.create_future()

    task = loop.create_task(waits_for_ever())
    ref = weakref.ref(task)
    run_one_pass(loop)
    del task
    gc.collect()
    assert ref() is None
    (report,) = unhandled
    assert report["message"] == "Task was destroyed but it is pending!"
    assert report["task"].get_name().startswith("Task-")
    unhandled.clear()


def test_a_future_exception_never_retrieved_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    loop.create_future().set_exception(ZeroDivisionError("lost"))
    gc.collect()
    assert [report["message"] for report in unhandled] == ["Future exception was never retrieved"]
    unhandled.clear()


def test_an_exception_in_a_done_callback_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    ran: list[int] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: ran.append(1))
    future.set_result(None)
    run_one_pass(loop)
    assert ran == [1]
    assert type(unhandled.pop()["exception"]) is ZeroDivisionError


def test_a_task_in_a_closed_loop_does_not_crash_when_it_dies(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    reports: Reports = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    task = loop.create_task(asyncio.sleep(3600))
    run_one_pass(loop)
    loop.close()
    del task
    gc.collect()
    assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"]


# What tasks do all day


def test_cancelling_timing_out_and_grouping_work_together(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def main() -> list[str]:
        said: list[str] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.002):
                await asyncio.sleep(3600)
        said.append("timed out")
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                sleeping = group.create_task(asyncio.sleep(3600))
                group.create_task(_raise(ZeroDivisionError()))
        assert sleeping.cancelled()
        said.append("group ended")
        assert await asyncio.wait_for(_answer("waited"), 5) == "waited"
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError, match="message"):
            await task
        said.append("cancelled")
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        producer = asyncio.create_task(_put(queue, 100))
        assert [await queue.get() for _ in range(100)] == list(range(100))
        await producer
        said.append("queued")
        return said

    async def _raise(error: Exception) -> None:
        raise error

    async def _put(queue: asyncio.Queue[int], count: int) -> None:
        for number in range(count):
            await queue.put(number)

    expected = ["timed out", "group ended", "cancelled", "queued"]
    assert loop.run_until_complete(main()) == expected
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]


def test_current_task_and_all_tasks_know_the_tasks(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        child = asyncio.create_task(_answer())
        assert asyncio.all_tasks() == {asyncio.current_task(), child}
        await child
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()
