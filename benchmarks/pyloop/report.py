"""Turns results into tables: plain text for terminals, Markdown for the pages.

A cell is the figure and, where rounds allow, half its interquartile range in per cent. A ratio is
PyLoop's figure as a share of the other's: below 1, PyLoop takes less.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import CaseResult, Metric
from loops import FLOOR, KINDS, PYLOOP
from results import Suite

Row = list[str]


def columns(results: Sequence[CaseResult]) -> list[str]:
    """The loops that have a column, in the order of ``KINDS``."""
    return [key for key in KINDS if any(key in result.loops for result in results)]


def number(value: float) -> str:
    """Three significant digits, thousands marked."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def cell(result: CaseResult, key: str, metric: Metric) -> str:
    """Figure and spread of one loop; a dash where it does not apply; ``failed`` where it failed."""
    samples = result.loops.get(key)
    if samples is None:
        return "-"
    value = samples.value(metric)
    if value is None:
        return "failed"
    spread = samples.spread(metric) if metric.across_rounds == "median" else None
    return number(value) if spread is None else f"{number(value)} ±{spread:.0%}"


def share(result: CaseResult, other: str, metric: Metric) -> str:
    """PyLoop as a share of ``other``, or a dash."""
    ratio = result.ratio(PYLOOP, other, metric)
    return "-" if ratio is None else f"{ratio:.2f}"


def table(results: Sequence[CaseResult]) -> tuple[Row, list[Row]]:
    """One row per case and metric: figures of every loop, then PyLoop as a share of each."""
    keys = columns(results)
    others = [key for key in keys if key != PYLOOP] if PYLOOP in keys else []
    head = ["work", "unit", *(KINDS[key].title for key in keys)]
    head += [f"of {KINDS[key].title}" for key in others]
    rows = []
    for result in results:
        for metric in result.case.metrics:
            name = result.case.title
            if len(result.case.metrics) > 1:
                name = f"{name}: {metric.title}"
            row = [name, metric.unit, *(cell(result, key, metric) for key in keys)]
            rows.append(row + [share(result, key, metric) for key in others])
    return head, rows


def text_table(head: Row, rows: Sequence[Row]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [value.rjust(width) for value, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(head: Row, rows: Sequence[Row]) -> str:
    """The same as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    lines.insert(1, "|---|" + "---:|" * (len(head) - 1))
    return "\n".join(lines)


def failures(suite: Suite) -> list[str]:
    """One line for each loop that is absent and each workload that failed."""
    lines = [f"{KINDS[key].title}: {reason}" for key, reason in suite.absent.items()]
    for result in suite.results:
        for key, samples in result.loops.items():
            if samples.error is not None:
                lines.append(f"{KINDS[key].title}, {result.case.title}: {samples.error}")
    return lines


def heading(suite: Suite) -> list[str]:
    """What was measured where: machine, versions, date, command, rounds."""
    of = suite.machine
    rounds = sorted({result.rounds() for result in suite.results})
    span = f"{rounds[0]}-{rounds[-1]}" if len(rounds) > 1 else str(rounds[0] if rounds else 0)
    loops = ", ".join(
        KINDS[key].title + ("" if key == FLOOR else f" {suite.versions.get(key, '')}".rstrip())
        for key in columns(suite.results)
    )
    return [
        f"machine: {of['processor']}, {of['cores']} cores, {of['memory']}, {of['system']}, "
        f"governor {of['governor']}, load average {suite.load}",
        f"python: {of['python']}, {of['compiler']}",
        f"loops: {loops}",
        f"date: {suite.date}",
        f"command: {suite.command}",
        f"method: medians of {span} interleaved rounds, ± half the interquartile range; "
        f""
        f"garbage collector {'on' if suite.collector else 'off'} for all, run before each round",
    ]
