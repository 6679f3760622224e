"""install(), uninstall() and is_installed(): who makes asyncio's loops, and who gets that office back.

What Python 3.14 changed is tested there for what it is, and on an older Python with asyncio's names
moved as 3.14 moved them (`AS_ON_3_14`): that shows which names install() uses, not what 3.14 does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from data_bridge import pyloop
from data_bridge.pyloop import _policy


def current_policy() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()


def set_policy(policy: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(policy)


def default_policy() -> type[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found: type[Any] = asyncio.DefaultEventLoopPolicy
        return found


@pytest.fixture(autouse=True)
def policy_before() -> Iterator[Any]:
    """asyncio's own policy before the test, and whatever there was after it."""
    kept = current_policy()
    own = default_policy()()
    set_policy(own)
    yield own
    set_policy(kept)


def loop_made_by_asyncio() -> type[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    loop.close()
    return type(loop)


async def running_loop_type() -> type[asyncio.AbstractEventLoop]:
    return type(asyncio.get_running_loop())


# ---- what install() changes ---------------------------------------------------------------------------


def test_asyncio_makes_its_own_loops_until_install() -> None:
    assert not pyloop.is_installed()
    assert loop_made_by_asyncio() is asyncio.SelectorEventLoop


def test_install_makes_asyncio_run_use_a_pyloop() -> None:
    pyloop.install()
    assert asyncio.run(running_loop_type()) is pyloop.PyLoop


def test_install_makes_a_runner_use_a_pyloop() -> None:
    pyloop.install()
    with asyncio.Runner() as runner:
        assert runner.run(running_loop_type()) is pyloop.PyLoop


def test_install_makes_new_event_loop_make_a_pyloop_in_every_thread() -> None:
    pyloop.install()
    made = [loop_made_by_asyncio()]
    thread = threading.Thread(target=lambda: made.append(loop_made_by_asyncio()))
    thread.start()
    thread.join()
    assert made == [pyloop.PyLoop, pyloop.PyLoop]


def test_install_while_a_loop_runs_leaves_that_loop_running() -> None:
    async def main() -> None:
        before = asyncio.get_running_loop()
        pyloop.install()
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is before
        assert asyncio.get_event_loop() is before
        assert loop_made_by_asyncio() is pyloop.PyLoop

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    assert pyloop.is_installed()


def test_install_leaves_a_loop_factory_the_last_word() -> None:
    pyloop.install()
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(running_loop_type()) is asyncio.SelectorEventLoop


def test_install_from_many_threads_installs_once(policy_before: Any) -> None:
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        pyloop.install()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pyloop.uninstall()
    assert current_policy() is policy_before


def test_a_child_process_runs_under_an_installed_pyloop() -> None:
    async def main() -> tuple[type, bytes]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('from the child')", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == 0
        return type(asyncio.get_running_loop()), output

    pyloop.install()
    assert asyncio.run(main()) == (pyloop.PyLoop, b"from the child\n")


# ---- what uninstall() gives back ----------------------------------------------------------------------


def test_uninstall_puts_the_very_policy_back_that_was_there(policy_before: Any) -> None:
    pyloop.install()
    assert current_policy() is not policy_before
    pyloop.uninstall()
    assert current_policy() is policy_before
    assert not pyloop.is_installed()
    assert loop_made_by_asyncio() is asyncio.SelectorEventLoop


def test_uninstall_puts_a_user_s_own_policy_back() -> None:
    class Own(default_policy()):  # type: ignore[misc]
        pass

    own = Own()
    set_policy(own)
    pyloop.install()
    pyloop.uninstall()
    assert current_policy() is own


def test_uninstall_without_install_does_nothing(policy_before: Any) -> None:
    pyloop.uninstall()
    assert current_policy() is policy_before


def test_one_uninstall_undoes_any_number_of_installs(policy_before: Any) -> None:
    pyloop.install()
    installed = current_policy()
    pyloop.install()
    assert current_policy() is installed
    pyloop.uninstall()
    assert current_policy() is policy_before
    pyloop.uninstall()
    assert current_policy() is policy_before


def test_install_after_uninstall_installs_again(policy_before: Any) -> None:
    for _ in range(2):
        pyloop.install()
        assert loop_made_by_asyncio() is pyloop.PyLoop
        pyloop.uninstall()
        assert current_policy() is policy_before


def test_uninstall_leaves_a_policy_alone_that_somebody_set_after_install() -> None:
    pyloop.install()
    theirs = default_policy()()
    set_policy(theirs)
    assert not pyloop.is_installed()
    pyloop.uninstall()
    assert current_policy() is theirs


def test_install_over_a_policy_set_in_between_gives_that_one_back() -> None:
    pyloop.install()
    theirs = default_policy()()
    set_policy(theirs)
    pyloop.install()
    assert pyloop.is_installed()
    pyloop.uninstall()
    assert current_policy() is theirs


def test_uninstall_still_works_after_a_temporary_policy_has_come_and_gone(
    policy_before: Any,
) -> None:
    pyloop.install()
    installed = current_policy()
    set_policy(default_policy()())
    pyloop.uninstall()
    set_policy(installed)
    assert pyloop.is_installed()
    pyloop.uninstall()
    assert current_policy() is policy_before


# ---- the policy itself --------------------------------------------------------------------------------


def test_a_policy_set_by_hand_counts_as_installed_and_is_not_taken_away() -> None:
    by_hand = pyloop.EventLoopPolicy()
    set_policy(by_hand)
    assert pyloop.is_installed()
    assert loop_made_by_asyncio() is pyloop.PyLoop
    pyloop.install()
    pyloop.uninstall()
    assert current_policy() is by_hand


def test_the_policy_is_asyncio_s_default_policy_in_everything_else() -> None:
    assert issubclass(pyloop.EventLoopPolicy, default_policy())
    loop = asyncio.SelectorEventLoop()
    policy = pyloop.EventLoopPolicy()
    try:
        policy.set_event_loop(loop)
        assert policy.get_event_loop() is loop
        with pytest.raises(TypeError):
            policy.set_event_loop(object())
    finally:
        policy.set_event_loop(None)
        loop.close()
    with pytest.raises(RuntimeError, match="no current event loop"):
        policy.get_event_loop()


def test_get_event_loop_outside_a_running_loop_does_what_it_does_on_asyncio() -> None:
    def outcome(policy: Any) -> object:
        set_policy(policy)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loop = asyncio.get_event_loop()
            except RuntimeError as error:
                return type(error), [w.category for w in caught]
        assert asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)
        loop.close()
        return isinstance(loop, asyncio.SelectorEventLoop), [w.category for w in caught]

    assert outcome(pyloop.EventLoopPolicy()) == outcome(default_policy()())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="3.14 removed the child watchers")
