"""Timers: order by deadline, never early, cancelled ones gone, any number of them."""

from __future__ import annotations

import asyncio
import random
import time
import weakref

import pytest
from conftest import LoopFactory
from support.memory import resident_bytes
from support.running import run_asleep, run_one_pass, run_passes, spin

from data_bridge.pyloop import PyLoop


def test_timers_fire_by_deadline_and_not_by_insertion(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[float] = []
    now = loop.time()
    for offset in (5.0, 1.0, 4.0, 2.0, 3.0):
        loop.call_at(now - 10 + offset, ran.append, offset)
    run_one_pass(loop)
    assert ran == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_timers_of_one_deadline_fire_in_the_order_of_their_insertion(pyloop: PyLoop) -> None:
    ran: list[int] = []
    when = pyloop.time() + 0.005
    for number in range(2000):
        pyloop.call_at(when, ran.append, number)
    pyloop.call_at(when, pyloop.stop)
    run_asleep(pyloop)
    assert ran == list(range(2000))


def test_equal_deadlines_keep_their_order_though_others_are_cancelled_between_them(
    pyloop: PyLoop,
) -> None:
    ran: list[int] = []
    choice = random.Random(7)
    whens = [pyloop.time() - 1, pyloop.time() - 2, pyloop.time() - 3]
    handles = [(number % 3, number, pyloop.call_at(whens[number % 3], ran.append, number))
               for number in range(3000)]  # fmt: skip
    kept: list[tuple[int, int]] = []
    for group, number, handle in handles:
        if choice.random() < 0.5:
            handle.cancel()
        else:
            kept.append((-group, number))
    run_one_pass(pyloop)
    assert ran == [number for _, number in sorted(kept)]


def test_a_timer_is_never_early(loop: asyncio.SelectorEventLoop, kind: str) -> None:
    # asyncio counts what is due within one tick of the clock as due.
    tolerance = 0.0 if kind == "pyloop" else time.get_clock_info("monotonic").resolution
    lateness: list[float] = []

    def check(index: int) -> None:
        lateness.append(loop.time() - handles[index].when())
        if len(lateness) == len(handles):
            loop.stop()

    choice = random.Random(3)
    handles = [loop.call_later(choice.random() * 0.05, check, index) for index in range(500)]
    run_asleep(loop)
    assert min(lateness) >= -tolerance
    assert len(lateness) == 500


def test_a_timer_on_an_idle_loop_is_never_early_by_the_callers_clock(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for delay in (0.0001, 0.0005, 0.0011, 0.0029):
        begun = time.monotonic()
        loop.call_later(delay, loop.stop)
        run_asleep(loop)
        assert time.monotonic() - begun >= delay - 1e-9


def test_a_timer_fires_soon_after_its_deadline(loop: asyncio.SelectorEventLoop) -> None:
    lateness: list[float] = []

    def check(when: float) -> None:
        lateness.append(loop.time() - when)
        loop.stop()

    for _ in range(20):
        when = loop.time() + 0.003
        loop.call_at(when, check, when)
        run_asleep(loop)
    # The best of many: the machine may be busy, the loop may not be systematically late.
    assert min(lateness) < 0.002


def test_a_new_earlier_timer_shortens_the_sleep(loop: asyncio.SelectorEventLoop) -> None:
    far = loop.call_later(60, loop.stop)
    begun = time.monotonic()
    loop.call_soon(lambda: loop.call_later(0.01, loop.stop))
    loop.run_forever()
    assert time.monotonic() - begun < 5
    far.cancel()


def test_cancelling_the_earliest_timer_leaves_the_next_one_in_force(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    first = loop.call_later(0.002, ran.append, "first")
    loop.call_later(0.01, ran.append, "second")
    loop.call_later(0.011, loop.stop)
    first.cancel()
    run_asleep(loop)
    assert ran == ["second"]


def test_a_timer_cancelled_by_an_earlier_timer_does_not_fire(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    now = loop.time()
    later = loop.call_at(now - 1, ran.append, "cancelled")
    loop.call_at(now - 2, later.cancel)
    loop.call_at(now - 0.5, ran.append, "kept")
    run_one_pass(loop)
    assert ran == ["kept"]


def test_a_timer_made_by_a_timer_waits_for_the_next_pass_however_early_its_deadline(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    now = loop.time()

    def first() -> None:
        ran.append("first")
        loop.call_at(now - 100, ran.append, "nested")

    loop.call_at(now - 2, first)
    loop.call_at(now - 1, ran.append, "second")
    run_one_pass(loop)
    assert ran == ["first", "second"]
    run_one_pass(loop)
    assert ran == ["first", "second", "nested"]


def test_due_timers_run_behind_what_is_already_ready(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    loop.call_at(loop.time() - 1, ran.append, "timer")
    loop.call_soon(ran.append, "soon")
    run_one_pass(loop)
    assert ran == ["soon", "timer"]


def test_ten_thousand_random_timers_fire_as_a_sorted_list_says(
    loop: asyncio.SelectorEventLoop,
) -> None:
    choice = random.Random(11)
    base = loop.time() - 1e6
    ran: list[float] = []
    model: dict[float, asyncio.TimerHandle] = {}
    for number in range(10_000):
        when = base + choice.randrange(900_000) + number / 16_384
        model[when] = loop.call_at(when, ran.append, when)
        if choice.random() < 0.3:
            model.pop(choice.choice(list(model)) if number < 200 else when).cancel()
    run_one_pass(loop)
    assert ran == sorted(model)


@pytest.mark.slow
def test_random_timers_of_the_near_future_are_made_and_cancelled_while_they_fire(
    loop: asyncio.SelectorEventLoop,
) -> None:
    choice = random.Random(13)
    fired: list[int] = []
    early: list[float] = []
    live: dict[int, asyncio.TimerHandle] = {}
    cancelled: set[int] = set()
    made = 0

    def fire(number: int) -> None:
        fired.append(number)
        early.append(live.pop(number).when() - loop.time())
        step()

    def step() -> None:
        nonlocal made
        for _ in range(2):
            if made < 4000:
                made += 1
                live[made] = loop.call_later(0.002 + choice.random() * 0.03, fire, made)
        if live and choice.random() < 0.2:
            victim = choice.choice(list(live))
            live.pop(victim).cancel()
            cancelled.add(victim)
        if not live:
            loop.stop()

    for _ in range(50):
        step()
    run_asleep(loop)
    assert made == 4000
    assert sorted([*fired, *cancelled]) == list(range(1, 4001))
    assert max(early) < 1e-6


def test_cancelling_frees_the_callback_and_its_arguments_at_once(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class Thing:
        def __call__(self, other: object) -> None:
            raise AssertionError("cancelled")

    callback, argument = Thing(), Thing()
    dead = [weakref.ref(callback), weakref.ref(argument)]
    handle = loop.call_later(3600, callback, argument)
    del callback, argument
    assert [ref() is None for ref in dead] == [False, False]
    handle.cancel()
    assert [ref() is None for ref in dead] == [True, True]


def test_a_fired_timer_frees_its_callback_when_its_handle_goes(
    loop: asyncio.SelectorEventLoop,
) -> None:
    class Thing:
        def __call__(self) -> None:
            pass

    callback = Thing()
    dead = weakref.ref(callback)
    loop.call_at(loop.time() - 1, callback)
    del callback
    run_one_pass(loop)
    assert dead() is None


def test_a_cancelled_timer_does_not_hold_the_loop_awake_or_asleep(
    loop: asyncio.SelectorEventLoop,
) -> None:
    for _ in range(200):
        loop.call_later(0.001, loop.stop).cancel()
    begun = time.monotonic()
    loop.call_later(0.02, loop.stop)
    run_asleep(loop)
    assert time.monotonic() - begun >= 0.02


@pytest.mark.slow
def test_a_million_cancelled_timers_leave_memory_where_it_was(pyloop: PyLoop) -> None:
    def make_and_cancel(count: int) -> None:
        for number in range(count):
            pyloop.call_later(3600 + number % 977, print, number).cancel()

    make_and_cancel(10_000)
    before = resident_bytes()
    make_and_cancel(1_000_000)
    assert resident_bytes() - before < 2_000_000
    assert len(pyloop._scheduled) == 0


@pytest.mark.slow
def test_a_hundred_thousand_timers_cancelled_together_give_their_memory_back_for_the_next(
    loop: asyncio.SelectorEventLoop,
) -> None:
    def make_and_cancel() -> None:
        handles = [loop.call_later(3600 + number % 977, print) for number in range(100_000)]
        random.Random(1).shuffle(handles)
        for handle in handles:
            handle.cancel()
        handles.clear()
        run_one_pass(loop)

    make_and_cancel()
    before = resident_bytes()
    for _ in range(3):
        make_and_cancel()
    assert resident_bytes() - before < 8_000_000


def test_timers_survive_between_runs(loop: asyncio.SelectorEventLoop) -> None:
    ran: list[str] = []
    loop.call_later(0.01, ran.append, "timer")
    run_one_pass(loop)
    assert ran == []
    loop.call_later(0.012, loop.stop)
    run_asleep(loop)
    assert ran == ["timer"]


def test_a_slow_callback_makes_timers_late_but_not_disordered(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[str] = []
    loop.call_later(0.001, ran.append, "a")
    loop.call_later(0.003, ran.append, "c")
    loop.call_later(0.002, ran.append, "b")
    loop.call_soon(spin, 0.01)
    loop.call_soon(ran.append, "soon")
    loop.call_later(0.004, loop.stop)
    run_asleep(loop)
    assert ran == ["soon", "a", "b", "c"]


def test_sleeping_coroutines_wake_in_order_of_their_deadlines(
    loop: asyncio.SelectorEventLoop,
) -> None:
    woken: list[int] = []

    async def sleeper(number: int) -> None:
        await asyncio.sleep(number / 500)
        woken.append(number)

    async def main() -> None:
        await asyncio.gather(*(sleeper(number) for number in (5, 3, 1, 4, 2)))

    loop.run_until_complete(main())
    assert woken == [1, 2, 3, 4, 5]


def test_when_is_the_deadline_that_was_given(loop: asyncio.SelectorEventLoop) -> None:
    assert loop.call_at(12345.678, print).when() == 12345.678
    before = loop.time()
    handle = loop.call_later(100, print)
    after = loop.time()
    assert before + 100 <= handle.when() <= after + 100
    assert isinstance(handle.when(), float)


def test_timers_of_two_loops_do_not_mix(loop_factory: LoopFactory) -> None:
    first, second = loop_factory(), loop_factory()
    ran: list[str] = []
    first.call_at(0, ran.append, "first")
    second.call_at(0, ran.append, "second")
    run_one_pass(second)
    assert ran == ["second"]
    run_one_pass(first)
    assert ran == ["second", "first"]


def test_a_timer_may_stop_the_loop_and_the_rest_of_its_batch_still_runs(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []
    now = loop.time()
    loop.call_at(now - 3, loop.stop)
    loop.call_at(now - 2, ran.append, 1)
    loop.call_at(now - 1, ran.append, 2)
    loop.run_forever()
    assert ran == [1, 2]


def test_thousands_of_call_later_zero_fire_in_one_order_over_many_passes(
    loop: asyncio.SelectorEventLoop,
) -> None:
    ran: list[int] = []

    def queue(number: int) -> None:
        if number < 3000:
            ran.append(number)
            loop.call_later(0, queue, number + 1)

    loop.call_soon(queue, 0)
    passes = 0
    while len(ran) < 3000 and passes < 100:
        run_passes(loop, 100)
        passes += 1
    assert ran == list(range(3000))
