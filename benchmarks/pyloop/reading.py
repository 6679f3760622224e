"""Sentences drawn from the figures: who wins where, what grows, what is lost.

Owns every statement about results that the pages make, so that no page says what its own data do
not. A difference counts only where it exceeds the spreads of both figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import PER_OPERATION, CaseResult, Metric
from loops import FLOOR, KINDS, PEERS, PYLOOP
from report import columns, number

# One figure a workload for the headline table and the plot: (case id, short name).
HEADLINES: tuple[tuple[str, str], ...] = (
    ("queued", "call_soon, 50k queued"),
    ("chain", "callback chain"),
    ("empty_iterations", "start, one pass, stop"),
    ("cancel", "call_later + cancel"),
    ("cancel_300k", "the same, 300k pending"),
    ("cancel_per_pass", "the same, 100 per pass"),
    ("due_now", "call_later(0) + fire"),
    ("sleep_zero", "sleep(0)"),
    ("future", "future awaited"),
    ("create_task", "create_task awaited"),
    ("gather", "gather"),
    ("task_group", "TaskGroup"),
    ("wait_for", "wait_for"),
    ("timeout", "asyncio.timeout"),
    ("queue", "queue ping-pong"),
    ("raising_task", "task that raises"),
    ("raising_callback", "callback that raises"),
    ("wake_asleep", "thread wakes loop, latency"),
    ("wake_full_rate", "thread at full rate"),
)


@dataclass(frozen=True)
class Comparison:
    """PyLoop against one peer on one figure: above 1, PyLoop is that many times faster."""

    title: str
    peer: str
    speedup: float
    beyond_spread: bool


def comparison(result: CaseResult, metric: Metric, peer: str) -> Comparison | None:
    """PyLoop against ``peer``, or None where either has no positive figure."""
    mine, theirs = result.value(PYLOOP, metric), result.value(peer, metric)
    if mine is None or theirs is None or mine <= 0 or theirs <= 0:
        return None
    speedup = mine / theirs if metric.higher_is_better else theirs / mine
    noise = sum(result.loops[key].spread(metric) or 0.0 for key in (PYLOOP, peer))
    title = result.case.title
    if len(result.case.metrics) > 1:
        title = f"{title}: {metric.title}"
    away = max(speedup, 1 / speedup) - 1
    return Comparison(title, peer, speedup, away > noise)


def losing(results: Sequence[CaseResult]) -> list[Comparison]:
    """Every figure in which a peer beats PyLoop, worst first."""
    found = []
    for result in results:
        for metric in result.case.metrics:
            for peer in PEERS:
                one = comparison(result, metric, peer)
                if one is not None and one.speedup < 1:
                    found.append(one)
    return sorted(found, key=lambda one: one.speedup)


def headline(results: Sequence[CaseResult]) -> list[tuple[str, dict[str, float]]]:
    """For each headline workload: speed of every loop against asyncio (asyncio is 1)."""
    by_id = {result.case.id: result for result in results}
    rows = []
    for case_id, name in HEADLINES:
        result = by_id.get(case_id)
        if result is None:
            continue
        metric = result.case.metrics[0]
        base = result.value("asyncio", metric)
        speeds = {}
        for key in (PYLOOP, *PEERS, FLOOR):
            value = result.value(key, metric)
            if base and value:
                speeds[key] = base / value
        if speeds:
            rows.append((name, speeds))
    return rows


def sizes(results: Sequence[CaseResult], prefix: str) -> list[CaseResult]:
    """The cases of one scale, smallest first (collector-off twins left out)."""
    found = [
        result
        for result in results
        if result.case.id.startswith(prefix) and not result.case.id.endswith("_no_gc")
    ]
    return sorted(found, key=lambda r: int(r.case.parameters.get("pending", _count(r))))


def _count(result: CaseResult) -> int:
    return int(result.case.parameters["count"])


def growth(
    small: CaseResult | None, large: CaseResult | None, metric: Metric
) -> list[tuple[str, float]]:
    """For each loop, the figure at the large size as a multiple of that at the small one."""
    if small is None or large is None:
        return []
    found = []
    for key in columns([small, large]):
        low, high = small.value(key, metric), large.value(key, metric)
        if low and high:
            found.append((key, high / low))
    return found


def growth_sentence(
    small: CaseResult | None, large: CaseResult | None, metric: Metric, what: str
) -> str:
    """``From 10k to 1M ... : PyLoop x1.30, ...``, or that it was not measured."""
    factors = growth(small, large, metric)
    if small is None or large is None or not factors:
        return f"{what}: not measured in this run."
    listed = ", ".join(f"{KINDS[key].title} x{factor:.2f}" for key, factor in factors)
    return f"{what}, from {small.case.title} to {large.case.title}: {listed}."


def standing_sentence(results: Sequence[CaseResult], metric: Metric, what: str) -> list[str]:
    """For each peer: at how many sizes PyLoop is faster, slower, or within the spread."""
    lines = []
    for peer in PEERS:
        found = [comparison(result, metric, peer) for result in results]
        known = [one for one in found if one is not None]
        if not known:
            continue
        faster = [one for one in known if one.speedup > 1 and one.beyond_spread]
        slower = [one for one in known if one.speedup < 1 and one.beyond_spread]
        level = len(known) - len(faster) - len(slower)
        low, high = min(one.speedup for one in known), max(one.speedup for one in known)
        line = (
            f"{what}, against {KINDS[peer].title}: faster at {len(faster)} of {len(known)} sizes, "
            f"slower at {len(slower)}, within the spread at {level}; "
            f"{low:.2f} to {high:.2f} times its speed"
        )
        if slower:
            line += "; slower at " + ", ".join(one.title for one in slower)
        lines.append(line + ".")
    return lines


def collector_sentence(results: Sequence[CaseResult]) -> str:
    """How much of the growth to a million callbacks the floor itself shows, collector on and off."""
    by_id = {result.case.id: result for result in results}
    parts = []
    for suffix, state in (("", "on"), ("_no_gc", "off")):
        small, large = by_id.get(f"callbacks_10k{suffix}"), by_id.get(f"callbacks_1M{suffix}")
        factor = dict(growth(small, large, PER_OPERATION)).get(FLOOR)
        if factor is not None:
            parts.append(f"x{factor:.2f} with the garbage collector {state}")
    if not parts:
        return "The floor's own growth was not measured in this run."
    return (
        "The floor, which has no event loop, grows from 10k to 1M queued callbacks by "
        + " and ".join(parts)
        + ": what the interpreter itself costs at that size."
    )


def lateness_sentences(results: Sequence[CaseResult]) -> list[str]:
    """Lateness of every loop, early firing named."""
    lines = []
    for result in results:
        if not result.case.id.startswith("late_"):
            continue
        parts = []
        for key in columns([result]):
            figures = {metric.key: result.value(key, metric) for metric in result.case.metrics}
            mean, early = figures.get("mean_us"), figures.get("early")
            if mean is None:
                continue
            text = f"{KINDS[key].title} {number(mean)} us late on average"
            parts.append(text + (f", {early:.0f} fired early" if early else ""))
        if parts:
            lines.append(f"{result.case.title}: " + "; ".join(parts) + ".")
    return lines
