"""Ctrl-C and other signals from outside: a loop that is busy, idle, nested in asyncio.run, in a thread."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from support.children import Child, expect_lines, run_program

pytestmark = pytest.mark.slow

# What a program says when the interrupt has come and the loop is fit for use again.
_AFTER = """
    import asyncio
    say(loop.is_running())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    task = None
    say(loop.run_until_complete(asyncio.sleep(0, 'runs again')))
    loop.close()
"""

_IDLE = """
    loop = new_loop()
    loop.call_later(0.01, say, 'ready')
"""

_PYTHON_CHAIN = """
    loop = new_loop()
    def chain():
        loop.call_soon(chain)
    chain()
    loop.call_later(0.01, say, 'ready')
"""

# Every link is C: a partial whose only argument is itself.
_C_CHAIN = """
    import functools
    loop = new_loop()
    chain = functools.partial(loop.call_soon)
    chain.__setstate__((loop.call_soon, (chain,), {}, None))
    chain()
    loop.call_later(0.01, say, 'ready')
"""

_TIMER_CHAIN = """
    import functools
    loop = new_loop()
    chain = functools.partial(loop.call_later)
    chain.__setstate__((loop.call_later, (0, chain), {}, None))
    chain()
    loop.call_later(0.01, say, 'ready')
"""

_READER = """
    import os
    loop = new_loop()
    reading, writing = os.pipe()
    os.write(writing, b'x')
    loop.add_reader(reading, int)
    loop.call_later(0.01, say, 'ready')
"""

_TASK_CHAIN = """
    import asyncio
    loop = new_loop()
    async def chain():
        while True:
            await asyncio.sleep(0)
    # Where the interrupt hits is chance: it may end the task, whose exception nobody retrieves.
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(chain())
    loop.call_later(0.01, say, 'ready')
