"""The simulator finds bugs: every mutant is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.world import run_seed

MOST_SEEDS = 150


# The number of seeds is the bound; a busy machine takes long for the rarest.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(MOST_SEEDS):
        if run_seed(seed).error is not None:
            return
    pytest.fail(f"{name} survived {MOST_SEEDS} seeds")
