"""The pages: BENCHMARK_RESULTS.md, SCALING_ANALYSIS.md, QUICK_REFERENCE.md, README.md's table.

Owns their lay-out. Every figure comes from the results given, every statement about them from
``reading.py``; the README is hand-written but for the block between its two markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plots
import reading
import report
import targets
from bench_scaling import SCHEDULE, TOTAL
from bench_timers import CANCEL, INSERT
from harness import PER_OPERATION, CaseResult
from loops import ASYNCIO, FLOOR, KINDS, PEERS, PYLOOP
from results import Suite

BEGIN, END = "<!-- headline: begin -->", "<!-- headline: end -->"
_GENERATED = "<!-- Written by run_all.py from measured results; do not edit by hand. -->"


def write(suites: Sequence[Suite], directory: Path, readme: Path) -> list[Path]:
    """Write all pages and figures into ``directory``; returns what was written."""
    results = [result for suite in suites for result in suite.results]
    drawn = plots.draw(results, directory)
    pages = {
        "BENCHMARK_RESULTS.md": results_page(suites, results, drawn),
        "SCALING_ANALYSIS.md": scaling_page(suites, results, drawn),
        "QUICK_REFERENCE.md": reference_page(suites, results),
        "README.md": readme_page(readme.read_text(), suites, results),
    }
    for name, text in pages.items():
        (directory / name).write_text(text)
    return [directory / name for name in (*pages, *drawn)]


def results_page(suites: Sequence[Suite], results: list[CaseResult], drawn: list[str]) -> str:
    """Every table of the run."""
    parts = [
        _GENERATED,
        "# Benchmark results",
        _heading(suites),
        _legend(),
        "## The bars",
        targets.show(targets.evaluate(results), markdown=True),
        "## Speed by workload",
        _picture(plots.SPEEDUP, "Speed of every loop against asyncio, by workload", drawn),
        _headline_table(results),
        "## Rows that PyLoop loses",
        _losing(results),
    ]
    for suite in suites:
        rounds = sorted({result.rounds() for result in suite.results}) or [0]
        parts += [
            f"## {suite.title}",
            f"`python benchmarks/pyloop/{suite.name}.py`, {rounds[0]} to {rounds[-1]} rounds.",
            report.markdown_table(*report.table(suite.results)),
        ]
        missing = report.failures(suite)
        if missing:
            parts.append("Left out:\n\n" + _bullets(missing))
    return _join(parts)


def scaling_page(suites: Sequence[Suite], results: list[CaseResult], drawn: list[str]) -> str:
    """Question, method, tables, reading, threats to validity."""
    callbacks = reading.sizes(results, "callbacks_")
    timers = reading.sizes(results, "timers_0_9ms_")
    inserts = reading.sizes(results, "insert_")
    twins = [result for result in results if result.case.id.endswith("_no_gc")]
    return _join(
        [
            _GENERATED,
            "# Scaling analysis",
            "## Question",
            "Does the cost of a callback or of a timer stay the same when there are many of them, "
            "and from which size on, if any, does another loop overtake PyLoop?",
            "## Method",
            "`bench_scaling.py` queues 1,000 to 1,000,000 callbacks that do nothing and runs them; "
            "it schedules 100 to 1,000,000 timers of 0 to 9 ms and runs until the last has fired. "
            "`bench_timers.py` inserts and cancels 10,000 timers among up to 1,000,000 that are "
            "pending. All sizes of a kind, on all loops, are interleaved round by round, each loop "
            "in a process of its own; the figures are medians. The floor is the same work with no "
            "event loop: a ring of callbacks in C.",
            _heading(suites),
            "## Tables",
            _legend(),
            "### Callbacks",
            _picture(plots.THROUGHPUT, "Callbacks per second by number queued", drawn),
            _table(callbacks),
            "With the garbage collector off:",
            _table(twins),
            "### Timers",
            _picture(plots.TIMERS, "Timers scheduled per second by number pending", drawn),
            _table(timers),
            "### Insert and cancel by number pending",
            _table(inserts),
            "## Reading",
            _bullets(_scaling_reading(callbacks, twins, timers, inserts, results)),
            "## Threats to validity",
            _bullets(_threats(suites)),
        ]
    )


def _scaling_reading(
    callbacks: list[CaseResult],
    twins: list[CaseResult],
    timers: list[CaseResult],
    inserts: list[CaseResult],
    results: list[CaseResult],
) -> list[str]:
    by_id = {result.case.id: result for result in callbacks}
    largest = callbacks[-1] if callbacks else None
    sentences = [
        *reading.standing_sentence(callbacks, PER_OPERATION, "Callbacks"),
        reading.growth_sentence(
            by_id.get("callbacks_10k"), largest, PER_OPERATION, "Cost per callback"
        ),
        reading.collector_sentence(results),
    ]
    if len(twins) == 2:
        what = "Cost per callback, collector off"
        sentences.append(reading.growth_sentence(twins[0], twins[1], PER_OPERATION, what))
    sentences += reading.standing_sentence(timers, SCHEDULE, "Scheduling timers")
    sentences += reading.standing_sentence(timers, TOTAL, "Timers, total time")
    if any(result.value("uvloop", TOTAL) for result in timers):
        sentences.append(
            "The total of the smaller sizes is mostly waiting: the last timer is due after 9 ms, "
            "and a loop that rounds its clock or fires early (see the lateness table) gains there."
        )
    if len(inserts) > 1:
        for metric, what in ((INSERT, "Cost of an insertion"), (CANCEL, "Cost of a cancellation")):
            sentences.append(reading.growth_sentence(inserts[0], inserts[-1], metric, what))
    return sentences


def _threats(suites: Sequence[Suite]) -> list[str]:
    of = suites[0].machine
    threats = [
        f"One machine ({of['processor']}, {of['cores']} cores), one interpreter ({of['python']}): "
        "ratios carry over better than nanoseconds, and neither is certain elsewhere.",
        "The load average was "
        + " / ".join(suite.load for suite in suites)
        + " at the end of the suites; other work on the machine widens the spreads, and a virtual "
        "machine's neighbours do so unseen.",
        "Callbacks that do nothing show the loop at its most visible: in a program that works in "
        "its callbacks the differences shrink accordingly.",
        "A million callbacks are a million live contexts, which the garbage collector scans; "
        "that share belongs to no loop, hence the rows with the collector off.",
        "Each loop's process lives through all workloads of a suite, so a later workload meets the "
        "heap that an earlier one left; a full run replaces the processes between generations.",
    ]
    if "no PGO" in of["python"]:
        threats.append(
            "The interpreter was built without profile-guided optimisation: code in Python "
            "(asyncio's loop above all) runs faster on a distributor's build."
        )
    if any(suite.quick for suite in suites):
        threats.append("This was a quick run: few rounds, so small differences mean nothing.")
    return threats


def reference_page(suites: Sequence[Suite], results: list[CaseResult]) -> str:
    """One page: commands and headline figures."""
    bars = targets.evaluate(results)
    missed = [bar for bar in bars if bar.measured is not None and not bar.met]
    lines = [f"{bar.work}: {bar.cells()[3]} of {bar.against}, bar {bar.limit:g}" for bar in missed]
    return _join(
        [
            _GENERATED,
            "# Quick reference",
            "## Commands",
            "```\n"
            "python benchmarks/pyloop/run_all.py --quick        all suites, about a minute\n"
            "python benchmarks/pyloop/run_all.py                all suites, writes these pages\n"
            "python benchmarks/pyloop/bench_event_loop.py       callbacks, timers, overhead\n"
            "python benchmarks/pyloop/bench_scaling.py          1k-1M callbacks, 100-1M timers\n"
            "python benchmarks/pyloop/bench_timers.py           lateness, cancelling, memory\n"
            "python benchmarks/pyloop/bench_wakeup.py           other threads, idle loops\n"
            "python benchmarks/pyloop/bench_tasks.py            tasks, futures, time-outs\n"
            "python benchmarks/pyloop/bench_targets.py          the bars, met or missed\n"
            "each: --help --quick --json FILE --loops pyloop,uvloop --no-gc\n"
            "suites: --compare BASELINE.json\n"
            "```",
            "## Headline figures",
            _heading(suites),
            _headline_table(results),
            targets.summary(bars) + ".",
            "Missed:\n\n" + _bullets(lines) if lines else "",
            "## Rows that PyLoop loses",
            _losing(results, most=12),
        ]
    )


def readme_page(text: str, suites: Sequence[Suite], results: list[CaseResult]) -> str:
    """The hand-written README with its table of figures replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no {BEGIN} ... {END} block")
    first = suites[0]
    block = _join(
        [
            f"{first.date}, {first.machine['python']}, {first.machine['processor']}, "
            f"{first.machine['cores']} cores; speed against asyncio in the same run, "
            "all rows of the headline list, lost ones included:",
            _headline_table(results),
        ]
    )
    return f"{before}{BEGIN}\n{block}{END}{after}"


