"""Serves the example shop on asyncio, uvloop and PyLoop under load; prints what each one costs.

Each loop has a uvicorn server in a process of its own; all stay up, and the load goes to one after
the other, round by round, so that a machine that slows down slows all of them down. The load client
is another process. Everything stays on 127.0.0.1.

    python examples/serve_and_load.py            about a minute
    python examples/serve_and_load.py --quick    about half a minute

The steadiest figure on a shared machine is the server's CPU time per request: it is measured over
exactly the requests that the client counted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

_HERE = Path(__file__).resolve().parent

# Every loop is chosen by the same option of uvicorn; the value names a callable without arguments.
LOOPS = {
    "asyncio": "asyncio:SelectorEventLoop",
    "uvloop": "uvloop:new_event_loop",
    "PyLoop": "data_bridge.pyloop:new_event_loop",
}


@dataclass(slots=True)
class Served:
    """One server and what its rounds gave."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    port: int = 0
    loop_class: str = ""
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """User and system time that the server has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def median(self, figure: str) -> float:
        """The median of one figure over the rounds."""
        return float(statistics.median(row[figure] for row in self.rounds))

    def log_text(self) -> str:
        """What the server has written so far."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")


def main() -> int:
    """Run as a command."""
    options = _read_options()
    names = [name for name in options.loops.split(",") if name in LOOPS]
    missing = [name for name in names if importlib.util.find_spec(_module(name)) is None]
    for name in missing:
        print(f"  {name}: not installed, left out")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_serving(name)) for name in names if name not in missing]
        for served in servers:
            _greet(served)
            print(f"  {served.name:<8} serves on 127.0.0.1:{served.port} with {served.loop_class}")
        for number in range(options.rounds + 1):
            # Each round starts with another server; round 0 warms up and is not counted.
            turn = number % len(servers)
            for served in servers[turn:] + servers[:turn]:
                row = _load(served, options.connections, options.seconds if number else 0.5)
                if number:
                    served.rounds.append(row)
                    _show_progress(number, options.rounds, served, row)
    print()
    print(_table(servers))
    if options.json:
        options.json.write_text(json.dumps(_as_json(servers, options), indent=2) + "\n")
    return 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 seconds")
    parser.add_argument("--rounds", type=int, help="counted rounds (default 5)")
    parser.add_argument("--seconds", type=float, help="length of one load (default 3)")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections")
    parser.add_argument("--loops", default=",".join(LOOPS), help="which loops, comma separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2.0 if options.quick else 3.0)
    return options


def _module(name: str) -> str:
    return LOOPS[name].partition(":")[0].partition(".")[0]


@contextlib.contextmanager
def _serving(name: str) -> Iterator[Served]:
    """A uvicorn server on the loop *name*, on a free port of its own choice."""
    command = [sys.executable, "-m", "uvicorn", "shop.application:app", "--app-dir", str(_HERE)]
    command += ["--host", "127.0.0.1", "--port", "0", "--loop", LOOPS[name]]
    command += ["--http", "httptools", "--no-access-log", "--no-use-colors"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield Served(name, process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _greet(served: Served) -> None:
    """Wait until the server names its port, and ask it which loop really serves."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and served.process.poll() is None:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", served.log_text()):
            served.port = int(found[1])
            with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                with sock.makefile("rb") as answer:
                    body = answer.read().partition(b"\r\n\r\n")[2]
            served.loop_class = json.loads(body)["loop"]
            return
        time.sleep(0.05)
    raise SystemExit(f"The server on {served.name} did not start:\n{served.log_text()}")


def _load(served: Served, connections: int, seconds: float) -> dict[str, Any]:
    """One load; its figures, with the CPU time of the server per request."""
    command = [sys.executable, str(_HERE / "load_client.py"), "--port", str(served.port)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    before = served.cpu_seconds()
    client = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    used = served.cpu_seconds() - before
    if client.returncode:
        raise SystemExit(f"The load on {served.name} failed: {client.stderr}{served.log_text()}")
    row: dict[str, Any] = json.loads(client.stdout)
    row["server_cpu_us"] = round(used / row["requests"] * 1e6, 2)
    return row


def _show_progress(number: int, rounds: int, served: Served, row: dict[str, Any]) -> None:
    rate = row["requests_per_second"]
    print(
        f"  round {number}/{rounds}  {served.name:<8} {rate:>9,.0f} requests/s"
        f"  p50 {row['p50_ms']:6.2f} ms  p99 {row['p99_ms']:6.2f} ms"
        f"  {row['server_cpu_us']:6.1f} us of server CPU per request",
        flush=True,
    )


def _table(servers: list[Served]) -> str:
    base = servers[0]
    lines = [
        f"  {'loop':<8} {'requests/s':>11} {'spread':>17} {'p50 ms':>8} {'p99 ms':>8}"
        + f" {'CPU us/request':>15} {'against ' + base.name:>18}",
    ]
    for served in servers:
        rates = sorted(row["requests_per_second"] for row in served.rounds)
        spread = f"{rates[0]:,.0f}-{rates[-1]:,.0f}"
        ratio = served.median("requests_per_second") / base.median("requests_per_second")
        lines.append(
            f"  {served.name:<8} {served.median('requests_per_second'):>11,.0f} {spread:>17}"
            f" {served.median('p50_ms'):>8.2f} {served.median('p99_ms'):>8.2f}"
            f" {served.median('server_cpu_us'):>15.1f} {ratio:>17.2f}x"
        )
    lines.append("  Medians of the rounds; the spread is that of requests/s.")
    return "\n".join(lines)


def _as_json(servers: list[Served], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "python": sys.version,
        "connections": options.connections,
        "seconds": options.seconds,
        "loops": {
            served.name: {"class": served.loop_class, "rounds": served.rounds} for served in servers
        },
    }


if __name__ == "__main__":
    sys.exit(main())
