"""What all stores share about refusing writes: the rules of shape, and the words of each conflict.

Finding a conflict is each store's own work; here is only what needs no stored rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.errors import CurrentRunConflictError, VersionConflictError
from perdure.core.invariant import invariant
from perdure.core.run.records import RunWrite
from perdure.store.protocol import (
    StoredBatch,
    StoredDeployment,
    StoredEndpoint,
    StoredNamespace,
    StoredQueueConfig,
    StoredSchedule,
)

MAX_EVENT_ID = (1 << 24) - 1
"""Highest event id a store must be able to keep. Servers end a run long before (Temporal: 51,200 events)."""

DEFAULT_PRIORITY = 3
"""What priority key 0 means."""
PRIORITIES = range(1, 6)
"""The levels that tasks can have, most urgent first."""


def check_unit(unit: Sequence[RunWrite]) -> None:
    """Checks the shape of a unit.

    Raises:
        InvariantViolation: empty unit, a run twice in it, batches that are not consecutive, a task of another
        run.
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
            task.run == run
            and task.queue.kind == task.key.kind
            and task.queue.namespace_id == run.namespace_id,
            "a write puts its own run's tasks, into queues of its namespace",
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


def version_conflict(write: RunWrite, stored_version: int) -> VersionConflictError:
    """The error for a run that is not at the expected version; `stored_version` is 0 when it is not there."""
    run = write.run
    if stored_version == write.expected_version == 0:
        return VersionConflictError(f"Run id {run.run_id} belongs to another workflow.")
    return VersionConflictError(
        f"Run {run.run_id} of workflow {run.workflow_id} has version {stored_version}, "
        f"not {write.expected_version}."
    )


def current_run_conflict(write: RunWrite, current_run_id: str | None) -> CurrentRunConflictError:
    """The error for a workflow id that has another current run than expected."""
    return CurrentRunConflictError(
        f"The current run of workflow {write.run.workflow_id} is {current_run_id}, "
        f"not {write.expected_current_run_id}."
    )


def namespace_conflict(namespace: StoredNamespace, stored_version: int) -> VersionConflictError:
    """The error for a namespace that is not at the expected version, or whose name another one has."""
    if stored_version == namespace.version - 1:
        return VersionConflictError(f"Another namespace is named {namespace.name}.")
    return VersionConflictError(
        f"Namespace {namespace.name} has version {stored_version}, not {namespace.version - 1}."
    )


def endpoint_conflict(endpoint: StoredEndpoint, stored_version: int) -> VersionConflictError:
    """The error for a Nexus endpoint that is not at the expected version, or whose name another one has."""
    if stored_version == endpoint.version - 1:
        return VersionConflictError(f"Another Nexus endpoint is named {endpoint.name}.")
    return VersionConflictError(
        f"Nexus endpoint {endpoint.name} has version {stored_version}, not {endpoint.version - 1}."
    )


def batch_conflict(batch: StoredBatch, stored_version: int) -> VersionConflictError:
    """The error for a batch operation that is not at the expected version."""
    return VersionConflictError(
        f"Batch operation {batch.key.job_id} has version {stored_version}, not {batch.version - 1}."
    )


def deployment_conflict(deployment: StoredDeployment, stored_version: int) -> VersionConflictError:
    """The error for a worker deployment that is not at the expected version."""
    return VersionConflictError(
        f"Worker deployment {deployment.name} has version {stored_version}, not {deployment.version - 1}."
    )


def queue_config_conflict(config: StoredQueueConfig, stored_version: int) -> VersionConflictError:
    """The error for a task queue's configuration that is not at the expected version."""
    return VersionConflictError(
        f"Task queue {config.queue.name} has version {stored_version}, not {config.version - 1}."
    )


def schedule_conflict(schedule: StoredSchedule, stored_version: int) -> VersionConflictError:
    """The error for a schedule that is not at the expected version."""
    return VersionConflictError(
        f"Schedule {schedule.key.schedule_id} has version {stored_version}, not {schedule.version - 1}."
    )
