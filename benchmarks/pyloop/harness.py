"""Runs cases: rounds of the loops interleaved, samples kept, failures noted, progress shown.

A case is a workload with parameters. Cases of one group are interleaved too, because they are
compared with each other. Round by round the loop that goes first changes. In a full run the
processes are replaced between generations, so that no figure hangs on one process's memory layout.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from loops import FLOOR, KINDS
from pool import Pool, WorkerFailure


@dataclass(frozen=True)
class Metric:
    """One figure of a workload, and how it is shown."""

    key: str
    title: str
    unit: str
    higher_is_better: bool = False
    across_rounds: Literal["median", "max"] = "median"


PER_OPERATION = Metric("ns", "per operation", "ns")


@dataclass(frozen=True)
class Case:
    """One workload at one size."""

    id: str
    title: str
    work: str
    parameters: dict[str, Any]
    metrics: tuple[Metric, ...] = (PER_OPERATION,)
    group: str = ""
    warm_up: dict[str, Any] = field(default_factory=dict)
    floor: bool = False
    max_rounds: int | None = None
    fresh_process: bool = False
    collector: bool = True
    timeout: float = 300.0


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds per case within a budget of seconds per group."""

    generations: int
    min_rounds: int
    max_rounds: int
    budget: float


QUICK = Effort(generations=1, min_rounds=3, max_rounds=7, budget=1.0)
FULL = Effort(generations=3, min_rounds=2, max_rounds=7, budget=4.0)


@dataclass
class Samples:
    """What one loop gave for one case: a list per figure, or the reason for having none."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None

    def add(self, figures: dict[str, float]) -> None:
        """Append one round."""
        for key, value in figures.items():
            self.figures.setdefault(key, []).append(value)

    def value(self, metric: Metric) -> float | None:
        """The figure to publish."""
        values = self.figures.get(metric.key)
        if not values:
            return None
        return max(values) if metric.across_rounds == "max" else statistics.median(values)

    def spread(self, metric: Metric) -> float | None:
        """Half the distance between the quartiles, as a share of the median."""
        values = self.figures.get(metric.key)
        if not values or len(values) < 3:
            return None
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return (high - low) / 2 / abs(middle) if middle else None


@dataclass
class CaseResult:
    """A case with what every loop gave."""

    case: Case
    loops: dict[str, Samples]

    def value(self, loop: str, metric: Metric) -> float | None:
        """The published figure of one loop, or None."""
        samples = self.loops.get(loop)
        return samples.value(metric) if samples else None

    def ratio(self, loop: str, other: str, metric: Metric) -> float | None:
        """``loop`` as a share of ``other``."""
        mine, theirs = self.value(loop, metric), self.value(other, metric)
        return mine / theirs if mine is not None and theirs else None

    def rounds(self) -> int:
        """The most rounds that any loop made."""
        counts = [len(v) for s in self.loops.values() for v in s.figures.values()]
        return max(counts, default=0)


class Progress:
    """One line that says what runs; plain lines where the output is not a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def step(self, text: str) -> None:
        """Something smaller has begun (terminals only)."""
        if self._live:
            sys.stderr.write(f"\r\x1b[K{self._prefix()} {text}")
            sys.stderr.flush()

    def done(self, text: str) -> None:
        """A group is finished."""
        self._done += 1
        self.step(text)
        if not self._live:
            print(f"{self._prefix()} {text}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the terminal clean."""
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _prefix(self) -> str:
        return f"  [{self._done}/{self._total} {time.monotonic() - self._start:5.1f} s]"


def run_cases(cases: Sequence[Case], pool: Pool, effort: Effort) -> list[CaseResult]:
    """Run all cases on all loops of the pool; the order of the results is the order given."""
    results = {
        case.id: CaseResult(
            case,
            {key: Samples() for key in pool.workers if case.floor or key != FLOOR},
        )
        for case in cases
    }
    groups = [list(members) for _, members in groupby(cases, lambda case: case.group or case.id)]
    progress = Progress(len(groups) * effort.generations)
    for generation in range(effort.generations):
        if generation:
            pool.restart()
        for group in groups:
            _run_group([results[case.id] for case in group], pool, effort, progress, generation)
            progress.done(group[0].group or group[0].title)
    progress.clear()
    return [results[case.id] for case in cases]


def _run_group(
    group: list[CaseResult], pool: Pool, effort: Effort, progress: Progress, generation: int
) -> None:
    """Rounds of one group until its budget is spent, within the bounds of the effort."""
    end = time.monotonic() + effort.budget
    for number in range(effort.max_rounds):
        if number >= effort.min_rounds and time.monotonic() > end:
            break
        for result in group:
            limit = result.case.max_rounds
            share = effort.max_rounds if limit is None else -(-limit // effort.generations)
            if number < share and (limit is None or result.rounds() < limit):
                _run_round(result, pool, progress, generation + number)


def _run_round(result: CaseResult, pool: Pool, progress: Progress, number: int) -> None:
    case = result.case
    for key in _rotated(list(result.loops), number):
        samples = result.loops[key]
        if samples.error is not None:
            continue
        progress.step(f"{case.title}: {KINDS[key].title}, round {number + 1}")
        worker = pool.workers[key]
        if case.fresh_process:
            worker.stop()
        try:
            figures = worker.ask(
                case.work,
                case.parameters,
                warm_up=case.warm_up,
                collector=case.collector and pool.collector,
                timeout=case.timeout,
            )
            samples.add(figures)
        except WorkerFailure as failure:
            samples.error = str(failure)
        if case.fresh_process:
            worker.stop()


def _rotated(keys: list[str], number: int) -> Iterator[str]:
    for offset in range(len(keys)):
        yield keys[(number + offset) % len(keys)]
