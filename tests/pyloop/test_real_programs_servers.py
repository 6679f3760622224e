"""hypercorn and gunicorn, whose workers make their loops themselves, by the documented ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from apps.documented import EXAMPLES, documented_code, documented_commands
from apps.served import PYLOOP_CLASS, free_port, serving

pytestmark = pytest.mark.slow  # each test starts servers in child processes

SHOP = "shop.application:app"
_QUIET_GUNICORN = ["--no-control-socket", "--graceful-timeout", "5"]


def test_hypercorns_own_serve_runs_on_a_loop_of_the_callers(tmp_path: Path) -> None:
    port = free_port()
    documented = documented_code("hypercorn", "python")
    assert "serve(app, Config())" in documented
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
        "from shop.application import app\n"
        + documented.replace(
            "Config()", f"Config.from_mapping(bind='127.0.0.1:{port}', use_reloader=False)"
        )
    )
    with serving([str(program)], port) as served:
        assert served.get("/")[1]["loop"] == PYLOOP_CLASS
        assert served.get("/terms")[0] == 200
        assert served.stop() == 0, served.log_text()
        assert "Traceback" not in served.log_text()


def test_hypercorns_command_line_uses_the_installed_pyloop() -> None:
    port = free_port()
    ((python, *words),) = documented_commands("hypercorn")
    assert (python, words[-1]) == ("python", "app:app")
    command = [*words[:-1], "--bind", f"127.0.0.1:{port}", SHOP]
    with serving(command, port, folder=EXAMPLES) as served:
        assert served.get("/")[1]["loop"] == PYLOOP_CLASS
        served.stop()
        assert "Traceback" not in served.log_text()


def test_hypercorns_spawned_workers_follow_an_application_that_installs(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "app.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
        "from data_bridge import pyloop\n"
        "pyloop.install()\n"
        "from shop.application import app\n"
    )
    command = ["-m", "hypercorn", "--workers", "2", "--bind", f"127.0.0.1:{port}", "app:app"]
    with serving(command, port, folder=tmp_path) as served:
        loop = served.get("/")[1]["loop"]
        served.stop()
    assert loop == PYLOOP_CLASS


def test_gunicorns_uvicorn_worker_takes_the_loop_from_a_subclass(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "workers.py").write_text(documented_code("gunicorn", "python"))
    ((gunicorn, app, *words),) = documented_commands("gunicorn")
    assert (gunicorn, app) == ("gunicorn", "app:app")
    command = ["-m", "gunicorn", SHOP, *words, "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    command += ["--pythonpath", f"{tmp_path},{EXAMPLES}", *_QUIET_GUNICORN]
    with serving(command, port, folder=tmp_path) as served:
        for _ in range(10):
            assert served.get("/")[1]["loop"] == PYLOOP_CLASS
        assert served.get("/terms")[0] == 200
        assert served.stop() == 0, served.log_text()
        assert "Traceback" not in served.log_text()


def test_gunicorns_asgi_worker_uses_the_loop_installed_after_the_fork(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "gunicorn.conf.py").write_text(documented_code("gunicorn's asgi worker", "python"))
    command = ["-m", "gunicorn", SHOP, "--bind", f"127.0.0.1:{port}"]
    command += ["--pythonpath", str(EXAMPLES), *_QUIET_GUNICORN]
    with serving(command, port, folder=tmp_path) as served:
        for _ in range(10):
            assert served.get("/")[1]["loop"] == PYLOOP_CLASS
        assert served.stop() == 0, served.log_text()
        assert "Traceback" not in served.log_text()


def test_aiohttps_gunicorn_worker_uses_the_loop_installed_after_the_fork(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "gunicorn.conf.py").write_text(
        documented_code("aiohttp's gunicorn worker", "python")
    )
    (tmp_path / "app.py").write_text(
        "import asyncio\n"
        "from aiohttp import web\n"
        "async def describe(_):\n"
        "    loop = type(asyncio.get_running_loop())\n"
        "    return web.json_response({'loop': f'{loop.__module__}.{loop.__qualname__}'})\n"
        "app = web.Application()\n"
        "app.router.add_get('/', describe)\n"
    )
    command = ["-m", "gunicorn", "app:app", "--bind", f"127.0.0.1:{port}", *_QUIET_GUNICORN]
    with serving(command, port, folder=tmp_path) as served:
        for _ in range(10):
            assert served.get("/") == (200, {"loop": PYLOOP_CLASS})
        assert served.stop() == 0, served.log_text()
        assert "Traceback" not in served.log_text()
