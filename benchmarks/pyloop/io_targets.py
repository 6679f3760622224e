"""The bars of sockets that PyLoop has set itself, and whether a run met them.

CPU time of the server decides where the work is requests; bulk transfer and churn have a bar for
throughput too. Owns the list of bars; reads results by case id. A row without a figure says why and
does not count as met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import io_cases
import io_tables
import report
import targets
from harness import Case, CaseResult, Metric
from io_cases import BULK_RATE, CPU, CPU_PER_GIB, MEMORY, RATE, Length
from loops import ASYNCIO, FLOOR, KINDS, PYLOOP, RLOOP, UVLOOP

AT_MOST, BELOW, AT_LEAST = "<=", "<", ">="
HEAD = ["work", "PyLoop", "as a share of", "measured", "bar", "verdict"]


@dataclass(frozen=True)
class IoBar(targets.Bar):
    """A bar with a direction."""

    relation: str = AT_MOST

    @property
    def met(self) -> bool:
        """Whether the figure exists and is on the right side of the limit."""
        if self.measured is None:
            return False
        if self.relation == AT_LEAST:
            return self.measured >= self.limit
        return self.measured < self.limit or (
            self.relation == AT_MOST and self.measured == self.limit
        )

    def cells(self) -> list[str]:
        """The row as text."""
        head = [self.work, self.figure, self.against]
        limit = f"{self.relation} {self.limit:g}"
        if self.measured is None:
            return [*head, "-", limit, self.missing]
        shown = f"{self.measured:.2f}" if self.measured < 100 else f"{self.measured:,.0f}"
        # Two decimals would hide on which side of its bar a figure is.
        if shown == f"{self.limit:.2f}":
            shown = f"{self.measured:.5g}"
        return [*head, shown, limit, "met" if self.met else "MISSED"]


Limits = dict[str, tuple[str, float]]


def _shares(floor: float | None, uvloop: float, rloop: float | None = None) -> Limits:
    """The usual row: at most so much of the floor's and uvloop's CPU; 1 means less than rloop's."""
    limits: Limits = {FLOOR: (AT_MOST, floor)} if floor is not None else {}
    limits[UVLOOP] = (AT_MOST, uvloop)
    if rloop is not None:
        limits[RLOOP] = (BELOW if rloop == 1 else AT_MOST, rloop)
    return limits


# Case id, figure, and PyLoop's figure as a share of each peer's.
SHARES: tuple[tuple[str, Metric, Limits], ...] = (
    ("protocol_50x1k", CPU, _shares(1.10, 0.90, 1)),
    ("buffered_50x1k", CPU, _shares(1.15, 0.90, 1)),
    ("sockets_50x1k", CPU, _shares(1.50, 0.45, 0.65)),
    ("protocol_10x64k", CPU, _shares(1.05, 0.95, 1)),
    ("unix_50x1k", CPU, _shares(None, 0.95)),
    ("udp_50x1k", CPU, _shares(None, 0.95)),
    ("churn", RATE, {UVLOOP: (AT_LEAST, 1.0)}),
    ("churn", CPU, {UVLOOP: (BELOW, 1.0)}),
    ("bulk_send", BULK_RATE, {UVLOOP: (AT_LEAST, 1.0)}),
    ("bulk_send", CPU_PER_GIB, {UVLOOP: (BELOW, 1.0)}),
    ("bulk_receive", BULK_RATE, {UVLOOP: (AT_LEAST, 1.0)}),
    ("bulk_receive", CPU_PER_GIB, {UVLOOP: (BELOW, 1.0)}),
    ("sendfile", CPU_PER_GIB, {ASYNCIO: (BELOW, 1.0)}),
    ("idle", MEMORY, {UVLOOP: (AT_MOST, 1.0)}),
)
_MOST_BYTES = 1536.0


def cases(length: Length) -> list[Case]:
    """Every case that a bar needs, in the order of the bars; streams beside them, without a bar."""
    modes = ("protocol", "buffered", "streams", "sockets", "unix", "udp")
    made = [io_cases.echo(mode, 50, 1 << 10, length) for mode in modes]
    made.insert(4, io_cases.echo("protocol", 10, 64 << 10, length))
    return made + io_cases.beside(length)


def evaluate(results: Sequence[CaseResult]) -> list[IoBar]:
    """All bars against these results."""
    by_id = {result.case.id: result for result in results}
    bars = [
        _share(by_id.get(case_id), case_id, metric, other, relation, limit)
        for case_id, metric, limits in SHARES
        for other, (relation, limit) in limits.items()
    ]
    return [*bars, _memory(by_id.get("idle"))]


def show(bars: Sequence[IoBar], *, markdown: bool = False) -> str:
    """The table, and how many bars were met."""
    table = report.markdown_table if markdown else report.text_table
    return f"{table(HEAD, [bar.cells() for bar in bars])}\n\n{targets.summary(bars)}"


def _share(
    result: CaseResult | None,
    case_id: str,
    metric: Metric,
    other: str,
    relation: str,
    limit: float,
) -> IoBar:
    against = KINDS[other].title
    if result is None:
        return IoBar(case_id, "-", against, None, limit, "not run", relation=relation)
    ratio = result.ratio(PYLOOP, other, metric)
    missing = "" if ratio is not None else _why(result, other)
    title, figure = _figure(result, metric)
    return IoBar(title, figure, against, ratio, limit, missing, relation=relation)


def _memory(result: CaseResult | None) -> IoBar:
    if result is None:
        return IoBar("idle", "-", "-", None, _MOST_BYTES, "not run")
    value = result.value(PYLOOP, MEMORY)
    missing = "" if value is not None else _why(result, PYLOOP)
    title, figure = _figure(result, MEMORY)
    return IoBar(title, figure, "- (bytes)", value, _MOST_BYTES, missing)


def _figure(result: CaseResult, metric: Metric) -> tuple[str, str]:
    figure = f"{report.cell(result, PYLOOP, metric)} {metric.unit}"
    return f"{result.case.title}: {metric.title}", figure


def _why(result: CaseResult, other: str) -> str:
    """Why there is no figure."""
    for key in (PYLOOP, other):
        samples = result.loops.get(key)
        if samples is None:
            return f"no {KINDS[key].title} here"
        if io_tables.is_absent(result, key):
            return f"{KINDS[key].title} has none"
        if samples.error is not None:
            return f"{KINDS[key].title} failed"
    return "no figure"
