"""What a run knows about itself, read from the event that started it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from perdure.api.protobuf import Duration
from perdure.common import Priority, RetryPolicy, TypedSearchAttributes
from perdure.converter import decode_search_attributes, decode_typed_search_attributes
from perdure.core.replay.activation import InitializeWorkflow
from perdure.workflow import Info, ParentInfo, RootInfo

_EPOCH = datetime.fromtimestamp(0, UTC)


def new_info(
    job: InitializeWorkflow, *, run_id: str, namespace: str, task_queue: str, first_task_ns: int
) -> Info:
    """The run's info.

    Args:
        job: with the event.
        run_id: of the run.
        namespace, task_queue: of the worker.
        first_task_ns: when its first workflow task started.
    """
    started = job.attributes
    # Most runs have few of these; a message that is not there costs as much to look at as one that is.
    has = started.HasField
    parent = started.parent_workflow_execution if has("parent_workflow_execution") else None
    root = started.root_workflow_execution if has("root_workflow_execution") else None
    attributes = started.search_attributes if has("search_attributes") else None
    return Info(
        attempt=started.attempt,
        continued_run_id=started.continued_execution_run_id or None,
        cron_schedule=started.cron_schedule or None,
        execution_timeout=_timedelta(started.workflow_execution_timeout)
        if has("workflow_execution_timeout")
        else None,
        first_execution_run_id=started.first_execution_run_id,
        headers=dict(started.header.fields) if has("header") else {},
        namespace=namespace,
        parent=ParentInfo(started.parent_workflow_namespace, parent.run_id, parent.workflow_id)
        if parent is not None and parent.workflow_id
        else None,
        root=RootInfo(root.run_id, root.workflow_id) if root is not None and root.workflow_id else None,
        priority=Priority._from_proto(started.priority) if has("priority") else Priority.default,
        raw_memo=dict(started.memo.fields) if has("memo") else {},
        retry_policy=RetryPolicy.from_proto(started.retry_policy) if has("retry_policy") else None,
        run_id=run_id,
        run_timeout=_timedelta(started.workflow_run_timeout) if has("workflow_run_timeout") else None,
        search_attributes={} if attributes is None else decode_search_attributes(attributes),
        start_time=_datetime(first_task_ns),
        task_queue=task_queue,
        task_timeout=_timedelta(started.workflow_task_timeout) or timedelta(),
        # Not the one that is shared: upserts change it.
        typed_search_attributes=TypedSearchAttributes([])
        if attributes is None
        else decode_typed_search_attributes(attributes),
        workflow_id=job.workflow_id,
        workflow_start_time=_datetime(job.start_time_ns),
        workflow_type=started.workflow_type.name,
        original_execution_run_id=started.original_execution_run_id,
    )


def _timedelta(duration: Duration) -> timedelta | None:
    """The server writes no time at all where nothing was asked for."""
    if not duration.seconds and not duration.nanos:
        return None
    return duration.ToTimedelta() or None


def _datetime(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
