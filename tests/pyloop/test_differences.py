"""Differences from asyncio that docs/differences.md names and no other file pins: both sides, side by side.

Each test shows what asyncio does and what PyLoop does. One that turns red on asyncio's side means that
the page is to be rewritten, not that PyLoop is wrong.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.running import run_asleep, run_one_pass

from data_bridge.pyloop import PyLoop, _native


@pytest.fixture
def stock(leak_audit: None) -> Iterator[Any]:
    """asyncio's own loop, for the other side of a comparison."""
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


# ---- handles ------------------------------------------------------------------------------------------


def test_the_type_of_a_handle_is_native_and_its_class_is_asyncios(
    stock: Any, pyloop: PyLoop
) -> None:
    assert type(stock.call_soon(int)) is asyncio.Handle
    assert type(stock.call_later(9, int)) is asyncio.TimerHandle
    handle, timer = pyloop.call_soon(int), pyloop.call_later(9, int)
    assert type(handle) is _native.Handle and handle.__class__ is asyncio.Handle
    assert type(timer) is _native.TimerHandle and timer.__class__ is asyncio.TimerHandle
    assert isinstance(timer, asyncio.Handle)


def test_a_native_handle_cannot_be_made_by_hand(stock: Any, pyloop: PyLoop) -> None:
    assert type(stock.call_soon(int))(int, (), stock).cancelled() is False
    make: Any = type(pyloop.call_soon(int))
    with pytest.raises(TypeError, match="cannot create"):
        make(int, (), pyloop)


@pytest.mark.parametrize("name", ["_callback", "_args", "_cancelled", "_context", "_loop", "_when"])
def test_the_fields_of_a_handle_are_read_only(stock: Any, pyloop: PyLoop, name: str) -> None:
    for loop, refused in ((stock, False), (pyloop, True)):
        handle = loop.call_later(9, int)
        try:
            setattr(handle, name, getattr(handle, name))
        except AttributeError:
            assert refused
        else:
            assert not refused


def test_the_steps_of_a_task_have_no_handle_and_get_a_new_one_when_looked_at(
    stock: Any, pyloop: PyLoop
) -> None:
    async def step() -> None:
        await asyncio.sleep(0)

    for loop, same in ((stock, True), (pyloop, False)):
        queue = loop._ready
        task = loop.create_task(step())
        assert (queue[0] is queue[0]) is same
        # Cancelling what one looks at cancels the step on asyncio only.
        assert isinstance(queue[0], asyncio.Handle) and not queue[0].cancelled()
        loop.run_until_complete(task)


def test_a_waiting_handle_is_tracked_from_the_next_full_collection_on(
    stock: Any, pyloop: PyLoop
) -> None:
    asyncios, native = stock.call_soon(int), pyloop.call_soon(int)
    assert gc.is_tracked(asyncios) and not gc.is_tracked(native)
    gc.collect()
    assert gc.is_tracked(native)


# ---- scheduling ---------------------------------------------------------------------------------------


def test_what_is_no_context_is_a_type_error_at_the_call(stock: Any, pyloop: PyLoop) -> None:
    reports: list[Any] = []
    stock.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    stock.call_soon(int, context=1)
    run_one_pass(stock)
    assert [type(error) for error in reports] == [AttributeError]
    wrong: Any = 1
    with pytest.raises(TypeError, match="context must be a contextvars.Context or None"):
        pyloop.call_soon(int, context=wrong)
    assert len(pyloop._ready) == 0


def test_stop_from_another_thread_wakes_a_sleeping_loop(pyloop: PyLoop) -> None:
    # asyncio's stop() sets a flag that a sleeping loop does not see.
    stopper = threading.Timer(0.02, pyloop.stop)
    stopper.start()
    run_asleep(pyloop)
    stopper.join()


def test_a_deadline_too_large_for_a_float_is_infinite(stock: Any, pyloop: PyLoop) -> None:
    for loop in (stock, pyloop):
        assert loop.call_at(10**400, int).when() == 10**400
    with pytest.raises(OverflowError):
        stock._run_once()
    # The same on PyLoop, which sleeps until it is woken.
    waker = threading.Timer(0.02, pyloop.call_soon_threadsafe, (pyloop.stop,))
    waker.start()
    run_asleep(pyloop)
    waker.join()
    assert len(pyloop._scheduled) == 1


def test_timers_do_not_run_ahead_by_the_resolution_of_the_clock(stock: Any, pyloop: PyLoop) -> None:
    ran: list[str] = []
    for loop, early in ((stock, ["early"]), (pyloop, [])):
        ran.clear()
        loop._clock_resolution = 100
        timer = loop.call_later(50, ran.append, "early")
        run_one_pass(loop)
        run_one_pass(loop)
        assert ran == early
        timer.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="makes its descriptors by eventfd(2)")
