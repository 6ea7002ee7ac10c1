"""Seeds of the simulated cluster: none finds anything wrong, and together they reach what is rare."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.hints import RARE_FIRST, tried_first
from tests.simulation.rare import RARE
from tests.simulation.rare import SEEDS as SEEDS_FOR_RARE
from tests.simulation.report import describe_failure
from tests.simulation.world import run_seed

SEEDS = 1_000
CHUNK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + CHUNK):
        result = run_seed(seed)
        if result.error is not None:
            pytest.fail(describe_failure(result))


def test_rare_situations_are_reached() -> None:
    """The first of the seeds above suffice, so that it is noticed early when something is not reached any more."""
    reached: Counter[str] = Counter()
    for seed in tried_first(RARE_FIRST, range(SEEDS_FOR_RARE)):
        reached.update(run_seed(seed).reached)
        missing = [name for name in RARE if not reached[name]]
        if not missing:
            return
    pytest.fail(f"never reached: {missing}")


def test_the_load_is_real() -> None:
    """Most seeds do work in spite of their faults: a world in which nothing succeeds would find nothing."""
    commits = [run_seed(seed).commits for seed in range(10)]
    assert min(commits) > 10
    assert sum(commits) > 1_000
