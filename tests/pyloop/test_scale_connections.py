"""Many connections on one loop: all of them open at once, and all of them reading at their own pace."""

from __future__ import annotations

import textwrap

import pytest
from support.children import Outcome, run_program

_COUNT = 20_000

_SPARE = 100
_FEWEST = 10_000

_LIMIT = """
    import resource, sys

    def room_for(descriptors, at_least):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for wanted in (descriptors, min(descriptors, hard)):
            if soft >= wanted:
                break
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
                break
            except (ValueError, OSError):
                pass
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if allowed < at_least:
            say(f'skip: this machine allows {allowed} descriptors, {at_least} are needed')
            sys.exit(0)
        return min(allowed, descriptors)
"""

_CLIENTS = """
    import resource, socket, struct, sys
    port, count, hosts = map(int, sys.argv[1:])
    def next_line(expected):
        assert sys.stdin.readline().strip() == expected
    clients = []
    for number in range(count):
        # Several addresses, so that the ports of earlier connections are not in the way.
        clients.append(socket.create_connection((f'127.0.0.{1 + number % hosts}', port)))
    print('connected', flush=True)
    next_line('use')
    for number, client in enumerate(clients):
        client.sendall(struct.pack('I', number) * 3)
    for number, client in enumerate(clients):
        expected = struct.pack('I', number) * 3
        received = b''
        while len(received) < 12:
            received += client.recv(12 - len(received))
        assert received == expected, (number, received)
    print('used', flush=True)
    next_line('close')
    for number, client in enumerate(clients):
        client.close()
    print('closed', flush=True)
"""

_SERVER = """
    import asyncio, os, subprocess
    COUNT = room_for(WANTED + SPARE, FEWEST + SPARE) - SPARE
    say(COUNT)
    loop = new_loop()
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    class Echo(asyncio.Protocol):
        now = made = lost = most = errors = 0
        def connection_made(self, transport):
            self.transport = transport
            Echo.made += 1
            Echo.now += 1
            Echo.most = max(Echo.most, Echo.now)
        def data_received(self, data):
            self.transport.write(data)
        def connection_lost(self, exc):
            Echo.now -= 1
            Echo.lost += 1
            Echo.errors += exc is not None

    async def main():
        hosts = 8 if sys.platform == 'linux' else 1
        server = await loop.create_server(
            Echo, '0.0.0.0' if hosts > 1 else '127.0.0.1', 0, backlog=1000
        )
        before = len(os.listdir('/dev/fd'))
        client = subprocess.Popen(
            [sys.executable, '-c', CLIENTS, str(server.sockets[0].getsockname()[1]), str(COUNT),
             str(hosts)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )

        async def answer():
            return (await loop.run_in_executor(None, client.stdout.readline)).strip()

        say(await answer())
        while Echo.made < COUNT:
            await asyncio.sleep(0.01)
        say(f'open at once: {Echo.now}')
        client.stdin.write('use\\n')
        say(await answer())
        client.stdin.write('close\\n')
        say(await answer())
        while Echo.lost < COUNT:
            await asyncio.sleep(0.01)
        say(f'lost: {Echo.lost}, with an error: {Echo.errors}, most at once: {Echo.most}')
        client.communicate()
        await asyncio.sleep(0.01)
        say(f'descriptors left: {len(os.listdir("/dev/fd")) - before}, reports: {reports}')
        server.close()
        await server.wait_closed()
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()
"""

