"""A Jupyter kernel, started by the documented kernel.json, awaits its cells on PyLoop."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from apps.documented import documented_code

_CELL = """
import asyncio
loop = asyncio.get_running_loop()
results = await asyncio.gather(*(asyncio.sleep(0.001, n) for n in range(10)))
process = await asyncio.create_subprocess_exec("echo", "child", stdout=-1)
output, _ = await process.communicate()
print(type(loop).__name__, sum(results), output.decode().strip())
"""


@pytest.mark.slow
@pytest.mark.leaves_traces("jupyter_client keeps a process-wide zmq context with its descriptors")
def test_cells_are_awaited_on_pyloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: a kernel process with its imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from jupyter_client.blocking import BlockingKernelClient
        from jupyter_client.manager import KernelManager

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    spec = json.loads(documented_code("Jupyter", "json"))
    assert spec["argv"][0] == "python"
    spec["argv"][0] = sys.executable
    folder = tmp_path / "kernels" / "pyloop"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))

    manager = KernelManager(kernel_name="pyloop", shutdown_wait_time=5.0)
    printed: list[str] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    manager.start_kernel()
    client = manager.client()
    assert isinstance(client, BlockingKernelClient)
    try:
        client.start_channels()
        client.wait_for_ready(timeout=40)
        reply = client.execute_interactive(_CELL, timeout=20, output_hook=take)
        assert reply["content"]["status"] == "ok", reply
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
    assert "".join(printed).split() == ["PyLoop", "45", "child"]
