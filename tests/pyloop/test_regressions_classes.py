"""asyncio's Task and Future replaced: before the package is imported, and while a loop exists."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest
from support.children import expect_lines, run_program


@pytest.mark.slow
@pytest.mark.parametrize("replaced", ["neither", "tasks", "both"])
def test_handles_are_returned_where_the_c_classes_were_replaced_before_the_import(
    kind: str, replaced: str
) -> None:
    # The steps and wake-ups of C tasks are known by their types, learnt at import. With Python's own Task
    # they are bound methods: call_soon took every bound method for one and returned None.
    outcome = run_program(
        "asyncio",
        f"""
    import asyncio
    import contextvars
    if {replaced!r} in ('tasks', 'both'):
        asyncio.Task = asyncio.tasks.Task = asyncio.tasks._CTask = asyncio.tasks._PyTask
    if {replaced!r} == 'both':
        asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture
        asyncio.futures._CFuture = asyncio.futures._PyFuture
    if {kind!r} == 'pyloop':
        from data_bridge.pyloop import new_event_loop as new_loop

    class Owner:
        def method(self, *args):
            say(('ran', *args))

    loop = new_loop()
    context = contextvars.copy_context()
    handles = [
        loop.call_soon(Owner().method, context=context),
        loop.call_soon(Owner().method, 1, context=context),
        loop.call_soon([].append, 1, context=context),
    ]
    say(all(isinstance(handle, asyncio.Handle) for handle in handles))
    handles[1].cancel()

    async def main():
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(3)))
        task = loop.create_task(asyncio.sleep(0, 'slept'))
        assert type(task) is asyncio.tasks.Task, type(task)
        assert type(loop.create_future()) is asyncio.futures.Future
        return await task

    say(loop.run_until_complete(main()))
    loop.close()
    """,
        patience=10,
    )
    expect_lines(outcome, "True", "('ran',)", "slept")


def test_a_task_class_replaced_while_a_loop_exists_is_used(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # asyncio looks its classes up at each call, so that tools can count or name tasks by putting a class of
    # their own in the module; the native create_task kept the one of the import.
    class Counting(asyncio.Task):  # type: ignore[type-arg]
        pass

    async def nothing() -> str:
        await asyncio.sleep(0)
        return "done"

    loop.run_until_complete(nothing())
    with mock.patch.object(asyncio.tasks, "Task", Counting):
        named = loop.create_task(nothing(), name="named")
        assert type(named) is Counting and named.get_name() == "named"
        assert type(loop.create_task(nothing())) is Counting
        assert loop.run_until_complete(named) == "done"
    task = loop.create_task(nothing())
    assert type(task) is asyncio.Task
    assert loop.run_until_complete(task) == "done"


def test_a_future_class_replaced_while_a_loop_exists_is_used(
    loop: asyncio.SelectorEventLoop,
) -> None:
    # The same for create_future.
    class Counting(asyncio.Future):  # type: ignore[type-arg]
        pass

    assert type(loop.create_future()) is asyncio.Future
    with mock.patch.object(asyncio.futures, "Future", Counting):
        future: Any = loop.create_future()
    assert type(future) is Counting and future.get_loop() is loop
    loop.call_soon(future.set_result, 7)
    assert loop.run_until_complete(future) == 7
    assert type(loop.create_future()) is asyncio.Future


@pytest.mark.parametrize("module", ["tasks", "futures"])
def test_the_python_classes_put_in_the_place_of_the_c_ones_run(
    loop: asyncio.SelectorEventLoop, module: str
) -> None:
    # nest_asyncio does this to the whole process: from then on steps are bound methods of Python tasks,
    # which need a handle and get one.
    async def nothing() -> str:
        await asyncio.sleep(0.001)
        return "done"

    name = {"tasks": "Task", "futures": "Future"}[module]
    stock: Any = getattr(asyncio, module)
    python = getattr(stock, f"_Py{name}")
    with mock.patch.object(stock, name, python):
        task = loop.create_task(nothing())
        assert isinstance(task, python) is (module == "tasks")
        assert type(loop.create_future()) is asyncio.futures.Future
        assert loop.run_until_complete(task) == "done"
