#!/usr/bin/env python3
"""Sockets under load: what a request costs the server, how many it answers, how long one waits.

A client written in Rust (crates/pyloop-load, built on demand) talks to a server on each loop, and to
a raw epoll server, the floor. Server and client have a core each. Without options: sizes of 64 B to
1 MiB at 50 connections and 1 to 1,000 connections at 1 KiB, for protocols, buffered protocols,
streams, sock_*, Unix sockets and UDP; then responses in four writes, new connections, bulk transfer,
sendfile and memory. --mode, --connections and --size choose cells instead, every combination of
them; --bars runs what the bars need and judges it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cli
import io_cases
import io_tables
import io_targets
import io_tool
import report
import results
from harness import Case, Effort
from io_cases import FULL, MODES, QUICK, Length
from pool import Pool
from results import Suite

TITLE = "PyLoop Socket Benchmark"

_EFFORT = Effort(generations=1, min_rounds=3, max_rounds=3, budget=0.0)
_BARS_EFFORT = Effort(generations=3, min_rounds=2, max_rounds=4, budget=4.0)
_CHOSEN_EFFORT = Effort(generations=1, min_rounds=5, max_rounds=9, budget=8.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, and judge if asked to; returns the exit status."""
    made = _parser()
    options = made.parse_args(arguments)
    keys = cli.loop_keys(options, made)
    cases, effort = _plan(options, made)
    if not cases:
        made.error("no cell is left: UDP takes up to 65,507 bytes, --writes not every mode")
    baseline = None
    if options.compare:
        try:
            baseline = results.read(options.compare)
        except (OSError, ValueError) as problem:
            made.error(f"--compare: {problem}")
    print(f"{TITLE}\n{'=' * len(TITLE)}", flush=True)
    try:
        print("building the load client (cargo build --release -p pyloop-load) ...", flush=True)
        os.environ[io_tool.PROGRAM_VARIABLE] = str(io_tool.build())
    except io_tool.ToolUnavailable as reason:
        print(f"✗ no load client: {reason}")
        return 1
    program = cli.Program("bench_io", TITLE, lambda _: cases, io_tables.show)
    with Pool(keys, collector=not options.no_gc) as pool:
        if not cli.warm_up(pool):
            return 1
        suite = cli.run(program, pool, effort, quick=options.quick)
    _show(suite)
    if options.json:
        results.write(suite, options.json)
    if options.page:
        options.page.write_text(_page(suite, bars=options.bars))
    return _status(options, suite, baseline)


def _parser() -> argparse.ArgumentParser:
    made = cli.parser(__doc__ or "")
    cells = made.add_argument_group("cells, separated by commas")
    cells.add_argument("--mode", metavar="NAMES", help=f"of {', '.join(MODES)}")
    cells.add_argument("--connections", metavar="COUNTS", help="such as 1,50,1000")
    cells.add_argument("--size", metavar="BYTES", help="such as 64,1024,102400")
    cells.add_argument("--writes", type=int, metavar="N", help="writes per response (default: 1)")
    made.add_argument("--seconds", type=float, metavar="S", help="how long a round counts requests")
    made.add_argument("--page", metavar="FILE", type=Path, help="write a Markdown page too")
    made.add_argument("--bars", action="store_true", help="run what the bars need, and judge it")
    made.add_argument(
        "--strict", action="store_true", help="with --bars: exit status 4 if one is missed"
    )
    return made


def _plan(options: argparse.Namespace, made: argparse.ArgumentParser) -> tuple[list[Case], Effort]:
    length = QUICK if options.quick else FULL
    if options.seconds is not None:
        if not 0.01 <= options.seconds <= 30:
            made.error("--seconds: from 0.01 to 30")
        length = Length(options.seconds, length.bulk, length.file, length.idle)
    asked = (options.mode, options.connections, options.size, options.writes)
    if options.bars:
        if any(one is not None for one in asked):
            made.error("--bars chooses its cells itself")
        return io_targets.cases(length), _EFFORT if options.quick else _BARS_EFFORT
    if options.strict:
        made.error("--strict belongs to --bars")
    if any(one is not None for one in asked):
        modes = (options.mode or ",".join(MODES)).split(",")
        unknown = [mode for mode in modes if mode not in MODES]
        if unknown:
            made.error(f"unknown mode {unknown[0]!r}: choose from {', '.join(MODES)}")
        writes = 1 if options.writes is None else options.writes
        if writes < 1:
            made.error("--writes: at least 1")
        connections = _numbers(made, "--connections", options.connections or "50")
        sizes = _numbers(made, "--size", options.size or "1024")
        cases = io_cases.chosen(modes, connections, sizes, writes, length)
        return cases, _EFFORT if options.quick else _CHOSEN_EFFORT
    return io_cases.default(length, few=options.quick), _EFFORT


def _numbers(made: argparse.ArgumentParser, option: str, text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        made.error(f"{option} {text!r}: whole numbers from 1, separated by commas")
    return numbers


def _show(suite: Suite) -> None:
    print("\n".join([*report.heading(suite), ""]))
    print(io_tables.show(suite))
    for line in report.failures(suite):
        print(f"left out: {line}")


def _page(suite: Suite, *, bars: bool) -> str:
    parts = [
        "<!-- Written by bench_io.py --page from measured results; do not edit by hand. -->",
        "# Sockets under load",
        "\n".join(f"- {line}" for line in report.heading(suite)),
        "Server and client have a core each. A cell is the median of the rounds ± half the "
        "interquartile range in per cent; \"of X\" is PyLoop's figure as a share of X's in the same "
        "run. The floor is a raw epoll server.",
    ]
    if bars:
        judged = io_targets.evaluate(suite.results)
        parts += ["## The bars", io_targets.show(judged, markdown=True)]
    parts.append(io_tables.show_markdown(suite))
    missing = report.failures(suite)
    if missing:
        parts.append("Left out:\n\n" + "\n".join(f"- {line}" for line in missing))
    return "\n\n".join(parts) + "\n"


def _status(options: argparse.Namespace, suite: Suite, baseline: Suite | None) -> int:
    status = 1 if cli.pyloop_failed(suite) else 0
    if options.bars:
        bars = io_targets.evaluate(suite.results)
        print(f"\n{io_targets.show(bars)}")
        if options.strict and not all(bar.met for bar in bars):
            status = status or 4
    if baseline is not None and cli.show_changes(suite, baseline):
        status = status or 3
    if status != 1:
        print("\n✓ All Benchmarks Complete!")
    return status


if __name__ == "__main__":
    sys.exit(main())
