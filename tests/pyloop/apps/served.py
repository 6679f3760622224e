"""Owns running a server as a child process: a free port, waiting for it, asking it, ending it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PYLOOP_CLASS = "data_bridge.pyloop._loop.PyLoop"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Served:
    """A server that answers on *port*."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    def log_text(self) -> str:
        """What it has written so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def get(self, path: str = "/") -> tuple[int, Any]:
        """One request on a connection of its own: status and decoded JSON."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request with *body* as JSON: status, and the answer decoded if it is JSON."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        ) as connection:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(content) if is_json else content.decode()

    def stop(self, number: int = signal.SIGTERM, patience: float = 20.0) -> int:
        """Ask it to end with a signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(patience)


@contextlib.contextmanager
def serving(
    arguments: Sequence[str],
    port: int,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`python arguments...` as a child, from the moment it accepts connections on *port*."""
    variables = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    variables.update(environment or {})
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=variables,
        )
        served = Served(process, port, log)
        try:
            _wait_until_it_accepts(served)
            yield served
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _wait_until_it_accepts(served: Served, patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while served.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", served.port), timeout=5).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{served.log_text()}")