def test_the_child_watcher_of_the_policy_is_asyncio_s_default_one() -> None:
    pyloop.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        watchers = [current_policy().get_child_watcher(), default_policy()().get_child_watcher()]
    assert type(watchers[0]) is type(watchers[1])
    for watcher in watchers:
        watcher.close()


# ---- which of asyncio's names it stands on ------------------------------------------------------------

# Moves asyncio's policy names to where 3.14 has them and leaves shims that warn, as 3.14 does. Only the rooms
# that deal with policies are imported under the pretence: the loop itself stays that of this Python.
AS_ON_3_14 = """
import asyncio, sys, warnings
from asyncio import events, unix_events
import data_bridge.pyloop
del sys.modules["data_bridge.pyloop"], sys.modules["data_bridge.pyloop._policy"], data_bridge.pyloop

def deprecated(name, function):
    def shim(*arguments):
        warnings.warn(f"'asyncio.{name}' is deprecated", DeprecationWarning, stacklevel=2)
        return function(*arguments)
    return shim

asyncio.get_event_loop_policy()  # makes the first one, by names that are about to go
for name in ("get_event_loop_policy", "set_event_loop_policy"):
    real = getattr(events, name)
    setattr(events, f"_{name}", real)
    for module in (events, asyncio):
        setattr(module, name, deprecated(name, real))
for name in ("new_event_loop", "set_event_loop"):
    def by_private_policy(*arguments, name=name):
        return getattr(events._get_event_loop_policy(), name)(*arguments)
    for module in (events, asyncio):
        setattr(module, name, by_private_policy)
unix_events._DefaultEventLoopPolicy = unix_events.DefaultEventLoopPolicy
events._AbstractEventLoopPolicy = events.AbstractEventLoopPolicy
for module, name in (
    (asyncio, "DefaultEventLoopPolicy"),
    (unix_events, "DefaultEventLoopPolicy"),
    (asyncio, "AbstractEventLoopPolicy"),
):
    delattr(module, name)
sys.version_info = (3, 14, 0, "final", 0)
"""
AS_ON_3_16 = """
del events._get_event_loop_policy, events._set_event_loop_policy
del unix_events._DefaultEventLoopPolicy
sys.version_info = (3, 16, 0, "final", 0)
"""
USES_IT = """
from data_bridge import pyloop
from data_bridge.pyloop import EventLoopPolicy

async def main():
    return type(asyncio.get_running_loop()).__name__

before = asyncio.events._get_event_loop_policy() if sys.version_info >= (3, 14) else None
pyloop.install()
print(pyloop.is_installed(), asyncio.run(main()))
with asyncio.Runner() as runner:
    print(runner.run(main()))
loop = asyncio.new_event_loop()
print(type(loop).__name__)
loop.close()
pyloop.uninstall()
print(pyloop.is_installed(), asyncio.run(main()))
if before is not None:
    assert asyncio.events._get_event_loop_policy() is before
"""
USED_IT = ["True PyLoop", "PyLoop", "PyLoop", "False _UnixSelectorEventLoop"]


