"""How the socket benchmarks are shown: CPU first, then throughput, then the latencies of each loop.

Owns the choice of tables; figures and text come from ``report``. A loop that does not have what a
cell needs gets a dash there, and its reason below; ``failed`` is kept for what should have worked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import io_cases
import report
from harness import CaseResult, Metric
from loops import KINDS
from results import Suite

_ABSENT = "NotImplementedError"
_ANNOUNCED = (
    ("Server CPU per request, us (user and system)", io_cases.CPU),
    ("Requests per second", io_cases.RATE),
    ("Server CPU seconds per GiB", io_cases.CPU_PER_GIB),
    ("MiB per second", io_cases.BULK_RATE),
    ("Resident memory of the server per idle connection, bytes", io_cases.MEMORY),
    ("Datagrams lost and sent again, the most of any round", io_cases.LOST),
)


Table = tuple[str, report.Row, list[report.Row]]


def show(suite: Suite) -> str:
    """Every table that has a row, as text."""
    return "\n\n".join(
        f"{title}\n{report.text_table(head, rows)}" for title, head, rows in _tables(suite)
    )


def show_markdown(suite: Suite) -> str:
    """The same as Markdown."""
    return "\n\n".join(
        f"## {title}\n\n{report.markdown_table(head, rows)}" for title, head, rows in _tables(suite)
    )


def _tables(suite: Suite) -> list[Table]:
    results = [_without_absent(result) for result in suite.results]
    parts = [_table(title, metric, results) for title, metric in _ANNOUNCED]
    parts.append(_latencies(results))
    return [part for part in parts if part[2]]


def is_absent(result: CaseResult, loop: str) -> bool:
    """Whether the loop says itself that it does not have this."""
    samples = result.loops.get(loop)
    return samples is not None and (samples.error or "").startswith(_ABSENT)


def _table(title: str, metric: Metric, results: Sequence[CaseResult]) -> Table:
    rows = [
        CaseResult(dataclasses.replace(result.case, metrics=(metric,)), result.loops)
        for result in results
        if metric in result.case.metrics
    ]
    head, cells = report.table(rows)
    return title, head, cells


def _latencies(results: Sequence[CaseResult]) -> Table:
    """One row a case; a cell has the four quantiles of a loop."""
    rows = [result for result in results if io_cases.LATENCIES[0] in result.case.metrics]
    keys = report.columns(rows)
    head = ["work", *(KINDS[key].title for key in keys)]
    cells = [[row.case.title, *(_quantiles(row, key) for key in keys)] for row in rows]
    title = f"Latency, us: {' / '.join(metric.title for metric in io_cases.LATENCIES)}"
    return title, head, cells


def _quantiles(result: CaseResult, key: str) -> str:
    if key not in result.loops:
        return "-"
    values = [result.value(key, metric) for metric in io_cases.LATENCIES]
    return "/".join("failed" if value is None else f"{value:,.0f}" for value in values)


def _without_absent(result: CaseResult) -> CaseResult:
    loops = {key: one for key, one in result.loops.items() if not is_absent(result, key)}
    return CaseResult(result.case, loops)
