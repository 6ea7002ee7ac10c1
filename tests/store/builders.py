"""Short ways to say what tests write, and everything observable of a store as one comparable value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from perdure.core.run.records import (
    AttributeValue,
    EventBatch,
    QueueKey,
    RunKey,
    RunKind,
    RunWrite,
    Task,
    TaskKey,
    TaskKind,
    VisibilityRecord,
)
from perdure.store.protocol import BatchKey, ScheduleKey, Store

NAMESPACE = "0193a1b2-0000-7000-8000-000000000001"
OTHER_NAMESPACE = "0193a1b2-0000-7000-8000-000000000002"
QUEUE = QueueKey(NAMESPACE, "orders", TaskKind.WORKFLOW)
ALL_EVENTS = 1 << 23
NO_LIMIT = 1 << 40


def run_key(number: int = 1, workflow: str = "", namespace: str = NAMESPACE) -> RunKey:
    """A run; each number has its own run id, and its own workflow id unless one is given."""
    return RunKey(namespace, workflow or f"workflow-{number}", f"0193a1b2-0000-7000-8000-{number:012}")


def write(run: RunKey, version: int = 0, **changes: Any) -> RunWrite:
    """A write that expects `version`; a first one makes the run current of a workflow id that has no current run."""
    first: dict[str, Any] = (
        {"becomes_current": True, "start_request_id": f"start-{run.run_id}", "first_run_id": run.run_id}
        if version == 0
        else {}
    )
    fields: dict[str, Any] = (
        {"status": 1, "header": f"header {version + 1}".encode(), "wakeup_ns": None} | first | changes
    )
    return RunWrite(run, version, **fields)


def batch(first: int, last: int | None = None, data: bytes | None = None) -> EventBatch:
    """Events `first` to `last` (default: one event)."""
    last = first if last is None else last
    return EventBatch(first, last, f"<{first}-{last}>".encode() if data is None else data)


def task(
    run: RunKey,
    event_id: int = 2,
    queue: QueueKey = QUEUE,
    *,
    enqueued_ns: int = 1_000,
    priority_key: int = 0,
    delivery_id: str = "d",
    sticky: bool = False,
    place: int = 0,
    fairness_key: str = "",
    fairness_weight: float = 0.0,
) -> Task:
    """A task of the queue's kind."""
    return Task(
        run,
        TaskKey(queue.kind, event_id),
        queue,
        enqueued_ns,
        priority_key,
        sticky,
        delivery_id,
        fairness_key,
        fairness_weight,
        place,
    )


def record(
    run: RunKey,
    *,
    start_ns: int = 1_000,
    close_ns: int | None = None,
    attributes: dict[str, AttributeValue] | None = None,
    **changes: Any,
) -> VisibilityRecord:
    """A list row: running, or completed when it has a close time."""
    made = VisibilityRecord(
        workflow_type="Order",
        task_queue="orders",
        status=1 if close_ns is None else 2,
        start_time_ns=start_ns,
        execution_time_ns=start_ns + 5,
        close_time_ns=close_ns,
        history_length=7,
        history_size_bytes=700,
        state_transition_count=3,
        parent_workflow_id=None,
        parent_run_id=None,
        root_workflow_id=run.workflow_id,
        root_run_id=run.run_id,
        memo=b"memo \x00\xff",
        search_attributes=b"attributes",
        attributes={} if attributes is None else attributes,
    )
    return replace(made, **changes)


async def dump(
    store: Store, runs: Iterable[RunKey], queues: Sequence[QueueKey] = (QUEUE,)
) -> dict[str, object]:
    """Everything that can be seen of these runs and queues, and of all lists and namespaces.

    Sequences of tasks are left out: only their order means something.
    """
    seen: dict[str, object] = {
        "namespaces": await store.list_namespaces(),
        "deployments": await store.list_deployments(),
        "queue configs": await store.list_queue_configs(),
        "endpoints": await store.list_endpoints(),
        "wakeups": await store.due_wakeups(NO_LIMIT << 20, None, 1_000_000),
    }
    for run in sorted(set(runs)):
        seen[f"run {run}"] = (
            await store.load_run(run),
            await store.read_history(run, 0, ALL_EVENTS, NO_LIMIT),
            await store.current_run(run.namespace_id, run.workflow_id, run.kind),
        )
    for queue in queues:
        tasks = await store.read_tasks(queue, None, 1_000_000)
        seen[f"queue {queue}"] = [(cursor.priority, waiting) for cursor, waiting in tasks]
        seen[f"count {queue}"] = await store.count_tasks(queue)
        seen[f"levels {queue}"] = await store.task_levels(queue, 3)
    seen["schedules due"] = await store.due_schedules(NO_LIMIT << 20, None, 1_000_000)
    for namespace_id in (NAMESPACE, OTHER_NAMESPACE):
        jobs = await store.list_batches(namespace_id, None, 1_000_000)
        seen[f"batches {namespace_id}"] = [
            (entry, await store.load_batch(BatchKey(namespace_id, position.job_id)))
            for position, entry in jobs
        ]
        listed = await store.list_schedules(namespace_id, "", 1_000_000)
        seen[f"schedules {namespace_id}"] = [
            (entry, await store.load_schedule(ScheduleKey(namespace_id, schedule_id)))
            for schedule_id, entry in listed
        ]
        for kind in RunKind:
            rows = (await store.list_runs(namespace_id, None, 1_000_000, None, kind)).rows
            seen[f"list {namespace_id} {kind}"] = rows
            counts = await store.count_runs(namespace_id, None, "ExecutionStatus", kind)
            seen[f"statuses {namespace_id} {kind}"] = counts
    return seen
