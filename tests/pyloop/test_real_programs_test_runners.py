"""pytest-asyncio, anyio's pytest plugin and unittest, told by their own means to test on PyLoop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apps.documented import documented_code

pytestmark = pytest.mark.slow  # each test runs a test runner in a child process

_CHECK = """
import asyncio
from data_bridge.pyloop import PyLoop

def check():
    assert type(asyncio.get_running_loop()) is PyLoop
"""


def _run_pytest(folder: Path, *words: str) -> str:
    (folder / "check.py").write_text(_CHECK)
    settings = "pythonpath = .\nfilterwarnings = error\n"
    if "pytest_asyncio.plugin" in words:
        settings += "asyncio_default_fixture_loop_scope = function\n"
    (folder / "pytest.ini").write_text(f"[pytest]\n{settings}")
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_pytest_asyncio_runs_tests_and_fixtures_on_pyloop(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(documented_code("pytest-asyncio", "python"))
    (tmp_path / "test_it.py").write_text(
        "import asyncio, pytest, pytest_asyncio\n"
        "from check import check\n"
        "@pytest_asyncio.fixture\n"
        "async def server():\n"
        "    check()\n"
        "    server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)\n"
        "    yield server\n"
        "    check()\n"
        "    server.close()\n"
        "    await server.wait_closed()\n"
        "@pytest.mark.asyncio\n"
        "async def test_one(server):\n"
        "    check()\n"
        "    port = server.sockets[0].getsockname()[1]\n"
        "    reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
        "    assert await reader.read() == b''\n"
        "    writer.close()\n"
        "    await writer.wait_closed()\n"
        "@pytest.mark.asyncio(loop_scope='module')\n"
        "class TestShared:\n"
        "    loop = None\n"
        "    async def test_first(self):\n"
        "        check()\n"
        "        TestShared.loop = asyncio.get_running_loop()\n"
        "    async def test_second(self):\n"
        "        assert TestShared.loop is asyncio.get_running_loop()\n"
    )
    assert "3 passed" in _run_pytest(tmp_path, "-p", "pytest_asyncio.plugin")


def test_anyios_plugin_runs_tests_and_fixtures_on_pyloop(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(documented_code("anyio's pytest plugin", "python"))
    (tmp_path / "test_it.py").write_text(
        "import anyio, pytest\n"
        "from check import check\n"
        "pytestmark = pytest.mark.anyio\n"
        "@pytest.fixture\n"
        "async def group():\n"
        "    async with anyio.create_task_group() as group:\n"
        "        check()\n"
        "        yield group\n"
        "        group.cancel_scope.cancel()\n"
        "async def test_one(group):\n"
        "    check()\n"
        "    group.start_soon(anyio.sleep_forever)\n"
        "    await anyio.sleep(0)\n"
        "async def test_two():\n"
        "    with anyio.move_on_after(0.01) as scope:\n"
        "        await anyio.sleep_forever()\n"
        "    assert scope.cancelled_caught\n"
    )
    assert "2 passed" in _run_pytest(tmp_path, "-p", "anyio.pytest_plugin")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="unittest takes a loop factory from 3.13 on")
def test_unittest_takes_the_class_as_its_loop_factory(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(documented_code("unittest", "python"))
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "test_it"],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Ran 1 test" in outcome.stderr


def test_unittest_follows_an_installed_pyloop(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import asyncio, unittest\n"
        "from data_bridge import pyloop\n"
        "setUpModule = pyloop.install\n"
        "tearDownModule = pyloop.uninstall\n"
        "class Test(unittest.IsolatedAsyncioTestCase):\n"
        "    async def asyncSetUp(self):\n"
        "        self.queue = asyncio.Queue()\n"
        "    async def test_it(self):\n"
        "        self.queue.put_nowait(1)\n"
        "        self.assertEqual(await self.queue.get(), 1)\n"
        "        self.assertIsInstance(asyncio.get_running_loop(), pyloop.PyLoop)\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "test_it"],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=tmp_path,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Ran 1 test" in outcome.stderr
