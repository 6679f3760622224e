"""Owns the comparison of asyncio's transports and PyLoop's over random scripts; also a program:

cd tests/pyloop && python -m support.transport_compare --seconds 60
cd tests/pyloop && python -m support.transport_compare --seed 1234 --shape exact
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import pprint
import sys
import time
import traceback
from asyncio import selector_events
from typing import Any

from data_bridge.pyloop import new_event_loop
from support.transport_driver import Seen, act_out
from support.transport_scripts import Script, make_script

SHAPES = ("exact", "bulk")


def differences(seed: int, shape: str) -> list[str] | None:
    """In what PyLoop differs from asyncio on this seed; None where asyncio differs from itself."""
    script = make_script(seed, shape)
    try:
        ours = act_out(script, new_event_loop)
    except Exception:
        return ["PyLoop's run ended with", traceback.format_exc()]
    found = _compare(act_out(script, asyncio.SelectorEventLoop), ours)
    if shape == "bulk" or found:
        # Is it chance? Once more, with more time for the kernel, and asyncio with smaller reads too.
        patient = 0.005 if found else 0.0002
        stock = act_out(script, asyncio.SelectorEventLoop, patient)
        if _compare(stock, _with_small_reads(script, patient)):
            return None
        if found:
            found = _compare(stock, act_out(script, new_event_loop, patient))
            if found and _trips_over_itself(stock):
                return None
    return found + _broken_grammar(ours)


def _trips_over_itself(stock: Seen) -> bool:
    """Whether asyncio's transport has used its loop after it let go of it: a fault of its own."""
    fault = ["Exception in callback", "AttributeError"]
    return any(list(report)[:2] == fault for report in stock["reports"])


def _with_small_reads(script: Script, patience: float) -> Seen:
    """asyncio with smaller reads: what changes with them is nobody's promise."""
    transport: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]
    usual = transport.max_size
    if script.shape == "bulk":
        transport.max_size = 5000
    try:
        return act_out(script, asyncio.SelectorEventLoop, patience)
    finally:
        transport.max_size = usual


def _compare(stock: Seen, ours: Seen) -> list[str]:
    found: list[str] = []
    for key, expected in stock.items():
        if ours[key] != expected:
            found.append(f"{key}:\n  asyncio {_short(expected)}\n  PyLoop  {_short(ours[key])}")
    return found


def _short(value: Any) -> str:
    """A value with its long byte strings told by their length and their ends."""

    def tell(item: Any) -> Any:
        if isinstance(item, bytes) and len(item) > 24:
            return f"<{len(item)} bytes {item[:6].hex()}..{item[-6:].hex()}>"
        if isinstance(item, (list, tuple)):
            return [tell(part) for part in item]
        return item

    return pprint.pformat(tell(value), width=150, compact=True).replace("\n", "\n          ")


def _broken_grammar(seen: Seen) -> list[str]:
    """What holds on every loop, whatever the script."""
    broken: list[str] = []
    for log in seen["logs"]:
        broken += [entry[1] for entry in log if entry[0] == "broken"]
        names = [entry[0] for entry in log if entry[0] not in ("state", "peer", "raised")]
        if names[0] != "made" or names.count("made") != 1:
            broken.append(f"connection_made is not first, or not once: {names}")
        if names.count("eof") > 1 or names.count("lost") > 1:
            broken.append(f"an end was told twice: {names}")
        if "lost" in names and names[-1] != "lost":
            broken.append(f"a callback came after connection_lost: {names}")
    if any(state == "WRONG BYTES" for state, _ in seen["reached the peer"]):
        broken.append("the peer received bytes that were not written")
    if seen["descriptors left"]:
        broken.append("descriptors were left open")
    return broken


def main() -> int:
    """Compare seed after seed until one differs or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--shape", choices=SHAPES, help="this shape only")
    parser.add_argument("--show", action="store_true", help="print the script too")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    shapes = (options.shape,) if options.shape else SHAPES
    seeds = itertools.count(options.first) if options.seed is None else [options.seed]
    end = time.monotonic() + options.seconds
    counts = {"alike": 0, "undefined": 0, "different": 0}
    for seed in seeds:
        if time.monotonic() > end:
            break
        for shape in shapes:
            if options.show:
                pprint.pprint(make_script(seed, shape), width=130)
            found = differences(seed, shape)
            counts["undefined" if found is None else "different" if found else "alike"] += 1
            if found:
                print(f"seed {seed}, shape {shape}:", *found, sep="\n")
                print(
                    f"again: cd tests/pyloop && {sys.executable} -m support.transport_compare "
                    f"--seed {seed} --shape {shape} --show",
                    flush=True,
                )
        if counts["different"] and not options.keep_going:
            break
    print(f"scripts from seed {options.first} on: {counts}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
