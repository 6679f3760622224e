"""uvicorn with a Starlette application, on the loop that its own options choose."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest
import uvicorn
from apps.documented import EXAMPLES, documented_code, documented_commands
from apps.served import PYLOOP_CLASS, free_port, serving

SHOP = "shop.application:app"
WISH = {"lines": [{"product": 3, "quantity": 12}, {"product": 1, "quantity": 1}]}


def _documented_loop() -> str:
    """The import string of the documented command line."""
    ((command, app, option, loop),) = documented_commands("uvicorn")
    assert (command, app, option) == ("uvicorn", "app:app", "--loop")
    return loop


def test_the_documented_config_makes_uvicorn_build_a_pyloop() -> None:
    assert f'loop="{_documented_loop()}"' in documented_code("uvicorn", "python")
    factory = uvicorn.Config("app:app", loop=_documented_loop()).get_loop_factory()
    assert factory is not None
    loop = factory()
    assert f"{type(loop).__module__}.{type(loop).__qualname__}" == PYLOOP_CLASS
    loop.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_the_documented_command_serves_the_shop_and_ends_on_a_signal(
    number: int, http: str
) -> None:
    """Slow: a server process with its imports."""
    port = free_port()
    command = ["-m", "uvicorn", SHOP, "--app-dir", str(EXAMPLES), "--loop", _documented_loop()]
    command += ["--port", str(port), "--http", http]
    with serving(command, port) as served:
        assert served.get("/") == (
            200,
            {"shop": "Paper & Desk", "products": 8, "loop": PYLOOP_CLASS},
        )
        assert served.get("/products/3")[1]["name"] == "Notebook, ruled"
        assert served.get("/products/99")[0] == 404
        status, quote = served.ask("POST", "/quotes", WISH)
        assert (status, quote["net"], quote["vat"], quote["total"]) == (
            201,
            "74.69",
            "14.19",
            "88.88",
        )
        assert served.ask("POST", "/quotes", {"lines": []})[0] == 422
        assert served.get("/terms")[1] == (EXAMPLES / "shop" / "terms.txt").read_text()
        status = served.stop(number)
        assert status in (0, -number), served.log_text()
        assert "Finished server process" in served.log_text()
        assert "Traceback" not in served.log_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_loop_none_follows_an_installed_pyloop(workers: list[str]) -> None:
    """Slow: server processes. With workers, the children choose by the documented string instead."""
    port = free_port()
    loop = _documented_loop() if workers else "none"
    command = ["-m", "data_bridge.pyloop", "-m", "uvicorn", SHOP, "--app-dir", str(EXAMPLES)]
    command += ["--loop", loop, "--port", str(port), *workers]
    with serving(command, port) as served:
        assert served.get("/")[1]["loop"] == PYLOOP_CLASS
        served.stop()
        assert "Traceback" not in served.log_text()


class _Serving:
    """uvicorn's Server inside a running loop, beside its client."""

    def __init__(self, app: Any) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="websockets-sansio")
        )

    async def __aenter__(self) -> int:
        self._task = asyncio.ensure_future(self._server.serve())
        while not self._server.started:
            assert not self._task.done(), self._task.result()
            await asyncio.sleep(0.01)
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task


def _application(events: list[str]) -> Any:
    """Streams in and out, a websocket, a lifespan, a background task and an endpoint that raises."""
    import contextlib
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("stopped")

    async def count(request: Request) -> Response:
        sizes = [len(chunk) async for chunk in request.stream()]
        return JSONResponse(
            {"bytes": sum(sizes), "loop": type(asyncio.get_running_loop()).__name__},
            background=BackgroundTask(events.append, "after the answer"),
        )

    async def stream(_: Request) -> Response:
        async def rows() -> AsyncIterator[str]:
            for number in range(200):
                yield f"{number:06d}\n" * 100
                if number % 50 == 0:
                    await asyncio.sleep(0)

        return StreamingResponse(rows(), media_type="text/plain")

    async def slow(request: Request) -> Response:
        while not await request.is_disconnected():
            await asyncio.sleep(0.005)
        events.append("client gone")
        return Response()

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text.upper())
        events.append("websocket closed")

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/count", count, methods=["POST"]),
            Route("/stream", stream),
            Route("/slow", slow),
            WebSocketRoute("/echo", echo),
        ],
    )


def test_a_starlette_application_streams_both_ways_inside_one_loop(
    loop: asyncio.SelectorEventLoop,
) -> None:
    events: list[str] = []

    async def main() -> None:
        async with _Serving(_application(events)) as port:
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                counted = await client.post("/count", content=b"x" * 3_000_000)
                assert counted.json() == {"bytes": 3_000_000, "loop": type(loop).__name__}
                text = (await client.get("/stream")).text
                assert text == "".join(f"{number:06d}\n" * 100 for number in range(200))
                with pytest.raises(httpx.ReadTimeout):
                    await client.get("/slow", timeout=0.05)

    loop.run_until_complete(main())
    assert events == ["started", "after the answer", "client gone", "stopped"]


def test_a_starlette_websocket_echoes_and_closes(loop: asyncio.SelectorEventLoop) -> None:
    from websockets.asyncio.client import connect

    events: list[str] = []

    async def main() -> None:
        async with _Serving(_application(events)) as port:
            async with connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as websocket:
                for number in range(50):
                    await websocket.send(f"message {number}")
                    assert await websocket.recv() == f"MESSAGE {number}"
                large = "a" * 500_000
                await websocket.send(large)
                assert await websocket.recv() == large.upper()

    loop.run_until_complete(main())
    assert events == ["started", "websocket closed", "stopped"]
