"""One clock for all workloads: wall time and the process's CPU time of the same stretch."""

from __future__ import annotations

from time import perf_counter, process_time


class Stopwatch:
    """Started when made; ``per_operation`` reads both clocks."""

    __slots__ = ("_cpu", "_wall")

    def __init__(self) -> None:
        self._cpu = process_time()
        self._wall = perf_counter()

    def seconds(self) -> tuple[float, float]:
        """Wall and CPU seconds since the start."""
        wall = perf_counter() - self._wall
        return wall, process_time() - self._cpu

    def per_operation(self, operations: int) -> dict[str, float]:
        """``ns`` and ``cpu_ns`` per operation, ``seconds`` in all."""
        wall, cpu = self.seconds()
        return {
            "ns": wall * 1e9 / operations,
            "cpu_ns": cpu * 1e9 / operations,
            "seconds": wall,
        }
