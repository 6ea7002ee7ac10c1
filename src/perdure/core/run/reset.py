"""Reset: a new run that begins with a copy of another one's history, and does what came after once more.

Signals and accepted updates that came later are received again, and so is what became of children and Nexus operations
that the copied part started. Requests to cancel are not. At the end come changes of options that the reset asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perdure.api.enums.v1 import EventType, ResetReapplyExcludeType, ResetReapplyType, WorkflowTaskFailedCause
from perdure.api.failure.v1 import Failure
from perdure.api.history.v1 import HistoryEvent
from perdure.api.workflow.v1 import PostResetOperation
from perdure.core.errors import InvalidArgumentError
from perdure.core.run import (
    activity,
    callback,
    lifecycle,
    nexus_operation,
    options,
    rebuild,
    update,
    workflow_task,
)
from perdure.core.run.ids import derived_id
from perdure.core.run.items import CALLBACK
from perdure.core.run.limits import Limits
from perdure.core.run.protos import text_payloads
from perdure.core.run.transition import Transition

RESETTER = "history-resetter"
"""Who did it, in the Terminated event of a run that is reset."""
_RESET = WorkflowTaskFailedCause.Value("WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW")
_EXCLUDE_SIGNALS = ResetReapplyExcludeType.Value("RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL")
_EXCLUDE_UPDATES = ResetReapplyExcludeType.Value("RESET_REAPPLY_EXCLUDE_TYPE_UPDATE")
_EXCLUDE_OPERATIONS = ResetReapplyExcludeType.Value("RESET_REAPPLY_EXCLUDE_TYPE_NEXUS")
_ONLY_SIGNALS = ResetReapplyType.Value("RESET_REAPPLY_TYPE_SIGNAL")
_NOTHING = ResetReapplyType.Value("RESET_REAPPLY_TYPE_NONE")
_SIGNALED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED")
_UPDATE_ADMITTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED")
_UPDATE_ACCEPTED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED")
_OPTIONS_UPDATED = EventType.Value("EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED")
_CHILD_STARTED = EventType.Value("EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED")
_CHILD_OUTCOMES = {
    EventType.Value(f"EVENT_TYPE_{name}"): f"{name.lower()}_event_attributes"
    for name in (
        "START_CHILD_WORKFLOW_EXECUTION_FAILED",
        "CHILD_WORKFLOW_EXECUTION_COMPLETED",
        "CHILD_WORKFLOW_EXECUTION_FAILED",
        "CHILD_WORKFLOW_EXECUTION_CANCELED",
        "CHILD_WORKFLOW_EXECUTION_TIMED_OUT",
        "CHILD_WORKFLOW_EXECUTION_TERMINATED",
    )
}
_OPERATION_STARTED = EventType.Value("EVENT_TYPE_NEXUS_OPERATION_STARTED")
_OPERATION_OUTCOMES = {
    EventType.Value(f"EVENT_TYPE_NEXUS_OPERATION_{name}"): f"nexus_operation_{name.lower()}_event_attributes"
    for name in ("COMPLETED", "FAILED", "CANCELED", "TIMED_OUT")
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reset is to do.

    Attributes:
        base_run_id: the run whose history is copied.
        finish_event_id: the first event that is not copied.
        reason: why.
        request_id: of the request.
        start_request_id: of the request that started the base run.
        namespace, retention_ns: of the new run.
        excluded: ResetReapplyExcludeType numbers of what is not done once more.
        changes: of the new run's options, after everything else. They have been checked.
    """

    base_run_id: str
    finish_event_id: int
    reason: str
    request_id: str
    start_request_id: str
    namespace: str
    retention_ns: int
    excluded: frozenset[int]
    changes: Sequence[PostResetOperation.UpdateWorkflowOptions] = ()


def excluded(types: Iterable[int], reapply_type: int) -> frozenset[int]:
    """What is not to be done once more, from the two ways in which a request can say so."""
    found = set(types)
    if reapply_type == _ONLY_SIGNALS:
        found.add(_EXCLUDE_UPDATES)
    elif reapply_type == _NOTHING:
        found |= {_EXCLUDE_SIGNALS, _EXCLUDE_UPDATES}
    return frozenset(found)


def is_done_again(event: HistoryEvent, excluded: frozenset[int], *, of_base: bool) -> bool:
    """Whether an event after the copied ones may be one that is done once more.

    Args:
        event: the event.
        excluded: see `Plan`.
        of_base: it is the base run's; children and operations of the runs that followed are not the new run's.
    """
    if event.event_type == _OPERATION_STARTED or event.event_type in _OPERATION_OUTCOMES:
        return of_base and _EXCLUDE_OPERATIONS not in excluded
    if event.event_type == _SIGNALED:
        return _EXCLUDE_SIGNALS not in excluded
    if event.event_type in (_UPDATE_ADMITTED, _UPDATE_ACCEPTED):
        return _EXCLUDE_UPDATES not in excluded
    if event.event_type == _OPTIONS_UPDATED:
        return True
    return of_base and (event.event_type == _CHILD_STARTED or event.event_type in _CHILD_OUTCOMES)


