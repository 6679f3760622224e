"""Servers that are asked for more than they can give: connect storms, and no descriptors left."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from support.children import expect_lines, run_program
from support.running import run_passes, run_until
from support.transport_links import Recorder, open_link

Loop = asyncio.SelectorEventLoop


def test_a_whole_backlog_is_accepted_within_few_iterations(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, backlog=100))
    address = server.sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(90)]
    run_passes(loop, 8)
    assert len(made) == 90
    assert all(protocol.events == ["made"] for protocol in made)
    _end(loop, server, made, clients)


def test_a_small_backlog_does_not_lose_anybody(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, backlog=1))
    address = server.sockets[0].getsockname()
    clients: list[socket.socket] = []
    for _ in range(20):
        clients.append(socket.create_connection(address))
        run_passes(loop, 4)
    run_until(loop, lambda: len(made) == 20)
    _end(loop, server, made, clients)


def test_a_connection_goes_on_while_others_storm_the_server(loop: Loop) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0, backlog=20))
    address = server.sockets[0].getsockname()
    clients: list[socket.socket] = []
    echoes = 0
    with open_link(loop) as link:
        link.protocol.on_data = lambda: link.transport.write(b"back")

        storming = [True]

        def storm() -> None:
            # The queue is never empty when the loop polls.
            for _ in range(3):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(address)
                clients.append(client)
            if storming:
                loop.call_soon(storm)

        storm()
        for _ in range(30):
            link.far.send(b"ping")
            run_passes(loop, 3)
            try:
                echoes += link.far.recv(100) == b"back"
            except BlockingIOError:
                pass
        storming.clear()
        # One in three iterations would do; a server that accepts until its queue is empty has none.
        assert echoes >= 15
    _end(loop, server, made, clients)


_EMFILE = """
    import asyncio, errno, os, resource, socket, time
    loop = new_loop()
    asyncio.set_event_loop(loop)
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    made = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)
        def connection_lost(self, exc):
            pass

    async def main():
        server = await loop.create_server(Protocol, '127.0.0.1', 0, backlog=50)
        clients = [socket.socket() for _ in range(5)]
        lowest = os.dup(0)
        os.close(lowest)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        for client in clients:
            client.connect(server.sockets[0].getsockname())
        await asyncio.sleep(0.05)
        say(f'made {len(made)}')
        say(f'reports {len(reports)}')
        before = time.process_time()
        await asyncio.sleep(0.4)
        busy = time.process_time() - before
        say('idle' if busy < 0.2 else f'busy for {busy} s of CPU')
        say(f'reports {len(reports)}')
        report = reports[0]
        say(report['message'])
        say(errno.errorcode[report['exception'].errno])
        say(' '.join(sorted(report)))
        say(type(report['socket']).__name__)
        say(f'serving {server.is_serving()}')
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        deadline = time.monotonic() + 10
        while len(made) < 5 and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        say(f'made {len(made)}')
        say(f'reports {len(reports)}')
        reports.clear()
        for transport in made:
            transport.close()
        server.close()
        await server.wait_closed()
        for client in clients:
            client.close()
        del report

    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.slow
def test_a_server_without_descriptors_says_so_once_rests_a_second_and_goes_on() -> None:
    """Slow: the rest takes a second. (asyncio's own says it once for each place in the backlog.)"""
    expect_lines(
        run_program("pyloop", _EMFILE),
        "made 0",
        "reports 1",
        "idle",
        "reports 1",
        "socket.accept() out of system resource",
        "EMFILE",
        "exception message socket",
        "TransportSocket",
        "serving True",
        "made 5",
        "reports 1",
    )


_EMFILE_AND_CLOSE = """
    import asyncio, os, resource, socket
    loop = new_loop()
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(str(context.get('message'))))

    async def main():
        server = await loop.create_server(asyncio.Protocol, '127.0.0.1', 0)
        client = socket.socket()
        lowest = os.dup(0)
        os.close(lowest)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        client.connect(server.sockets[0].getsockname())
        await asyncio.sleep(0.02)
        say(f'reports {len(reports)}')
        server.close()
        await server.wait_closed()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        newer = await loop.create_server(asyncio.Protocol, '127.0.0.1', 0)
        await asyncio.sleep(1.2)
        say(f'reports {len(reports)}')
        newer.close()
        await newer.wait_closed()
        client.close()

    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.slow
def test_a_server_closed_while_it_rests_does_not_come_back() -> None:
    """Slow: waits longer than the rest of a second. The descriptor belongs to another server by then.

    (asyncio's own comes back, and complains about that one.)
    """
    expect_lines(run_program("pyloop", _EMFILE_AND_CLOSE), "reports 1", "reports 1")


@pytest.mark.slow
def test_an_idle_server_uses_no_cpu(loop: Loop) -> None:
    """Slow: looks at the CPU time of a fifth of a second."""
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    before = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert time.process_time() - before < 0.1
    server.close()
    loop.run_until_complete(server.wait_closed())


def _end(loop: Loop, server: Any, made: list[Recorder], clients: list[socket.socket]) -> None:
    # Those that are accepted while the server closes, asyncio's own leaves to the collector.
    run_passes(loop, 10)
    server.close()
    for client in clients:
        client.close()
    run_passes(loop, 10)
    for protocol in made:
        if protocol.transport is not None and not protocol.lost:
            protocol.transport.abort()
    run_passes(loop, 3)
    loop.run_until_complete(asyncio.wait_for(server.wait_closed(), 5))
