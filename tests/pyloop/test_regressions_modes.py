"""Going into stock mode and out of it, where that went wrong: in a callback, interrupted, with guests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from unittest import mock

import pytest
from support.children import expect_lines, run_program
from support.running import run_asleep, run_passes

from data_bridge.pyloop import PyLoop


def _wrap(owner: Any, name: str) -> Callable[[], None]:
    """Replace a part by one that does the same; what comes back puts the original in its place."""
    original = getattr(owner, name)
    if isinstance(owner, type):
        patch = mock.patch.object(owner, name, lambda *args: original(*args))
        patch.start()
        return patch.stop
    setattr(owner, name, lambda *args: original(*args))
    return lambda: delattr(owner, name)


_PARTS: dict[str, Callable[[Any], Callable[[], None]]] = {
    "time of the class": lambda loop: _wrap(type(loop), "time"),
    "time of the instance": lambda loop: _wrap(loop, "time"),
    "_run_once of the class": lambda loop: _wrap(type(loop), "_run_once"),
    "_run_once of the instance": lambda loop: _wrap(loop, "_run_once"),
    "select of the selector": lambda loop: _wrap(loop._selector, "select"),
}


@pytest.fixture(params=list(_PARTS))
def replace(request: pytest.FixtureRequest) -> Callable[[Any], Callable[[], None]]:
    """Replaces one part of a loop and returns how to put it back."""
    return _PARTS[request.param]


def test_a_part_put_back_inside_a_coroutine_disturbs_nobody(
    loop: asyncio.SelectorEventLoop, replace: Callable[[Any], Callable[[], None]]
) -> None:
    # The patch of a `with` ends while asyncio's own _run_once is in the middle of its queue: the
    # queue went back into Rust under its hands ("'ReadyView' object has no attribute 'popleft'").
    steps: list[str] = []

    async def patched() -> None:
        put_back = replace(loop)
        await asyncio.sleep(0.005)
        put_back()
        steps.append("put back")
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    async def neighbour() -> None:
        await asyncio.sleep(0.005)
        for _ in range(5):
            await asyncio.sleep(0)
        steps.append("neighbour")

    async def main() -> str:
        await asyncio.gather(neighbour(), patched(), neighbour())
        return "ok"

    assert loop.run_until_complete(main()) == "ok"
    assert sorted(steps) == ["neighbour", "neighbour", "put back"]


def test_what_waits_behind_the_callback_that_puts_a_part_back_keeps_its_order(
    loop: asyncio.SelectorEventLoop, replace: Callable[[Any], Callable[[], None]]
) -> None:
    # The same in the middle of an iteration: what was behind it, what it queues and what is due
    # must run once each, in asyncio's order.
    ran: list[str] = []
    undo: list[Callable[[], None]] = [replace(loop)]

    def put_back() -> None:
        undo.pop()()
        loop.call_soon(ran.append, "queued by it")

    loop.call_soon(ran.append, "before")
    loop.call_soon(put_back)
    loop.call_soon(ran.append, "behind")
    loop.call_soon(ran.append, "cancelled").cancel()
    loop.call_later(0.002, ran.append, "timer")
    loop.call_later(0.005, loop.stop)
    run_asleep(loop)
    assert ran == ["before", "behind", "queued by it", "timer"]


def test_a_part_replaced_and_put_back_in_turn_disturbs_nobody(
    loop: asyncio.SelectorEventLoop, replace: Callable[[Any], Callable[[], None]]
) -> None:
    # In and out again within one iteration: each way moves the queues, and none may do so while an
    # iteration of asyncio's stands on them.
    ran: list[int] = []

    def flip(left: int) -> None:
        put_back = replace(loop)
        loop.call_soon(ran.append, left)
        put_back()
        loop.call_soon(ran.append, -left)
        if left > 1:
            loop.call_soon(flip, left - 1)

    loop.call_soon(flip, 5)
    run_passes(loop, 20)
    assert ran == [5, -5, 4, -4, 3, -3, 2, -2, 1, -1]


def test_a_loop_is_native_again_once_the_part_is_back(
    pyloop: PyLoop, replace: Callable[[Any], Callable[[], None]]
) -> None:
    # Leaving stock mode late must not become never: the views are PyLoop's own again
    # after the iteration, not asyncio's containers.
    undo = [replace(pyloop)]
    pyloop.call_soon(lambda: undo.pop()())
    timer = pyloop.call_later(3600, int)
    assert hasattr(pyloop._ready, "popleft")
    run_passes(pyloop, 2)
    assert not hasattr(pyloop._ready, "popleft")
    assert list(pyloop._scheduled) == [timer]
    timer.cancel()
    assert len(pyloop._scheduled) == 0


@pytest.mark.slow
@pytest.mark.parametrize("due", [False, True], ids=["cancelled", "due"])
@pytest.mark.parametrize("end", ["in stock mode", "after it"])
def test_a_timer_of_another_loop_in_the_heap_aborts_nothing(kind: str, due: bool, end: str) -> None:
    # In stock mode the heap is a list that takes whatever is pushed. A timer of another loop counted as that
    # loop's own when it was cancelled, and was looked for in a queue where it was not.
    outcome = run_program(
        kind,
        f"""
    import heapq
    from unittest import mock
    one, other = new_loop(), new_loop()
    real = type(one).time
    patch = mock.patch.object(type(one), 'time', lambda self: real(self))
    guest = other.call_later(0.001 if {due} else 100, say, 'guest ran')
    other._scheduled.clear()
    patch.start()
    kept = one.call_later(50, int)
    heapq.heappush(one._scheduled, guest)
    if {end!r} == 'after it':
        patch.stop()
        one.call_later(60, int).cancel()
    if not {due}:
        guest.cancel()
        guest.cancel()
    one.call_later(0.01, one.stop)
    one.run_forever()
    if {end!r} != 'after it':
        patch.stop()
    one.call_soon(one.stop)
    one.run_forever()
    kept.cancel()
    other.call_later(0.001, other.stop)
    other.run_forever()
    one.close()
    other.close()
    guest.cancel()
    say('fine')
    """,
        patience=8,
    )
    expect_lines(outcome, *(["guest ran"] if due else []), "fine")


class _InterruptAt:
    """Raises KeyboardInterrupt at the n-th step of the package's own Python code but run_forever's."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.hit = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith("_cold.py"):
            return None
        if event in ("call", "line") and not self.hit:
            self.left -= 1
            if self.left < 0:
                self.hit = True
                raise KeyboardInterrupt
        return self


