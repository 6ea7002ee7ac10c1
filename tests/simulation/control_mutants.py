"""Bugs on purpose in what operators do: pauses, resets of activities, options, batches. See `mutants`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.batch import operations
from perdure.core.run import activity_control, options, pause
from perdure.core.run.state import Activity, RunHeader, clone
from perdure.core.run.transition import Transition
from perdure.server.engine.batches import Batches
from perdure.server.engine.queries import Queries

Patch = pytest.MonkeyPatch


def paused_activities_are_handed_out(patch: Patch) -> None:
    """What is paused waits in its task queue all the same."""
    dispatch = Transition.activity_dispatch

    def careless(self: Transition, activity: Activity | None, header: RunHeader | None = None) -> Any:
        if activity is not None and activity.paused_ns:
            activity = clone(activity)
            activity.paused_ns = 0
        return dispatch(self, activity, header)

    patch.setattr(Transition, "activity_dispatch", careless)


def unpaused_workflow_is_not_woken(patch: Patch) -> None:
    """The workflow does not hear of what happened while it was paused."""
    unpause = pause.unpause

    def quiet(tx: Transition, **given: Any) -> None:
        before = tx.needs_task
        unpause(tx, **given)
        tx.needs_task = before

    patch.setattr(pause, "unpause", quiet)


def pause_without_a_state(patch: Patch) -> None:
    """The event is written, and the run goes on."""
    real = pause.pause

    def forgetful(tx: Transition, **given: Any) -> bool:
        changed = real(tx, **given)
        tx.header.paused_ns = 0
        return changed

    patch.setattr(pause, "pause", forgetful)


def paused_workflow_is_asked(patch: Patch) -> None:
    """A query is answered from before what the paused workflow has not heard of."""

    async def ask(self: Queries, run: Any, query: Any, timeout_s: float) -> Any:
        known = await self._histories.header(run)
        if known.paused_ns:
            return await self._ask_directly(run, known, query, None)
        return await real(self, run, query, timeout_s)

    real = Queries._ask
    patch.setattr(Queries, "_ask", ask)


def end_of_an_activitys_pause_is_forgotten(patch: Patch) -> None:
    patch.setattr(activity_control, "unpause", lambda tx, pending, **given: None)


def reset_of_an_activity_is_forgotten(patch: Patch) -> None:
    patch.setattr(activity_control, "reset", lambda tx, pending, **given: None)


def options_of_an_activity_are_forgotten(patch: Patch) -> None:
    patch.setattr(activity_control, "take_options", lambda pending, wanted: None)


def options_of_a_run_are_written_only(patch: Patch) -> None:
    """The event says them, and the state does not."""
    patch.setattr(options, "take", lambda tx, attributes: None)


def batch_forgotten_at_restart(patch: Patch) -> None:
    async def start(self: Batches) -> None:
        pass

    async def load(self: Batches, key: Any) -> Any:
        return await self._engine.reading(self._engine.store.load_batch(key))

    patch.setattr(Batches, "start", start)
    patch.setattr(Batches, "_load", load)


def batch_repeats_under_other_names(patch: Patch) -> None:
    """A page that is done again after a crash is not recognised."""
    numbers = itertools.count()
    patch.setattr(operations, "derived_id", lambda *parts: f"operation {next(numbers)}")


def batch_skips_what_it_cannot_do_now(patch: Patch) -> None:
    """An execution that could not be reached counts as done."""

    async def do(self: Batches, job: Any, target: Any) -> None:
        request: Any = operations.request_for(job.request, target, job.state.incarnation)
        request.namespace = self._name(job)
        try:
            await self.serve(operations.operation_of(job.request).rpc, request)
        except Exception:  # that is the bug
            return

    patch.setattr(Batches, "_do", do)


CONTROL_MUTANTS: tuple[Callable[[Patch], None], ...] = (
    paused_activities_are_handed_out,
    unpaused_workflow_is_not_woken,
    pause_without_a_state,
    paused_workflow_is_asked,
    end_of_an_activitys_pause_is_forgotten,
    reset_of_an_activity_is_forgotten,
    options_of_an_activity_are_forgotten,
    options_of_a_run_are_written_only,
    batch_forgotten_at_restart,
    batch_repeats_under_other_names,
    batch_skips_what_it_cannot_do_now,
)
