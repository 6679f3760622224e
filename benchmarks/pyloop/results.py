"""Result files: writing a suite's samples as JSON, reading them back, comparing two of them."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import Case, CaseResult, Metric, Samples
from loops import ASYNCIO, PYLOOP
from machine import describe, load_average

FORMAT = 1
_LEAST_TOLERANCE = 0.10


@dataclass
class Suite:
    """The results of one benchmark program."""

    name: str
    title: str
    results: list[CaseResult]
    quick: bool
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=describe)
    load: str = field(default_factory=load_average)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    command: str = field(default_factory=lambda: command_line())
    collector: bool = True

    def find(self, case_id: str) -> CaseResult | None:
        """The result of a case, if it was run."""
        return next((r for r in self.results if r.case.id == case_id), None)


def command_line() -> str:
    """The command as a reader would type it: relative, without the files of this machine."""
    words = [f"python benchmarks/pyloop/{Path(sys.argv[0]).name}"]
    skip = False
    for word in sys.argv[1:]:
        if skip:
            skip = False
        elif word in ("--json", "--compare", "--output", "--page"):
            skip = True
        elif not word.startswith(("--json=", "--compare=", "--output=", "--page=")):
            words.append(word)
    return " ".join(words)


def write(suite: Suite, path: str | os.PathLike[str]) -> None:
    """Write every sample, so that another reading of them stays possible."""
    document: dict[str, Any] = {"format": FORMAT, **dataclasses.asdict(suite)}
    Path(path).write_text(json.dumps(document, indent=1) + "\n")


def read(path: str | os.PathLike[str]) -> Suite:
    """Read what ``write`` wrote; ValueError for anything else."""
    try:
        document = json.loads(Path(path).read_text())
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise ValueError(f"{os.fspath(path)} is not a result file of these benchmarks")
    results = []
    for entry in document.pop("results"):
        case = entry["case"]
        metrics = tuple(Metric(**metric) for metric in case.pop("metrics"))
        loops = {key: Samples(**samples) for key, samples in entry["loops"].items()}
        results.append(CaseResult(Case(**case, metrics=metrics), loops))
    return Suite(results=results, **document)


@dataclass(frozen=True)
class Change:
    """One figure of PyLoop then and now, and the change that noise could make."""

    name: str
    factor: float
    tolerance: float

    @property
    def regressed(self) -> bool:
        """Slower by more than the noise."""
        return self.factor > 1 + self.tolerance


def compare(new: Suite, old: Suite) -> list[Change]:
    """PyLoop now against PyLoop then.

    Where both runs have asyncio, PyLoop's share of asyncio is compared, so that a busier or slower
    machine does not look like a regression. The tolerance is three times the standard error of
    both medians, and at least a tenth.
    """
    changes = []
    for result in new.results:
        before = old.find(result.case.id)
        if before is None or before.case.parameters != result.case.parameters:
            continue
        for metric in result.case.metrics:
            if metric.across_rounds != "median":
                continue
            now_value, now_error = _standing(result, metric)
            then_value, then_error = _standing(before, metric)
            if now_value is None or not then_value:
                continue
            factor = now_value / then_value
            if metric.higher_is_better:
                factor = 1 / factor if factor else float("inf")
            tolerance = max(_LEAST_TOLERANCE, 3 * (now_error**2 + then_error**2) ** 0.5)
            title = f"{result.case.title}, {metric.title}"
            changes.append(Change(title, factor, tolerance))
    return changes


def _standing(result: CaseResult, metric: Metric) -> tuple[float | None, float]:
    """PyLoop's figure (as a share of asyncio's if there is one) and its relative error."""
    share = result.ratio(PYLOOP, ASYNCIO, metric)
    errors = [_error(result.loops.get(PYLOOP), metric)]
    if share is not None:
        errors.append(_error(result.loops.get(ASYNCIO), metric))
    error = sum(value**2 for value in errors) ** 0.5
    return (result.value(PYLOOP, metric) if share is None else share), error


def _error(samples: Samples | None, metric: Metric) -> float:
    """The relative standard error of a median, from the median absolute deviation."""
    values = samples.figures.get(metric.key, []) if samples else []
    if len(values) < 3:
        return _LEAST_TOLERANCE
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return 1.253 * 1.4826 * deviation / abs(middle) / len(values) ** 0.5 if middle else 0.0
