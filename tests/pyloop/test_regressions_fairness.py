"""Turns for other threads while the loop runs callbacks that are written in C: they got one a second."""

from __future__ import annotations

import pytest
from support.children import run_program

pytestmark = pytest.mark.slow

_CHAINS = {
    "callbacks": "(loop.call_soon, (chain,), {}, None)",
    "timers": "(loop.call_later, (0, chain), {}, None)",
}


@pytest.mark.parametrize("link", list(_CHAINS))
def test_a_chain_of_c_callbacks_gives_a_thread_that_sleeps_often_its_turns(
    kind: str, link: str
) -> None:
    # The GIL was offered by letting go of it and taking it again at once, before the thread that waited
    # for it had woken up: it starved. A turn at each switch interval of 5 ms makes up to 200 in a second.
    outcome = run_program(
        kind,
        f"""
    import functools
    import threading
    import time
    loop = new_loop()
    chain = functools.partial(int)
    chain.__setstate__({_CHAINS[link]})
    times = []

    def other():
        for _ in range(50):
            time.sleep(0.001)
        times.append(time.monotonic() - begun)
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(chain)
    thread = threading.Thread(target=other)
    begun = time.monotonic()
    thread.start()
    loop.run_forever()
    thread.join()
    say(times[0])
    loop.close()
    """,
    )
    assert (outcome.status, len(outcome.lines)) == (0, 1), outcome.errors
    assert float(outcome.lines[0]) < 2.0, "50 turns took that long"


def test_a_busy_loop_in_a_thread_does_not_starve_the_main_thread(kind: str) -> None:
    # The same with the places changed: the loop is in the thread, and the main thread does what a
    # program does that waits for its answers.
    outcome = run_program(
        kind,
        """
    import functools
    import threading
    import time
    loop = new_loop()
    chain = functools.partial(int)
    chain.__setstate__((loop.call_soon, (chain,), {}, None))
    loop.call_soon(chain)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    begun = time.monotonic()
    for _ in range(50):
        heard = threading.Event()
        loop.call_soon_threadsafe(heard.set)
        heard.wait()
    took = time.monotonic() - begun
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    say(took)
    loop.close()
    """,
    )
    assert (outcome.status, len(outcome.lines)) == (0, 1), outcome.errors
    assert float(outcome.lines[0]) < 2.0, "50 answers took that long"
