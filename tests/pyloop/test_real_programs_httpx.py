"""httpx's asynchronous client, on the loop that runs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from apps.documented import documented_code


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A keep-alive HTTP server in twenty lines: it answers with the request's path and body size."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
            body = await reader.readexactly(length)
            if path == b"/never":
                await reader.read()
                break
            if path == b"/broken":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
                break
            text = b"%s %d\n" % (path, len(body)) * (20_000 if path == b"/long" else 1)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text) + text)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def _serving() -> AsyncIterator[str]:
    answering: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.create_task(_answer(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        # The clients have gone by now; each answer sees the end of its connection.
        await asyncio.wait_for(asyncio.gather(*answering), 10)


def test_many_requests_share_a_few_connections(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=5)
        async with (
            _serving() as address,
            httpx.AsyncClient(base_url=address, limits=limits, trust_env=False) as client,
        ):
            answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(100)))
            assert [answer.text for answer in answers] == [f"/{n} 0\n" for n in range(100)]
            answer = await client.post("/post", content=b"p" * 2_000_000)
            assert answer.text == "/post 2000000\n"

    loop.run_until_complete(main())


def test_a_long_answer_is_streamed(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as address, httpx.AsyncClient(trust_env=False) as client:
            async with client.stream("GET", f"{address}/long") as answer:
                lines = [line async for line in answer.aiter_lines()]
            assert lines == ["/long 0"] * 20_000

    loop.run_until_complete(main())


def test_timeouts_and_broken_answers_are_told_apart(loop: asyncio.SelectorEventLoop) -> None:
    async def main() -> None:
        async with _serving() as address, httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{address}/never", timeout=0.05)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{address}/broken")
            assert (await client.get(f"{address}/fine")).text == "/fine 0\n"
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(address)

    loop.run_until_complete(main())


def test_the_documented_lines_run_it_on_pyloop() -> None:
    async def main() -> None:
        async with _serving() as address, httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{address}/documented")
            heard.append((answer.text, type(asyncio.get_running_loop()).__name__))

    heard: list[tuple[str, str]] = []
    exec(documented_code("httpx", "python"), {"main": main})
    assert heard == [("/documented 0\n", "PyLoop")]
