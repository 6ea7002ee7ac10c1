"""Signals and their request ids."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.api.common.v1 import Header, Link, Payloads, WorkflowExecution
from perdure.api.enums.v1 import EventType
from perdure.core.errors import InvalidArgumentError, ResourceExhaustedError
from perdure.core.run.limits import Limits
from perdure.core.run.transition import Transition

_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")

LIMIT_EXCEEDED = "exceeded workflow execution limit for signal events"
CLOSING = "workflow operation can not be applied because workflow is closing"
_CAUSE_BUSY_WORKFLOW = 5
_SCOPE_NAMESPACE = 1


def receive(
    tx: Transition,
    *,
    name: str,
    input: Payloads | None,
    identity: str,
    header: Header | None,
    request_id: str,
    links: Iterable[Link],
    limits: Limits,
    sender: WorkflowExecution | None = None,
) -> bool:
    """Records a signal once per request id (an empty one is never a repetition).

    A signal of another workflow, `sender`, is delivered once anyway: its request id is not remembered.

    Returns:
        whether it was new.

    Raises:
        InvalidArgumentError: the run had too many signals.
        ResourceExhaustedError: the run tries to close and would be kept from it once more.
    """
    if request_id and request_id in tx.signal_request_ids:
        return False
    if tx.header.signal_count >= limits.signals:
        raise InvalidArgumentError(LIMIT_EXCEEDED)
    if tx.header.task_close_refused and tx.header.has_started_task:
        raise ResourceExhaustedError(CLOSING, _CAUSE_BUSY_WORKFLOW, _SCOPE_NAMESPACE)
    if request_id and sender is None:
        tx.signal_request_ids.put(request_id, 0)
    tx.header.signal_count += 1
    event = tx.new_event(_SIGNALED)
    attributes = event.workflow_execution_signaled_event_attributes
    attributes.signal_name = name
    if input is not None:
        attributes.input.CopyFrom(input)
    attributes.identity = identity
    if header is not None:
        attributes.header.CopyFrom(header)
    attributes.request_id = request_id
    if sender is not None:
        attributes.external_workflow_execution.CopyFrom(sender)
    event.links.extend(links)
    tx.append(event)
    tx.needs_task = True
    return True
