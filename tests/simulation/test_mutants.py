"""The simulator finds bugs: every mutant is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from perdure.core.errors import InvariantViolation
from tests.simulation.interpreter import NonDeterminism
from tests.simulation.loop import SimulationError
from tests.simulation.model import Broken
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import run_seed

MOST_SEEDS = 150
FINDINGS = (Broken, InvariantViolation, NonDeterminism, SimulationError)
"""What the simulator says of a broken server. Any other error is a mutant that no longer fits the code it patches."""


# The number of seeds is the bound; a busy machine takes long for the rarest.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(MOST_SEEDS):
        error = run_seed(seed).error
        if error is not None:
            assert isinstance(error, FINDINGS), f"the mutant itself does not work: {error!r}"
            return
    pytest.fail(f"{name} survived {MOST_SEEDS} seeds")
