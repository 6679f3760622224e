"""Forked children that put something else in the place of a descriptor the inherited loop watches."""

from __future__ import annotations

import pytest
from support.children import run_program

pytestmark = pytest.mark.slow


_OPENS = {
    "/dev/null": "[os.open('/dev/null', os.O_RDWR)] * 2",
    "files": "[os.open(sys.executable, os.O_RDONLY) for _ in range(2)]",
    "nothing": "[]",
}


@pytest.mark.parametrize("instead", list(_OPENS))
@pytest.mark.parametrize("count", [1, 2])
def test_a_child_can_run_the_inherited_loop_after_redirecting_watched_descriptors(
    kind: str, instead: str, count: int
) -> None:
    # A child that becomes a daemon puts /dev/null over its stdin, or closes it. Its own epoll instance
    # refused to watch that, or itself where it had got the free number, and the loop could not run.
    outcome = run_program(
        kind,
        f"""
    import asyncio
    import os
    import socket
    import sys
    import traceback
    loop = new_loop()
    pairs = [socket.socketpair() for _ in range(2)]
    # Made before, so that none gets the number of what the child closes.
    pipes = [os.pipe(), os.pipe()]
    woken = []
    for one, _ in pairs:
        loop.add_reader(one, woken.append, one)
    loop.run_until_complete(asyncio.sleep(0))

    async def day():
        reading, writing = pipes.pop()
        heard = loop.create_future()
        loop.add_reader(reading, lambda: heard.done() or heard.set_result(os.read(reading, 9)))
        os.write(writing, b'heard')
        result = await asyncio.wait_for(heard, 5)
        loop.remove_reader(reading)
        assert await asyncio.wait_for(loop.run_in_executor(None, int, '7'), 5) == 7
        await loop.shutdown_default_executor()
        await asyncio.sleep(0.005)
        return result.decode()

    child = os.fork()
    if child == 0:
        status = 70
        try:
            new = {_OPENS[instead]}
            for number, (one, _) in enumerate(pairs[:{count}]):
                if new:
                    os.dup2(new[number], one.fileno())
                else:
                    os.close(one.fileno())
            status = 0 if loop.run_until_complete(day()) == 'heard' and not woken else 71
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    pipes.pop()
    say(loop.run_until_complete(day()))
    for pair in pairs:
        loop.remove_reader(pair[0])
        for end in pair:
            end.close()
    loop.close()
    """,
        patience=15,
    )
    assert (outcome.status, outcome.lines) == (0, ["0", "heard"]), outcome.errors
