"""The bars that PyLoop has set itself, and whether a run met them.

Wall time decides. Beside it stands the ratio of CPU times where the work is nothing but computing:
on a machine with other work the two differ, and the second is the steadier.

Owns the list of bars; reads results by case id and knows nothing of how they were measured. A row
whose figures are missing says so and does not count as met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import report
from bench_scaling import SCHEDULE, TIMERS, TOTAL, name
from harness import PER_OPERATION, CaseResult, Metric
from loops import ASYNCIO, FLOOR, KINDS, PYLOOP, RLOOP, UVLOOP

Results = Mapping[str, CaseResult]
_CPU = Metric("cpu_ns", "CPU time per operation", "ns")
MEDIAN_LATENCY = Metric("median_us", "median latency", "us")
_TIMER_SIZES = tuple(size for size in TIMERS if size <= 10_000)


@dataclass(frozen=True)
class Bar:
    """One line of the table: a work, a figure of PyLoop, and what it may be at most."""

    work: str
    figure: str
    against: str
    measured: float | None
    limit: float
    missing: str = ""
    by_cpu: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure exists and is within the limit."""
        return self.measured is not None and self.measured <= self.limit

    def cells(self) -> list[str]:
        """The row as text."""
        head = [self.work, self.figure, self.against]
        limit = f"<= {self.limit:g}"
        if self.measured is None:
            return [*head, "-", "-", limit, self.missing]
        verdict = "met" if self.met else "MISSED"
        # Two decimals would turn a figure just above its bar into one that seems to meet it.
        shown = f"{self.measured:.2f}"
        if not self.met and float(shown) <= self.limit:
            shown = f"{self.measured:.4g}"
        by_cpu = "-" if self.by_cpu is None else f"{self.by_cpu:.2f}"
        return [*head, shown, by_cpu, limit, verdict]


HEAD = ["work", "PyLoop", "as a share of", "measured", "by CPU time", "bar", "verdict"]

# Case id, figure, and the most that PyLoop may take as a share of each peer.
SHARES: tuple[tuple[str, Metric, dict[str, float]], ...] = (
    ("queued", PER_OPERATION, {FLOOR: 1.10, RLOOP: 0.80, UVLOOP: 0.45}),
    ("chain", PER_OPERATION, {FLOOR: 1.35, RLOOP: 0.70, UVLOOP: 0.25}),
    ("cancel", PER_OPERATION, {RLOOP: 0.45, UVLOOP: 0.15}),
    ("due_now", PER_OPERATION, {RLOOP: 0.70, UVLOOP: 0.65}),
    ("sleep_zero", PER_OPERATION, {RLOOP: 0.82, UVLOOP: 0.45}),
    ("future", PER_OPERATION, {RLOOP: 0.80, UVLOOP: 0.45}),
    ("create_task", PER_OPERATION, {RLOOP: 0.75, UVLOOP: 0.55}),
    ("timeout", PER_OPERATION, {RLOOP: 0.65, UVLOOP: 0.55}),
    ("wake_asleep", MEDIAN_LATENCY, {RLOOP: 1.0, UVLOOP: 0.8}),
    ("wake_full_rate", PER_OPERATION, {RLOOP: 1.0, UVLOOP: 0.5}),
)
# Case id, the case it is compared with (both on PyLoop), the limit.
OWN: tuple[tuple[str, str, float], ...] = (
    ("cancel_300k", "cancel", 1.3),
    ("callbacks_1M_no_gc", "callbacks_10k_no_gc", 1.5),
)
# Case id, figure of PyLoop, the limit in the figure's own unit.
ABSOLUTE: tuple[tuple[str, str, float], ...] = (
    ("late_1_10ms", "early", 0),
    ("late_1_10ms", "mean_us", 100),
    ("late_100us", "early", 0),
    ("idle", "wakeups", 0),
    ("memory_cancelled", "left_mib", 1),
    ("memory_pending", "left_mib", 4),
)


def case_ids() -> set[str]:
    """Every case that a bar needs."""
    found = {row[0] for row in SHARES} | {row[0] for row in ABSOLUTE}
    found |= {case_id for row in OWN for case_id in row[:2]}
    return found | {f"timers_0_9ms_{name(size)}" for size in _TIMER_SIZES}


