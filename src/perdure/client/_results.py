"""Results: what a workflow, update, query or activity returned, as one value.

May live here: reading a result's payloads, and the event that closed a run. May not: waiting for them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.client._exceptions import WorkflowContinuedAsNewError, WorkflowFailureError
from perdure.exceptions import CancelledError, TerminatedError, TimeoutError, TimeoutType

if TYPE_CHECKING:
    from perdure.api.common.v1 import Payloads
    from perdure.api.history.v1 import HistoryEvent
    from perdure.converter import DataConverter


async def single_value(
    converter: DataConverter, payloads: Payloads, result_type: type | None, what: str
) -> Any:
    """Return the one value of some payloads, None if there is none.

    Args:
        converter: Decodes them.
        payloads: The result on the wire.
        result_type: What to convert it to.
        what: What returned it, for the warning if there is more than one.
    """
    if not payloads.payloads:
        return None
    values = await converter.decode(payloads.payloads, [result_type] if result_type else None)
    if len(values) > 1:
        warnings.warn(f"Expected single {what} result, got {len(values)}", stacklevel=3)
    return values[0] if values else None


class Closing(NamedTuple):
    """How a run ended."""

    new_run_id: str
    """The run that goes on in its place (retry, cron, continue-as-new); empty if none does."""
    value: Any = None
    error: Exception | None = None


async def read_closing(
    event: HistoryEvent, converter: DataConverter, result_type: type | None, follow: bool
) -> Closing:
    """Return how the run ended whose last event is given.

    Args:
        event: The closing event.
        converter: Decodes results, failures and details.
        result_type: What to convert a result to.
        follow: Leave the result of a run undecoded if another one goes on in its place.
    """
    kind = event.WhichOneof("attributes") or ""
    attributes = getattr(event, kind, None)
    new_run_id = getattr(attributes, "new_execution_run_id", "")
    if follow and new_run_id:
        return Closing(new_run_id)
    if kind == "workflow_execution_completed_event_attributes":
        value = await single_value(
            converter, event.workflow_execution_completed_event_attributes.result, result_type, "workflow"
        )
        return Closing("", value)
    error: Exception
    if kind == "workflow_execution_failed_event_attributes":
        failed = event.workflow_execution_failed_event_attributes
        error = WorkflowFailureError(cause=await converter.decode_failure(failed.failure))
    elif kind == "workflow_execution_canceled_event_attributes":
        details = await _details(converter, event.workflow_execution_canceled_event_attributes.details)
        error = WorkflowFailureError(cause=CancelledError("Workflow cancelled", *details))
    elif kind == "workflow_execution_terminated_event_attributes":
        terminated = event.workflow_execution_terminated_event_attributes
        details = await _details(converter, terminated.details)
        reason = terminated.reason or "Workflow terminated"
        error = WorkflowFailureError(cause=TerminatedError(reason, *details))
    elif kind == "workflow_execution_timed_out_event_attributes":
        cause = TimeoutError("Workflow timed out", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])
        error = WorkflowFailureError(cause=cause)
    elif kind == "workflow_execution_continued_as_new_event_attributes":
        error = WorkflowContinuedAsNewError(new_run_id)
    else:
        error = RuntimeError(
            f"The server says that the run is closed, but its last event is {kind or 'unknown'}"
        )
    return Closing("", error=error)


async def _details(converter: DataConverter, details: Payloads) -> list[Any]:
    return await converter.decode(details.payloads) if details.payloads else []
