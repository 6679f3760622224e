"""The public names of data_bridge.pyloop, what importing it costs, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import importlib.machinery
import inspect
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_bridge import pyloop

PUBLIC = {
    "PyLoop",
    "new_event_loop",
    "run",
    "install",
    "uninstall",
    "is_installed",
    "EventLoopPolicy",
    "__version__",
}
HEADLINE = "Failed to import PyLoop from data_bridge native module"


def run_on_asyncio(main: Any, *, debug: bool | None = None) -> Any:
    """What pyloop.run() must behave like: asyncio.run() with a loop factory, which 3.11 lacks."""
    if asyncio._get_running_loop() is not None:
        return asyncio.run(main, debug=debug)
    with asyncio.Runner(debug=debug, loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(main)


@pytest.fixture(params=["asyncio", "pyloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return run_on_asyncio if request.param == "asyncio" else pyloop.run


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# ---- the names ----------------------------------------------------------------------------------------


def test_the_package_offers_exactly_the_documented_names() -> None:
    assert set(pyloop.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_name_says_what_it_does(name: str) -> None:
    public = getattr(pyloop, name)
    text = (public.__doc__ or "").lower()
    assert text.strip()
    if not inspect.isclass(public):
        assert "thread" in text, "thread-safety is not stated"
        assert "block" in text, "whether it may block is not stated"
        assert "raises" in text, "what it raises is not stated"


def test_the_version_is_the_one_of_the_installed_distribution() -> None:
    from importlib.metadata import version

    assert pyloop.__version__ == version("data-bridge-pyloop")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        pyloop.no_such_name  # noqa: B018


# ---- new_event_loop -----------------------------------------------------------------------------------


def test_new_event_loop_makes_another_pyloop_each_time() -> None:
    first, second = pyloop.new_event_loop(), pyloop.new_event_loop()
    try:
        assert type(first) is type(second) is pyloop.PyLoop
        assert isinstance(first, asyncio.SelectorEventLoop)
        assert first is not second
        assert not first.is_closed()
    finally:
        first.close()
        second.close()


def test_new_event_loop_serves_a_runner_as_its_factory() -> None:
    with asyncio.Runner(loop_factory=pyloop.new_event_loop) as runner:
        assert type(runner.run(running_loop())) is pyloop.PyLoop
        assert type(runner.get_loop()) is pyloop.PyLoop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run takes a factory from 3.12 on")
def test_new_event_loop_serves_asyncio_run_as_its_factory() -> None:
    factory: Any = {"loop_factory": pyloop.new_event_loop}
    assert type(asyncio.run(running_loop(), **factory)) is pyloop.PyLoop


@pytest.mark.skipif(sys.version_info < (3, 13), reason="test cases take a factory from 3.13 on")
def test_new_event_loop_serves_an_isolated_test_case_as_its_factory() -> None:
    seen: list[type] = []

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = pyloop.new_event_loop

        async def test_loop(self) -> None:
            seen.append(type(asyncio.get_running_loop()))

    result = unittest.TestResult()
    Case("test_loop").run(result)
    assert result.wasSuccessful(), result.errors + result.failures
    assert seen == [pyloop.PyLoop]


def test_new_event_loop_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(pyloop.new_event_loop)) is pyloop.new_event_loop


# ---- run ----------------------------------------------------------------------------------------------


def test_run_returns_the_result_of_a_coroutine_that_ran_on_a_pyloop_and_closes_it() -> None:
    loop = pyloop.run(running_loop())
    assert type(loop) is pyloop.PyLoop
    assert loop.is_closed()


def test_run_has_the_signature_it_is_documented_with() -> None:
    assert list(inspect.signature(pyloop.run).parameters) == ["main", "debug"]
    assert inspect.signature(pyloop.run).parameters["debug"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_the_debug_mode_it_is_given(run: Callable[..., Any], debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run(main(), debug=debug) is debug


def test_run_raises_what_main_raises(run: Callable[..., Any]) -> None:
    async def main() -> None:
        raise LookupError("from main")

    with pytest.raises(LookupError, match="from main"):
        run(main())


@pytest.mark.parametrize("stop", [SystemExit(3), KeyboardInterrupt()])
def test_run_lets_an_exit_pass(run: Callable[..., Any], stop: BaseException) -> None:
    async def main() -> None:
        raise stop

    with pytest.raises(type(stop)) as caught:
        run(main())
    assert caught.value is stop


@pytest.mark.parametrize("wrong", [None, 1, "main", running_loop], ids=repr)
def test_run_refuses_what_is_not_a_coroutine_as_asyncio_does(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError)) as expected:
        run_on_asyncio(wrong)
    with pytest.raises(type(expected.value)) as caught:
        pyloop.run(wrong)  # type: ignore[arg-type]
    assert str(caught.value) == str(expected.value)


def test_run_inside_a_running_loop_is_refused_before_a_loop_is_made(
    run: Callable[..., Any],
) -> None:
    async def main() -> None:
        inner = running_loop()
        try:
            with pytest.raises(
                RuntimeError, match=r"run\(\) cannot be called from a running event"
            ):
                run(inner)
        finally:
            inner.close()

    pyloop.run(main())


def test_run_cancels_the_tasks_left_over_and_finishes_generators(run: Callable[..., Any]) -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    kept: list[Any] = []

    async def main() -> None:
        kept.append(asyncio.create_task(forever()))
        kept.append(numbers())
        assert await anext(kept[1]) == 1
        await asyncio.sleep(0)

    run(main())
    assert ended == ["task", "generator"]
    assert kept[0].cancelled()


def test_run_turns_an_interrupt_into_the_cancellation_of_main(run: Callable[..., Any]) -> None:
    cancelled: list[bool] = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert cancelled == [True]


def test_run_works_in_a_second_thread_while_the_first_one_runs_a_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        thread = threading.Thread(target=lambda: loops.append(pyloop.run(running_loop())))
        thread.start()
        await asyncio.to_thread(thread.join)

    pyloop.run(main())
    assert [type(loop) for loop in loops] == [pyloop.PyLoop] * 2
    assert loops[0] is not loops[1]


def test_run_leaves_the_policy_and_the_current_loop_alone() -> None:
    before = pyloop.is_installed()
    pyloop.run(running_loop())
    assert pyloop.is_installed() is before


# ---- importing it -------------------------------------------------------------------------------------


def python(
    program: str, *options: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *program* in a fresh interpreter, warnings being errors, with *path* first in sys.path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )


def test_importing_warns_of_nothing() -> None:
    child = python("from data_bridge.pyloop import *; print(EventLoopPolicy.__name__)")
    assert (child.returncode, child.stdout, child.stderr) == (0, "EventLoopPolicy\n", "")


def test_importing_loads_nothing_beyond_asyncio_and_the_package() -> None:
    child = python(
        """
        import asyncio, json, sys
        before = set(sys.modules)
        import data_bridge.pyloop
        print(json.dumps(sorted(set(sys.modules) - before)))
        """
    )
    loaded = json.loads(child.stdout)
    assert [name for name in loaded if not name.startswith("data_bridge")] in (
        ["__future__", "gc"],
        ["gc"],
    )


@pytest.mark.slow
def test_importing_costs_less_than_ten_milliseconds_beyond_asyncio() -> None:
    """Slow: it starts an interpreter several times and takes the best, since machines are noisy."""

    def cost() -> float:
        child = python("import asyncio, data_bridge.pyloop", "-X", "importtime")
        rows = [line.split("|") for line in child.stderr.splitlines() if line.count("|") == 2]
        (total,) = (row[1] for row in rows if row[2].strip() == "data_bridge.pyloop")
        return int(total) / 1000

    assert min(cost() for _ in range(5)) < 10


# ---- when it cannot start -----------------------------------------------------------------------------


@pytest.fixture
def bare_package(tmp_path: Path) -> Path:
    """A copy of the Python half of the package, without its native module."""
    return copy_package(tmp_path)


def copy_package(root: Path) -> Path:
    target = root / "data_bridge" / "pyloop"
    target.mkdir(parents=True)
    for file in Path(pyloop.__file__).parent.glob("*.py"):
        shutil.copy(file, target)
    return target


def failure(root: Path, before: str = "") -> dict[str, str]:
    """Import the package from *root* after the statements *before*; how that failed."""
    report = f"""
