"""The examples: the load runner works to its end on every loop, and the shop's arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from apps.documented import EXAMPLES
from apps.served import PYLOOP_CLASS


@pytest.mark.slow
def test_the_load_runner_loads_each_loop_and_prints_its_table(tmp_path: Path) -> None:
    """Slow: three servers and their loads."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(EXAMPLES / "serve_and_load.py"), "--rounds", "1"]
    command += ["--seconds", "0.3", "--connections", "8", "--json", str(figures)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert outcome.returncode == 0, outcome.stderr
    rounds = json.loads(figures.read_text())["loops"]
    assert rounds["PyLoop"]["class"] == PYLOOP_CLASS
    assert set(rounds) == {"asyncio", "uvloop", "PyLoop"}
    for served in rounds.values():
        (row,) = served["rounds"]
        assert row["requests"] > 8
        assert set(row["statuses"]) == {"200", "201", "404"}
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert "requests/s" in outcome.stdout
    assert outcome.stdout.count("round 1/1") == 3


@pytest.mark.slow
def test_the_load_client_fails_on_a_wrong_answer() -> None:
    """Slow: a child interpreter."""
    import socket
    import threading

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        command = [sys.executable, str(EXAMPLES / "load_client.py"), "--connections", "1"]
        command += ["--port", str(listener.getsockname()[1]), "--seconds", "1"]
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=30)
        thread.join()
    assert outcome.returncode == 1
    assert "status 500 instead of 200" in outcome.stderr


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        (None, "'lines' must be a list"),
        ({"lines": []}, "'lines' must be a list"),
        ({"lines": ["desk"]}, "line 1: must be an object"),
        ({"lines": [{"product": 1, "quantity": True}]}, "line 1: 'quantity'"),
        ({"lines": [{"product": 1, "quantity": 1}, {"product": 1.0, "quantity": 1}]}, "line 2:"),
        ({"lines": [{"product": 1, "quantity": 0}]}, "line 1: 'quantity'"),
        ({"lines": [{"product": [], "quantity": 1}]}, "line 1: there is no product"),
    ],
)
def test_a_bad_quote_says_which_line_is_wrong(
    wish: object, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from shop.quotes import BadQuote, Catalogue

    catalogue = Catalogue.read(EXAMPLES / "shop" / "catalogue.json")
    with pytest.raises(BadQuote) as raised:
        catalogue.quote(wish)
    assert complaint in str(raised.value)
