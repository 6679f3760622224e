"""Owns the random scripts of the transport comparison: what is done to a connection, made from a seed.

A script is data. It says what the peer does, what the application does, and how the protocol reacts
inside its callbacks; `transport_driver.py` acts it out on a loop. Two shapes:

- `exact`: little data, or far more than any kernel buffer holds, and the loop comes to rest after each
  step. What the protocol sees is then determined, down to the order of its callbacks.
- `bulk`: megabytes while the protocol pauses, resumes, swaps itself and answers. How often it is called
  is chance; what it must have seen in the end is not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

Action = tuple[object, ...]

BIG = 1_500_000
KERNEL_BUFFER = 200_000

_SIZES = (1, 2, 10, 100, 1000, 4000)
_LIMITS: tuple[tuple[int | None, int | None], ...] = (
    (None, None),
    (0, None),
    (1, 0),
    (1000, None),
    (None, 100),
    (60_000, 60_000),
    (10, 20),
    (5, -1),
)


@dataclass(frozen=True)
class Step:
    """One move on one connection: who moves, and what; the loop comes to rest after it.

    `inside` says that an application's move is made by a callback of the running loop.
    """

    connection: int
    actor: str
    actions: tuple[Action, ...]
    inside: bool


@dataclass(frozen=True)
class ConnectionPlan:
    """How a connection is made, and what its protocol does in the n-th call of each callback."""

    family: str
    by: str
    buffered: bool
    buffer_sizes: tuple[int, ...]
    reactions: dict[str, tuple[tuple[Action, ...], ...]] = field(default_factory=dict)
    eof_answers: tuple[object, ...] = (None,)


@dataclass(frozen=True)
class Script:
    """All that a run needs to know."""

    seed: int
    shape: str
    debug: bool
    plans: tuple[ConnectionPlan, ...]
    steps: tuple[Step, ...]
    ending: str


def make_script(seed: int, shape: str) -> Script:
    """The script of *seed*; the same one on every Python and every machine."""
    choice = random.Random(f"{shape} {seed}")
    return _exact_script(choice, seed) if shape == "exact" else _bulk_script(choice, seed)


def _exact_script(choice: random.Random, seed: int) -> Script:
    plans = tuple(_exact_plan(choice) for _ in range(choice.choice((1, 1, 2))))
    steps = [
        _exact_step(choice, choice.randrange(len(plans))) for _ in range(choice.randrange(6, 26))
    ]
    ending = choice.choice(("close", "close", "abort", "peer closes", "leak"))
    return Script(seed, "exact", choice.random() < 0.1, plans, tuple(steps), ending)


def _exact_plan(choice: random.Random) -> ConnectionPlan:
    reactions: dict[str, tuple[tuple[Action, ...], ...]] = {}
    talk: Sequence[str] = ("write", "write", "lines", "none")
    moves: dict[str, Sequence[str]] = {
        "made": (*talk * 4, "pause", "close", "abort", "swap", "swap", "raise", "eof"),
        "data": (*talk * 4, "pause", "close", "abort", "swap", "swap", "raise", "eof", "limits"),
        "get_buffer": ("none",) * 20 + ("pause", "raise", "empty", "readonly"),
        "eof": (*talk, "close", "abort", "raise", "eof", "pause", "swap"),
        "pause": ("none", "none", "write", "close", "abort", "swap", "raise", "limits", "eof"),
        # asyncio's own cannot be closed in there: it loses the connection twice.
        "resume": ("none", "none", "write", "big", "swap", "raise", "eof"),
        "lost": ("none", "none", "none", "raise", "write", "close", "abort", "pause", "eof"),
    }
    for callback, possible in moves.items():
        turns: list[tuple[Action, ...]] = []
        for _ in range(choice.randrange(7)):
            turns.append(
                tuple(_reaction(choice, possible) for _ in range(choice.choice((1, 1, 1, 2))))
            )
        reactions[callback] = tuple(turns)
    return ConnectionPlan(
        family=choice.choice(("unix", "unix", "tcp")),
        by=choice.choice(("create_connection", "connect_accepted_socket")),
        buffered=choice.random() < 0.4,
        buffer_sizes=tuple(choice.choice((1, 7, 100, 4096, 70_000)) for _ in range(5)),
        reactions=reactions,
        eof_answers=tuple(choice.choice((None, False, True, True, "yes")) for _ in range(2)),
    )


def _reaction(choice: random.Random, possible: Sequence[str]) -> Action:
    name = choice.choice(possible)
    if name in ("write", "lines"):
        return (name, choice.choice(_SIZES), choice.randrange(6))
    if name == "limits":
        return (name, *choice.choice(_LIMITS))
    if name == "swap":
        return (name, choice.random() < 0.5)
    return (name,)


def _exact_step(choice: random.Random, connection: int) -> Step:
    if choice.random() < 0.5:
        return Step(connection, "peer", (_peer_move(choice),), False)
    inside = choice.random() < 0.75
    if choice.random() < 0.2:
        burst = tuple(
            _reaction(choice, ("write", "write", "lines")) for _ in range(choice.randrange(2, 5))
        )
        return Step(connection, "app", burst, inside)
    possible = (
        *("write",) * 5,
        *("lines",) * 2,
        *("pause",) * 4,
        *("resume",) * 6,
        *("swap",) * 3,
        *("limits",) * 2,
        *("big",) * 5,
        *("wrong write", "wrong lines", "eof", "close", "abort", "fail"),
    )
    return Step(connection, "app", (_reaction(choice, possible),), inside)


def _peer_move(choice: random.Random) -> Action:
    name = choice.choice(
        (
            *("send",) * 8,
            *("bytewise",) * 2,
            *("drain",) * 6,
            *("read",) * 2,
            *("half close", "close", "reset"),
        )
    )
    if name in ("send", "read"):
        return (name, choice.choice(_SIZES))
    if name == "bytewise":
        return (name, choice.randrange(2, 20))
    return (name,)


def _bulk_script(choice: random.Random, seed: int) -> Script:
    steps: list[Step] = []
    for _ in range(choice.randrange(3, 8)):
        name = choice.choice(("stream", "stream", "write", "big", "lines", "swap", "limits"))
        if name == "stream":
            action: Action = ("stream", choice.choice((1000, 70_000, 300_000, 1_000_000)))
            steps.append(Step(0, "peer", (action,), False))
        else:
            steps.append(Step(0, "app", (_reaction(choice, (name,)),), choice.random() < 0.75))
    # Where in the received stream the protocol does something, and what.
    places = sorted(choice.randrange(1_000_000) for _ in range(choice.randrange(12)))
    moves = ("pause", "pause", "write", "lines", "swap", "limits")
    turns = tuple((place, _reaction(choice, moves)) for place in places)
    plan = ConnectionPlan(
        family=choice.choice(("unix", "tcp")),
        by="create_connection",
        buffered=choice.random() < 0.5,
        buffer_sizes=tuple(choice.choice((1000, 4096, 70_000, 300_000)) for _ in range(4)),
        reactions={"at": turns},
        eof_answers=(choice.choice((None, True)),),
    )
    ending = choice.choice(("close", "half close", "peer half close", "peer closes", "abort"))
    return Script(seed, "bulk", False, (plan,), tuple(steps), ending)
