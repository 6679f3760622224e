"""Owns where uvloop's sources come from: pip fetches its source distribution once, into a cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

VERSION: Final = "0.23.0"


class Missing(Exception):
    """The sources cannot be had: no network, or no such version."""


def fetch() -> Path:
    """The unpacked source distribution."""
    root = Path(__file__).resolve().parents[2]
    cache = Path(os.environ.get("PEERS_CACHE") or root / ".cache" / "peers")
    unpacked = cache / f"uvloop-{VERSION}"
    if (unpacked / "tests").is_dir():
        return unpacked
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"uvloop-{VERSION}.tar.gz"
    if not archive.exists():
        download(cache)
    with tarfile.open(archive) as tar:
        tar.extractall(cache, filter="data")
    return unpacked


def download(cache: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["download", "--no-deps", "--no-binary", "uvloop", "--dest", str(cache)]
    done = subprocess.run([*command, f"uvloop=={VERSION}"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"uvloop's sources cannot be fetched:\n{done.stderr[-2000:]}")
