"""Owns the command line: ``python -m data_bridge.pyloop`` runs a program as python would, on PyLoop.

It installs PyLoop and then does what the interpreter's own start-up does for a script, a directory or
zip file, ``-m``, ``-c`` and ``-``: the same sys.argv, sys.path[0] and ``__main__`` module, the same
tracebacks and exit status. tests/pyloop/test_main_runner.py holds it to that beside python itself.

Ground rule: the program gets the interpreter's real ``__main__`` module, emptied. So none of the code
below may run with that module's globals: started as ``__main__``, this file only imports itself
under its own name.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from types import CodeType, TracebackType
from typing import Any, NoReturn

USAGE = """\
usage: python -m data_bridge.pyloop [-c command | -m module | file | -] [arg] ...
"""

HELP = f"""\
{USAGE}
Run a Python program with PyLoop installed: asyncio.run(), asyncio.Runner and
asyncio.new_event_loop() use it. Without a program: the asyncio REPL on PyLoop.

  file            a script, or a directory or zip file with a __main__.py
  -               the program is read from standard input
  -c command      the program is given as text
  -m module       a library module, found as by python -m
  arg ...         sys.argv[1:] of the program
  -h, --help      this text
  -V, --version   the versions of PyLoop and Python

Options of Python itself come first: python -X dev -m data_bridge.pyloop app.py
"""


def main(arguments: Sequence[str]) -> None:
    """Run the program that *arguments* (sys.argv[1:]) name; returns when it has ended by itself.

    Raises SystemExit for a wrong command line and what the program raises. Changes the process for good:
    sys.argv, sys.path, the event loop policy and the contents of ``__main__`` become the program's.
    """
    first, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if first in ("-h", "--help"):
        print(HELP, end="")
    elif first in ("-V", "--version"):
        _print_version()
    elif not arguments or (first == "-" and sys.stdin is not None and sys.stdin.isatty()):
        _install()
        _run_module("asyncio", [])
    elif first == "-":
        _install()
        _run_stdin(rest)
    elif first.startswith(("-c", "-m")):
        if len(first) > 2:
            rest.insert(0, first[2:])
        if not rest:
            _refuse(f"Argument expected for the {first} option")
        _install()
        run = _run_command if first.startswith("-c") else _run_module
        run(rest[0], rest[1:])
    elif first.startswith("-"):
        _refuse(f"unknown option {first}")
    else:
        _install()
        _run_path(first, rest)


def _install() -> None:
    from . import install

    install()


def _print_version() -> None:
    import platform

    from . import __version__

    print(f"PyLoop {__version__} ({platform.python_implementation()} {platform.python_version()})")


def _refuse(complaint: str) -> NoReturn:
    sys.stderr.write(f"{complaint}\n{USAGE}Try `python -m data_bridge.pyloop --help' for more.\n")
    sys.exit(2)


# ---- the kinds of program -----------------------------------------------------------------------------


def _run_command(command: str, arguments: Sequence[str]) -> None:
    sys.audit("cpython.run_command", command)
    sys.argv = ["-c", *arguments]
    _set_first_path("")
    if sys.version_info >= (3, 14):
        import textwrap

        command = textwrap.dedent(command)
    _empty_main()
    _call(_run_text, command)


def _run_text(command: str) -> None:
    code = compile(command, "<string>", "exec", dont_inherit=True)
    _register_lines(code, command)
    _execute(code)


def _run_stdin(arguments: Sequence[str]) -> None:
    sys.audit("cpython.run_stdin")
    sys.argv = ["-", *arguments]
    _set_first_path("")
    source = b"" if sys.stdin is None else sys.stdin.buffer.read()
    _run_file("<stdin>", None, _compile_and_execute, source, "<stdin>")


def _run_module(name: str, arguments: Sequence[str]) -> None:
    # sys.path[0] is right already: python -m put the working directory there for us.
    sys.audit("cpython.run_module", name)
    sys.argv = ["-m", *arguments]
    _empty_main()
    _call(_module_runner(), name)


def _run_path(path: str, arguments: Sequence[str]) -> None:
    import pkgutil

    sys.argv = [path, *arguments]
    # As python does: made absolute, but not tidied.
    absolute = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(absolute) is not None:
        sys.audit("cpython.run_module", "__main__")
        _set_first_path(absolute, even_if_safe=True)
        _empty_main()
        _call(_module_runner(), "__main__", False)
        return
    sys.audit("cpython.run_file", absolute)
    try:
        with open(absolute, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: can't open file {absolute!r}: {reason}\n")
        sys.exit(2)
    _set_first_path(os.path.dirname(os.path.realpath(absolute)))
    if _is_compiled(absolute, content):
        from importlib.machinery import SourcelessFileLoader

        compiled = SourcelessFileLoader("__main__", absolute)
        _run_file(absolute, compiled, _load_and_execute, compiled)
    else:
        from importlib.machinery import SourceFileLoader

        loader = SourceFileLoader("__main__", absolute)
        _run_file(absolute, loader, _compile_and_execute, content, absolute)


def _run_file(
    filename: str, loader: object, run: Callable[..., object], *arguments: object
) -> None:
    """Call *run* while ``__main__`` carries *filename*, which it loses at the end, as under python."""
    namespace = _empty_main()
    namespace["__file__"] = filename
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    if loader is not None:
        namespace["__loader__"] = loader
    try:
        _call(run, *arguments)
    finally:
        namespace.pop("__file__", None)
        namespace.pop("__cached__", None)


def _compile_and_execute(source: bytes, filename: str) -> None:
    _execute(compile(source, filename, "exec", dont_inherit=True))


def _load_and_execute(loader: Any) -> None:
    try:
        code = loader.get_code("__main__")
    except ImportError:
        raise RuntimeError("Bad magic number in .pyc file") from None
    _execute(code)


def _module_runner() -> Callable[..., object]:
    # What python -m itself calls. The public run_module() makes a __main__ that is gone at exit.
    return runpy._run_module_as_main  # type: ignore[attr-defined,no-any-return]


def _is_compiled(path: str, content: bytes) -> bool:
    from importlib.util import MAGIC_NUMBER

    return path.endswith(".pyc") or content.startswith(MAGIC_NUMBER)


# ---- the interpreter's state --------------------------------------------------------------------------


def _set_first_path(entry: str, *, even_if_safe: bool = False) -> None:
    """Make *entry* sys.path[0], in place of the working directory that python -m put there for us."""
    if not sys.flags.safe_path:
        sys.path[:1] = [entry]
    elif even_if_safe:
        sys.path.insert(0, entry)


def _empty_main() -> dict[str, Any]:
    """Leave in ``__main__`` what a fresh interpreter has there."""
    from importlib.machinery import BuiltinImporter

    namespace = vars(sys.modules["__main__"])
    fresh: dict[str, Any] = {
        "__name__": "__main__",
        "__doc__": None,
        "__package__": None,
        "__loader__": BuiltinImporter,
        "__spec__": None,
        "__builtins__": sys.modules["builtins"],
    }
    if "__annotations__" in namespace:  # until 3.13
        fresh["__annotations__"] = {}
    namespace.clear()
    namespace.update(fresh)
    return namespace


def _register_lines(code: CodeType, source: str) -> None:
    """Let tracebacks show the lines of ``-c``, where python's own do (from 3.13 on)."""
    if sys.version_info >= (3, 13):
        import linecache

        register = getattr(linecache, "_register_code", None)
        if register is not None:
            by_code = hasattr(linecache, "_interactive_cache")
            register(code if by_code else "<string>", source, "<string>")


# ---- running it ---------------------------------------------------------------------------------------


def _execute(code: CodeType) -> None:
    exec(code, vars(sys.modules["__main__"]))


def _call(run: Callable[..., object], *arguments: object) -> None:
    """Call *run*; should it raise, the traceback that gets printed begins where python's own would.

    The exception passes on through the interpreter, which alone can exit as python does after an unhandled
    KeyboardInterrupt, under -i, and with a sys.excepthook of the program's.
    """
    try:
        run(*arguments)
    except BaseException as error:
        _hide_own_frames(error)
        raise


def _hide_own_frames(error: BaseException) -> None:
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename == __file__:
        shown = shown.tb_next
    hook = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> Any:
        sys.excepthook = hook
        if value is error:
            sys.last_traceback = trace = shown
            error.__traceback__ = shown
        return hook(kind, value, trace)

    sys.excepthook = show


if __name__ == "__main__":
    from data_bridge.pyloop.__main__ import main as run_program

    run_program(sys.argv[1:])
