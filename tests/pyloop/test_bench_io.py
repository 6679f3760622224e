"""The socket benchmarks: every mode gives a figure, and the client trusts no server.

What is measured is not judged here: only that it was measured, and that a server that answers wrongly,
or not at all, makes a failure and no figure.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "pyloop"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the load client needs epoll"),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo builds the load client"),
    # The first of these tests may have to compile the client.
    pytest.mark.timeout(300),
]

MODES = ("protocol", "buffered", "streams", "sockets", "unix", "udp")

_MEASURE = f"""
import json, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from loops import KINDS
from workloads import sockets
kind = KINDS[sys.argv[1]]
print(json.dumps({{name: getattr(sockets, work)(kind, **parameters)
    for name, work, parameters in json.loads(sys.argv[2])}}))
"""


def _child(code: str, *words: str, program: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYLOOP_LOAD_PROGRAM": program} if program else {})
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def load_program() -> str:
    """The client, compiled."""
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import io_tool"
    built = _child(f"{code}; print(io_tool.build())")
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


def _measured(
    kind: str, program: str, works: list[tuple[str, str, dict[str, Any]]]
) -> dict[str, dict[str, float]]:
    ended = _child(_MEASURE, kind, json.dumps(works), program=program)
    assert ended.returncode == 0, ended.stderr
    figures: dict[str, dict[str, float]] = json.loads(ended.stdout)
    return figures


# ---- every mode gives a figure --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asyncio", "pyloop", "floor"])
def test_every_mode_gives_a_figure(kind: str, load_program: str) -> None:
    """Slow: a child interpreter, and a client and a stretch of time for each mode."""
    some = {"connections": 3, "size": 1024, "seconds": 0.2}  # the clock may tick in milliseconds
    works = [(mode, "echo", {"service": mode, **some}) for mode in MODES]
    works += [("large", "echo", {"service": "protocol", **some, "size": 1 << 20})]
    works += [("pieces", "echo", {"service": "streams", **some, "writes": 4})]
    works += [("churn", "churn", some)]
    for found in _measured(kind, load_program, works).values():
        assert found["cpu_us"] > 0 and found["per_second"] > 0
        assert found["lost"] == 0
        assert 0 < found["p50_us"] <= found["p90_us"] <= found["p99_us"] <= found["p999_us"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asyncio", "pyloop", "floor"])
def test_bulk_transfer_sendfile_and_idle_connections_give_a_figure(
    kind: str, load_program: str
) -> None:
    """Slow: a child interpreter, and a client for each work."""
    size = 256 << 20  # the clock of a process may tick in milliseconds
    works: list[tuple[str, str, dict[str, Any]]] = [
        ("send", "bulk", {"direction": "send", "size": size}),
        ("receive", "bulk", {"direction": "receive", "size": size}),
        ("file", "bulk", {"direction": "send", "size": size, "service": "file"}),
        ("idle", "idle", {"connections": 200}),
    ]
    found = _measured(kind, load_program, works)
    for name in ("send", "receive", "file"):
        assert found[name]["cpu_s_per_gib"] > 0 and found[name]["mib_per_second"] > 0
    assert abs(found["idle"]["bytes"]) < 100_000


@pytest.mark.slow
def test_the_program_measures_what_it_is_told_and_writes_it_down(
    load_program: str, tmp_path: Path
) -> None:
    """Slow: an interpreter for each loop."""
    written = tmp_path / "io.json"
    command = [sys.executable, str(BENCHMARKS / "bench_io.py"), "--quick", "--seconds", "0.02"]
    command += ["--mode", "streams", "--connections", "2", "--size", "100", "--writes", "4"]
    command += ["--loops", "pyloop,asyncio", "--json", str(written)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert "streams, 2 connections, 100 B, 4 writes" in ended.stdout
    (result,) = json.loads(written.read_text())["results"]
    assert result["case"]["id"] == "streams_2x100_4writes"
    for loop in ("pyloop", "asyncio"):
        assert len(result["loops"][loop]["figures"]["cpu_us"]) == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--mode", "tcp"], "unknown mode 'tcp'"),
        (["--mode", "udp", "--size", "1048576"], "no cell is left"),
        (["--connections", "0"], "whole numbers from 1"),
        (["--bars", "--mode", "udp"], "--bars chooses its cells itself"),
        (["--strict"], "--strict belongs to --bars"),
    ],
)
def test_wrong_use_is_named_before_anything_is_built(words: list[str], complaint: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "bench_io.py"), *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and ended.stdout == ""
    assert complaint in ended.stderr


# ---- the client trusts no server ------------------------------------------------------------------------


@contextmanager
def _serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose one connection is given to *answer*, in a thread; yields its address."""

    def serve() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                answer(connection)
            except OSError:
                pass  # the client has left, as it should

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "127.0.0.1:{1}".format(*listener.getsockname())
        finally:
            thread.join()


