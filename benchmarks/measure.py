"""One measured window of a load: what was completed, how fast, and what server and generator spent on it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.procstat import machine_busy_s, tree_usage

MAX_ERRORS_KEPT = 5


@dataclass
class Outcome:
    """The result of one round, as it goes to JSON."""

    load: str
    concurrency: int
    completed: int
    elapsed_s: float
    workflows_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms_per_workflow: float
    generator_cpu_ms_per_workflow: float
    server_resident_mb: float
    others_busy_percent: float
    """How much of the machine neither the server nor the load used, but other processes: noise."""
    errors: int
    error_samples: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def percentile(sorted_values: list[float], percent: float) -> float:
    """The nearest-rank percentile of values already sorted; NaN when there are none."""
    if not sorted_values:
        return math.nan
    rank = max(1, math.ceil(percent / 100 * len(sorted_values)))
    return sorted_values[rank - 1]


class Window:
    """Counts completions between `open` and `close`; outside of that it ignores them, but never errors."""

    def __init__(self, load: str, concurrency: int, server_pid: int | None) -> None:
        self.load = load
        self.concurrency = concurrency
        self.server_pid = server_pid
        self.is_open = False
        self.latencies_s: list[float] = []
        self.errors = 0
        self.error_samples: list[str] = []

    def open(self) -> None:
        """Start measuring now."""
        self._machine = machine_busy_s()
        self._server_cpu_s = tree_usage(self.server_pid).cpu_s if self.server_pid else 0.0
        self._generator_cpu_s = self._own_cpu_s()
        self._started = time.perf_counter()
        self.is_open = True

    def completed(self, started: float) -> None:
        """A workflow begun at `started` (perf_counter seconds) has its result."""
        if self.is_open:
            self.latencies_s.append(time.perf_counter() - started)

    def error(self, message: str) -> None:
        """Something went wrong that a healthy server does not answer."""
        self.errors += 1
        if len(self.error_samples) < MAX_ERRORS_KEPT:
            self.error_samples.append(message)

    def close(self) -> Outcome:
        """Stop measuring and work out the figures."""
        self.is_open = False
        elapsed_s = time.perf_counter() - self._started
        server = tree_usage(self.server_pid) if self.server_pid else None
        busy, total = (after - before for after, before in zip(machine_busy_s(), self._machine, strict=True))
        server_cpu_s = server.cpu_s - self._server_cpu_s if server else math.nan
        generator_cpu_s = self._own_cpu_s() - self._generator_cpu_s
        others_s = busy - generator_cpu_s - (server_cpu_s if server else 0.0)
        latencies, count = sorted(self.latencies_s), max(1, len(self.latencies_s))
        return Outcome(
            load=self.load,
            concurrency=self.concurrency,
            completed=len(latencies),
            elapsed_s=elapsed_s,
            workflows_per_s=len(latencies) / elapsed_s,
            p50_ms=percentile(latencies, 50) * 1e3,
            p99_ms=percentile(latencies, 99) * 1e3,
            server_cpu_ms_per_workflow=server_cpu_s / count * 1e3,
            generator_cpu_ms_per_workflow=generator_cpu_s / count * 1e3,
            server_resident_mb=server.resident_mb if server else math.nan,
            others_busy_percent=max(0.0, others_s / total * 100) if total else math.nan,
            errors=self.errors,
            error_samples=self.error_samples,
        )

    @staticmethod
    def _own_cpu_s() -> float:
        times = os.times()
        return times.user + times.system
