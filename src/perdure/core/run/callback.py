"""Completion callbacks of a run: who is to be told how it ends, what they are told, and how far that has come.

They wait while the run or its chain goes on. Delivery is the engine's (`effects`); what came of it is recorded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from perdure.api.common.v1 import Callback as CallbackMessage
from perdure.api.common.v1 import Link, Payload
from perdure.api.enums.v1 import CallbackState, EventType
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflow.v1 import CallbackInfo
from perdure.core.invariant import invariant
from perdure.core.nexus.outcomes import CompletionOutcome, Ended, Succeeded
from perdure.core.run import nexus_attempts
from perdure.core.run.protos import set_timestamp
from perdure.core.run.state import Callback
from perdure.core.run.transition import Transition

STANDBY = CallbackState.Value("CALLBACK_STATE_STANDBY")
SCHEDULED = CallbackState.Value("CALLBACK_STATE_SCHEDULED")
BACKING_OFF = CallbackState.Value("CALLBACK_STATE_BACKING_OFF")
FAILED = CallbackState.Value("CALLBACK_STATE_FAILED")
SUCCEEDED = CallbackState.Value("CALLBACK_STATE_SUCCEEDED")
SYSTEM_URL = "temporal://system"
"""The address of operations of workflows on this server."""
TOKEN_HEADER = "temporal-callback-token"
OPERATION_TOKEN_HEADER = "nexus-operation-token"
_STARTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")


def register(tx: Transition, request_id: str, callbacks: Iterable[CallbackMessage]) -> None:
    """Adds callbacks that came with a request; a request that was taken before adds nothing."""
    known = {item.request_id for item in tx.callbacks}
    if request_id and request_id in known:
        return
    for callback in callbacks:
        key = len(tx.callbacks) + 1
        tx.callbacks.put(
            key,
            Callback(
                key=key, data=callback.SerializeToString(), request_id=request_id, registered_ns=tx.now_ns
            ),
        )


def messages(tx: Transition) -> list[CallbackMessage]:
    """Every callback of the run, for the run that goes on in its place."""
    return [message(item) for item in sorted(tx.callbacks, key=lambda item: item.key)]


def message(item: Callback) -> CallbackMessage:
    """The callback as it came."""
    return CallbackMessage.FromString(item.data)


def due(tx: Transition) -> Iterator[tuple[int, int]]:
    """Key and time of the callbacks of a closed run that are still to be delivered."""
    if tx.header.calls_back:
        for item in tx.callbacks:
            if not item.end_state:
                yield item.key, max(tx.header.close_ns, item.next_attempt_ns)


# --- what they are told


def outcome(closing: HistoryEvent) -> CompletionOutcome:
    """How the run ended, as an operation's outcome."""
    kind = closing.WhichOneof("attributes")
    if kind == "workflow_execution_completed_event_attributes":
        payloads = closing.workflow_execution_completed_event_attributes.result.payloads
        return Succeeded(payloads[0] if payloads else no_payload())
    if kind == "workflow_execution_failed_event_attributes":
        return Ended(closing.workflow_execution_failed_event_attributes.failure)
    if kind == "workflow_execution_canceled_event_attributes":
        failure = Failure(message="operation canceled")
        attributes = closing.workflow_execution_canceled_event_attributes
        failure.canceled_failure_info.SetInParent()
        if attributes.HasField("details"):
            failure.canceled_failure_info.details.CopyFrom(attributes.details)
        return Ended(failure, is_canceled=True)
    if kind == "workflow_execution_terminated_event_attributes":
        failure = Failure(message="operation terminated")
        failure.terminated_failure_info.SetInParent()
        return Ended(failure)
    invariant(
        kind == "workflow_execution_timed_out_event_attributes", "a run that goes on calls nobody", kind=kind
    )
    failure = Failure(message="operation exceeded internal timeout")
    failure.timeout_failure_info.SetInParent()
    return Ended(failure)


def no_payload() -> Payload:
    """The payload of a result that there is none of."""
    return Payload(metadata={"encoding": b"binary/null"})


def start_link(tx: Transition, item: Callback) -> Link:
    """Points to the event with which the callback came to the run."""
    link = Link()
    event = link.workflow_event
    run = tx.state.run
    event.namespace, event.workflow_id, event.run_id = tx.header.namespace, run.workflow_id, run.run_id
    if item.request_id in tx.attached_requests:
        event.request_id_ref.request_id = item.request_id
        event.request_id_ref.event_type = _OPTIONS_UPDATED
    else:
        event.event_ref.event_id = 1
        event.event_ref.event_type = _STARTED
    return link


# --- what came of it


def delivered(tx: Transition, key: int) -> None:
    """Whoever was to be told was."""
    item = _attempted(tx, key)
    item.end_state = SUCCEEDED
    item.last_failure = b""


def not_delivered(tx: Transition, key: int, message: str, *, may_retry: bool) -> None:
    """An attempt has failed; another one follows if it may help."""
    item = _attempted(tx, key)
    failure = Failure(message=message)
    failure.application_failure_info.non_retryable = not may_retry
    item.last_failure = failure.SerializeToString()
    if may_retry:
        item.next_attempt_ns = tx.now_ns + nexus_attempts.backoff_ns(item.attempt)
    else:
        item.end_state = FAILED


def _attempted(tx: Transition, key: int) -> Callback:
    item = tx.callbacks.edit(key)
    item.attempt += 1
    item.last_attempt_ns = tx.now_ns
    item.next_attempt_ns = 0
    return item


# --- as descriptions show it


def described(tx: Transition) -> list[CallbackInfo]:
    """The run's callbacks as DescribeWorkflowExecution shows them, in the order of their registration."""
    shown = []
    for item in sorted(tx.callbacks, key=lambda item: item.key):
        info = CallbackInfo(attempt=item.attempt)
        info.callback.ParseFromString(item.data)
        info.trigger.workflow_closed.SetInParent()
        info.state = _state(tx, item)  # type: ignore[assignment]  # an enum number
        set_timestamp(info.registration_time, item.registered_ns)
        set_timestamp(info.last_attempt_complete_time, item.last_attempt_ns)
        set_timestamp(info.next_attempt_schedule_time, item.next_attempt_ns)
        if item.last_failure:
            info.last_attempt_failure.ParseFromString(item.last_failure)
        shown.append(info)
    return shown


def _state(tx: Transition, item: Callback) -> int:
    if item.end_state:
        return item.end_state
    if not tx.header.calls_back:
        return STANDBY
    return BACKING_OFF if item.next_attempt_ns > tx.now_ns else SCHEDULED
