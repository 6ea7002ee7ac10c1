"""Where a server disagrees with itself: the same scenarios run several times, and what was not the same each time.

A comparison of two servers can only hold in places where each of them always answers alike. Knows nothing of servers.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from tests.differential.compare import Data, differences, line
from tests.differential.runner import Outcome

_SHOWN_PLACES = 3
_SHOWN_CHARACTERS = 120
_BUSY_LOOP = "while True: pass"


@dataclass(frozen=True)
class Disagreement:
    """One place of a scenario's records that was not the same in every round.

    Attributes:
        scenario: its name.
        path: where, as a difference between two servers has it.
        values: what was there, and in how many rounds; the commonest first.
    """

    scenario: str
    path: str
    values: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        shown = " | ".join(f"{count}x {value[:_SHOWN_CHARACTERS]}" for value, count in self.values)
        return f"{self.scenario}: {self.path}: {shown}"


def disagreements(rounds: Sequence[Mapping[str, Outcome]]) -> list[Disagreement]:
    """Every place that differs between any round and the first."""
    first, *others = rounds
    return [
        Disagreement(name, path, tuple(values.most_common()))
        for name, outcome in first.items()
        for path, values in _seen(outcome, [other[name] for other in others]).items()
    ]


def _seen(first: Outcome, others: Sequence[Outcome]) -> dict[str, Counter[str]]:
    seen: dict[str, Counter[str]] = {}
    of_first: dict[str, Data] = {}
    for other in others:
        for difference in differences(first.records, other.records):
            of_first[difference.path] = difference.real
            seen.setdefault(difference.path, Counter())[line(difference.perdure)] += 1
    for path, values in seen.items():
        values[line(of_first[path])] += 1 + len(others) - values.total()
    return seen


def shown(found: Sequence[Disagreement]) -> str:
    """The first places of each scenario, one a line: what comes after often follows from them."""
    lines: list[str] = []
    for _, group in groupby(found, key=lambda disagreement: disagreement.scenario):
        places = [str(disagreement) for disagreement in group]
        lines += places[:_SHOWN_PLACES]
        if len(places) > _SHOWN_PLACES:
            lines.append(f"    and {len(places) - _SHOWN_PLACES} more places")
    return "\n".join(lines)


def longest(rounds: Sequence[Mapping[str, Outcome]]) -> list[tuple[str, float]]:
    """Scenarios and the seconds that each took in its slowest round, the slowest first."""
    seconds = {name: max(outcomes[name].seconds for outcomes in rounds) for name in rounds[0]}
    return sorted(seconds.items(), key=lambda entry: -entry[1])


@contextmanager
def busy_machine(processes: int) -> Iterator[None]:
    """Have this many processes use up a core each."""
    running = [subprocess.Popen([sys.executable, "-c", _BUSY_LOOP]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
