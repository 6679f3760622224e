"""nest_asyncio, looptime and freezegun on PyLoop, each in an interpreter of its own."""

from __future__ import annotations

import importlib.util
import re

import pytest
from support.children import expect_lines, run_program

pytestmark = pytest.mark.slow


def _needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"{module} is not installed"
    )


# nest_asyncio 1.6 asks asyncio for its policy, which is deprecated from 3.14 on.
_NEST_WARNINGS = ("-W", "ignore::DeprecationWarning")

_NEST = """
    import asyncio
    import socket
    import threading
    import time
    import nest_asyncio
    loop = new_loop()
    asyncio.set_event_loop(loop)

    async def inner(number):
        await asyncio.sleep(0.001)
        return number
"""


@_needs("nest_asyncio")
def test_nest_asyncio_applied_before_the_run_lets_the_loop_be_entered_again(kind: str) -> None:
    outcome = run_program(
        kind,
        _NEST
        + """
    nest_asyncio.apply(loop)

    async def outer():
        first = loop.run_until_complete(inner(1))
        second = asyncio.run(inner(2))
        await asyncio.sleep(0.001)
        return first, second

    say(loop.run_until_complete(outer()))
    loop.close()
    """,
        options=_NEST_WARNINGS,
    )
    expect_lines(outcome, "(1, 2)")


@_needs("nest_asyncio")
def test_nest_asyncio_applied_in_a_running_loop_lets_it_be_entered_again(kind: str) -> None:
    outcome = run_program(
        kind,
        _NEST
        + """
    ran = []

    async def outer():
        loop.call_later(0.002, ran.append, 'timer of before')
        loop.call_soon(ran.append, 'callback of before')
        waiting = asyncio.ensure_future(inner(0))
        await asyncio.sleep(0)
        nest_asyncio.apply(loop)
        first = loop.run_until_complete(inner(1))
        second = loop.run_until_complete(asyncio.wait_for(inner(2), 5))
        nested = loop.run_until_complete(asyncio.gather(inner(3), inner(4)))
        await asyncio.sleep(0.005)
        return first, second, nested, await waiting

    say(loop.run_until_complete(outer()))
    say(ran)
    loop.close()
    """,
        options=_NEST_WARNINGS,
    )
    expect_lines(outcome, "(1, 2, [3, 4], 0)", "['callback of before', 'timer of before']")


@_needs("nest_asyncio")
def test_nest_asyncio_nests_three_deep_with_timers_threads_and_sockets(kind: str) -> None:
    outcome = run_program(
        kind,
        _NEST
        + """
    nest_asyncio.apply(loop)

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def talk():
        server = await asyncio.start_server(echo, '127.0.0.1', 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b'hello\\n')
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line

    async def deep(level):
        if level:
            return loop.run_until_complete(deep(level - 1))
        future = loop.create_future()
        threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, 'thread')).start()
        return await future, await talk()

    say(loop.run_until_complete(deep(3)))
    begun = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.2))
    say(time.process_time() - begun < 0.1)
    loop.close()
    """,
        options=_NEST_WARNINGS,
    )
    expect_lines(outcome, "('thread', b'hello\\n')", "True")


