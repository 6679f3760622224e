"""The pages against the code: names, links, tests, blocks of code and the table of ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType

import pytest

from data_bridge.pyloop import PyLoop, __version__, _native

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/differences.md"]
RUN = ["README.md", "docs/differences.md"]
CRATE = "crates/data-bridge-pyloop/src/"
PACKAGE = "python/data_bridge/pyloop/"


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _blocks() -> Iterator[object]:
    for page in RUN:
        for match in re.finditer(r"^```python\n(.*?)^```$", _read(page), re.MULTILINE | re.DOTALL):
            line = _read(page)[: match.start()].count("\n") + 1
            yield pytest.param(match[1], id=f"{page}:{line}")


def _section(page: str, title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", _read(page), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page} has no section {title!r}"
    return found[1]


# ---- code in the pages --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", list(_blocks()))
def test_a_block_of_python_runs_without_a_warning(source: str) -> None:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", source]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_first_program_of_the_readme_has_about_ten_lines_and_prints_what_it_says() -> None:
    first = re.search(r"^```python\n(.*?)^```$", _read("README.md"), re.MULTILINE | re.DOTALL)
    assert first and len([line for line in first[1].splitlines() if line.strip()]) <= 10
    ended = subprocess.run(
        [sys.executable, "-c", first[1]], capture_output=True, text=True, timeout=30
    )
    assert ended.stdout == "['hello, Ada, from PyLoop', 'hello, Grace, from PyLoop']\n"


def test_the_commands_of_make_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", _read("Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        for command in re.findall(r"^    make ([a-z]+)|`make ([a-z]+)`", _read(page), re.MULTILINE):
            assert "".join(command) in targets


# ---- links and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", _read(page)):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_machine_or_an_absolute_path(page: str) -> None:
    assert not re.search(r"/(?:home|root|Users|work|tmp)/", _read(page))


@cache
def _tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        found[file.name] = {f.name for f in functions if f.name.startswith("test_")}
    return found


def test_every_test_that_the_differences_name_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", _read("docs/differences.md"))
    assert len(named) > 50
    missing = [f"{file}::{name}" for file, name in named if name not in _tests().get(file, ())]
    assert missing == []


def test_every_difference_names_a_test() -> None:
    text = re.sub(r"^```.*?^```$", "", _read("docs/differences.md"), flags=re.MULTILINE | re.DOTALL)
    heads = [match.start() for match in re.finditer(r"^(?:- )?\*\*", text, re.MULTILINE)]
    assert len(heads) > 30
    for begin, end in zip(heads, [*heads[1:], len(text)], strict=True):
        assert ".py::test_" in text[begin:end], f"no test pins: {text[begin:end][:80]}"


def test_every_test_of_differences_is_named_on_the_page() -> None:
    page = _read("docs/differences.md")
    assert [name for name in _tests()["test_differences.py"] if name not in page] == []


def test_the_changelog_knows_the_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)} - ", _read("CHANGELOG.md"), re.MULTILINE)


def test_the_figures_have_one_place_in_the_readme() -> None:
    text = _section("README.md", "Figures")
    begin, end = "<!-- figures:begin -->", "<!-- figures:end -->"
    assert _read("README.md").count(begin) == _read("README.md").count(end) == 1
    assert text.index(begin) < text.index(end)
    outside = text[: text.index(begin)] + text[text.index(end) :]
    assert not re.search(r"\d", outside), "figures stand between the marks, where they are written"


# ---- the rooms ----------------------------------------------------------------------------------------


def test_every_room_has_its_paragraph() -> None:
    crate = _section("ARCHITECTURE.md", "The rooms of the crate")
    rooms = {str(file.relative_to(ROOT / CRATE)) for file in (ROOT / CRATE).rglob("*.rs")}
    assert len(rooms) > 15 and [room for room in rooms if f"`{room}`" not in crate] == []
    package = _section("ARCHITECTURE.md", "The rooms of the package")
    files = {file.name for file in (ROOT / PACKAGE).glob("*.py*") if file.suffix in (".py", ".pyi")}
    assert len(files) > 5 and [name for name in files if f"`{name}`" not in package] == []


def test_every_file_that_the_architecture_names_exists() -> None:
    named = set(
        re.findall(r"`([\w/.-]+\.(?:rs|pyi?)|[\w.-]+(?:/[\w.-]+)*/)`", _read("ARCHITECTURE.md"))
    )
    assert len(named) > 25
    roots = (ROOT, ROOT / CRATE, ROOT / PACKAGE)
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []


# ---- the table ----------------------------------------------------------------------------------------


def _rows() -> dict[str, str]:
    """Name to kind, for this Python."""
    rows: dict[str, str] = {}
    table = _section("ARCHITECTURE.md", "The table: native, override or inherited")
    for names, kind, why in re.findall(r"^\| (`.*?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE):
        assert why.strip()
        if kind.endswith(" (Linux)"):
            kind = kind.removesuffix(" (Linux)")
            if sys.platform != "linux":
                if kind == "native":
                    continue
                kind = "inherited"
        until = re.fullmatch(r"override \(to 3\.(\d+)\)", kind)
        if until:
            kind = "override" if sys.version_info < (3, int(until[1]) + 1) else "inherited"
        for name in re.findall(r"`(\w+)`", names):
            assert name not in rows, f"{name} stands in the table twice"
            rows[name] = kind
    return rows


def _kind(name: str) -> str:
    """What *name* of PyLoop is in truth."""
    owner = next(cls for cls in PyLoop.__mro__ if name in vars(cls))
    value = vars(owner)[name]
    if owner is PyLoop and isinstance(value, MemberDescriptorType):
        return "slot"
    if owner is PyLoop and isinstance(value, FunctionType | property):
        return "override"
    if owner is _native.LoopCore or (owner is PyLoop and isinstance(value, MethodDescriptorType)):
        return "native"
    assert not isinstance(value, GetSetDescriptorType)
    return "inherited"


def test_the_table_of_the_loop_is_true() -> None:
    rows = _rows()
    assert [name for name in rows if not hasattr(PyLoop, name)] == []
    wrong = {name: (kind, _kind(name)) for name, kind in rows.items() if kind != _kind(name)}
    assert wrong == {}, "in the table, and in truth"


def test_the_table_of_the_loop_is_complete() -> None:
    public = {name for name in dir(PyLoop) if not name.startswith("_")}
    own = {
        name
        for cls in (PyLoop, _native.LoopCore)
        for name in vars(cls)
        if not name.startswith("__") or name in ("__init__", "__setattr__", "__delattr__")
    }
    assert sorted((public | own) - set(_rows())) == []


def test_nothing_that_happens_once_per_message_is_inherited() -> None:
    made = {"socket", "datagram", "read_pipe", "write_pipe"}
    hooks = {f"_make_{kind}_transport" for kind in made} | {"_start_serving"}
    calls = {name for name in dir(PyLoop) if name.startswith("sock_")} - {"sock_sendfile"}
    assert len(calls) == 8
    assert {name for name in hooks | calls if _kind(name) == "inherited"} == set()
    native = {"SocketTransport", "DatagramTransport", "ReadPipeTransport", "WritePipeTransport"}
    for name in native:
        cls = getattr(_native, name)
        work = {"write", "sendto", "_read_ready", "_write_ready", "pause_reading", "close"}
        mine = {name for name in work if isinstance(vars(cls).get(name), MethodDescriptorType)}
        assert mine >= {"_read_ready", "_write_ready", "close"} and mine & {
            "write",
            "sendto",
            "pause_reading",
        }
