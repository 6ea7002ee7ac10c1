"""The simulator finds bugs: every mutant is caught within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.hints import MUTANT_FIRST, tried_first
from tests.simulation.mutants import FINDINGS, MUTANTS, SEEDS
from tests.simulation.world import run_seed


# The number of seeds is the bound; a busy machine takes long for the rarest.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in tried_first(MUTANT_FIRST.get(name, ()), range(SEEDS)):
        error = run_seed(seed).error
        if error is not None:
            assert isinstance(error, FINDINGS), f"the mutant itself does not work: {error!r}"
            return
    pytest.fail(f"{name} survived {SEEDS} seeds")


def test_a_hint_leaves_out_no_seed() -> None:
    """What is known of the past only changes the order: all seeds are tried, whatever a hint says."""
    assert list(tried_first([3, 9, 3, 1], range(5))) == [3, 1, 0, 2, 4]
    assert list(tried_first([], range(5))) == list(range(5))
