"""The request to cancel a run: recorded once, the workflow's code decides what it means."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.api.common.v1 import Link, WorkflowExecution
from perdure.api.enums.v1 import EventType
from perdure.core.run.transition import Transition

_CANCEL_REQUESTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED")


def request(
    tx: Transition,
    *,
    reason: str,
    identity: str,
    request_id: str,
    links: Iterable[Link],
    sender: WorkflowExecution | None = None,
    initiated_event_id: int = 0,
) -> bool:
    """Records the request. A first workflow task that is held back (start delay) is due now.

    Args:
        tx: the transition.
        reason, identity, request_id, links: of the request.
        sender: the workflow that asks, if one does, and `initiated_event_id` its event.

    Returns:
        whether it was the first; a repeated one changes nothing.
    """
    if tx.header.cancel_requested:
        return False
    tx.header.cancel_requested = True
    tx.header.cancel_request_id = request_id
    tx.header.first_task_at_ns = 0
    event = tx.new_event(_CANCEL_REQUESTED)
    attributes = event.workflow_execution_cancel_requested_event_attributes
    attributes.cause = reason
    attributes.identity = identity
    if sender is not None:
        attributes.external_workflow_execution.CopyFrom(sender)
        attributes.external_initiated_event_id = initiated_event_id
    event.links.extend(links)
    tx.append(event)
    tx.needs_task = True
    return True
