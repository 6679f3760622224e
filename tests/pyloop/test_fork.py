"""fork in a running program: parent and child both stay sane, and do not disturb each other."""

from __future__ import annotations

import sys

import pytest
from support.children import expect_lines, run_program

pytestmark = pytest.mark.slow

# From 3.12 fork warns in a process with threads; these programs have none when they fork.
_WAIT = """
    import asyncio
    import gc
    import os
    import signal
    import threading
    import time
    import traceback

    def wait_for(child):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return 'hung'

    def in_child(work):
        child = os.fork()
        if child:
            return child
        try:
            os._exit(work() or 0)
        except BaseException:
            traceback.print_exc()
            os._exit(70)

    def check(loop):
        '''All that a loop does, once more.'''
        got = []
        reading, writing = os.pipe()
        loop.add_reader(reading, lambda: (got.append('descriptor'), loop.remove_reader(reading)))
        os.write(writing, b'x')
        loop.run_until_complete(asyncio.sleep(0.005))
        os.close(reading)
        os.close(writing)
        thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
        thread.start()
        guard = loop.call_later(8, lambda: (got.append('thread lost'), loop.stop()))
        loop.run_forever()
        guard.cancel()
        thread.join()
        got.append('thread')
        return got
"""


def test_a_child_forked_by_a_callback_makes_a_loop_of_its_own(kind: str) -> None:
    outcome = run_program(
        kind,
        _WAIT
        + """
    loop = new_loop()

    def child():
        assert asyncio._get_running_loop() is None
        mine = new_loop()
        assert check(mine) == ['descriptor', 'thread']
        mine.close()
        return 7

    async def main():
        forked = in_child(child)
        await asyncio.sleep(0.01)
        return await asyncio.to_thread(wait_for, forked)

    say(loop.run_until_complete(main()))
    loop.run_until_complete(loop.shutdown_default_executor())
    say(check(loop))
    loop.close()
    """,
    )
    expect_lines(outcome, "7", "['descriptor', 'thread']")


def test_a_child_runs_asyncio_run_beside_the_loop_it_inherited(kind: str) -> None:
    outcome = run_program(
        kind,
        _WAIT
        + """
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        async def main():
            await asyncio.sleep(0.005)
            return 8
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    say(wait_for(in_child(child)))
    say(check(loop))
    loop.close()
    """,
    )
    expect_lines(outcome, "8", "['descriptor', 'thread']")


# On asyncio the next ones fail: a child that closes its loop unregisters the parent's self-pipe from the
# epoll they share, and takes what the parent should read.


@pytest.mark.parametrize("way", ["close", "collect"])
def test_a_child_that_closes_the_inherited_loop_does_not_harm_its_parent(way: str) -> None:
    outcome = run_program(
        "pyloop",
        _WAIT
        + f"""
    way = {way!r}
    loop = new_loop()
    seen = []
    reading, writing = os.pipe()
    loop.add_reader(reading, lambda: seen.append(os.read(reading, 10)))
    loop.call_later(3600, print)
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        global loop
        if way == 'close':
            loop.remove_reader(reading)
            loop.close()
            assert loop.is_closed()
        else:
            import warnings
            warnings.simplefilter('ignore')
            del loop
            gc.collect()
        return 9

    say(wait_for(in_child(child)))
    os.write(writing, b'heard')
    loop.run_until_complete(asyncio.sleep(0.01))
    say(seen)
    say(check(loop))
    loop.remove_reader(reading)
    loop.close()
    """,
    )
    expect_lines(outcome, "9", "[b'heard']", "['descriptor', 'thread']")


def test_a_child_that_removes_registrations_of_the_inherited_loop_does_not_harm_its_parent() -> (
    None
):
    outcome = run_program(
        "pyloop",
        _WAIT
        + """
    loop = new_loop()
    seen = []
    pipes = [os.pipe() for _ in range(3)]

    def readable(descriptor):
        seen.append(os.read(descriptor, 10))

    for reading, _ in pipes:
        loop.add_reader(reading, readable, reading)
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        for reading, writing in pipes:
            loop.remove_reader(reading)
            os.close(reading)
        return 10

    say(wait_for(in_child(child)))
    for number, (_, writing) in enumerate(pipes):
        os.write(writing, str(number).encode())
    loop.run_until_complete(asyncio.sleep(0.01))
    say(sorted(seen))
    for reading, _ in pipes:
        loop.remove_reader(reading)
    loop.close()
    """,
    )
    expect_lines(outcome, "10", "[b'0', b'1', b'2']")


def test_a_child_that_runs_the_inherited_loop_takes_nothing_from_its_parent() -> None:
    outcome = run_program(
        "pyloop",
        _WAIT
        + """
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))

    def child():
        try:
            loop.run_until_complete(asyncio.sleep(0.01))
        except RuntimeError as error:
            # To refuse with a reason is as good as to run.
            return 11 if str(error) else 12
        assert check(loop) == ['descriptor', 'thread']
        loop.close()
        return 11

    forked = in_child(child)
    say(check(loop))
    say(wait_for(forked))
    say(check(loop))
    loop.close()
    """,
    )
    expect_lines(outcome, "['descriptor', 'thread']", "11", "['descriptor', 'thread']")


def test_a_child_that_returns_into_the_inherited_loop_ends_and_leaves_its_parent_sane() -> None:
    outcome = run_program(
        "pyloop",
        _WAIT
        + """
    loop = new_loop()
    forked = []

    def fork():
        forked.append(os.fork())

    loop.call_soon(fork)
    loop.call_later(0.02, loop.stop)
    try:
        loop.run_forever()
    except RuntimeError as error:
        if forked == [0]:
            os._exit(13 if str(error) else 14)
        raise
    if forked == [0]:
        # Its own timer has stopped it.
        os._exit(13)
    say(wait_for(forked[0]))
    say(check(loop))
    loop.close()
    """,
    )
    expect_lines(outcome, "13", "['descriptor', 'thread']")


def test_a_child_of_multiprocessing_runs_a_loop(kind: str) -> None:
    outcome = run_program(
        kind,
        _WAIT
        + """
    import multiprocessing

    def work(queue):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            queue.put(runner.run(asyncio.sleep(0.005, 'from the child')))

    loop = new_loop()
    context = multiprocessing.get_context('fork')

    async def main():
        queue = context.SimpleQueue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        say(queue.get())
        process.join()
        say(process.exitcode)

    loop.run_until_complete(main())
    say(check(loop))
    loop.close()
    """,
    )
    expect_lines(outcome, "from the child", "0", "['descriptor', 'thread']")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_descriptors_of_a_loop_are_not_inherited_by_programs_it_starts(kind: str) -> None:
    outcome = run_program(
        kind,
        """
    import asyncio
    import sys
    loop = new_loop()

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, '-c',
            'import os; print(sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")'
            ' if os.path.exists(f"/proc/self/fd/{n}") and int(n) > 2))',
            stdout=asyncio.subprocess.PIPE, close_fds=False)
        output, _ = await process.communicate()
        return output.decode().strip()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        say(runner.run(main()))
    """,
    )
    assert outcome.status == 0, outcome.errors
    assert "eventpoll" not in outcome.lines[0] and "eventfd" not in outcome.lines[0]
    assert "socket" not in outcome.lines[0]
