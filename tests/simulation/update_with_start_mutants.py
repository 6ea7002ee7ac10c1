"""Bugs on purpose in updates that come with a start. See `mutants`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from perdure.server.service import multi_operations
from tests.simulation import update_with_start

Patch = pytest.MonkeyPatch
_Work = multi_operations._UpdateWithStart


def whatever_is_open_is_updated(patch: Patch) -> None:
    """The conflict policy is not asked."""
    stands = _Work._stands
    patch.setattr(
        _Work, "_stands", lambda self, slot, state: state.header.is_open or stands(self, slot, state)
    )


def update_of_a_closed_run_is_not_found(patch: Patch) -> None:
    """Whoever asks again for an update that is done, of a run that is over, gets no answer."""
    stands = _Work._stands
    patch.setattr(
        _Work, "_stands", lambda self, slot, state: state.header.is_open and stands(self, slot, state)
    )


def _where_they_are(mutant: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """The mutant where every seed has such clients: those that have them otherwise are few."""

    @functools.wraps(mutant)
    def apply(patch: Patch) -> None:
        mutant(patch)
        patch.setattr(update_with_start, "SHARE", 1.0)

    return apply


UPDATE_WITH_START_MUTANTS: tuple[Callable[[Patch], None], ...] = tuple(
    _where_they_are(mutant) for mutant in (whatever_is_open_is_updated, update_of_a_closed_run_is_not_found)
)
