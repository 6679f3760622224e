"""The end of the interpreter while loops still run in daemon threads: it was an abort of the process."""

from __future__ import annotations

import pytest
from support.children import run_program

pytestmark = pytest.mark.slow

_IDLE = """
    def work(loop):
        loop.call_later(3600, int)
        loop.run_forever()
"""

_BUSY_COROUTINE = """
    def work(loop):
        async def main():
            while True:
                sum(range(2000))
                await asyncio.sleep(0)
        loop.run_until_complete(main())
"""

_SPINNING = """
    def work(loop):
        def spin():
            loop.call_soon(spin)
        spin()
        loop.run_forever()
"""

_TICKING = """
    def work(loop):
        def tick():
            loop.call_later(0.0002, tick)
        tick()
        loop.run_forever()
"""

_STOCK = """
    def work(loop):
        real = loop.time
        loop.time = lambda: real()
        def tick():
            loop.call_later(0.0002, tick)
        tick()
        loop.run_forever()
"""

_SPINNING_IN_STOCK_MODE = """
    def work(loop):
        real = loop.time
        loop.time = lambda: real()
        def spin():
            loop.call_soon(spin)
        spin()
        loop.run_forever()
"""

_SLOW_CALLBACKS = """
    def work(loop):
        def callback():
            time.sleep(0.01)
            loop.call_soon(callback)
        callback()
        loop.run_forever()
"""

_SCENES = {
    "one idle loop": (_IDLE, 1),
    "one busy coroutine": (_BUSY_COROUTINE, 1),
    "one loop of sleeping callbacks": (_SLOW_CALLBACKS, 1),
    "one loop in stock mode": (_STOCK, 1),
    "one spinning loop in stock mode": (_SPINNING_IN_STOCK_MODE, 1),
    "three spinning loops": (_SPINNING, 3),
    "three ticking loops": (_TICKING, 3),
}

# The main thread gives up the GIL while the interpreter goes down: the others want it just then.
# Not in a global, which the frames of daemon threads keep alive.
_END = """
    import os
    import sys
    class Lingering:
        def __del__(self, sleep=time.sleep, write=os.write):
            sleep(0.1)
            write(1, b'lingered\\n')
    sys.lingering = Lingering()
    say('end')
"""


@pytest.mark.parametrize("scene", list(_SCENES))
def test_a_loop_in_a_daemon_thread_does_not_abort_the_process_at_its_end(
    kind: str, scene: str
) -> None:
    # CPython ends daemon threads that want the GIL by unwinding their stack, and that aborts
    # in Rust frames ("FATAL: exception not rethrown"): no such frame may be left to unwind.
    work, count = _SCENES[scene]
    outcome = run_program(
        kind,
        f"""
    import asyncio
    import threading
    import time
    import warnings
    warnings.simplefilter('ignore')
    {work}
    started = threading.Semaphore(0)
    for _ in range({count}):
        loop = new_loop()
        loop.call_soon(started.release)
        threading.Thread(target=work, args=(loop,), daemon=True).start()
    for _ in range({count}):
        started.acquire()
    time.sleep(0.05)
    {_END}
    """,
        patience=10,
    )
    assert (outcome.status, outcome.lines) == (0, ["end", "lingered"]), outcome.errors
    assert "FATAL" not in outcome.errors and "Fatal" not in outcome.errors


def test_other_threads_are_not_held_up_by_a_loop_that_stopped_for_the_end(kind: str) -> None:
    # What stops daemon loops runs in atexit, where functions registered before it are still to
    # come and may use loops of their own in the main thread: those must run as ever.
    outcome = run_program(
        kind,
        f"""
    import asyncio
    import atexit
    import threading
    import time
    import warnings
    warnings.simplefilter('ignore')

    @atexit.register
    def late():
        loop = new_loop()
        say(loop.run_until_complete(asyncio.sleep(0.01, 'late')))
        loop.close()
    {_TICKING}
    threading.Thread(target=work, args=(new_loop(),), daemon=True).start()
    time.sleep(0.05)
    {_END}
    """,
        patience=10,
    )
    assert (outcome.status, outcome.lines) == (0, ["end", "late", "lingered"]), outcome.errors