def evaluate(results: Sequence[CaseResult]) -> list[Bar]:
    """All bars against these results."""
    by_id = {result.case.id: result for result in results}
    bars = [
        _share(by_id.get(case_id), case_id, metric, other, limit)
        for case_id, metric, limits in SHARES
        for other, limit in limits.items()
    ]
    bars += [_own(by_id, case_id, base_id, limit) for case_id, base_id, limit in OWN]
    for size in _TIMER_SIZES:
        case_id = f"timers_0_9ms_{name(size)}"
        bars += [
            _share(by_id.get(case_id), case_id, metric, ASYNCIO, 1.0)
            for metric in (SCHEDULE, TOTAL)
        ]
    return bars + [_absolute(by_id.get(row[0]), *row) for row in ABSOLUTE]


def show(bars: Sequence[Bar], *, markdown: bool = False) -> str:
    """The table, and how many bars were met."""
    rows = [bar.cells() for bar in bars]
    text = report.markdown_table(HEAD, rows) if markdown else report.text_table(HEAD, rows)
    return f"{text}\n\n{summary(bars)}"


def summary(bars: Sequence[Bar]) -> str:
    """One line: how many are met, missed, not measured."""
    met = sum(bar.met for bar in bars)
    absent = sum(bar.measured is None for bar in bars)
    missed = len(bars) - met - absent
    return f"{met} of {len(bars)} bars met, {missed} MISSED, {absent} not measured"


def _share(
    result: CaseResult | None, case_id: str, metric: Metric, other: str, limit: float
) -> Bar:
    against = KINDS[other].title
    if result is None:
        return Bar(case_id, "-", against, None, limit, "not run")
    title = _title(result, metric)
    figure = f"{report.cell(result, PYLOOP, metric)} {metric.unit}"
    ratio = result.ratio(PYLOOP, other, metric)
    missing = _why(result, other) if ratio is None else ""
    by_cpu = result.ratio(PYLOOP, other, _CPU) if metric == PER_OPERATION else None
    return Bar(title, figure, against, ratio, limit, missing, by_cpu)


def _own(results: Results, case_id: str, base_id: str, limit: float) -> Bar:
    result, base = results.get(case_id), results.get(base_id)
    if result is None or base is None:
        return Bar(case_id, "-", f"itself, {base_id}", None, limit, "not run")
    figure = f"{report.cell(result, PYLOOP, PER_OPERATION)} ns"
    mine, own = result.value(PYLOOP, PER_OPERATION), base.value(PYLOOP, PER_OPERATION)
    ratio = mine / own if mine is not None and own else None
    missing = _why(result, PYLOOP) if ratio is None else ""
    cpu, own_cpu = result.value(PYLOOP, _CPU), base.value(PYLOOP, _CPU)
    by_cpu = cpu / own_cpu if cpu is not None and own_cpu else None
    against = f"itself, {base.case.title}"
    return Bar(result.case.title, figure, against, ratio, limit, missing, by_cpu)


def _absolute(result: CaseResult | None, case_id: str, key: str, limit: float) -> Bar:
    if result is None:
        return Bar(case_id, "-", "-", None, limit, "not run")
    metric = next(metric for metric in result.case.metrics if metric.key == key)
    value = result.value(PYLOOP, metric)
    title, figure = _title(result, metric), f"{report.cell(result, PYLOOP, metric)} {metric.unit}"
    missing = _why(result, PYLOOP) if value is None else ""
    return Bar(title, figure, f"- ({metric.unit})", value, limit, missing)


def _title(result: CaseResult, metric: Metric) -> str:
    several = len(result.case.metrics) > 1
    return f"{result.case.title}: {metric.title}" if several else result.case.title


def _why(result: CaseResult, other: str) -> str:
    """Why there is no figure."""
    for key in (PYLOOP, other):
        samples = result.loops.get(key)
        if samples is None:
            return f"no {KINDS[key].title} here"
        if samples.error is not None:
            return f"{KINDS[key].title} failed"
    return "no figure"
