"""Random scripts against connections: the same one on asyncio's transports and on PyLoop's, compared.

`make fuzz` goes on for as long as it is told, from another seed on; a difference prints how to see it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from support.transport_compare import differences
from support.transport_driver import act_out
from support.transport_scripts import make_script

from data_bridge.pyloop import new_event_loop

_EXACT_SEEDS = range(120)
_BULK_SEEDS = range(40)
_GROUP = 10
# Each of these has shown a mistake once.
_TELLING_SEEDS = (9239, 20080, 20096, 20168, 20174, 20250, 20365)


@pytest.fixture(autouse=True)
def quiet_logger() -> Iterator[None]:
    # A script writes to lost connections; asyncio logs that.
    logger = logging.getLogger("asyncio")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


@pytest.mark.slow
@pytest.mark.parametrize("first", _EXACT_SEEDS[::_GROUP])
def test_a_small_random_script_shows_exactly_what_it_shows_on_asyncio(first: int) -> None:
    """Slow: ten scripts of a dozen steps, each of which the loop comes to rest after."""
    for seed in range(first, first + _GROUP):
        found = differences(seed, "exact")
        assert found is not None, f"seed {seed}: asyncio differs from itself"
        assert not found, "\n".join([f"seed {seed}, shape exact:", *found])


@pytest.mark.parametrize("seed", _TELLING_SEEDS)
def test_a_script_that_has_told_something_once_is_run_again(seed: int) -> None:
    found = differences(seed, "exact")
    assert found is not None, "asyncio differs from itself"
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("first", _BULK_SEEDS[::_GROUP])
def test_a_random_script_of_much_data_ends_as_on_asyncio(first: int) -> None:
    """Slow: ten scripts that move megabytes."""
    compared = 0
    for seed in range(first, first + _GROUP):
        found = differences(seed, "bulk")
        assert not found, "\n".join([f"seed {seed}, shape bulk:", *(found or ())])
        compared += found is not None
    assert compared >= _GROUP - 2, "asyncio differs from itself too often for this to say anything"


@pytest.mark.slow
def test_the_scripts_reach_every_callback_and_most_reports() -> None:
    """Slow: all of them. What they never reach they cannot compare."""
    entries: Counter[str] = Counter()
    reports: Counter[str] = Counter()
    for seed in _EXACT_SEEDS:
        seen = act_out(make_script(seed, "exact"), new_event_loop)
        entries.update(str(entry[0]) for log in seen["logs"] for entry in log)
        entries.update(f"lost {e[2]}" for log in seen["logs"] for e in log if e[0] == "lost")
        reports.update(report[0] for report in seen["reports"])
        reports.update(str(warning) for warning in seen["warnings"])
    for name in ("made", "data", "eof", "pause", "resume", "lost", "raised", "lost NoneType"):
        assert entries[name] >= 5, (name, entries)
    assert entries["lost Failure"] and entries["lost ConnectionResetError"], entries
    for message in (
        "Exception in callback",
        "Fatal error: protocol.data_received() call failed.",
        "Fatal error: protocol.buffer_updated() call failed.",
        "Fatal error: protocol.get_buffer() call failed.",
        "Fatal error: protocol.eof_received() call failed.",
        "Fatal read error on socket transport",
        "protocol.pause_writing() failed",
        "protocol.resume_writing() failed",
        "ResourceWarning: unclosed transport",
    ):
        assert reports[message], (message, reports)
