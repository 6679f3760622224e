"""contextvars: the context each kind of callback and task runs in."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import gc
import os
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass

Scheduler = Callable[..., asyncio.Handle]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def schedule(request: pytest.FixtureRequest, loop: asyncio.SelectorEventLoop) -> Scheduler:
    way = getattr(loop, request.param)
    if request.param in ("call_later", "call_at"):
        return lambda *args, **kwargs: way(0, *args, **kwargs)
    return lambda *args, **kwargs: way(*args, **kwargs)


def test_a_callback_runs_in_a_copy_of_the_context_of_its_scheduling(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    seen: list[str] = []

    def look_and_change() -> None:
        seen.append(variable.get())
        variable.set("changed")

    token = variable.set("scheduled")
    schedule(look_and_change)
    schedule(look_and_change)
    variable.reset(token)
    run_one_pass(loop)
    run_one_pass(loop)
    assert seen == ["scheduled", "scheduled"]
    assert variable.get() == "unset"


def test_a_given_context_is_entered_itself(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    context = contextvars.copy_context()
    schedule(variable.set, "inside", context=context)
    run_one_pass(loop)
    run_one_pass(loop)
    assert context[variable] == "inside"
    assert variable.get() == "unset"


def test_a_context_of_none_means_a_copy_of_the_present_one(
    loop: asyncio.SelectorEventLoop, schedule: Scheduler
) -> None:
    seen: list[str] = []
    token = variable.set("present")
    schedule(lambda: seen.append(variable.get()), context=None)
    variable.reset(token)
    run_one_pass(loop)
    run_one_pass(loop)
    assert seen == ["present"]


def test_a_context_that_is_already_entered_is_reported_and_survived(
    loop: asyncio.SelectorEventLoop,
    unhandled: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    schedule: Scheduler,
) -> None:
    ran: list[int] = []
    context = contextvars.copy_context()
    schedule(ran.append, 1, context=context)
    context.run(run_one_pass, loop)
    context.run(run_one_pass, loop)
    assert ran == []
    # Since 3.12 the handler is called in the callback's context, which fails for the same reason.
    errors = [report["exception"] for report in unhandled]
    errors += [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [type(error) for error in errors] == [RuntimeError]
    assert "is already entered" in str(errors[0])
    unhandled.clear()
    schedule(ran.append, 2, context=context)
    run_one_pass(loop)
    run_one_pass(loop)
    assert ran == [2]


@pytest.mark.parametrize("bad", [1, "x", {}], ids=repr)
def test_what_is_no_context_is_an_error_and_does_not_break_the_loop(
    loop: asyncio.SelectorEventLoop,
    unhandled: list[dict[str, Any]],
    schedule: Scheduler,
    bad: Any,
) -> None:
    # asyncio notices when the callback runs; noticing it at the call is as good.
    ran: list[int] = []
    try:
        schedule(ran.append, 1, context=bad)
    except TypeError:
        refused = 1
    else:
        refused = 0
        run_one_pass(loop)
        run_one_pass(loop)
    assert refused + len(unhandled) == 1
    assert ran == []
    unhandled.clear()
    loop.call_soon(ran.append, 2)
    run_one_pass(loop)
    assert ran == [2]


def test_an_exception_leaves_the_context(
    loop: asyncio.SelectorEventLoop, unhandled: list[dict[str, Any]], schedule: Scheduler
) -> None:
    context = contextvars.copy_context()
    for _ in range(2):
        schedule(lambda: 1 / 0, context=context)
        run_one_pass(loop)
        run_one_pass(loop)
    assert [type(report["exception"]) for report in unhandled] == [ZeroDivisionError] * 2
    unhandled.clear()
    context.run(int)


def test_exit_leaves_the_context(loop: asyncio.SelectorEventLoop, schedule: Scheduler) -> None:
    def leave() -> None:
        variable.set("left inside")
        raise SystemExit

    context = contextvars.copy_context()
    schedule(leave, context=context)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert variable.get() == "unset"
    assert context[variable] == "left inside"


def test_a_reader_runs_in_the_context_of_its_registration_every_time(
    loop: asyncio.SelectorEventLoop,
) -> None:
    reading, writing = os.pipe()
    seen: list[str] = []

    def readable() -> None:
        seen.append(variable.get())
        variable.set(f"changed {len(seen)}")
        if len(seen) == 3:
            loop.stop()

    token = variable.set("registered")
    loop.add_reader(reading, readable)
    variable.reset(token)
    os.write(writing, b"x")
    run_asleep(loop)
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)
    # One handle, so one context: what it changes, it finds again.
    assert seen == ["registered", "changed 1", "changed 2"]
    assert variable.get() == "unset"


def test_a_task_has_a_context_of_its_own(loop: asyncio.SelectorEventLoop) -> None:
    async def child(value: str) -> str:
        inherited = variable.get()
        variable.set(value)
        await asyncio.sleep(0)
        assert variable.get() == value
        return inherited

    async def main() -> list[str]:
        variable.set("parent")
        inherited = await asyncio.gather(child("a"), child("b"))
        assert variable.get() == "parent"
        return inherited

    assert loop.run_until_complete(main()) == ["parent", "parent"]
    assert variable.get() == "unset"


def test_a_task_runs_all_its_steps_in_the_context_it_was_given(
    loop: asyncio.SelectorEventLoop,
) -> None:
    context = contextvars.copy_context()

    async def child() -> None:
        for value in ("a", "b", "c"):
            variable.set(value)
            await asyncio.sleep(0)
        future = loop.create_future()
        loop.call_later(0.001, future.set_result, None)
        await future
        assert variable.get() == "c"

    loop.run_until_complete(loop.create_task(child(), context=context))
    assert context[variable] == "c"
    assert variable.get() == "unset"


def test_done_callbacks_run_in_the_context_of_their_adding(
    loop: asyncio.SelectorEventLoop,
) -> None:
    seen: list[str] = []
    future = loop.create_future()
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    token = variable.set("added")
    future.add_done_callback(lambda _: seen.append(variable.get()))
    variable.reset(token)
    future.add_done_callback(lambda _: seen.append(variable.get()), context=context)
    future.set_result(None)
    run_one_pass(loop)
    assert seen == ["added", "given"]


def test_decimal_contexts_do_not_leak_between_tasks(loop: asyncio.SelectorEventLoop) -> None:
    async def child(precision: int) -> str:
        with decimal.localcontext() as context:
            context.prec = precision
            await asyncio.sleep(0)
            return str(decimal.Decimal(1) / 3)

    async def main() -> list[str]:
        return list(await asyncio.gather(child(3), child(5)))

    assert loop.run_until_complete(main()) == ["0.333", "0.33333"]


def test_a_context_dies_with_its_callback(loop: asyncio.SelectorEventLoop) -> None:
    class Value:
        pass

    held: contextvars.ContextVar[Any] = contextvars.ContextVar("held")
    value = Value()
    ref = weakref.ref(value)
    context = contextvars.copy_context()
    context.run(held.set, value)
    loop.call_soon(int, context=context)
    del context, value
    assert ref() is not None
    run_one_pass(loop)
    gc.collect()
    assert ref() is None
