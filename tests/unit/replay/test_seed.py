"""The seed of a run's randomness is that of the official workers, so code draws the same numbers on both."""

from __future__ import annotations

import pytest

from perdure.core.replay.seed import random_seed


@pytest.mark.parametrize(
    ("run_id", "seed"),
    [
        ("", 3476900567878811119),
        ("a", 8186225505942432243),
        ("1234567", 13377084036623622212),
        ("5f0c1d1e-7d4b-4f0a-9d4e-3f4f1f3b2a10", 8503728038227775977),
    ],
)
def test_seed_is_siphash_1_3_of_the_run_id(run_id: str, seed: int) -> None:
    """Values written down from the hasher that the official workers use."""
    assert random_seed(run_id) == seed