def _interrupted(count: int, work: Callable[[], object]) -> bool:
    """Do *work*; whether an interrupt broke into it."""
    trace = _InterruptAt(count)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        assert trace.hit
    finally:
        sys.settrace(before)
    return trace.hit


@pytest.mark.parametrize("way", ["into stock mode", "out of it"])
def test_an_interrupt_while_the_mode_changes_loses_no_callback(
    pyloop_factory: Callable[[], PyLoop], way: str
) -> None:
    # The queues were taken out before Python code that may raise had made the containers for them;
    # whatever was in them was gone.
    places = 0
    while places < 200:
        loop: Any = pyloop_factory()
        ran: list[Any] = []
        real = loop.time

        def replaced(real: Callable[[], float] = real) -> float:
            return real()

        if way != "into stock mode":
            loop.time = replaced
            assert hasattr(loop._ready, "popleft")
        for number in range(3):
            loop.call_soon(ran.append, number)
        timer = loop.call_later(0, ran.append, "timer")
        far = loop.call_later(3600, ran.append, "far")
        loop.call_soon(loop.stop)
        if way == "into stock mode":
            loop.time = replaced
        else:
            del loop.time
        hit = _interrupted(places, loop.run_forever)
        loop.call_soon(loop.stop)
        loop.run_forever()
        run_passes(loop, 2)
        expected: list[Any] = [0, 1, 2, "timer"]
        assert sorted(ran, key=str) == sorted(expected, key=str), f"at step {places}"
        assert [number for number in ran if number in (0, 1, 2)] == [0, 1, 2]
        assert list(loop._scheduled) == [far] and not timer.cancelled()
        far.cancel()
        loop.close()
        if not hit:
            break
        places += 1
    assert 3 < places < 200, "the interrupts hit nothing, or everything"
