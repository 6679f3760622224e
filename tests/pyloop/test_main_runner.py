"""python -m data_bridge.pyloop runs a program as python does, on PyLoop.

Nearly every test runs its program twice, by python itself and by the runner, and compares what came out:
output, errors (tracebacks included) and exit status.
"""

from __future__ import annotations

import compileall
import os
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

RUNNER = ("-m", "data_bridge.pyloop")

# What a program can see of how it was started.
SHOW = """\
'''A program that shows how it was started.'''
import __main__, json, sys
shown = {name: repr(value) for name, value in sorted(globals().items())}
shown.update(
    argv=sys.argv,
    path=sys.path,
    main_is_here=__main__.__dict__ is globals(),
    code=sys._getframe().f_code.co_filename,
    flags=sys._getframe().f_code.co_flags,
)
print(json.dumps(shown, indent=1))
"""
FAIL = "def fail():\n    1 / 0\n\nfail()\n"


@dataclass
class Ending:
    status: int
    output: str
    errors: str


def start(
    *arguments: str,
    cwd: Path,
    options: Sequence[str] = (),
    stdin: str = "",
    environment: dict[str, str] | None = None,
) -> Ending:
    """Run python with *arguments*; object addresses are made equal."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    variables["PYTHONDONTWRITEBYTECODE"] = "1"
    variables.update(environment or {})
    child = subprocess.run(
        [sys.executable, *options, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        env=variables,
        timeout=60,
    )
    output, errors = (re.sub(r"0x[0-9a-f]+", "0x", text) for text in (child.stdout, child.stderr))
    return Ending(child.returncode, output, errors)


def same_as_python(
    *arguments: str,
    cwd: Path,
    options: Sequence[str] = (),
    stdin: str = "",
    environment: dict[str, str] | None = None,
) -> Ending:
    """Run *arguments* by python and by the runner; the ending that both had."""
    python = start(*arguments, cwd=cwd, options=options, stdin=stdin, environment=environment)
    ours = start(
        *RUNNER, *arguments, cwd=cwd, options=options, stdin=stdin, environment=environment
    )
    assert ours == python
    return ours


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with the programs to run."""
    package = tmp_path / "package"
    package.mkdir()
    for name in ("show.py", "package/module.py", "package/__main__.py"):
        (tmp_path / name).write_text(SHOW)
    (package / "__init__.py").write_text("")
    for name in ("fail.py", "package/failing.py"):
        (tmp_path / name).write_text(FAIL)
    for name in ("broken.py", "package/broken.py"):
        (tmp_path / name).write_text("x = = 1\n")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "show.py").symlink_to("../show.py")
    (tmp_path / "second.py").symlink_to("links/show.py")
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    (tmp_path / "nothing").mkdir()
    return tmp_path


# ---- how the program sees itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "show.py",
        "./show.py",
        "package/../show.py",
        "links/show.py",
        "second.py",
        "package",
        "./package/",
        "app.zip",
        "-m package",
        "-m package.module",
        "-mpackage.module",
        "-",
    ],
)
def test_a_program_sees_itself_as_python_would_show_it(here: Path, program: str) -> None:
    ending = same_as_python(*program.split(), "-x", "--long", "word", cwd=here, stdin=SHOW)
    assert ending.status == 0
    assert '"word"' in ending.output


@pytest.mark.parametrize("program", ["show.py", "package", "-m package.module", "-"])
def test_a_program_in_safe_path_mode_gets_no_directory_it_did_not_ask_for(
    here: Path, program: str
) -> None:
    environment = {"PYTHONPATH": str(here)}
    ending = same_as_python(
        *program.split(), cwd=here, options=["-P"], stdin=SHOW, environment=environment
    )
    assert ending.status == 0


def test_a_command_sees_itself_as_python_would_show_it(here: Path) -> None:
    same_as_python("-c", SHOW, "-x", "word", cwd=here)
    same_as_python("-c" + SHOW, cwd=here)


def test_a_compiled_program_runs(here: Path) -> None:
    compileall.compile_file(here / "show.py", legacy=True, quiet=2)
    assert same_as_python("show.pyc", cwd=here).status == 0
    (here / "old.pyc").write_bytes(b"\x00" * 32)
    assert same_as_python("old.pyc", cwd=here).status == 1


