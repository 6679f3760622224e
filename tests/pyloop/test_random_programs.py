"""Random programs: the same one on asyncio and on PyLoop, compared callback by callback."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator

import pytest
from conftest import LoopFactory
from support.running import run_passes


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


class _Program:
    """A random program of callbacks that schedule, cancel, read and write; its log is its outcome.

    Deadlines lie in the past and differ from each other, so that the order does not depend on the
    clock; one descriptor only, because a kernel reports several in any order.
    """

    def __init__(self, loop: asyncio.SelectorEventLoop, seed: int, pipe: tuple[int, int]) -> None:
        self.loop = loop
        self.choice = random.Random(seed)
        self.reading, self.writing = pipe
        self.log: list[str] = []
        self.handles: list[asyncio.Handle] = []
        self.budget = 400
        self.timers = 0
        self.base = loop.time() - 1e6
        self.reader_generation = 0

    def run(self) -> list[str]:
        for number in range(8):
            self._soon(f"start {number}")
        # Long enough for whatever the budget allows; the end is part of what is compared.
        run_passes(self.loop, 600)
        self.loop.remove_reader(self.reading)
        return self.log

    def _callback(self, name: str) -> None:
        self.log.append(name)
        for _ in range(self.choice.choice((0, 1, 1, 2, 3))):
            self._act()

    def _act(self) -> None:
        if self.budget == 0:
            return
        self.budget -= 1
        actions: list[Callable[[str], None]] = [
            self._soon,
            self._soon,
            self._threadsafe,
            self._timer,
            self._timer,
            self._cancel,
            self._register,
            self._unregister,
            self._write,
            self._raise_later,
        ]
        self.choice.choice(actions)(str(self.budget))

    def _soon(self, name: str) -> None:
        self.handles.append(self.loop.call_soon(self._callback, f"soon {name}"))

    def _threadsafe(self, name: str) -> None:
        self.handles.append(self.loop.call_soon_threadsafe(self._callback, f"safe {name}"))

    def _timer(self, name: str) -> None:
        self.timers += 1
        when = self.base + self.choice.randrange(1000) + self.timers / 1e4
        self.handles.append(self.loop.call_at(when, self._callback, f"timer {name}"))

    def _cancel(self, name: str) -> None:
        if self.handles:
            self.choice.choice(self.handles).cancel()

    def _register(self, name: str) -> None:
        self.reader_generation += 1
        self.loop.add_reader(self.reading, self._readable, self.reader_generation)

    def _unregister(self, name: str) -> None:
        self.log.append(f"unregister {self.loop.remove_reader(self.reading)}")

    def _write(self, name: str) -> None:
        os.write(self.writing, b"x")

    def _readable(self, generation: int) -> None:
        os.read(self.reading, 1)
        self._callback(f"readable {generation}")

    def _raise_later(self, name: str) -> None:
        self.handles.append(self.loop.call_soon(self._fail, name))

    def _fail(self, name: str) -> None:
        self.log.append(f"fail {name}")
        raise ZeroDivisionError(name)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_runs_as_on_asyncio(
    seed: int, pyloop_factory: LoopFactory, pipe: tuple[int, int]
) -> None:
    logs: list[list[str]] = []
    stock = asyncio.SelectorEventLoop()
    try:
        for loop in (stock, pyloop_factory()):
            failures: list[str] = []
            loop.set_exception_handler(
                lambda _, context, seen=failures: seen.append(str(context["exception"]))
            )
            log = _Program(loop, seed, pipe).run()
            logs.append([*log, "failures", *failures])
            _drain(pipe[0])
    finally:
        stock.close()
    assert logs[0] == logs[1]
    assert len(logs[0]) > 8


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass
