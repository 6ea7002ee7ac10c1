"""How much of the machine (or of the container) is in use: memory and processors, from Linux's /proc and cgroups.

Elsewhere memory is unknown (0) and the load average stands for the processors.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEASURE_EVERY_S = 0.1


class ResourceUse:
    """Measures at most ten times a second; between measurements the last values stand."""

    def __init__(self) -> None:
        self._measured_at_s = 0.0
        self._busy_s: tuple[float, float] | None = None
        self._memory = 0.0
        self._cpu = 0.0

    def current(self) -> tuple[float, float]:
        """Return the shares of memory and of processors in use, 0 to 1."""
        now_s = time.monotonic()
        if now_s - self._measured_at_s >= _MEASURE_EVERY_S:
            self._measured_at_s = now_s
            self._memory = memory_use()
            self._cpu = self._cpu_use()
        return self._memory, self._cpu

    def _cpu_use(self) -> float:
        sample = _processor_times()
        last, self._busy_s = self._busy_s, sample
        if sample is None:
            return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        if last is None or sample[1] <= last[1]:
            return self._cpu
        return min(1.0, max(0.0, (sample[0] - last[0]) / (sample[1] - last[1])))


def memory_use() -> float:
    """Return the share of the container's memory in use, or of the machine's; 0 if it is unknown."""
    limit = _number(_CGROUP / "memory.max")
    used = _number(_CGROUP / "memory.current")
    if limit and used is not None:
        return min(1.0, used / limit)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    kilobytes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total = kilobytes.get("MemTotal", 0)
    return 1.0 - kilobytes.get("MemAvailable", total) / total if total else 0.0


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _processor_times() -> tuple[float, float] | None:
    """Return busy and total time of all processors so far, in ticks."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
    except OSError:
        return None
    idle = ticks[3] + ticks[4]
    return float(sum(ticks) - idle), float(sum(ticks))