def said_by(program: str) -> list[str]:
    """What *program* prints in a fresh interpreter in which every warning is an error."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        timeout=60,
    )
    assert child.stderr == ""
    return child.stdout.splitlines()


def test_a_round_of_install_and_uninstall_warns_of_nothing_on_this_python() -> None:
    assert said_by("import asyncio, sys" + USES_IT) == USED_IT


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the real thing is there")
def test_with_the_names_of_3_14_install_uses_those_that_do_not_warn() -> None:
    assert said_by(AS_ON_3_14 + USES_IT) == USED_IT


@pytest.mark.skipif(
    not (3, 14) <= sys.version_info < (3, 16),
    reason="3.14 and 3.15 have the names with the underscore",
)
def test_the_private_names_that_install_needs_from_3_14_on_are_there() -> None:
    assert pyloop.EventLoopPolicy.__mro__[1] is default_policy()
    assert _policy.HAS_POLICIES


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="needs a policy machinery to take apart")
def test_without_policies_the_rest_works_and_install_says_what_to_use() -> None:
    program = """
        from data_bridge import pyloop
        assert "EventLoopPolicy" not in pyloop.__all__
        assert not hasattr(pyloop, "EventLoopPolicy")
        for attempt in (pyloop.install, lambda: pyloop.EventLoopPolicy):
            try:
                attempt()
            except (RuntimeError, AttributeError) as error:
                print(type(error).__name__, error)
        pyloop.uninstall()
        print(pyloop.is_installed())

        async def main():
            return type(asyncio.get_running_loop()).__name__
        print(pyloop.run(main()))
    """
    said = said_by(AS_ON_3_14 + AS_ON_3_16 + textwrap.dedent(program))
    assert said == [
        f"RuntimeError {_policy.NO_POLICIES}",
        f"AttributeError {_policy.NO_POLICIES}",
        "False",
        "PyLoop",
    ]
    assert "loop_factory=data_bridge.pyloop.new_event_loop" in _policy.NO_POLICIES
