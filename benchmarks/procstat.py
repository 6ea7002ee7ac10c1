"""CPU time, memory and threads of another process, read from /proc (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessUsage:
    """What a process has used so far: CPU of all its threads (also the finished ones) and memory now."""

    user_cpu_s: float
    system_cpu_s: float
    resident_mb: float
    threads: int

    @property
    def cpu_s(self) -> float:
        """User and system CPU seconds together."""
        return self.user_cpu_s + self.system_cpu_s


def usage(pid: int) -> ProcessUsage:
    """Read the usage of process `pid`; raises FileNotFoundError when it is gone."""
    # The command name may hold spaces and brackets: the numbered fields start after the last bracket.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident_kb = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            resident_kb = int(line.split()[1])
    return ProcessUsage(
        user_cpu_s=int(fields[11]) / TICKS_PER_SECOND,
        system_cpu_s=int(fields[12]) / TICKS_PER_SECOND,
        resident_mb=resident_kb / 1024,
        threads=int(fields[17]),
    )


def descendants(pid: int) -> list[int]:
    """Return `pid` and every process it started that still lives."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        try:
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting.extend(int(child) for child in (task / "children").read_text().split())
        except FileNotFoundError:
            continue  # a thread or process ended while it was being listed
    return found


def tree_usage(pid: int) -> ProcessUsage:
    """The usage of `pid` and its children together: work handed to a child process counts too."""
    parts = [usage(member) for member in descendants(pid)]
    return ProcessUsage(
        user_cpu_s=sum(part.user_cpu_s for part in parts),
        system_cpu_s=sum(part.system_cpu_s for part in parts),
        resident_mb=sum(part.resident_mb for part in parts),
        threads=sum(part.threads for part in parts),
    )


def machine_busy_s() -> tuple[float, float]:
    """Return (busy, total) CPU seconds of the whole machine since boot."""
    numbers = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = numbers[3] + numbers[4]
    return (sum(numbers) - idle) / TICKS_PER_SECOND, sum(numbers) / TICKS_PER_SECOND
