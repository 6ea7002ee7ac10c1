"""Pause and unpause of a whole run: while it is paused no workflow task and no activity is handed to workers.

What workers have goes on; what happens is recorded, and the workflow hears of it when it is unpaused.
"""

from __future__ import annotations

from perdure.api.enums.v1 import EventType, WorkflowTaskFailedCause
from perdure.core.errors import FailedPreconditionError
from perdure.core.run import activity_control, lifecycle, workflow_task
from perdure.core.run.transition import Transition

_PAUSED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED")
_UNPAUSED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED")
_BEFORE_START = WorkflowTaskFailedCause.Value(
    "WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_PAUSE_REQUESTED_BEFORE_TASK_STARTED"
)
ALREADY_PAUSED = "workflow is already paused."
NOT_PAUSED = "workflow is not paused."


def pause(tx: Transition, *, identity: str, reason: str, request_id: str) -> bool:
    """Pauses the run, once per request id.

    Returns:
        whether it was not paused before.

    Raises:
        FailedPreconditionError: another request has paused it.
    """
    header = tx.header
    if header.paused_ns:
        if request_id and header.pause_request_id == request_id:
            return False
        raise FailedPreconditionError(ALREADY_PAUSED)
    if header.task_is_speculative and not header.has_started_task:
        workflow_task.drop_unseen(tx)
    if header.has_pending_task and not header.has_started_task:
        workflow_task.fail(tx, _BEFORE_START, identity=lifecycle.SERVER_IDENTITY)
        header.task_attempt = 1
    event = tx.new_event(_PAUSED)
    event.worker_may_ignore = True
    attributes = event.workflow_execution_paused_event_attributes
    attributes.identity = identity
    attributes.reason = reason
    attributes.request_id = request_id
    tx.append(event)
    header.paused_ns = tx.now_ns
    header.pause_identity = identity
    header.pause_reason = reason
    header.pause_request_id = request_id
    _dispatch_anew(tx)
    activity_control.note_pauses(tx)
    return True


def unpause(tx: Transition, *, identity: str, reason: str, request_id: str) -> None:
    """Lets a paused run go on.

    Raises:
        FailedPreconditionError: it is not paused.
    """
    header = tx.header
    if not header.paused_ns:
        raise FailedPreconditionError(NOT_PAUSED)
    event = tx.new_event(_UNPAUSED)
    event.worker_may_ignore = True
    attributes = event.workflow_execution_unpaused_event_attributes
    attributes.identity = identity
    attributes.reason = reason
    attributes.request_id = request_id
    tx.append(event)
    header.paused_ns = 0
    header.pause_identity = header.pause_reason = header.pause_request_id = ""
    _dispatch_anew(tx)
    activity_control.note_pauses(tx)
    tx.needs_task = True


def _dispatch_anew(tx: Transition) -> None:
    """What was handed to task queues before is stale."""
    for scheduled_event_id in [pending.scheduled_event_id for pending in tx.activities]:
        tx.activities.edit(scheduled_event_id).stamp += 1
