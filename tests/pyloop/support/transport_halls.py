"""Owns a server under test: its protocols take notes, its clients are driven by hand."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from support.running import run_until
from support.transport_links import Recorder


class Hall:
    """A server whose protocols take notes, and its clients by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **keywords: Any) -> None:
        self.loop = loop
        self.made: list[Recorder] = []
        self.clients: list[socket.socket] = []
        if not {"sock", "port"} & set(keywords):
            keywords |= {"host": "127.0.0.1", "port": 0}
        self.server = loop.run_until_complete(loop.create_server(self.factory, **keywords))

    def factory(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]

    @property
    def address(self) -> Any:
        return self.server.sockets[0].getsockname()

    def connect(self, count: int = 1) -> list[socket.socket]:
        """More clients, connected as the kernel sees it."""
        new = [socket.create_connection(self.address[:2]) for _ in range(count)]
        for client in new:
            client.setblocking(False)
        self.clients += new
        return new

    def until_made(self, count: int) -> None:
        """Run until that many connections were made."""
        run_until(self.loop, lambda: len(self.made) >= count and all(p.events for p in self.made))

    def end(self) -> None:
        """Close everything and see that all is gone."""
        self.server.close()
        for client in self.clients:
            client.close()
        for protocol in self.made:
            if not protocol.lost and protocol.transport is not None:
                protocol.transport.abort()
        run_until(self.loop, lambda: all(p.lost for p in self.made if p.transport is not None))
        self.loop.run_until_complete(asyncio.wait_for(self.server.wait_closed(), 5))
