"""One seed is one run: the same trace, byte for byte, in this process and in one with other hashes."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.report import describe_failure
from tests.simulation.world import run_seed

SEEDS = (3, 7, 13, 22, 42, 57)
ROOT = Path(__file__).resolve().parents[2]
_PRINT_DIGESTS = """
import sys
from tests.simulation.world import run_seed
for seed in sys.argv[1:]:
    print(run_seed(int(seed)).digest)
"""


@functools.cache
def _digest(seed: int) -> str:
    """Of the first run of a seed in this process."""
    return run_seed(seed).digest


def _digests_of_another_process(hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGESTS, *map(str, SEEDS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    return done.stdout.split()


def test_a_seed_gives_the_same_trace_again() -> None:
    for seed in SEEDS:
        assert run_seed(seed).digest == _digest(seed), seed


@pytest.mark.timeout(600)  # two processes, six seeds each, on a machine that may have much else to do
def test_a_seed_gives_the_same_trace_in_processes_with_other_hashes() -> None:
    here = [_digest(seed) for seed in SEEDS]
    assert _digests_of_another_process("1") == here
    assert _digests_of_another_process("4711") == here


def test_different_seeds_are_different_runs() -> None:
    digests = [_digest(seed) for seed in range(8)]
    assert len(set(digests)) == len(digests)


def test_a_failing_seed_tells_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS["timers fire early"](monkeypatch)
    result = next(result for result in map(run_seed, range(20)) if result.error is not None)
    text = describe_failure(result)
    assert f"--seed {result.seed} --trace" in text
    assert str(result.error) in text
    assert "net: #" in text