def test_a_program_in_another_encoding_runs(here: Path) -> None:
    (here / "latin.py").write_bytes("# coding: latin-1\nprint(ascii('é'))\n".encode("latin-1"))
    assert same_as_python("latin.py", cwd=here).output == "'\\xe9'\n"


def test_definitions_of_the_program_live_in_main(here: Path) -> None:
    (here / "identity.py").write_text(
        textwrap.dedent(
            """
            from __future__ import annotations
            import dataclasses, inspect, pickle, sys, typing

            @dataclasses.dataclass
            class Point:
                x: int
                kind: typing.ClassVar[str] = "point"

            def area(point: Point) -> int:
                return point.x ** 2

            assert pickle.loads(pickle.dumps(Point(3))) == Point(3)
            assert pickle.loads(pickle.dumps(area)) is area
            print([field.name for field in dataclasses.fields(Point)], typing.get_type_hints(area))
            print(inspect.getsource(area), inspect.getmodule(area).__file__, Point.__module__)
            print(sys.modules["__main__"].__dict__ is globals(), __builtins__)
            """
        )
    )
    assert same_as_python("identity.py", cwd=here).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("program", ["spawning.py", "-m spawning"])
def test_children_of_multiprocessing_find_the_program(here: Path, program: str) -> None:
    """Slow: a pool of processes starts twice."""
    (here / "spawning.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, sys

            def work(number):
                return number * number, __name__, sys.argv[1:], os.path.basename(__file__)

            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(work, [7]))
            """
        )
    )
    ending = same_as_python(*program.split(), "word", cwd=here)
    assert ending.output == "[(49, '__mp_main__', ['word'], 'spawning.py')]\n"
    assert ending.errors == ""


def test_main_at_exit_is_what_python_leaves_of_it(here: Path) -> None:
    (here / "leaving.py").write_text(
        "import atexit, __main__\natexit.register(lambda: print(sorted(vars(__main__))))\n"
    )
    same_as_python("leaving.py", cwd=here)


# ---- it runs on PyLoop --------------------------------------------------------------------------------

ASKS = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__name__)
asyncio.run(main())
with asyncio.Runner() as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("program", ["asks.py", "-m asks", "-", "-c", "asking"])
def test_every_kind_of_program_runs_on_pyloop(here: Path, program: str) -> None:
    (here / "asks.py").write_text(ASKS)
    (here / "asking").mkdir()
    (here / "asking" / "__main__.py").write_text(ASKS)
    words = ["-c", ASKS] if program == "-c" else program.split()
    ending = start(*RUNNER, *words, cwd=here, options=["-W", "error"], stdin=ASKS)
    assert ending == Ending(0, "PyLoop\nPyLoop\n", "")


# ---- how it ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    ["fail.py", "broken.py", "-m package.failing", "-m package.broken", "-", "nothing"],
)
def test_a_traceback_is_the_one_python_prints(here: Path, program: str) -> None:
    ending = same_as_python(*program.split(), cwd=here, stdin=FAIL)
    assert ending.status == 1
    assert "data_bridge" not in ending.errors


@pytest.mark.parametrize("command", [FAIL, "x = = 1", "  print(1)"])
def test_a_traceback_of_a_command_is_the_one_python_prints(here: Path, command: str) -> None:
    same_as_python("-c", command, cwd=here)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('farewell')", 1),
        ("raise ExceptionGroup('several', [ValueError(1), KeyError(2)])", 1),
        ("try:\n    1 / 0\nexcept ArithmeticError as e:\n    raise ValueError('x') from e", 1),
        ("import asyncio\nasync def main():\n    raise ValueError\nasyncio.run(main())", 1),
        (
            "import sys\nsys.excepthook = lambda *a: print(a[0], a[2].tb_lineno)\nraise ValueError",
            1,
        ),
        ("import os; os._exit(9)", 9),
        ("import threading\nthreading.Thread(target=lambda: print('late')).start()", 0),
        ("import warnings; warnings.warn('old', DeprecationWarning)", 0),
        ("import no_such_module", 1),
    ],
)
def test_a_program_ends_as_under_python(here: Path, source: str, status: int) -> None:
    (here / "program.py").write_text(source + "\n")
    assert same_as_python("program.py", cwd=here).status == status


@pytest.mark.parametrize(
    "source",
    [
        "raise KeyboardInterrupt",
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(60)",
        """
        import asyncio, signal
        async def main():
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(main())
        """,
    ],
    ids=["raised", "in a script", "in a coroutine"],
)
def test_an_interrupt_ends_the_process_by_the_signal_as_under_python(
    here: Path, source: str
) -> None:
    (here / "program.py").write_text(textwrap.dedent(source))
    assert same_as_python("program.py", cwd=here).status == -signal.SIGINT


def test_an_interrupt_ends_a_program_on_pyloop_by_the_signal(here: Path) -> None:
    (here / "program.py").write_text(
        textwrap.dedent(
            """
            import asyncio, signal
            async def main():
                print(type(asyncio.get_running_loop()).__name__, flush=True)
                signal.raise_signal(signal.SIGINT)
                await asyncio.sleep(60)
            asyncio.run(main())
            """
        )
    )
    ending = start(*RUNNER, "program.py", cwd=here)
    assert (ending.status, ending.output) == (-signal.SIGINT, "PyLoop\n")
    assert "pyloop/__main__.py" not in ending.errors


@pytest.mark.slow
def test_a_program_can_be_inspected_after_it_failed(here: Path) -> None:
    """Slow: two programs, each run twice to its prompt."""
    asks = "import sys; print(sys.last_value, sys.last_traceback.tb_frame.f_code.co_filename)\n"
    for source in (FAIL, "raise SystemExit(5)"):
        (here / "program.py").write_text(source)
        same_as_python("program.py", cwd=here, options=["-i"], stdin=asks + "print(__name__)\n")


# ---- the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["absent.py", "-m absent", "-m package.absent", "-m nothing"])
def test_a_program_that_is_not_there_is_refused_in_python_s_words(here: Path, program: str) -> None:
    assert same_as_python(*program.split(), cwd=here).status in (1, 2)


@pytest.mark.parametrize("wrong", ["-m", "-c", "--no-such-option", "-x"])
def test_a_wrong_command_line_is_refused_with_the_usage(here: Path, wrong: str) -> None:
    ending = start(*RUNNER, wrong, cwd=here)
    assert (ending.status, ending.output) == (2, "")
    assert "usage: python -m data_bridge.pyloop" in ending.errors


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_way_to_give_a_program(here: Path, option: str) -> None:
    ending = start(*RUNNER, option, cwd=here)
    assert (ending.status, ending.errors) == (0, "")
    for word in ("-c command", "-m module", "file", "REPL", "--version"):
        assert word in ending.output


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_names_pyloop_s_and_python_s(here: Path, option: str) -> None:
    from platform import python_version

    from data_bridge.pyloop import __version__

    ending = start(*RUNNER, option, cwd=here)
    assert ending == Ending(0, f"PyLoop {__version__} (CPython {python_version()})\n", "")


def test_importing_the_runner_runs_nothing() -> None:
    import data_bridge.pyloop.__main__ as runner

    assert callable(runner.main)


# ---- the REPL, without a terminal (test_repl.py has the one with) --------------------------------------


def test_without_a_program_the_asyncio_repl_reads_standard_input(here: Path) -> None:
    lines = "await asyncio.sleep(0, 'awaited')\nx = = 1\nprint(__name__)\n"
    ours = start(*RUNNER, cwd=here, stdin=lines)
    assert ours == start("-m", "asyncio", cwd=here, stdin=lines)
    assert "awaited" in ours.output
    assert "SyntaxError" in ours.errors


def test_an_exception_in_the_repl_is_shown_and_survived(here: Path) -> None:
    ours = start(*RUNNER, cwd=here, stdin="1 / 0\nprint('on it goes')\n")
    assert "ZeroDivisionError" in ours.errors
    assert "on it goes" in ours.output


def test_the_repl_s_loop_is_a_pyloop(here: Path) -> None:
    ending = start(*RUNNER, cwd=here, stdin="type(asyncio.get_running_loop()).__name__\n")
    assert "'PyLoop'" in ending.output


def test_the_repl_runs_the_start_up_file_where_asyncio_s_does(here: Path) -> None:
    (here / "startup.py").write_text("greeting = 'from the start-up file'\n")
    environment = {"PYTHONSTARTUP": str(here / "startup.py")}
    lines = "print(globals().get('greeting'))\n"
    ours = start(*RUNNER, cwd=here, stdin=lines, environment=environment)
    assert ours == start("-m", "asyncio", cwd=here, stdin=lines, environment=environment)
