"""Run uvloop's own tests, of its source distribution, on PyLoop.

    python tests/peers/run.py                       every file
    python tests/peers/run.py test_tcp test_udp     these files
    python tests/peers/run.py --loop asyncio        the same tests on asyncio's loop, or on uvloop itself
    python tests/peers/run.py test_tcp --only name  tests whose name holds these letters

The sources are fetched with pip into .cache/ (or the directory PEERS_CACHE names) and never kept in the
tree. uvloop writes most tests once and runs them twice: as `Test_UV_...` on itself and as
`Test_AIO_...` on asyncio. Both run on PyLoop. Exit status 1 if a test failed or an exclusion matches
nothing, 2 if the sources cannot be had.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import excluded
import sources

HERE = Path(__file__).resolve().parent
SECONDS_FOR_A_FILE = 600.0

Events = list[dict[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--loop", choices=["pyloop", "asyncio", "uvloop"], default="pyloop")
    parser.add_argument("--only", default="", metavar="LETTERS")
    parser.add_argument("--all", action="store_true", help="the excluded tests too")
    parser.add_argument("--output", action="store_true", help="what the tests print, too")
    parser.add_argument("--json", type=Path, help="where to write what each test did")
    options = parser.parse_args()
    if options.loop == "uvloop":
        options.all = True
    try:
        source = sources.fetch()
    except sources.Missing as missing:
        print(missing)
        return 2
    present = sorted(path.stem for path in (source / "tests").glob("test_*.py"))
    leave = {} if options.all else excluded.FILES
    files = [name for name in options.files or present if name not in leave]
    if unknown := set(files) - set(present):
        print(f"no such file in {source.name}: {' '.join(sorted(unknown))}")
        return 2
    print(f"{source.name}: its tests on {options.loop}, Python {sys.version.split()[0]}")
    results: dict[str, Events] = {}
    for name in files:
        results[name] = run_file(source, name, options)
        print(line_of(name, results[name]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    problems = problems_of(results)
    if not options.all and not options.only and options.loop == "pyloop":
        problems += stale(results)
    return give_verdict(results, problems)


def run_file(source: Path, name: str, options: argparse.Namespace) -> Events:
    """One file in as many processes as it takes: a test that ends its process costs only itself."""
    environment = os.environ | {"PEERS_LOOP": options.loop, "PEERS_SOURCE": str(source)}
    if options.loop != "uvloop":
        environment["PYTHONPATH"] = str(HERE / "shim")
    with tempfile.TemporaryDirectory() as empty:
        out = Path(empty) / "events"
        if not options.all:
            leave = [test for test in excluded.TESTS if test.startswith(f"{name}.")]
            lines = [{"how": "excluded", "test": test.partition(".")[2]} for test in leave]
            out.write_text("".join(json.dumps(line) + "\n" for line in lines))
        while True:
            before = len(read(out))
            command = [sys.executable, "-X", "faulthandler", str(HERE / "child.py"), name]
            command += ["--out", str(out), "--only", options.only]
            command += ["--all"] if options.all else []
            said = ""
            try:
                done = subprocess.run(
                    command, cwd=empty, env=environment, timeout=SECONDS_FOR_A_FILE,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    text=True, errors="replace",
                )  # fmt: skip
                status, said = done.returncode, done.stdout
            except subprocess.TimeoutExpired as late:
                status = -1
                said = (late.stdout or b"").decode(errors="replace") + "\nthe file took too long"
            if options.output:
                print(said)
            events = read(out)
            if status == 0:
                return [event for event in events if event["how"] != "begins"]
            if len(events) > before and events[-1]["how"] == "begins":
                end = {"how": "died", "test": events[-1]["test"], "detail": said[-6000:]}
            else:
                end = {"how": "died", "test": f"(file, status {status})", "detail": said[-6000:]}
            with out.open("a") as file:
                file.write(json.dumps(end) + "\n")
            if end["test"].startswith("("):
                return [event for event in read(out) if event["how"] != "begins"]


def read(out: Path) -> Events:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def count(events: Events) -> Counter[str]:
    return Counter(event["how"] for event in events)


def line_of(name: str, events: Events) -> str:
    counts = count(events)
    failed = counts["failed"] + counts["died"]
    return (
        f"{name:24} {counts['passed']:4} passed {failed:4} failed"
        f" {counts['skipped']:4} skipped {counts['excluded']:4} excluded"
    )


def problems_of(results: dict[str, Events]) -> list[str]:
    return [
        f"{name}.{event['test']} {event['how']}\n{event['detail']}"
        for name, events in results.items()
        for event in events
        if event["how"] in ("failed", "died")
    ]


def stale(results: dict[str, Events]) -> Iterable[str]:
    """Exclusions of files that ran whose test is not there any more: found by name in the sources."""
    source = sources.fetch()
    for test in [*excluded.TESTS, *excluded.AS_ON_ASYNCIO]:
        name, _, method = test.partition(".")
        method = method.rpartition(".")[2]
        if (
            name in results
            and f"def {method}(" not in (source / "tests" / f"{name}.py").read_text()
        ):
            yield f"{test} is excluded and is not there"


def give_verdict(results: dict[str, Events], problems: list[str]) -> int:
    for problem in problems:
        print("─" * 100, problem, sep="\n")
    print(line_of("all files", [event for events in results.values() for event in events]))
    print(f"{len(excluded.AS_ON_ASYNCIO)} tests take uvloop's own branch for asyncio: excluded.py")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