def begin(
    tx: Transition, plan: Plan, copied: Sequence[HistoryEvent], later: Iterable[HistoryEvent], limits: Limits
) -> None:
    """Makes the new run.

    Args:
        tx: of the new run, empty.
        plan: what is to be done.
        copied: the base run's events before `plan.finish_event_id`.
        later: what `is_done_again` of its events after them, and of those of the runs that followed.
        limits: of the run.

    Raises:
        InvalidArgumentError: the copied part does not end within a workflow task, or a change names a part of an
            option that changes as a whole.
    """
    rebuild.rebuild(tx, copied, plan.namespace, plan.retention_ns)
    header = tx.header
    header.start_request_id = plan.start_request_id
    header.reset_request_id, header.reset_ns = plan.request_id, tx.now_ns
    if not header.has_pending_task:
        raise InvalidArgumentError(
            "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: "
            f"{plan.finish_event_id}"
        )
    if not header.has_started_task:
        request_id = derived_id(plan.base_run_id, tx.state.run.run_id, "reset")
        workflow_task.start(tx, request_id, lifecycle.SERVER_IDENTITY, limits, counts_new_events=True)
    failure = Failure(message=plan.reason)
    failure.reset_workflow_failure_info.SetInParent()
    workflow_task.fail(tx, _RESET, failure, lifecycle.SERVER_IDENTITY)
    failed = tx.events[-1].workflow_task_failed_event_attributes
    failed.base_run_id, failed.new_run_id = plan.base_run_id, tx.state.run.run_id
    _end_cancelled(tx)
    for event in later:
        _apply_again(tx, event, plan)
    for change in plan.changes:
        options.update(tx, change.workflow_execution_options, set(change.update_mask.paths), "")
    if limits.update_callbacks:
        update.register_callbacks(tx)
    tx.needs_task = True


def _end_cancelled(tx: Transition) -> None:
    """An activity whose cancellation was requested was started then, and nobody has it now: it is cancelled."""
    for pending in list(tx.activities):
        if pending.cancel_requested_event_id:
            edited = tx.activities.edit(pending.scheduled_event_id)
            activity.cancel(tx, edited, text_payloads(activity.NOT_STARTED), lifecycle.SERVER_IDENTITY)


def _apply_again(tx: Transition, event: HistoryEvent, plan: Plan) -> None:
    kind = event.event_type
    if kind == _SIGNALED and _EXCLUDE_SIGNALS not in plan.excluded:
        _repeat(tx, event)
        tx.header.signal_count += 1
        request_id = event.workflow_execution_signaled_event_attributes.request_id
        if request_id and not event.workflow_execution_signaled_event_attributes.HasField(
            "external_workflow_execution"
        ):
            tx.signal_request_ids.put(request_id, 0)
    elif kind in (_UPDATE_ADMITTED, _UPDATE_ACCEPTED):
        update.bring_again(tx, event)
    elif kind == _OPTIONS_UPDATED:
        _change_options_again(tx, event)
    elif kind == _CHILD_STARTED:
        attributes = event.child_workflow_execution_started_event_attributes
        item = tx.children.get(attributes.initiated_event_id)
        if item is not None and not item.run_id:
            tx.children.edit(attributes.initiated_event_id).run_id = attributes.workflow_execution.run_id
            _repeat(tx, event)
    elif kind in _CHILD_OUTCOMES:
        outcome = getattr(event, _CHILD_OUTCOMES[kind])
        if outcome.initiated_event_id in tx.children:
            repeated = _repeat(tx, event)
            again = getattr(repeated, _CHILD_OUTCOMES[kind])
            if "started_event_id" in again.DESCRIPTOR.fields_by_name:
                item = tx.children.get(outcome.initiated_event_id)
                again.started_event_id = item.started_event_id if item is not None else 0
            tx.children.delete(outcome.initiated_event_id)
    elif kind == _OPERATION_STARTED or kind in _OPERATION_OUTCOMES:
        _tell_of_operation(tx, event)


def _tell_of_operation(tx: Transition, event: HistoryEvent) -> None:
    """What became of an operation is told once more if the copied part scheduled it and does not know that yet."""
    if event.event_type in _OPERATION_OUTCOMES:
        scheduled_event_id = getattr(event, _OPERATION_OUTCOMES[event.event_type]).scheduled_event_id
        if scheduled_event_id in tx.nexus_operations:
            tx.nexus_operations.delete(scheduled_event_id)
            _repeat(tx, event)
        return
    attributes = event.nexus_operation_started_event_attributes
    operation = tx.nexus_operations.get(attributes.scheduled_event_id)
    if operation is not None and not operation.started_ns:
        nexus_operation.started(tx, attributes.scheduled_event_id, attributes.operation_token)
        _repeat(tx, event)


def _change_options_again(tx: Transition, event: HistoryEvent) -> None:
    """Options that were changed are changed, and what was attached is attached, unless the request is known here."""
    attributes = event.workflow_execution_options_updated_event_attributes
    request_id = attributes.attached_request_id
    if request_id and request_id in tx.attached_requests:
        return
    if request_id:
        tx.attached_requests.put(request_id, 0)
    _repeat(tx, event)
    options.take(tx, attributes)
    callback.register(tx, request_id, attributes.attached_completion_callbacks)


def _repeat(tx: Transition, event: HistoryEvent) -> HistoryEvent:
    """Writes an event once more, as of now."""
    repeated = tx.new_event(event.event_type)
    field = str(event.WhichOneof("attributes"))
    getattr(repeated, field).CopyFrom(getattr(event, field))
    repeated.links.extend(event.links)
    repeated.worker_may_ignore = event.worker_may_ignore
    return tx.append(repeated)


def leave(tx: Transition, new: Transition, reason: str, *, is_base: bool) -> None:
    """Makes room for the new run: this one ends if it is open; its parent is not told, it has the new run.

    Args:
        tx: of the run.
        new: of the new run.
        reason: why.
        is_base: it is the run whose history was copied: its children are the new run's, and tell that one.
    """
    if is_base:
        tx.header.reset_run_id = new.state.run.run_id
    if tx.header.is_open:
        lifecycle.terminate(tx, reason=reason, details=None, identity=RESETTER)
        tx.header.owes_parent = False
        if tx.may_have(CALLBACK):
            callback.keep_back(tx, new)