import asyncio, json, pathlib, shlex, sys
{before}
try:
    import data_bridge.pyloop
except ImportError as error:
    cause = error.__cause__
    print(json.dumps({{"text": str(error), "cause": type(cause).__name__, "name": error.name}}))
"""
    child = python(report, path=root)
    assert child.stderr == ""
    found: dict[str, str] = json.loads(child.stdout)
    assert found["text"].startswith(HEADLINE)
    assert found["name"] == "data_bridge.pyloop._native"
    return found


def test_a_missing_native_module_is_named_with_the_command_that_mends_it(
    tmp_path: Path, bare_package: Path
) -> None:
    found = failure(tmp_path)
    assert "it is not built for this Python" in found["text"]
    assert f"{sys.executable} -m pip install --force-reinstall data-bridge-pyloop" in found["text"]
    assert found["cause"] == "ModuleNotFoundError"


def test_a_missing_native_module_in_a_source_tree_is_mended_by_building_the_tree(
    tmp_path: Path,
) -> None:
    (tmp_path / "a tree" / "crates" / "data-bridge-pyloop").mkdir(parents=True)
    copy_package(tmp_path / "a tree" / "python")
    found = failure(tmp_path / "a tree" / "python")
    assert f"-m pip install -e '{tmp_path}/a tree'" in found["text"]


def test_a_native_module_of_another_python_is_named(tmp_path: Path, bare_package: Path) -> None:
    (bare_package / "_native.cpython-39-x86_64-linux-gnu.so").write_bytes(b"")
    found = failure(tmp_path)
    assert "built for another Python (_native.cpython-39-x86_64-linux-gnu.so)" in found["text"]
    assert importlib.machinery.EXTENSION_SUFFIXES[0] in found["text"]


def test_a_damaged_native_module_is_reported_with_the_loader_s_own_words(
    tmp_path: Path, bare_package: Path
) -> None:
    (bare_package / f"_native{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"junk")
    found = failure(tmp_path)
    assert "does not fit or is damaged (ImportError: " in found["text"]
    assert "file too short" in found["text"] or "not a mach-o file" in found["text"]


def test_a_native_module_older_than_the_package_is_reported_as_unfit(
    tmp_path: Path, bare_package: Path
) -> None:
    (bare_package / "_native.py").write_text("__version__ = '0.0.1'\n")
    found = failure(tmp_path)
    assert re.search(r"does not fit or is damaged \((Import|Attribute)Error: ", found["text"])


@pytest.mark.parametrize(
    ("pretence", "reason"),
    [
        ("sys.implementation.name = 'pypy'", "it runs on CPython only, and this is pypy"),
        ("sys.platform = 'win32'", "it runs on Linux and macOS only, and this is win32"),
        ("sys.version_info = (3, 10, 4)", "it needs Python 3.11 or newer, and this is 3.10"),
    ],
)
def test_an_unsupported_interpreter_is_named_rather_than_the_build(
    tmp_path: Path, bare_package: Path, pretence: str, reason: str
) -> None:
    found = failure(tmp_path, pretence)
    assert reason in found["text"]
    assert "force-reinstall" not in found["text"]
    assert found["cause"] == "ModuleNotFoundError"


@pytest.mark.parametrize("loaded", [False, True], ids=["first", "after the main one"])
@pytest.mark.parametrize("isolated", [False, True], ids=["shared GIL", "own GIL"])
def test_a_subinterpreter_gets_a_clear_import_error(isolated: bool, loaded: bool) -> None:
    if isolated and sys.version_info < (3, 12):
        pytest.skip("an interpreter has a GIL of its own from 3.12 on")
    program = """
try:
    import data_bridge.pyloop
except ImportError as error:
    print(error, "|", type(error.__cause__).__name__, flush=True)
else:
    print("imported", flush=True)
"""
    # Not waiting for the interpreters' end: 3.12.1 aborts there once a subinterpreter imported asyncio.
    child = python(
        f"""
        import os, sys
        if {loaded}:
            import data_bridge.pyloop
        if sys.version_info >= (3, 13):
            import _interpreters as interpreters
            made = interpreters.create("isolated" if {isolated} else "legacy")
            interpreters.exec(made, {program!r})
        else:
            import _xxsubinterpreters as interpreters
            made = interpreters.create(isolated={isolated})
            interpreters.run_string(made, {program!r})
        os._exit(0)
        """
    )
    assert child.stderr == ""
    assert child.stdout.startswith(f"{HEADLINE}: it does not load in a subinterpreter (")
    assert "| ImportError" in child.stdout
