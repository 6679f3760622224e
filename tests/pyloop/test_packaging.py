"""The distribution: what is installed, the shared namespace, and the words of an import that fails."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import data_bridge
from data_bridge import pyloop
from data_bridge.pyloop import _native

_TREE = Path(__file__).resolve().parents[2]
_PACKAGE = Path(pyloop.__file__).parent
_HEADLINE = "ImportError: Failed to import PyLoop from data_bridge native module"

_distribution = importlib.metadata.distribution("data-bridge-pyloop")


def _is_editable() -> bool:
    origin = json.loads(_distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable", False))


def _run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run *code* in a fresh interpreter that looks at *path* before the installed packages."""
    variables = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    variables["PYTHONPATH"] = os.pathsep.join(map(str, path))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        timeout=30,
    )


def _copy_without_native(folder: Path) -> Path:
    """A copy of the package, less its native module, where `PYTHONPATH=folder` finds it first."""
    copy = folder / "data_bridge" / "pyloop"
    shutil.copytree(_PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return copy


# ---- what is installed --------------------------------------------------------------------------


def test_the_version_is_the_same_in_every_place_that_names_one() -> None:
    manifest = tomllib.loads((_TREE / "Cargo.toml").read_text())
    declared = manifest["workspace"]["package"]["version"]
    assert pyloop.__version__ == declared
    assert _native.__version__ == declared
    assert _distribution.version == declared


def test_the_metadata_name_the_licence_the_pythons_and_no_dependency() -> None:
    metadata = _distribution.metadata
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert not _distribution.requires


@pytest.mark.skipif(_is_editable(), reason="an editable installation holds a path, not the files")
def test_the_wheel_brings_the_types_and_the_licence_and_leaves_the_namespace_to_all() -> None:
    files = {str(file) for file in _distribution.files or ()}
    assert {"data_bridge/pyloop/py.typed", "data_bridge/pyloop/_native.pyi"} <= files
    assert "data_bridge/__init__.py" not in files
    assert any(file.endswith("licenses/LICENSE") for file in files)
    shipped = {file.partition("/")[0] for file in files if ".dist-info" not in file}
    assert shipped == {"data_bridge"}
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    assert f"data_bridge/pyloop/_native{suffix}" in files


def test_the_wheel_is_tagged_for_this_python_and_platform() -> None:
    wheel = _distribution.read_text("WHEEL") or ""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert "Root-Is-Purelib: false" in wheel
    assert re.search(rf"^Tag: {version}-{version}-(linux|manylinux|macosx)", wheel, re.MULTILINE)


# ---- the namespace ------------------------------------------------------------------------------


def test_data_bridge_is_a_namespace_package() -> None:
    assert getattr(data_bridge, "__file__", None) is None
    assert not isinstance(data_bridge.__path__, list)  # a namespace's path is computed, not fixed
    assert not list(_PACKAGE.parent.glob("__init__.*"))


def test_another_distribution_shares_the_namespace(tmp_path: Path) -> None:
    neighbour = tmp_path / "data_bridge" / "neighbour"
    neighbour.mkdir(parents=True)
    (neighbour / "__init__.py").write_text("NAME = 'next door'\n")
    outcome = _run(
        "from data_bridge import neighbour, pyloop\n"
        "async def main(): return neighbour.NAME\n"
        "print(pyloop.run(main()))\n",
        tmp_path,
    )
    assert (outcome.stdout, outcome.stderr) == ("next door\n", "")


# ---- an import that fails -----------------------------------------------------------------------


def _last_error(outcome: subprocess.CompletedProcess[str]) -> str:
    assert outcome.returncode == 1, outcome.stderr
    position = outcome.stderr.rfind(_HEADLINE)
    assert position >= 0, outcome.stderr
    return outcome.stderr[position:]


def test_a_package_without_its_native_module_names_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    _copy_without_native(tmp_path)
    error = _last_error(_run("import data_bridge.pyloop", tmp_path))
    assert error.startswith(_HEADLINE)
    assert f"{sys.executable} -m pip install" in error
    assert "data-bridge-pyloop" in error


def test_a_source_tree_that_was_never_built_names_the_editable_installation(
    tmp_path: Path,
) -> None:
    (tmp_path / "crates" / "data-bridge-pyloop").mkdir(parents=True)
    _copy_without_native(tmp_path / "python")
    error = _last_error(_run("import data_bridge.pyloop", tmp_path / "python"))
    assert f"pip install -e {tmp_path}" in error


def test_a_native_module_for_another_python_is_named(tmp_path: Path) -> None:
    copy = _copy_without_native(tmp_path)
    (copy / "_native.cpython-39-x86_64-linux-gnu.so").write_bytes(b"another Python's")
    error = _last_error(_run("from data_bridge.pyloop import PyLoop", tmp_path))
    assert "_native.cpython-39-x86_64-linux-gnu.so" in error
    assert "pip install" in error


def test_a_damaged_native_module_is_named(tmp_path: Path) -> None:
    copy = _copy_without_native(tmp_path)
    (copy / f"_native{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    error = _last_error(_run("import data_bridge.pyloop", tmp_path))
    assert "pip install" in error


def test_the_failed_import_can_be_caught_as_import_error_and_names_its_module(
    tmp_path: Path,
) -> None:
    _copy_without_native(tmp_path)
    outcome = _run(
        "try:\n"
        "    import data_bridge.pyloop\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error.name, error.__cause__ is not None)\n",
        tmp_path,
    )
    assert outcome.stdout == "ImportError data_bridge.pyloop._native True\n", outcome.stderr


# ---- the source distribution --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(
    importlib.util.find_spec("maturin") is None or shutil.which("cargo") is None,
    reason="needs maturin and cargo",
)
def test_the_source_distribution_holds_all_that_a_build_needs(tmp_path: Path) -> None:
    """Slow: maturin asks cargo for the crate's files."""
    subprocess.run(
        [sys.executable, "-m", "maturin", "sdist", "--out", str(tmp_path)],
        cwd=_TREE,
        check=True,
        capture_output=True,
        timeout=170,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "crates/data-bridge-pyloop/Cargo.toml",
        "python/data_bridge/pyloop/_native.pyi",
        "python/data_bridge/pyloop/py.typed",
    } <= names
    for folder, pattern in (("crates/data-bridge-pyloop/src", "*.rs"), ("python", "*.py")):
        for file in (_TREE / folder).rglob(pattern):
            assert str(file.relative_to(_TREE)) in names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