"""

_STATES = {
    "idle": _IDLE,
    "python chain": _PYTHON_CHAIN,
    "C chain": _C_CHAIN,
    "timer chain": _TIMER_CHAIN,
    "ready descriptor": _READER,
    "task chain": _TASK_CHAIN,
}


@pytest.mark.parametrize("state", list(_STATES))
def test_an_interrupt_leaves_run_forever_and_the_loop_can_run_again(kind: str, state: str) -> None:
    child = Child(
        kind,
        _STATES[state]
        + """
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        say('interrupted')
    """
        + _AFTER,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    expect_lines(child.finish(), "ready", "interrupted", "False", "runs again")


@pytest.mark.parametrize("state", ["idle", "python chain", "C chain"])
def test_an_interrupt_without_anybody_to_catch_it_ends_the_program(kind: str, state: str) -> None:
    child = Child(kind, _STATES[state] + "\n    loop.run_forever()\n")
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    outcome = child.finish()
    assert outcome.status == -signal.SIGINT
    assert "\nKeyboardInterrupt\n" in outcome.errors


_MAINS = {
    "idle": "await asyncio.get_running_loop().create_future()",
    "sleeping": "await asyncio.sleep(3600)",
    "busy": "\n            while True:\n                await asyncio.sleep(0)",
    "blocking": "\n            while True:\n                pass",
}


@pytest.mark.parametrize("state", list(_MAINS))
def test_an_interrupt_cancels_the_main_task_of_a_runner(kind: str, state: str) -> None:
    child = Child(
        kind,
        f"""
    import asyncio

    async def main():
        try:
            say('ready')
            {_MAINS[state]}
        except asyncio.CancelledError:
            say('cancelled')
            raise
        finally:
            await asyncio.sleep(0)
            say('cleaned up')

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        say('interrupted')
    """,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    if state == "blocking":
        # The first only asks the task to end, which cannot hear it: the second breaks in.
        while not child.ended_within(0.1):
            child.signal(signal.SIGINT)
        outcome = child.finish()
        assert (outcome.status, outcome.lines[-1]) == (0, "interrupted"), outcome.errors
    else:
        expect_lines(child.finish(), "ready", "cancelled", "cleaned up", "interrupted")


def test_a_second_interrupt_breaks_into_a_main_task_that_ignores_the_first(kind: str) -> None:
    child = Child(
        kind,
        """
    import asyncio
    import gc

    # What imports left behind must not be collected later: a KeyboardInterrupt that the signal
    # handler raises in a weakref callback of the garbage is swallowed, on every loop.
    gc.collect()

    async def main():
        say('ready')
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say('ignored')
            await asyncio.sleep(3600)

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        say('interrupted')
    """,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    child.wait_for_line("ignored")
    child.signal(signal.SIGINT)
    outcome = child.finish()
    assert (outcome.status, outcome.lines) == (0, ["ready", "ignored", "interrupted"])


def test_a_signal_from_outside_reaches_the_handler_of_the_sleeping_loop(kind: str) -> None:
    child = Child(
        kind,
        """
    import signal
    loop = new_loop()
    def handler():
        say('terminating')
        loop.stop()
    loop.add_signal_handler(signal.SIGTERM, handler)
    loop.call_soon(loop.call_soon, say, 'ready')
    loop.run_forever()
    loop.close()
    """,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGTERM)
    expect_lines(child.finish(), "ready", "terminating")


def test_sigint_can_be_the_loops_own_and_does_not_interrupt_then(kind: str) -> None:
    child = Child(
        kind,
        _C_CHAIN
        + """
    import signal
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    loop.run_forever()
    say('stopped')
    loop.close()
    """,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    expect_lines(child.finish(), "ready", "stopped")


def test_a_chain_of_c_functions_lets_other_threads_run_and_stop_it(kind: str) -> None:
    outcome = run_program(
        kind,
        _C_CHAIN
        + """
    import threading
    def other():
        for number in range(3):
            say(number)
        loop.call_soon_threadsafe(loop.stop)
    thread = threading.Thread(target=other)
    loop.call_later(0.02, thread.start)
    loop.run_forever()
    thread.join()
    loop.close()
    """,
    )
    assert outcome.status == 0, outcome.errors
    assert sorted(outcome.lines) == ["0", "1", "2", "ready"]


def test_a_loop_in_a_second_thread_runs_while_the_main_thread_is_interrupted(kind: str) -> None:
    child = Child(
        kind,
        """
    import asyncio
    import threading
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        # The signal may come before this call returns.
        loop.call_soon_threadsafe(say, 'ready')
        threading.Event().wait()
    except KeyboardInterrupt:
        say('interrupted')
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, 'still running'), loop)
    say(future.result(10))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    """,
    )
    child.wait_for_line("ready")
    child.signal(signal.SIGINT)
    expect_lines(child.finish(), "ready", "interrupted", "still running")


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads /proc")
@pytest.mark.parametrize(
    "extra",
    [
        "",
        "loop.add_signal_handler(signal.SIGUSR1, print)",
        "loop.call_later(3600, print)",
        "loop.call_later(float('inf'), print)",
        "loop.add_reader(os.pipe()[0], print)",
    ],
    ids=["nothing", "signal handler", "far timer", "infinite timer", "quiet descriptor"],
)
def test_an_idle_loop_makes_no_wake_ups(kind: str, extra: str) -> None:
    outcome = run_program(
        kind,
        f"""
    import os
    import signal
    import threading
    import time
    loop = new_loop()
    {extra or "pass"}
    main = threading.get_native_id()

    def switches():
        with open(f'/proc/self/task/{{main}}/status') as status:
            lines = dict(line.split(':') for line in status)
        return int(lines['voluntary_ctxt_switches'])

    def watch():
        time.sleep(0.2)
        before = switches()
        time.sleep(0.7)
        say(switches() - before)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=watch)
    thread.start()
    loop.run_forever()
    thread.join()
    loop.close()
    """,
    )
    expect_lines(outcome, "0")


def test_the_interpreter_ends_cleanly_with_a_loop_left_open(kind: str) -> None:
    outcome = run_program(
        kind,
        """
    import warnings
    warnings.simplefilter('ignore')
    loop = new_loop()
    loop.call_soon(int)
    loop.call_later(100, int)
    loop.run_until_complete(__import__('asyncio').sleep(0))
    loop.call_soon(int)
    say('end')
    """,
    )
    expect_lines(outcome, "end")


def test_a_daemon_thread_with_a_sleeping_loop_does_not_hold_up_the_end(kind: str) -> None:
    outcome = run_program(
        kind,
        """
    import threading
    import warnings
    warnings.simplefilter('ignore')
    loop = new_loop()
    started = threading.Event()
    loop.call_soon(started.set)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    started.wait()
    say('end')
    """,
    )
    assert (outcome.status, outcome.lines) == (0, ["end"]), outcome.errors
    assert sys.platform != "linux" or outcome.seconds < 15
