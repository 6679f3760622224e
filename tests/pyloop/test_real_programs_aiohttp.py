"""aiohttp's server and client, on the loop that runs them or is given to run_app."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from apps.documented import documented_code
from apps.served import PYLOOP_CLASS, free_port, serving


def _application() -> web.Application:
    async def describe(_: web.Request) -> web.Response:
        return web.json_response({"loop": type(asyncio.get_running_loop()).__name__})

    async def count(request: web.Request) -> web.Response:
        total = 0
        async for chunk in request.content.iter_chunked(65536):
            total += len(chunk)
        return web.json_response({"bytes": total})

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(300):
            await response.write(f"{number:06d}\n".encode() * 1000)
        await response.write_eof()
        return response

    async def file(_: web.Request) -> web.FileResponse:
        return web.FileResponse(__file__)

    async def chat(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=5)
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(message.data[::-1])
        return websocket

    async def never(_: web.Request) -> web.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    app = web.Application(client_max_size=2**24, handler_args={"handler_cancellation": True})
    app.add_routes(
        [
            web.get("/", describe),
            web.post("/count", count),
            web.get("/stream", stream),
            web.get("/file", file),
            web.get("/chat", chat),
            web.get("/never", never),
        ]
    )
    return app


@contextlib.asynccontextmanager
async def _serving(ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.AppRunner(_application(), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def test_fifty_clients_at_once_get_their_own_answers(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as port, aiohttp.ClientSession() as session:

            async def ask(size: int) -> int:
                url = f"http://127.0.0.1:{port}/count"
                async with session.post(url, data=b"x" * size) as response:
                    return int((await response.json())["bytes"])

            sizes = [number * 1009 for number in range(50)]
            assert await asyncio.gather(*map(ask, sizes)) == sizes
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                assert await response.json() == {"loop": type(loop).__name__}

    loop.run_until_complete(main())


def test_large_bodies_stream_both_ways_and_files_are_sent(
    loop: asyncio.SelectorEventLoop,
) -> None:
    async def upload() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"y" * 50_000

    async def main() -> None:
        async with _serving() as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.post("/count", data=upload()) as response:
                assert await response.json() == {"bytes": 5_000_000}
            async with session.get("/stream") as response:
                body = await response.read()
            assert body == b"".join(f"{number:06d}\n".encode() * 1000 for number in range(300))
            async with session.get("/file") as response:
                assert await response.read() == Path(__file__).read_bytes()

    loop.run_until_complete(main())


def test_a_websocket_talks_in_both_directions(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with session.ws_connect("/chat") as websocket:
                for number in range(100):
                    await websocket.send_str(f"number {number}")
                    assert await websocket.receive_str() == f"number {number}"[::-1]
                await websocket.send_str("z" * 300_000)
                assert await websocket.receive_str() == "z" * 300_000

    loop.run_until_complete(main())


def test_a_client_that_gives_up_cancels_its_handler(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/never", timeout=aiohttp.ClientTimeout(total=0.05))
            async with session.get("/") as response:
                assert response.status == 200
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    loop.run_until_complete(main())


def test_https_between_server_and_client(loop: asyncio.SelectorEventLoop) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    async def main() -> None:
        async with _serving(server) as port, aiohttp.ClientSession() as session:
            url = f"https://localhost:{port}"
            async with session.post(f"{url}/count", data=b"s" * 1_000_000, ssl=client) as response:
                assert await response.json() == {"bytes": 1_000_000}
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"{url}/")
        # The refused connection's transport says goodbye in its own time.
        await asyncio.sleep(0.05)

    loop.run_until_complete(main())


@pytest.mark.slow
def test_the_documented_run_app_serves_on_pyloop_until_it_is_interrupted(tmp_path: Path) -> None:
    """Slow: a server process with its imports."""
    port = free_port()
    documented = documented_code("aiohttp", "python")
    assert "web.run_app(app, loop=pyloop.new_event_loop())" in documented
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from aiohttp import web\n"
        "async def describe(_):\n"
        "    loop = type(asyncio.get_running_loop())\n"
        "    return web.json_response({'loop': f'{loop.__module__}.{loop.__qualname__}'})\n"
        "app = web.Application()\n"
        "app.router.add_get('/', describe)\n"
        + documented.replace("run_app(app,", f"run_app(app, host='127.0.0.1', port={port},")
    )
    with serving([str(program)], port) as served:
        assert served.get("/") == (200, {"loop": PYLOOP_CLASS})
        assert served.stop() == 0, served.log_text()
        assert "Traceback" not in served.log_text()