@_needs("looptime")
def test_looptime_patches_a_loop_and_an_hour_passes_in_no_time(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio
        import time
        import looptime
        loop = looptime.patch_event_loop(new_loop(), start=0)

        async def main():
            order = []
            async def sleeper(seconds):
                await asyncio.sleep(seconds)
                order.append((seconds, loop.time()))
            await asyncio.gather(*(sleeper(seconds) for seconds in (3600, 60, 1800)))
            try:
                async with asyncio.timeout(10):
                    await loop.create_future()
            except TimeoutError:
                order.append(('timeout', loop.time()))
            return order

        begun = time.monotonic()
        say(loop.run_until_complete(main()))
        say(time.monotonic() - begun < 10)
        loop.close()
        """,
    )
    expect_lines(
        outcome,
        "[(60, 60.0), (1800, 1800.0), (3600, 3600.0), ('timeout', 3610.0)]",
        "True",
    )


@_needs("looptime")
def test_a_looptime_class_made_of_the_loops_class_works(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio
        import looptime
        probe = new_loop()
        probe.close()
        made = looptime.make_event_loop_class(type(probe))(start=100, end=200)
        say(made.time())

        async def main():
            await asyncio.sleep(50)
            return made.time()

        say(made.run_until_complete(main()))
        try:
            made.run_until_complete(asyncio.sleep(1000))
        except looptime.LoopTimeoutError:
            say('end of time')
        made.close()
        """,
    )
    expect_lines(outcome, "100.0", "150.0", "end of time")


@_needs("looptime")
def test_looptime_switched_off_leaves_real_time(kind: str) -> None:
    outcome = run_program(
        kind,
        """
        import asyncio
        import time
        import looptime
        loop = looptime.patch_event_loop(new_loop(), _enabled=False)
        begun = time.monotonic()
        loop.run_until_complete(asyncio.sleep(0.05))
        say(0.05 <= time.monotonic() - begun < 5)
        with loop.looptime_enabled():
            begun = time.monotonic()
            loop.run_until_complete(asyncio.sleep(1000))
            say(time.monotonic() - begun < 10)
        loop.close()
        """,
    )
    expect_lines(outcome, "True", "True")


_FREEZE = """
    import asyncio
    import datetime
    import os
    import time
    import freezegun
    probe = new_loop()
    probe.close()

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return new_loop()
    asyncio.set_event_loop_policy(Policy())
"""


@_needs("freezegun")
def test_freezegun_with_real_asyncio_lets_timers_run(kind: str) -> None:
    outcome = run_program(
        kind,
        _FREEZE
        + """
    with freezegun.freeze_time('2012-01-14', real_asyncio=True):
        loop = new_loop()
        begun = os.times().elapsed
        loop.run_until_complete(asyncio.sleep(0.05))
        say(os.times().elapsed - begun >= 0.03)
        say(datetime.datetime.now().year)
        loop.close()
    after = new_loop()
    say(abs(after.time() - time.monotonic()) < 1)
    after.run_until_complete(asyncio.sleep(0.01))
    after.close()
    """,
        options=_NEST_WARNINGS,
    )
    expect_lines(outcome, "True", "2012", "True")


@_needs("freezegun")
def test_freezegun_around_a_running_loop_does_not_stop_it(kind: str) -> None:
    outcome = run_program(
        kind,
        _FREEZE
        + """
    loop = new_loop()

    async def main():
        with freezegun.freeze_time('2012-01-14', real_asyncio=True):
            await asyncio.sleep(0.01)
            year = datetime.datetime.now().year
        await asyncio.sleep(0.01)
        return year, datetime.datetime.now().year > 2012

    say(loop.run_until_complete(main()))
    loop.close()
    """,
        options=_NEST_WARNINGS,
    )
    expect_lines(outcome, "(2012, True)")


@_needs("freezegun")
def test_a_frozen_clock_without_real_asyncio_neither_hangs_the_loop_nor_makes_it_run_wild(
    kind: str,
) -> None:
    # freezegun then replaces time.monotonic: asyncio's loop, which calls it, stands still; PyLoop
    # reads the kernel's clock and goes on.
    outcome = run_program(
        kind,
        _FREEZE
        + """
    loop = new_loop()
    ran = []
    with freezegun.freeze_time('2012-01-14') as frozen:
        loop.call_later(5, ran.append, 1)
        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        say(ran)
        frozen.tick(10)
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    say('done')
    loop.close()
    """,
        options=_NEST_WARNINGS,
    )
    assert outcome.status == 0, outcome.errors
    assert re.fullmatch(r"\[\]\ndone", "\n".join(outcome.lines)), outcome.lines