def test_one_pass_serves_at_most_512_ready_descriptors(stock: Any, pyloop: PyLoop) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1000:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard), hard))
    descriptors = [os.eventfd(1) for _ in range(600)]
    try:
        for loop, first in ((stock, 600), (pyloop, 512)):
            served: list[int] = []
            for descriptor in descriptors:
                loop.add_reader(descriptor, served.append, descriptor)
            run_one_pass(loop)
            assert len(served) == first
            run_one_pass(loop)
            assert set(served) == set(descriptors)
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_watching_the_other_direction_of_a_reused_number_registers_it_anew(
    stock: Any, pyloop: PyLoop
) -> None:
    for loop, refused in ((stock, True), (pyloop, False)):
        old, old_peer = socket.socketpair()
        number = old.fileno()
        loop.add_reader(number, int)
        old.close()
        new, new_peer = socket.socketpair()
        assert new.fileno() == number, "the kernel hands out the lowest free number"
        if refused:
            with pytest.raises(FileNotFoundError):
                loop.add_writer(number, int)
        else:
            loop.add_writer(number, loop.stop)
            run_asleep(loop)
            loop.remove_writer(number)
        loop.remove_reader(number)
        for end in (old_peer, new, new_peer):
            end.close()


def test_a_closed_descriptor_with_a_duplicate_does_not_keep_the_loop_busy(
    stock: Any, pyloop: PyLoop
) -> None:
    busy: list[float] = []
    for loop in (stock, pyloop):
        reading, writing = os.pipe()
        duplicate = os.dup(reading)
        loop.add_reader(reading, int)
        os.close(reading)
        loop.remove_reader(reading)
        os.write(writing, b"x")
        before = time.thread_time()
        loop.call_later(0.08, loop.stop)
        loop.run_forever()
        busy.append(time.thread_time() - before)
        os.close(duplicate)
        os.close(writing)
    assert busy[0] > 4 * busy[1], busy


# ---- parts that are replaced --------------------------------------------------------------------------


def test_the_selector_cannot_be_replaced(stock: Any, pyloop: PyLoop) -> None:
    stock._selector = stock._selector
    loop: Any = pyloop
    with pytest.raises(RuntimeError, match="waits in its own reactor"):
        loop._selector = stock._selector
    assert "ReactorSelector" in repr(loop._selector)


@pytest.mark.parametrize("name", ["_ready", "_scheduled"])
def test_the_queues_cannot_be_replaced(pyloop: PyLoop, name: str) -> None:
    with pytest.raises(AttributeError, match="read-only view"):
        setattr(pyloop, name, [1])


def test_private_hooks_that_the_native_loop_does_not_need_are_not_called(
    stock: Any, pyloop: PyLoop
) -> None:
    called: list[str] = []
    for loop, expected in ((stock, {"_process_events", "_write_to_self"}), (pyloop, set())):
        called.clear()
        for name in ("_process_events", "_write_to_self"):
            setattr(loop, name, lambda *_, name=name: called.append(name))
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
        assert set(called) == expected
        for name in ("_process_events", "_write_to_self"):
            delattr(loop, name)


def test_a_replaced_time_monotonic_is_not_seen(
    stock: Any, pyloop: PyLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: -5.0)
        assert stock.time() == -5.0
        assert pyloop.time() > 0


def test_a_handle_class_of_asyncio_replaced_after_the_import_is_not_seen(
    stock: Any, pyloop: PyLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handle(asyncio.Handle):
        pass

    class TimerHandle(asyncio.TimerHandle):
        pass

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.events, "Handle", Handle)
        patched.setattr(asyncio.events, "TimerHandle", TimerHandle)
        handles = [type(loop.call_soon(int)) for loop in (stock, pyloop)]
        timers = [type(loop.call_later(9, int)) for loop in (stock, pyloop)]
    assert handles == [Handle, _native.Handle]
    assert timers == [TimerHandle, _native.TimerHandle]


# ---- what can be seen from outside --------------------------------------------------------------------


def _frames_in_a_callback(loop: Any) -> list[str]:
    frames: list[str] = []
    loop.call_soon(lambda: frames.extend(frame.name for frame in traceback.extract_stack()))
    run_one_pass(loop)
    return frames


def test_no_frames_of_asyncio_stand_between_run_forever_and_a_callback(
    stock: Any, pyloop: PyLoop
) -> None:
    assert _frames_in_a_callback(stock)[-4:-1] == ["run_forever", "_run_once", "_run"]
    assert _frames_in_a_callback(pyloop)[-2:-1] == ["run_forever"]


def test_native_methods_are_not_python_functions(stock: Any, pyloop: PyLoop) -> None:
    for name in ("call_soon", "call_later", "create_task"):
        method: Callable[..., Any] = getattr(pyloop, name)
        assert inspect.ismethod(getattr(stock, name)) and hasattr(getattr(stock, name), "__func__")
        assert inspect.isbuiltin(method) and not hasattr(method, "__func__")


def test_the_fields_of_a_loop_are_not_in_its_dictionary(stock: Any, pyloop: PyLoop) -> None:
    assert "_signal_handlers" in vars(stock)
    assert vars(pyloop) == {} and hasattr(pyloop, "_signal_handlers")


def test_asyncios_log_names_the_facade_as_the_selector(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        PyLoop().close()
    assert caplog.messages == ["Using selector: ReactorSelector"]
