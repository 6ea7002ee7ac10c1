"""Which seeds to try first: one that catches each mutant, and a few that together meet every rare situation.

Most of these tests' time would be a search for seeds that are known. A hint only changes the order in which the same
seeds are tried: when the program has changed and a hint no longer holds, the others are tried as before.
`python -m tests.simulation --find-hints` writes `hints.json` anew; it is worth it when these tests have become slow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.simulation.mutants import FINDINGS, MUTANTS
from tests.simulation.mutants import SEEDS as SEEDS_FOR_MUTANTS
from tests.simulation.rare import RARE
from tests.simulation.rare import SEEDS as SEEDS_FOR_RARE
from tests.simulation.world import run_seed

_FILE = Path(__file__).with_name("hints.json")
_HINTS = json.loads(_FILE.read_text())
MUTANT_FIRST: dict[str, list[int]] = _HINTS["mutants"]
"""For each mutant a seed that catches it in few steps; nothing for one that is new."""
RARE_FIRST: list[int] = _HINTS["rare"]
"""Seeds that together meet every rare situation."""
_LONGEST = 40_000
"""Steps after which a seed is no hint: many others take fewer."""
_MORE = 5
"""After the first seed that catches a mutant, so many are tried: one of them may be quicker."""


def tried_first(first: Iterable[int], seeds: range) -> Iterator[int]:
    """The seeds, each once, beginning with those of `first` that are among them."""
    known = dict.fromkeys(seed for seed in first if seed in seeds)
    yield from known
    yield from (seed for seed in seeds if seed not in known)


def find() -> Iterator[str]:
    """Finds all hints and writes them. Yields what it finds, line by line."""
    catching: dict[str, list[int]] = {}
    for name in MUTANTS:
        seed, steps = _quickest_catch(name)
        if seed is not None:
            catching[name] = [seed]
        yield f"{name}: " + ("no seed catches it" if seed is None else f"seed {seed} after {steps} steps")
    rare = _cover(range(SEEDS_FOR_RARE))
    yield f"rare situations: {rare}"
    _FILE.write_text(json.dumps({"mutants": catching, "rare": rare}, indent=2) + "\n")


def _quickest_catch(name: str) -> tuple[int | None, int]:
    best, most_steps, more = None, _LONGEST, _MORE
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        for seed in tried_first(MUTANT_FIRST.get(name, ()), range(SEEDS_FOR_MUTANTS)):
            # One that has taken as many steps as the best so far cannot be quicker, and ends.
            result = run_seed(seed, most_steps=most_steps)
            if isinstance(result.error, FINDINGS) and result.steps < most_steps:
                best, most_steps = seed, result.steps
            more -= best is not None
            if more < 0:
                break
    return best, most_steps


def _cover(seeds: range) -> list[int]:
    """Few seeds that meet everything: of the first that do, again and again the one that adds most for its length."""
    results: list[tuple[int, set[str], int]] = []
    missing = set(RARE)
    for seed in tried_first(RARE_FIRST, seeds):
        result = run_seed(seed)
        results.append((result.steps, set(result.reached), seed))
        missing -= result.reached.keys()
        if not missing:
            break
    chosen: list[int] = []
    missing = set(RARE) - missing
    while missing:
        _, reached, seed = max(results, key=lambda result: len(missing & result[1]) / result[0])
        chosen.append(seed)
        missing -= reached
    return chosen
