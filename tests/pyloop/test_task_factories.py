"""Task factories in all their forms, and eager starts."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import sys
from collections.abc import Coroutine
from typing import Any

import pytest
from conftest import LoopFactory

Coro = Coroutine[Any, Any, Any]

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def _answer(value: Any = 42) -> Any:
    await asyncio.sleep(0)
    return value


def test_a_plain_factory_of_loop_and_coroutine_is_used(loop: asyncio.SelectorEventLoop) -> None:
    made: list[asyncio.Task[Any]] = []

    def factory(given: asyncio.AbstractEventLoop, coro: Coro) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coro, loop=given))
        return made[-1]

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(_answer())
    assert made == [task]
    assert loop.run_until_complete(task) == 42
    assert loop.run_until_complete(_answer()) == 42
    assert len(made) == 2


def test_the_name_is_set_on_what_a_plain_factory_made(loop: asyncio.SelectorEventLoop) -> None:
    loop.set_task_factory(lambda given, coro: asyncio.Task(coro, loop=given))
    task = loop.create_task(_answer(), name="a name")
    assert task.get_name() == "a name"
    loop.run_until_complete(task)


def test_a_factory_with_keywords_gets_the_context(loop: asyncio.SelectorEventLoop) -> None:
    got: list[dict[str, Any]] = []

    def factory(given: asyncio.AbstractEventLoop, coro: Coro, **keywords: Any) -> asyncio.Task[Any]:
        got.append(dict(keywords))
        return asyncio.Task(coro, loop=given, **keywords)

    loop.set_task_factory(factory)
    context = contextvars.copy_context()
    loop.run_until_complete(loop.create_task(_answer(), context=context))
    assert got[0]["context"] is context


def test_a_partial_a_class_and_a_callable_object_are_factories(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class MyTask(asyncio.Task[Any]):
        pass

    class Callable_:
        def __call__(self, given: Any, coro: Coro, **keywords: Any) -> MyTask:
            return MyTask(coro, loop=given, **keywords)

    def with_option(option: int, given: Any, coro: Coro, **keywords: Any) -> MyTask:
        return MyTask(coro, loop=given, **keywords)

    for factory in (Callable_(), functools.partial(with_option, 1), Callable_().__call__):
        loop.set_task_factory(factory)
        task = loop.create_task(_answer(5))
        assert type(task) is MyTask
        assert loop.run_until_complete(task) == 5


def test_a_factory_may_return_a_task_written_in_python(loop: asyncio.SelectorEventLoop) -> None:
    loop.set_task_factory(
        lambda given, coro, **keywords: asyncio.tasks._PyTask(coro, loop=given, **keywords)
    )
    task = loop.create_task(_answer(6), name="python task")
    assert task.get_name() == "python task"
    assert loop.run_until_complete(task) == 6


def test_a_factory_that_raises_raises_from_create_task(loop: asyncio.SelectorEventLoop) -> None:
    def factory(given: object, coro: Coro, **keywords: Any) -> Any:
        coro.close()
        raise ZeroDivisionError

    loop.set_task_factory(factory)
    with pytest.raises(ZeroDivisionError):
        loop.create_task(_answer())


def test_removing_the_factory_brings_plain_tasks_back(loop: asyncio.SelectorEventLoop) -> None:
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory("x")
    loop.set_task_factory(lambda given, coro, **kw: asyncio.Task(coro, loop=given, **kw))
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert loop.run_until_complete(loop.create_task(_answer(), name="x")) == 42


@eager
def test_the_eager_factory_starts_tasks_at_once(loop: asyncio.SelectorEventLoop) -> None:
    steps: list[str] = []

    async def coroutine(wait: bool) -> str:
        steps.append("started")
        if wait:
            await asyncio.sleep(0)
        return "done"

    async def main() -> None:
        at_once = loop.create_task(coroutine(False))
        assert steps == ["started"]
        assert at_once.done() and at_once.result() == "done"
        waiting = loop.create_task(coroutine(True), name="waiting")
        assert steps == ["started", "started"]
        assert not waiting.done() and waiting.get_name() == "waiting"
        assert waiting in asyncio.all_tasks()
        assert await waiting == "done"
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(coroutine(number % 2 == 0)) for number in range(4)]
        assert [child.result() for child in children] == ["done"] * 4

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())


@eager
def test_an_eager_task_has_its_own_context(loop: asyncio.SelectorEventLoop) -> None:
    async def child() -> None:
        variable.set("child")
        await asyncio.sleep(0)
        assert variable.get() == "child"

    async def main() -> str:
        await loop.create_task(child())
        return variable.get()

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == "unset"


@eager
def test_a_custom_eager_factory_works(loop: asyncio.SelectorEventLoop) -> None:
    class MyTask(asyncio.Task[Any]):
        pass

    async def main() -> asyncio.Task[Any]:
        return loop.create_task(asyncio.sleep(0, "slept"), name="mine")

    factory = asyncio.create_eager_task_factory(MyTask)
    loop.set_task_factory(factory)
    task = loop.run_until_complete(main())
    assert type(task) is MyTask and task.get_name() == "mine"
    assert loop.run_until_complete(task) == "slept"


def test_eager_start_is_taken_exactly_where_asyncio_takes_it(
    loop_factory: LoopFactory,
) -> None:
    stock = asyncio.SelectorEventLoop()
    outcomes: list[object] = []
    try:
        for loop in (stock, loop_factory()):
            steps: list[str] = []

            async def child(steps: list[str] = steps) -> str:
                steps.append("child")
                return "result"

            async def main(loop: Any = loop, steps: list[str] = steps, child: Any = child) -> Any:
                coroutine = child()
                try:
                    task = loop.create_task(coroutine, eager_start=True)
                except TypeError as error:
                    coroutine.close()
                    return type(error)
                steps.append("created")
                return await task, tuple(steps)

            outcomes.append(loop.run_until_complete(main()))
    finally:
        stock.close()
    assert outcomes[0] == outcomes[1]


def test_the_signature_is_not_narrower_than_asyncios(loop: asyncio.SelectorEventLoop) -> None:
    stock = inspect.signature(asyncio.BaseEventLoop.create_task).parameters
    kinds = {parameter.kind for parameter in stock.values()}
    coroutine = _answer()
    if inspect.Parameter.VAR_KEYWORD in kinds:
        loop.set_task_factory(lambda given, coro, **kw: (asyncio.Task(coro, loop=given), kw)[0])
        loop.run_until_complete(loop.create_task(coroutine, custom=1))
    else:
        loop.run_until_complete(loop.create_task(coroutine, name=None, context=None))
