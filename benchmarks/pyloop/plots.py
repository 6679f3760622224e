"""The figures: throughput by scale and speedup by workload, as SVG (matplotlib).

Without matplotlib nothing is drawn and the pages leave the pictures out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import reading
from bench_scaling import SCHEDULE
from harness import PER_OPERATION, CaseResult
from loops import ASYNCIO, FLOOR, KINDS, PYLOOP
from report import columns

THROUGHPUT = "throughput_by_scale.svg"
TIMERS = "timers_by_scale.svg"
SPEEDUP = "speedup_by_workload.svg"


def available() -> bool:
    """Whether matplotlib can be found."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(results: Sequence[CaseResult], directory: Path) -> list[str]:
    """Write the figures for which there is data; returns their file names."""
    if not available():
        return []
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "pyloop", "font.size": 9, "axes.grid": True, "grid.alpha": 0.25}
    )
    callbacks = reading.sizes(results, "callbacks_")
    timers = reading.sizes(results, "timers_0_9ms_")
    drawn = []
    if len(callbacks) > 1:
        _by_scale(
            directory / THROUGHPUT,
            callbacks,
            lambda result, key: _inverse(result.value(key, PER_OPERATION), 1e9),
            ("callbacks queued at once", "callbacks per second"),
        )
        drawn.append(THROUGHPUT)
    if len(timers) > 1:
        _by_scale(
            directory / TIMERS,
            timers,
            lambda result, key: _inverse(
                result.value(key, SCHEDULE), result.case.parameters["count"] * 1e3
            ),
            ("timers of 0-9 ms pending", "timers scheduled per second"),
        )
        drawn.append(TIMERS)
    rows = reading.headline(results)
    if rows:
        _speedups(directory / SPEEDUP, rows)
        drawn.append(SPEEDUP)
    return drawn


def _inverse(value: float | None, numerator: float) -> float | None:
    return numerator / value if value else None


def _by_scale(
    path: Path,
    results: Sequence[CaseResult],
    value: Callable[[CaseResult, str], float | None],
    labels: tuple[str, str],
) -> None:
    """One line a loop over a logarithmic size."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, axes = _canvas(4.2)
    for key in columns(results):
        points = [(result.case.parameters["count"], value(result, key)) for result in results]
        known = [(x, y) for x, y in points if y is not None]
        if known:
            axes.plot(
                [x for x, _ in known],
                [y for _, y in known],
                color=KINDS[key].colour,
                label=KINDS[key].title,
                marker="o",
                markersize=4,
                linewidth=2.2 if key == PYLOOP else 1.4,
                linestyle="--" if key == FLOOR else "-",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def _speedups(path: Path, rows: Sequence[tuple[str, dict[str, float]]]) -> None:
    """Bars of speed against asyncio, one group a workload; asyncio is the line at 1."""
    keys = [key for key in KINDS if key != ASYNCIO and any(key in speeds for _, speeds in rows)]
    figure, axes = _canvas(0.9 + 0.13 * len(rows) * (len(keys) + 1))
    height = 0.84 / max(1, len(keys))
    for offset, key in enumerate(keys):
        places = [index for index, (_, speeds) in enumerate(rows) if key in speeds]
        axes.barh(
            [index + (offset - (len(keys) - 1) / 2) * height for index in places],
            [rows[index][1][key] - 1 for index in places],
            left=1,
            height=height,
            color=KINDS[key].colour,
            label=KINDS[key].title,
        )
    axes.axvline(1, color=KINDS[ASYNCIO].colour, linewidth=1.4, label="Asyncio = 1")
    axes.set_xscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("speed against asyncio in the same run (higher is faster)")
    axes.legend(frameon=False, ncols=len(keys) + 1, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    _save(figure, path)


def _canvas(height: float) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, height), layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