def _complaint(program: str, job: str, address: str, *words: str) -> str:
    """What the client says; it must fail, and while its standard input is open."""
    command = [program, job, "--to", address, "--patience", "0.3", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert process.wait(20) == 1
    assert list(said) == ["error"]
    return str(said["error"])


_ONE = ("--connections", "1", "--size", "1000", "--requests", "20")


def _spoiling(change: Callable[[int, bytearray], bytes]) -> Callable[[socket.socket], None]:
    """An echo that changes what it sends back."""

    def answer(connection: socket.socket) -> None:
        for number in range(100):
            request = bytearray()
            while len(request) < 1000:
                request += (received := connection.recv(1000 - len(request)))
                if not received:
                    return
            connection.sendall(change(number, request))

    return answer


def _flip(number: int, request: bytearray) -> bytes:
    if number == 10:
        request[777] ^= 1
    return bytes(request)


_REQUESTS: list[bytes] = []


def _repeat(number: int, request: bytearray) -> bytes:
    if number == 0:
        _REQUESTS.clear()
    _REQUESTS.append(bytes(request))
    return _REQUESTS[9 if number == 10 else number]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_flip, "request 10: the answer is not what was sent"),
        (_repeat, "request 10: the answer is not what was sent"),
        (lambda number, request: request + b"x", "the answer is not what was sent"),
        (lambda number, request: request[:999], "no answer for"),
    ],
    ids=["a flipped bit", "an old answer", "a byte too many", "a byte too few"],
)
def test_a_changed_answer_is_noticed(
    change: Callable[[int, bytearray], bytes], complaint: str, load_program: str
) -> None:
    with _serving(_spoiling(change)) as address:
        assert complaint in _complaint(load_program, "echo", address, *_ONE)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("echo", _ONE),
        ("churn", _ONE),
        ("sink", ("--bytes", "1000")),
        ("source", ("--bytes", "1000")),
        ("idle", ("--connections", "1")),
    ],
)
def test_a_server_that_closes_its_connections_is_noticed(
    job: str, words: tuple[str, ...], load_program: str
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with _serving(answer) as address:
        assert _complaint(load_program, job, address, *words)


def test_a_served_stream_with_a_wrong_byte_is_noticed(load_program: str) -> None:
    def answer(connection: socket.socket) -> None:
        wanted = int.from_bytes(connection.recv(8), "big")
        connection.sendall(b"\0" * wanted)

    with _serving(answer) as address:
        said = _complaint(load_program, "sink", address, "--bytes", "5000")
    assert "not what the server should send" in said


def test_a_changed_datagram_is_noticed(load_program: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)

        def answer() -> None:
            request, client = server.recvfrom(2000)
            server.sendto(request[:-1] + bytes([request[-1] ^ 128]), client)

        thread = threading.Thread(target=answer)
        thread.start()
        said = _complaint(load_program, "udp", "127.0.0.1:{1}".format(*server.getsockname()), *_ONE)
        thread.join()
    assert "the answer is not what was sent" in said


@pytest.mark.slow
def test_a_lost_datagram_is_sent_again_and_counted(load_program: str) -> None:
    """Slow: what is lost is given a fifth of a second."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)

        def answer() -> None:
            for number in range(9):
                request, client = server.recvfrom(2000)
                if number != 4:
                    server.sendto(request, client)

        thread = threading.Thread(target=answer)
        thread.start()
        command = [load_program, "udp", "--to", "127.0.0.1:{1}".format(*server.getsockname())]
        command += ["--connections", "1", "--size", "1000", "--requests", "6"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
        thread.join()
    assert said["lost"] == 1 and said["answered"] == 6


@pytest.mark.parametrize("job", ["echo", "churn", "udp", "idle"])
def test_the_program_ends_when_its_standard_input_closes(job: str, load_program: str) -> None:
    words = ["--connections", "2"]
    if job != "idle":
        words += ["--size", "100", "--seconds", "60"]
    service = "udp" if job == "udp" else "echo"
    server = [load_program, "floor", "--listen", "127.0.0.1:0", "--service", service]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as floor:
        assert floor.stdin is not None and floor.stdout is not None
        address = json.loads(floor.stdout.readline())["address"]
        client = [load_program, job, "--to", address, *words]
        with subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            said, _ = process.communicate(timeout=20)
        if job == "idle":
            assert (json.loads(said), process.returncode) == ({"connected": 2}, 0)
        else:
            assert json.loads(said) == {"error": "standard input was closed"}
            assert process.returncode == 1
        assert floor.poll() is None
        floor.communicate(timeout=20)
    assert floor.returncode == 0


# ---- the bars -------------------------------------------------------------------------------------------

_JUDGE = f"""
import json, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import io_targets
from harness import CaseResult, Samples
figures = json.loads(sys.argv[1])
results = []
for case in io_targets.cases(io_targets.io_cases.QUICK):
    loops = {{loop: Samples() for loop in figures}}
    for loop, samples in loops.items():
        if figures[loop] is None:
            samples.error = "NotImplementedError"
        else:
            for metric in case.metrics:
                better = metric.higher_is_better
                samples.add({{metric.key: 1 / figures[loop] if better else figures[loop]}})
    results.append(CaseResult(case, loops))
bars = io_targets.evaluate(results)
print(json.dumps([[bar.cells(), bar.met] for bar in bars]))
"""


def _judged(**figures: float | None) -> list[tuple[list[str], bool]]:
    ended = _child(_JUDGE, json.dumps(figures))
    assert ended.returncode == 0, ended.stderr
    return [(cells, met) for cells, met in json.loads(ended.stdout)]


def test_every_bar_is_met_by_a_loop_that_costs_a_third_of_the_others() -> None:
    bars = _judged(pyloop=1.0, asyncio=3.0, uvloop=3.0, rloop=3.0, floor=1.0)
    assert len(bars) == 23
    assert all(met and cells[-1] == "met" for cells, met in bars)


def test_a_bar_is_missed_by_a_hair_and_by_a_figure_that_is_not_there() -> None:
    bars = _judged(pyloop=1.0, asyncio=1.0, uvloop=1.0, rloop=None, floor=1 / 1.1004)
    verdicts = {(cells[0].split(":")[0], cells[2]): (cells, met) for cells, met in bars}
    cells, met = verdicts["protocol, 50 connections, 1 KiB", "floor"]
    assert (cells[3:], met) == (["1.1004", "<= 1.1", "MISSED"], False)
    cells, met = verdicts["protocol, 50 connections, 1 KiB", "rloop"]
    assert (cells[3:], met) == (["-", "< 1", "rloop has none"], False)
    # Equal is not below, but it is at least.
    by_title = {cells[0]: met for cells, met in bars if cells[2] in ("uvloop", "Asyncio")}
    assert by_title["server writes, 0.125 GiB: throughput"]
    assert not by_title["server writes, 0.125 GiB: server CPU per GiB"]
    assert not by_title["server sends a file, 0.25 GiB: server CPU per GiB"]
