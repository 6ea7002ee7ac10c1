"""Completion callbacks of a run: who is to be told how it ends, what they are told, and how far that has come.

They wait while the run or its chain goes on. Those that came with an update wait for its end, and do not move on to the
next run. Delivery is the engine's (`effects`); what came of it is recorded here.
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
_UPDATE_ADMITTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED")
_UPDATE_ACCEPTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")


def register(
    tx: Transition, request_id: str, callbacks: Iterable[CallbackMessage], *, update_id: str = ""
) -> None:
    """Adds callbacks that came with a request; a request that was taken before adds nothing.

    Args:
        tx: the transition.
        request_id: of the request.
        callbacks: what it brought.
        update_id: the update whose end they wait for; empty for the run's.
    """
    known = {item.request_id for item in tx.callbacks if item.update_id == update_id}
    if request_id and request_id in known:
        return
    for callback in callbacks:
        key = len(tx.callbacks) + 1
        tx.callbacks.put(
            key,
            Callback(
                key=key,
                data=callback.SerializeToString(),
                request_id=request_id,
                registered_ns=tx.now_ns,
                update_id=update_id,
            ),
        )


def messages(tx: Transition) -> list[CallbackMessage]:
    """Every callback that waits for the end of the run, for the run that goes on in its place."""
    waiting = (item for item in tx.callbacks if not item.update_id)
    return [message(item) for item in sorted(waiting, key=lambda item: item.key)]


def has_of_run(tx: Transition) -> bool:
    """Whether anybody waits for the end of the run itself."""
    return any(not item.update_id for item in tx.callbacks)


def update_ended(tx: Transition, update_id: str, rejection: Failure | None = None) -> None:
    """An update has an outcome: whoever waits for it is to be told.

    Args:
        tx: the transition.
        update_id: whose.
        rejection: why the workflow refused it, if it did.
    """
    for item in tx.callbacks:
        if item.update_id == update_id and not item.update_ended_ns:
            _update_ended(tx, item, rejection)


def end_updates(tx: Transition) -> None:
    """The run is closed: updates that have no outcome end with it."""
    for item in tx.callbacks:
        if item.update_id and not item.update_ended_ns:
            _update_ended(tx, item)


def keep_back(tx: Transition, new: Transition) -> None:
    """What another run that a reset made will tell is not told by this one, which has been closed for it.

    An update that is not done once more has ended with this run, and so has a run that is not of the new one's chain.

    Args:
        tx: of the run that has just been closed.
        new: of the other one, with everything that it has from its base.
    """
    there = {(item.update_id, item.data) for item in new.callbacks}
    goes_on = [item for item in tx.callbacks if (item.update_id, item.data) in there]
    tx.header.calls_back = tx.header.calls_back and not any(not item.update_id for item in goes_on)
    for item in goes_on:
        update = tx.updates.get(item.update_id)
        has_outcome = item.rejection or (update is not None and update.completed_event_id)
        if item.update_id and not has_outcome:
            tx.callbacks.edit(item.key).update_ended_ns = 0


def _update_ended(tx: Transition, item: Callback, rejection: Failure | None = None) -> None:
    edited = tx.callbacks.edit(item.key)
    edited.update_ended_ns = tx.now_ns
    if rejection is not None:
        edited.rejection = rejection.SerializeToString()
    tx.header.tells_of_updates = True


def message(item: Callback) -> CallbackMessage:
    """The callback as it came."""
    return CallbackMessage.FromString(item.data)


def due(tx: Transition) -> Iterator[tuple[int, int]]:
    """Key and time of the callbacks that are still to be delivered: of ended updates, and of a closed run."""
    for item in tx.callbacks:
        since_ns = _since_ns(tx, item)
        if since_ns and not item.end_state:
            yield item.key, max(since_ns, item.next_attempt_ns)


def _since_ns(tx: Transition, item: Callback) -> int:
    """When that came which the callback tells of; 0 if it has not."""
    if item.update_id:
        return item.update_ended_ns
    return tx.header.close_ns if tx.header.calls_back else 0


# --- what they are told


def update_failure(kind: str, message: str) -> Failure:
    """A failure of an update that the server decides on."""
    failure = Failure(message=message, source="Server")
    failure.application_failure_info.type = kind
    failure.application_failure_info.non_retryable = True
    return failure


OUTLIVED = update_failure(
    "AcceptedUpdateCompletedWorkflow",
    "Workflow Update failed because the Workflow completed before the Update completed.",
)
"""The outcome of an update that was accepted and not completed when its run closed."""


def event_id(tx: Transition, item: Callback) -> int:
    """The event that says what is told; 0 for an update that was refused, which left none."""
    if item.rejection:
        return 0
    update = tx.updates.get(item.update_id) if item.update_id else None
    return (
        update.completed_event_id
        if update is not None and update.completed_event_id
        else tx.header.close_event_id
    )


def ended_ns(tx: Transition, item: Callback) -> int:
    """When that ended which the callback waited for."""
    return item.update_ended_ns or tx.header.close_ns


def told(item: Callback, event: HistoryEvent) -> CompletionOutcome:
    """What the callback tells, as an operation's outcome.

    Args:
        item: the callback.
        event: the one of `event_id`; if there is none, any.
    """
    if not item.update_id:
        return outcome(event)
    if item.rejection:
        return Ended(Failure.FromString(item.rejection))
    completed = event.workflow_execution_update_completed_event_attributes
    if not completed.HasField("outcome"):
        return Ended(OUTLIVED)
    if completed.outcome.HasField("failure"):
        return Ended(completed.outcome.failure)
    payloads = completed.outcome.success.payloads
    return Succeeded(payloads[0] if payloads else no_payload())


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
    elif item.update_id:
        update = tx.updates.get(item.update_id)
        was_brought = update is None or update.admitted_event_id
        event.request_id_ref.request_id = item.request_id
        event.request_id_ref.event_type = _UPDATE_ADMITTED if was_brought else _UPDATE_ACCEPTED
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
        if item.update_id:
            info.trigger.update_workflow_execution_completed.update_id = item.update_id
        else:
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
    if not _since_ns(tx, item):
        return STANDBY
    return BACKING_OFF if item.next_attempt_ns > tx.now_ns else SCHEDULED
