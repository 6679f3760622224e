"""Owns the tie between docs/frameworks.md and the tests: a test runs what the page says."""

from __future__ import annotations

import re
from pathlib import Path

TREE = Path(__file__).resolve().parents[3]
EXAMPLES = TREE / "examples"
_PAGE = TREE / "docs" / "frameworks.md"


def documented_code(heading: str, language: str) -> str:
    """The one fenced block of *language* in the section *heading* of docs/frameworks.md."""
    page = _PAGE.read_text()
    section = re.search(
        rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert section, f"docs/frameworks.md has no section {heading!r}"
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, f"{heading}: {len(blocks)} blocks of {language}"
    return str(blocks[0])


def documented_commands(heading: str) -> list[list[str]]:
    """The command lines of the section's one `sh` block, split into words."""
    lines = documented_code(heading, "sh").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]
