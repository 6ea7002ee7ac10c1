"""Bugs on purpose in callbacks that come with updates. See `mutants`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.core.run import callback, update
from perdure.server.engine.nexus_requests import NexusRequests, Refusal

Patch = pytest.MonkeyPatch


def outlived_updates_call_nobody(patch: Patch) -> None:
    """Whoever waits for an update of a run that has closed waits for ever."""
    patch.setattr(callback, "end_updates", lambda tx: None)


def called_once_and_never_again(patch: Patch) -> None:
    due = callback.due

    def first_attempts(tx: Any) -> Iterator[tuple[int, int]]:
        for key, time_ns in due(tx):
            if not tx.callbacks.get(key).attempt:
                yield key, time_ns

    patch.setattr(callback, "due", first_attempts)


def called_back_by_word_only(patch: Patch) -> None:
    """A callback is said to be delivered, and nobody was called."""

    async def call_back(*_: Any) -> Refusal:
        return Refusal()

    patch.setattr(NexusRequests, "call_back", call_back)


def reset_keeps_nothing_back(patch: Patch) -> None:
    """Whoever waits for an update hears from the run that a reset closes that it failed, and it goes on in another."""
    patch.setattr(callback, "keep_back", lambda tx, new: None)


def reset_leaves_callbacks_behind(patch: Patch) -> None:
    """An update is done once more after a reset, and those who wait for it are forgotten."""
    patch.setattr(update, "register_callbacks", lambda tx: None)

    def keep_all_back(tx: Any, new: Any) -> None:
        for item in tx.callbacks:
            tx.callbacks.edit(item.key).update_ended_ns = 0

    patch.setattr(callback, "keep_back", keep_all_back)


CALLBACK_MUTANTS: tuple[Callable[[Patch], None], ...] = (
    outlived_updates_call_nobody,
    called_once_and_never_again,
    called_back_by_word_only,
    reset_keeps_nothing_back,
    reset_leaves_callbacks_behind,
)