def _headline_table(results: list[CaseResult]) -> str:
    """Speed against asyncio; the share of each peer's time that PyLoop needs stands beside it."""
    rows = reading.headline(results)
    if not rows:
        return "No headline workload was measured."
    keys = [key for key in KINDS if any(key in speeds for _, speeds in rows)]
    others = [key for key in (*PEERS, FLOOR) if key in keys and key != ASYNCIO]
    head = ["workload", *(KINDS[key].title for key in keys)]
    head += [f"PyLoop / {KINDS[key].title}" for key in others]
    body = []
    for name, speeds in rows:
        row = [name] + [f"{speeds[key]:.2f}x" if key in speeds else "-" for key in keys]
        for key in others:
            known = key in speeds and PYLOOP in speeds
            row.append(f"{speeds[key] / speeds[PYLOOP]:.2f}" if known else "-")
        body.append(row)
    note = (
        "Columns with an x: speed against asyncio, higher is faster. "
        "PyLoop / peer: time that PyLoop takes as a share of the peer's, lower is faster."
    )
    return f"{report.markdown_table(head, body)}\n\n{note}"


def _losing(results: list[CaseResult], most: int | None = None) -> str:
    found = reading.losing(results)
    if not found:
        return "None in this run."
    lines = [
        f"{one.title}: {KINDS[one.peer].title} is {1 / one.speedup:.2f} times as good"
        + ("" if one.beyond_spread else " (within the spread)")
        for one in found[:most]
    ]
    if most is not None and len(found) > most:
        lines.append(f"{len(found) - most} more in BENCHMARK_RESULTS.md")
    return _bullets(lines)


def _table(results: list[CaseResult]) -> str:
    if not results:
        return "Not measured in this run."
    return report.markdown_table(*report.table(results))


def _heading(suites: Sequence[Suite]) -> str:
    return _bullets(report.heading(suites[0])) if suites else ""


def _legend() -> str:
    return (
        "A cell is the median of the rounds ± half the interquartile range in per cent. "
        "\"of X\" is PyLoop's figure as a share of X's in the same run."
    )


def _picture(name: str, text: str, drawn: list[str]) -> str:
    return f"![{text}]({name})" if name in drawn else ""


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _join(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
