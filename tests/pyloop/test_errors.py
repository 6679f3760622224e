"""What happens to exceptions: the handler, the context it gets, and a handler that raises itself."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from conftest import LoopFactory
from support.running import run_one_pass

Reports = list[dict[str, Any]]


def fail(*args: object) -> None:
    raise ZeroDivisionError("from the callback")


@pytest.fixture(params=["call_soon", "call_soon_threadsafe", "call_later", "call_at", "reader"])
def fails_by(
    request: pytest.FixtureRequest, loop: asyncio.SelectorEventLoop
) -> Callable[..., None]:
    """Schedules *fail* in one of the ways, and runs the loop until it has failed."""

    def go() -> None:
        if request.param == "reader":
            near, far = socket.socketpair()
            with near, far:
                far.send(b"x")
                loop.add_reader(near, lambda: (loop.remove_reader(near), fail()))
                run_one_pass(loop)
            return
        way = getattr(loop, request.param)
        way(*([0] if request.param in ("call_later", "call_at") else []), fail)
        run_one_pass(loop)
        run_one_pass(loop)

    return go


def test_an_exception_reaches_the_handler_and_the_loop_goes_on(
    loop: asyncio.SelectorEventLoop, unhandled: Reports, fails_by: Callable[[], None]
) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    fails_by()
    loop.call_soon(ran.append, 2)
    run_one_pass(loop)
    assert ran == [1, 2]
    assert len(unhandled) == 1
    context = unhandled.pop()
    assert set(context) == {"message", "exception", "handle"}
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["handle"], asyncio.Handle)


def test_the_context_has_the_texts_and_keys_of_asyncio(loop_factory: LoopFactory) -> None:
    stock = asyncio.SelectorEventLoop()
    try:
        for debug in (False, True):
            said: list[list[Any]] = []
            for loop in (stock, loop_factory()):
                loop.set_debug(debug)
                reports: Reports = []
                loop.set_exception_handler(lambda _, context, r=reports: r.append(context))
                handles = [
                    loop.call_soon(fail, 1, "x"),
                    loop.call_at(0, fail, 2),
                    loop.call_soon(5),
                ] if not debug else [loop.call_soon(fail, 1, "x"), loop.call_at(0, fail, 2)]  # fmt: skip
                run_one_pass(loop)
                said.append([])
                for report in reports:
                    said[-1].append(sorted(report))
                    said[-1].append(report["message"])
                    said[-1].append(repr(report["exception"]))
                    said[-1].append(str(report.get("source_traceback", [None])[-1]))
                assert {id(report["handle"]) for report in reports} == {id(h) for h in handles}
            assert said[0] == said[1]
    finally:
        stock.close()


def test_the_traceback_leads_into_the_callback(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    loop.call_soon(fail)
    run_one_pass(loop)
    error = unhandled.pop()["exception"]
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "fail"


def test_without_a_handler_the_report_is_logged(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    loop.call_soon(fail)
    run_one_pass(loop)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    first, second = record.getMessage().splitlines()
    assert first.startswith("Exception in callback fail() at ")
    assert second.startswith("handle: <Handle fail() at ")
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


def test_in_debug_mode_the_log_tells_where_the_callback_was_queued(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    loop.set_debug(True)
    loop.call_soon(fail)
    loop.call_at(0, fail)
    run_one_pass(loop)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert "Object created at (most recent call last):" in record.getMessage()
        assert f'File "{__file__}"' in record.getMessage()


def test_a_report_made_in_a_callback_names_the_callbacks_origin_in_debug_mode(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    loop.set_debug(True)
    loop.call_soon(loop.call_exception_handler, {"message": "by hand"})
    run_one_pass(loop)
    assert "by hand\nHandle created at (most recent call last):" in caplog.text.replace(
        "handle_traceback: ", ""
    )


def test_a_handler_that_raises_is_survived_and_logged(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def bad_handler(_: object, context: dict[str, Any]) -> None:
        raise LookupError("in the handler")

    ran: list[int] = []
    loop.set_exception_handler(bad_handler)
    loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    loop.call_at(0, fail)
    run_one_pass(loop)
    run_one_pass(loop)
    assert ran == [1]
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.getMessage().startswith("Unhandled error in exception handler")
        assert record.exc_info is not None and record.exc_info[0] is LookupError


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_from_the_handler_leave_the_loop(
    loop: asyncio.SelectorEventLoop, error: type[BaseException]
) -> None:
    def leaving(_: object, context: dict[str, Any]) -> None:
        raise error("out")

    ran: list[int] = []
    loop.set_exception_handler(leaving)
    loop.call_soon(fail)
    loop.call_soon(ran.append, 1)
    with pytest.raises(error):
        loop.run_forever()
    run_one_pass(loop)
    assert ran == [1]


def test_the_handler_gets_the_loop_and_a_dictionary(loop: asyncio.SelectorEventLoop) -> None:
    got: list[tuple[Any, ...]] = []
    loop.set_exception_handler(lambda *args: got.append(args))
    loop.call_soon(fail)
    run_one_pass(loop)
    ((given_loop, context),) = got
    assert given_loop is loop
    assert type(context) is dict


@pytest.mark.skipif(sys.version_info < (3, 12), reason="since 3.12 it runs in the handle's context")
def test_the_handler_runs_in_the_context_of_the_callback(loop: asyncio.SelectorEventLoop) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "of the callback")
    loop.call_soon(fail, context=context)
    run_one_pass(loop)
    assert seen == ["of the callback"]


def test_the_handler_may_schedule_and_stop(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []

    def handler(given: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        given.call_soon(ran.append, "from the handler")
        given.call_soon(given.stop)

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.run_forever()
    assert ran == ["from the handler"]


def test_an_overridden_default_handler_is_used(
    loop: asyncio.SelectorEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    loop.set_exception_handler(None)
    loop.default_exception_handler = lambda context: seen.append(context["message"])
    loop.call_soon(fail)
    run_one_pass(loop)
    assert len(seen) == 1 and seen[0].startswith("Exception in callback fail()")
    assert caplog.records == []


def test_a_replaced_call_exception_handler_is_used(loop: asyncio.SelectorEventLoop) -> None:
    seen: list[type] = []
    loop.call_exception_handler = lambda context: seen.append(type(context["exception"]))
    loop.call_soon(fail)
    loop.call_at(0, fail)
    run_one_pass(loop)
    assert seen == [ZeroDivisionError, ZeroDivisionError]


def test_a_callback_that_is_not_callable_is_reported_when_it_runs(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    ran: list[int] = []
    loop.call_soon(5)
    loop.call_soon(ran.append, 1)
    loop.call_at(0, None)
    run_one_pass(loop)
    assert ran == [1]
    assert [type(report["exception"]) for report in unhandled] == [TypeError, TypeError]
    assert unhandled[0]["message"] == "Exception in callback 5()"
    unhandled.clear()


def test_a_callback_that_gets_wrong_arguments_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    loop.call_soon(lambda: None, 1)
    run_one_pass(loop)
    assert type(unhandled.pop()["exception"]) is TypeError


def test_a_callback_that_cancels_itself_and_raises_is_reported(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    handles: list[asyncio.Handle] = []

    def cancel_and_fail() -> None:
        handles[0].cancel()
        fail()

    handles.append(loop.call_soon(cancel_and_fail))
    run_one_pass(loop)
    assert type(unhandled.pop()["exception"]) is ZeroDivisionError


def test_an_exception_whose_repr_fails_does_not_break_the_loop(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise ZeroDivisionError

        __str__ = __repr__

    ran: list[int] = []

    def raises() -> None:
        raise Broken

    loop.call_soon(raises)
    loop.call_soon(ran.append, 1)
    run_one_pass(loop)
    assert ran == [1]
    assert type(unhandled.pop()["exception"]) is Broken


def test_a_callback_whose_repr_fails_while_it_is_reported_leaves_the_loop_as_on_asyncio(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    class Broken:
        def __call__(self) -> None:
            fail()

        def __repr__(self) -> str:
            raise LookupError("in repr")

    ran: list[int] = []
    loop.call_soon(Broken())
    loop.call_soon(ran.append, 1)
    with pytest.raises(LookupError, match="in repr"):
        loop.run_forever()
    run_one_pass(loop)
    assert ran == [1]


def test_the_exception_does_not_stay_alive_in_the_loop(
    loop: asyncio.SelectorEventLoop, unhandled: Reports
) -> None:
    class Marked(Exception):
        pass

    def raises() -> None:
        raise Marked

    loop.call_soon(raises)
    run_one_pass(loop)
    ref = weakref.ref(unhandled[0]["exception"])
    unhandled.clear()
    gc.collect()
    assert ref() is None


def test_set_exception_handler_takes_callables_and_none_only(
    loop: asyncio.SelectorEventLoop,
) -> None:
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler("x")
    loop.set_exception_handler(fail)
    assert loop.get_exception_handler() is fail
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
