"""Bugs on purpose in the rate limits of task queues. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from perdure.server.engine.matching import Matching
from perdure.server.engine.rate_limits import RateLimit
from perdure.server.queue_configs import QueueConfigs
from tests.simulation import limits

Patch = pytest.MonkeyPatch


def limits_forgotten_at_restart(patch: Patch) -> None:
    """What operators set is stored and not read."""

    async def load(self: QueueConfigs) -> None:
        self._kept = {}

    patch.setattr(QueueConfigs, "load", load)


def nobody_waits_for_a_permit(patch: Patch) -> None:
    """What found no permit waits until something else happens on its queue."""
    patch.setattr(Matching, "_await_permit", lambda self, key, queue, coming=None: None)


def permits_fill_twice(patch: Patch) -> None:
    """Time is counted again when it was counted."""
    fill = RateLimit._fill

    def twice(self: RateLimit, now_s: float) -> None:
        before = self._seen_s
        fill(self, now_s)
        self._seen_s = before
        fill(self, now_s)

    patch.setattr(RateLimit, "_fill", twice)


def _where_they_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has such a queue: those that have one otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(limits, "SHARE", 1.0)

    return apply


LIMIT_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_they_are(mutant)
    for mutant in (limits_forgotten_at_restart, nobody_waits_for_a_permit, permits_fill_twice)
)
