"""The Scheduled and Started events of a workflow task, from a run's header. What they mean is in `workflow_task`."""

from __future__ import annotations

from perdure.api.common.v1 import WorkerVersionStamp
from perdure.api.enums.v1 import EventType, TaskQueueKind
from perdure.api.history.v1 import HistoryEvent
from perdure.api.taskqueue.v1 import TaskQueue
from perdure.core.run.protos import set_duration, set_timestamp
from perdure.core.run.state import RunHeader

_NORMAL = TaskQueueKind.Value("TASK_QUEUE_KIND_NORMAL")
_STICKY = TaskQueueKind.Value("TASK_QUEUE_KIND_STICKY")
_SCHEDULED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_SCHEDULED")
_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_TASK_STARTED")


def scheduled(header: RunHeader, scheduled_ns: int) -> HistoryEvent:
    """The Scheduled event of the pending workflow task, without id."""
    event = HistoryEvent(event_type=_SCHEDULED)
    set_timestamp(event.event_time, scheduled_ns)
    attributes = event.workflow_task_scheduled_event_attributes
    attributes.task_queue.CopyFrom(current_queue(header))
    set_duration(attributes.start_to_close_timeout, header.task_timeout_ns)
    attributes.attempt = header.task_attempt
    return event


def started(header: RunHeader, identity: str, version: WorkerVersionStamp | None) -> HistoryEvent:
    """The Started event of the started workflow task, without id.

    Args:
        header: of the run.
        identity: the worker's.
        version: the worker's, if it says.
    """
    event = HistoryEvent(event_type=_STARTED)
    set_timestamp(event.event_time, header.task_started_ns)
    attributes = event.workflow_task_started_event_attributes
    attributes.scheduled_event_id = header.task_scheduled_event_id
    attributes.identity = identity
    attributes.request_id = header.task_request_id
    if header.task_suggest_reasons:
        attributes.suggest_continue_as_new = True
        attributes.suggest_continue_as_new_reasons.extend(header.task_suggest_reasons)  # type: ignore[arg-type]
    attributes.target_worker_deployment_version_changed = (
        header.versioning is not None and header.versioning.notified_revision is not None
    )
    attributes.history_size_bytes = header.task_history_size_bytes
    if version is not None and not version.use_versioning:
        attributes.worker_version.CopyFrom(version)
    return event


def current_queue(header: RunHeader) -> TaskQueue:
    """The queue that workflow tasks of the run are scheduled on now, as events record it."""
    if header.sticky_queue:
        return TaskQueue(name=header.sticky_queue, kind=_STICKY, normal_name=header.task_queue)
    return TaskQueue(name=header.task_queue, kind=_NORMAL)
