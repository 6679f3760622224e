"""The child: one process per loop, which runs the workload it is told and answers with figures.

Started by ``pool.py``; talks JSON lines on its standard input and output. A process of its own
keeps a peer that aborts from taking the run with it, gives every loop an interpreter specialised
for that loop alone, and keeps one loop's garbage out of another's heap.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from typing import Any, TextIO

from loops import KINDS


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kind = KINDS[sys.argv[1]]
    warm: set[str] = set()
    try:
        kind.new_loop().close()
        _answer(answers, {"version": kind.version()})
    except BaseException as failure:
        _answer(answers, {"error": describe(failure)})
        return
    for line in sys.stdin:
        request = json.loads(line)
        module, name = request["work"].split(".")
        work = getattr(importlib.import_module(f"workloads.{module}"), name)
        try:
            if request["work"] not in warm:
                warm.add(request["work"])
                work(kind, **request["parameters"] | request["warm_up"])
            gc.collect()
            if request["collector"]:
                gc.enable()
            else:
                gc.disable()
            _answer(answers, {"figures": work(kind, **request["parameters"])})
        except BaseException as failure:
            traceback.print_exc()
            _answer(answers, {"error": describe(failure)})


def describe(failure: BaseException) -> str:
    """One line for the column of the loop that failed."""
    text = str(failure).strip().splitlines()
    return f"{type(failure).__name__}: {text[0]}" if text else type(failure).__name__


def _answer(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
