"""Bugs on purpose in workflows with a cron schedule. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.run import chain, cron
from tests.simulation import crons

Patch = pytest.MonkeyPatch


def schedule_ends_with_a_failure(patch: Patch) -> None:
    """Only a run that completed is followed."""
    by_cron = chain._by_cron

    def only_after_success(tx: Any, retry_state: int) -> chain.Following:
        timed_out = 0 < tx.header.run_expiration_ns <= tx.now_ns
        return chain.Following(retry_state) if timed_out else by_cron(tx, retry_state)

    patch.setattr(chain, "_by_cron", only_after_success)


def next_time_is_counted_from_the_end(patch: Patch) -> None:
    """The schedule moves by what each run takes."""
    delay_ns = cron.delay_ns
    patch.setattr(cron, "delay_ns", lambda text, scheduled_ns, now_ns: delay_ns(text, now_ns, now_ns))


def last_result_is_forgotten(patch: Patch) -> None:
    patch.setattr(chain, "_last_result", lambda tx: None)


def _where_they_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has such workflows: those that have them otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(crons, "SHARE", 1.0)

    return apply


CRON_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_they_are(mutant)
    for mutant in (
        schedule_ends_with_a_failure,
        next_time_is_counted_from_the_end,
        last_result_is_forgotten,
    )
)
