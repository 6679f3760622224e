"""Owns the fixtures of the behaviour tests and the audit after each of them.

`loop` and `loop_factory` run a test on asyncio's own selector loop and on PyLoop: red on asyncio means
that the test is wrong. `pyloop` and `pyloop_factory` are for what only PyLoop has. A test that means to
leave something behind says so with `@pytest.mark.leaves_traces("why")`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support.descriptors import open_descriptors, opened_since

from data_bridge.pyloop import PyLoop, _native, new_event_loop

LoopFactory = Callable[[], asyncio.SelectorEventLoop]

_FACTORIES: dict[str, LoopFactory] = {
    "asyncio": asyncio.SelectorEventLoop,
    "pyloop": new_event_loop,
}


def pytest_configure(config: pytest.Config) -> None:
    # Later lines win: "error" must not come after what the project's own settings allow.
    if not any(line.startswith("error") for line in config.getini("filterwarnings")):
        config.addinivalue_line("filterwarnings", "error")
    # looptime is here to be tested; its pytest plugin fails where pytest-asyncio is not installed.
    for plugin in ("looptime_plugin", "looptime_chronometers", "looptime_timeproxies"):
        config.pluginmanager.set_blocked(plugin)
    # A shell that runs us in the background has us ignore Ctrl-C, and our children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "leaves_traces(why): the audit after the test looks away, for this reason"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    # What is imported by now stays: the collections of the audit need not look at it again.
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "pyloop"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which loop the test runs on."""
    return str(request.param)


@pytest.fixture
def unhandled() -> list[dict[str, Any]]:
    """What reached the exception handler that every loop of a fixture starts with.

    A test that provokes such reports takes them out (`unhandled.clear()`); what is left fails it.
    """
    return []


@pytest.fixture
def loop_factory(
    kind: str, leak_audit: None, unhandled: list[dict[str, Any]]
) -> Iterator[LoopFactory]:
    """Makes loops of the kind under test; closes them after the test."""
    yield from _tracked_factory(_FACTORIES[kind], unhandled)


@pytest.fixture
def loop(loop_factory: LoopFactory) -> asyncio.SelectorEventLoop:
    """A fresh loop of the kind under test."""
    return loop_factory()


@pytest.fixture
def pyloop_factory(leak_audit: None, unhandled: list[dict[str, Any]]) -> Iterator[LoopFactory]:
    """Makes PyLoops; closes them after the test."""
    yield from _tracked_factory(new_event_loop, unhandled)


@pytest.fixture
def pyloop(pyloop_factory: LoopFactory) -> PyLoop:
    """A fresh PyLoop, for what asyncio's own loop does not have."""
    made = pyloop_factory()
    assert isinstance(made, PyLoop)
    return made


@pytest.fixture(autouse=True)
def leak_audit(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test: no native handle, descriptor, thread, signal handler or warning is left."""
    if request.node.get_closest_marker("leaves_traces"):
        yield
        return
    descriptors = open_descriptors()
    threads = set(threading.enumerate())
    signals = _signal_state()
    handles = _native._live_handles()
    yield
    left_threads = _threads_beyond(threads)
    assert not left_threads, f"threads left behind: {left_threads}"
    gc.collect()
    # pytest keeps what caplog has seen until after this.
    if "caplog" not in request.fixturenames:
        assert _native._live_handles() <= handles, "native handles left alive"
    left = opened_since(descriptors)
    assert not left, f"descriptors left open: {left}"
    assert _signal_state() == signals, "signal handlers or the wake-up descriptor were left changed"


def _tracked_factory(
    factory: LoopFactory, unhandled: list[dict[str, Any]]
) -> Iterator[LoopFactory]:
    made: list[asyncio.SelectorEventLoop] = []

    def make() -> asyncio.SelectorEventLoop:
        loop = factory()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        made.append(loop)
        return loop

    yield make
    for loop in made:
        _close(loop)
        # pytest holds the loop a while longer; what its handler has kept goes now.
        loop.set_exception_handler(None)
    made.clear()
    reports = list(unhandled)
    unhandled.clear()
    assert not reports, f"the exception handler was called: {reports}"


def _close(loop: asyncio.SelectorEventLoop) -> None:
    if loop.is_closed():
        return
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    if pending:
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.close()


def _threads_beyond(known: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that are still there after a while to end in (a closed loop's executor is not joined)."""
    deadline = time.monotonic() + 5
    for thread in threading.enumerate():
        if thread not in known:
            thread.join(max(0, deadline - time.monotonic()))
    return [thread for thread in threading.enumerate() if thread not in known]


def _signal_state() -> tuple[Any, ...]:
    # There is no way to ask for the wake-up descriptor but to replace it.
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup != -1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signal.set_wakeup_fd(wakeup)
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
    return (wakeup, *(signal.getsignal(number) for number in watched))