_PACED = """
    import asyncio, hashlib, random, socket
    room_for(2 * 1000 + 100, 2 * 1000 + 100)
    COUNT, SIZE = 1000, 100 * 1024
    loop = new_loop()
    choice = random.Random(2024)
    content = choice.randbytes(SIZE + COUNT)
    reports = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    done = loop.create_future()
    finished = []

    class Paced:
        def connection_made(self, transport):
            self.transport = transport
            self.received = bytearray()
            self.paused = False
            self.pauses = 0
        def got(self, data):
            assert not self.paused, 'delivered while paused'
            self.received += data
            if choice.random() < 0.4:
                self.paused = True
                self.pauses += 1
                self.transport.pause_reading()
                if choice.random() < 0.5:
                    loop.call_soon(self.go_on)
                else:
                    loop.call_later(choice.random() / 200, self.go_on)
        def go_on(self):
            self.paused = False
            self.transport.resume_reading()
        def eof_received(self):
            assert not self.paused, 'ended while paused'
        def connection_lost(self, exc):
            finished.append((self, exc))
            if len(finished) == COUNT:
                done.set_result(None)

    class Plain(Paced, asyncio.Protocol):
        def data_received(self, data):
            self.got(data)

    class Buffered(Paced, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            self.buffer = bytearray(choice.choice((1000, 5000, 70000)))
            return self.buffer
        def buffer_updated(self, count):
            self.got(self.buffer[:count])

    class Sender(asyncio.Protocol):
        # Each sends its own part of the content, in pieces of any size, as far as it may.
        def __init__(self, number):
            self.number = number
            self.sent = 0
            self.may_write = True
        def connection_made(self, transport):
            self.transport = transport
            self.go_on()
        def pause_writing(self):
            self.may_write = False
        def resume_writing(self):
            self.may_write = True
            self.go_on()
        def go_on(self):
            while self.may_write and self.sent < SIZE:
                size = min(choice.randrange(1, 30_000), SIZE - self.sent)
                start = self.number + self.sent
                self.sent += size
                self.transport.write(content[start : start + size])
            if self.sent == SIZE and not self.transport.is_closing():
                self.transport.close()

    async def main():
        readers = []
        def factory():
            readers.append(choice.choice((Plain, Buffered))())
            return readers[-1]
        server = await loop.create_server(factory, '127.0.0.1', 0, backlog=1000)
        address = server.sockets[0].getsockname()
        for number in range(COUNT):
            await loop.create_connection(lambda number=number: Sender(number), *address)
        await done
        whole = {}
        for number in range(COUNT):
            digest = hashlib.blake2b(content[number : number + SIZE]).digest()
            whole[digest] = whole.get(digest, 0) + 1
        for reader, exc in finished:
            assert exc is None, exc
            assert len(reader.received) == SIZE, len(reader.received)
            whole[hashlib.blake2b(reader.received).digest()] -= 1
        say(f'wrong: {sum(map(abs, whole.values()))}')
        say(f'paused: {sum(reader.pauses for reader, _ in finished) > COUNT}')
        say(f'reports: {reports}')
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.slow
def test_twenty_thousand_connections_are_opened_used_and_closed() -> None:
    """Slow: it is twenty thousand connections. The clients are another process.

    A little fewer where the machine has no descriptors for more than that.
    """
    settings = f"""
    WANTED, FEWEST, SPARE = {_COUNT}, {_FEWEST}, {_SPARE}
    CLIENTS = {textwrap.dedent(_CLIENTS)!r}
"""
    outcome = _run(_LIMIT + settings + _SERVER)
    count = int(outcome.lines[0])
    assert _FEWEST <= count <= _COUNT
    assert outcome.lines[1:] == [
        "connected",
        f"open at once: {count}",
        "used",
        "closed",
        f"lost: {count}, with an error: 0, most at once: {count}",
        "descriptors left: 0, reports: []",
    ], outcome.errors


@pytest.mark.slow
def test_a_thousand_connections_that_pause_at_random_receive_everything_in_order() -> None:
    """Slow: 100 MB in pieces."""
    outcome = _run(_LIMIT + _PACED)
    assert outcome.lines == ["wrong: 0", "paused: True", "reports: []"], outcome.errors


def _run(program: str) -> Outcome:
    outcome = run_program("pyloop", program, patience=55)
    if outcome.lines and outcome.lines[0].startswith("skip: "):
        pytest.skip(outcome.lines[0].removeprefix("skip: "))
    assert (outcome.status, outcome.errors) == (0, ""), outcome
    return outcome
