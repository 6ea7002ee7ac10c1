"""What every store checks of a write before it touches anything, so that all stores refuse the same.

Only rules about the shape of what is given live here; rules that need stored rows belong to each store.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.invariant import invariant
from perdure.core.run.records import RunWrite

MAX_EVENT_ID = (1 << 24) - 1
"""Highest event id a store must be able to keep. Servers end a run long before (Temporal: 51,200 events)."""

DEFAULT_PRIORITY = 3
"""What priority key 0 means."""


def check_unit(unit: Sequence[RunWrite]) -> None:
    """Checks the shape of a unit.

    Raises:
        InvariantViolation: empty unit, a run twice in it, batches that are not consecutive, a task of another run.
    """
    invariant(unit, "a unit writes at least one run")
    if len(unit) > 1:
        invariant(
            len({write.run for write in unit}) == len(unit),
            "a unit writes each run once",
            runs=[w.run for w in unit],
        )
    for write in unit:
        _check_write(write)


def _check_write(write: RunWrite) -> None:
    run = write.run
    next_event_id = 0
    for batch in write.events:
        invariant(
            batch.first_event_id <= batch.last_event_id <= MAX_EVENT_ID
            and batch.first_event_id == (next_event_id or batch.first_event_id),
            "batches of one write are consecutive",
            run=run,
            first_event_id=batch.first_event_id,
            last_event_id=batch.last_event_id,
        )
        next_event_id = batch.last_event_id + 1
    for task in write.tasks_put:
        invariant(
            task.run == run and task.queue.kind == task.key.kind,
            "a write puts its own run's tasks",
            run=run,
            task=task.key,
        )
        invariant(
            0 <= task.priority_key <= 5,
            "a task's priority key is 0 to 5",
            run=run,
            priority_key=task.priority_key,
        )


def first_event_of(write: RunWrite) -> int | None:
    """The id of the first event the write appends, or None when it appends none."""
    return write.events[0].first_event_id if write.events else None


def check_append(write: RunWrite, last_event_id: int) -> None:
    """Checks that the write's events follow on what is stored.

    Args:
        last_event_id: of the stored history; 0 when there is none.

    Raises:
        InvariantViolation: there would be a gap or an overlap in the history.
    """
    first = first_event_of(write)
    invariant(
        first is None or first == last_event_id + 1,
        "appended events follow the stored ones without gap or overlap",
        run=write.run,
        stored_last_event_id=last_event_id,
        first_event_id=first,
    )
