"""`perdure workflow describe`, `list`, `count`, `result`, `show`: what only reads."""

from __future__ import annotations

from typing import Any

from perdure.api.enums import v1 as enums
from perdure.api.workflowservice import v1 as service
from perdure.cli import flags as f
from perdure.cli import histories, listings, payloads, unserved, wire
from perdure.cli.command import Flags, Group
from perdure.cli.errors import WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import failure_text, look, time_of, to_json
from perdure.service._waits import queues_waited_at

commands = Group("workflow", "")
_ID = "--workflow-id order-1"

_INFO = {
    "WorkflowId": "execution.workflow_id",
    "RunId": "execution.run_id",
    "Type": "type.name",
    "Status": "status",
    "TaskQueue": "task_queue",
    "StartTime": "start_time",
    "CloseTime": "close_time",
    "ExecutionTime": "execution_time",
    "Memo": "memo.fields",
    "SearchAttributes": "search_attributes.indexed_fields",
    "StateTransitionCount": "state_transition_count",
    "HistoryLength": "history_length",
    "HistorySize": "history_size_bytes",
    "ParentWorkflowId": "parent_execution.workflow_id",
    "ParentRunId": "parent_execution.run_id",
    "RootWorkflowId": "root_execution.workflow_id",
    "AssignedBuildId": "assigned_build_id",
    "Versioning": "versioning_info",
}
_EXTENDED = {
    "ExecutionExpirationTime": "execution_expiration_time",
    "RunExpirationTime": "run_expiration_time",
    "LastResetTime": "last_reset_time",
    "OriginalStartTime": "original_start_time",
    "CancelRequested": "cancel_requested",
    "PausedBy": "pause_info.identity",
    "PauseReason": "pause_info.reason",
    "PausedTime": "pause_info.paused_time",
}
_PENDING = {
    "activity": (
        "pending_activities",
        {
            "ActivityId": "activity_id",
            "Type": "activity_type.name",
            "State": "state",
            "Attempt": "attempt",
            "MaximumAttempts": "maximum_attempts",
            "ScheduledTime": "scheduled_time",
            "LastStartedTime": "last_started_time",
            "LastHeartbeatTime": "last_heartbeat_time",
            "NextAttemptTime": "next_attempt_schedule_time",
            "ExpirationTime": "expiration_time",
            "LastWorkerIdentity": "last_worker_identity",
            "Paused": "paused",
        },
        "last_failure",
    ),
    "child workflow": (
        "pending_children",
        {"WorkflowId": "workflow_id", "RunId": "run_id", "Type": "workflow_type_name"},
        None,
    ),
    "Nexus operation": (
        "pending_nexus_operations",
        {
            "Endpoint": "endpoint",
            "Service": "service",
            "Operation": "operation",
            "OperationToken": "operation_token",
            "State": "state",
            "Attempt": "attempt",
            "NextAttemptTime": "next_attempt_schedule_time",
            "BlockedReason": "blocked_reason",
            "CancelationState": "cancellation_info.state",
        },
        "last_attempt_failure",
    ),
    "callback": (
        "callbacks",
        {
            "URL": "callback.nexus.url",
            "State": "state",
            "Attempt": "attempt",
            "RegistrationTime": "registration_time",
            "NextAttemptTime": "next_attempt_schedule_time",
            "BlockedReason": "blocked_reason",
        },
        "last_attempt_failure",
    ),
}
"""What may be pending: field of the description, what is shown of each, and its failure."""

_RESET_POINTS = {
    "EventId": "first_workflow_task_completed_id",
    "BinaryChecksum": "binary_checksum",
    "BuildId": "build_id",
    "CreateTime": "create_time",
    "RunId": "run_id",
}


@commands.add(
    "describe", f.WORKFLOW_REFERENCE, f.RAW, f.WATCH,
    f.switch("--reset-points", help="Show only the points it can be reset to by build."),
    example=f"perdure workflow describe {_ID} --watch",
)  # fmt: skip
async def describe(session: Session, flags: Flags) -> bool:
    """Show how a workflow stands: its state, what is pending, and its result if it is closed."""
    description = await session.call(
        service.DescribeWorkflowExecutionRequest(execution=wire.execution(flags))
    )
    info = description.workflow_execution_info
    is_open = info.status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
    if flags.reset_points:
        points = list(info.auto_reset_points.points)
        if session.out.is_json:
            session.out.json(points)
        session.out.messages(points, _RESET_POINTS)
        return not is_open
    is_closed = not is_open and info.status != enums.WORKFLOW_EXECUTION_STATUS_PAUSED
    closed = None
    if is_closed:
        closed = await histories.close_event(session, info.execution.workflow_id, info.execution.run_id)
    if session.out.is_json or flags.raw:
        shown = to_json(description, has_short_payloads=session.out.has_short_payloads)
        if closed is not None:
            shown["closeEvent"] = closed
            if closed.event_type == enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                shown["result"] = payloads.friendly(
                    histories.result_of(closed), session.out.has_short_payloads
                )
        if session.out.form != "none":
            session.out.json(shown)
        return is_closed
    _show_description(session, description, closed)
    if not is_closed and session.out.is_text:
        for hint in await unserved.hints(session, queues_waited_at(description)):
            session.out.line(hint, style="yellow")
    return is_closed


def _show_description(session: Session, description: Any, closed: Any) -> None:
    out = session.out
    info = description.workflow_execution_info
    out.heading("Execution:")
    metadata = look(description, "execution_config.user_metadata")
    shown = {name: look(info, path) for name, path in _INFO.items()}
    extended = {name: look(description.workflow_extended_info, path) for name, path in _EXTENDED.items()}
    extended["CancelRequested"] = extended["CancelRequested"] or None
    if metadata is not None:
        extended |= {
            "Summary": payloads.value_of_one(metadata.summary),
            "Details": payloads.value_of_one(metadata.details),
        }
    out.card(shown | extended)
    for what, (field, columns, failure) in _PENDING.items():
        if closed is None or what == "callback":
            _show_pending(session, what, list(getattr(description, field)), columns, failure)
    if closed is not None:
        started, ended = time_of(info.start_time), time_of(info.close_time)
        out.blank()
        histories.show_outcome(session, closed, RunTime=ended - started if started and ended else None)


def _show_pending(session: Session, what: str, found: list[Any], columns: Any, failure: str | None) -> None:
    if not found:
        return
    session.out.blank()
    session.out.heading(f"{what[0].upper()}{what[1:]}: {len(found)}")
    for each in found:
        values = {name: look(each, path) for name, path in columns.items()}
        values = {name: value for name, value in values.items() if value not in (0, False)}
        if failure is not None and each.HasField(failure):
            values["LastFailure"] = failure_text(getattr(each, failure))
        session.out.card(values)
        session.out.blank()


WORKFLOWS = listings.Listing(
    request=service.ListWorkflowExecutionsRequest,
    items="executions",
    columns={
        "Status": "status",
        "WorkflowId": "execution.workflow_id",
        "Type": "type.name",
        "StartTime": "start_time",
        "CloseTime": "close_time",
    },
)


@commands.add(
    "list", f.QUERY, f.LIMIT, f.PAGE_SIZE, f.WATCH,
    f.switch("--archived", help="List archived workflows."),
    example="perdure workflow list --query \"ExecutionStatus = 'Running'\" --limit 20",
)  # fmt: skip
async def list_workflows(session: Session, flags: Flags) -> None:
    """List workflows that a filter finds, newest first."""
    request = (
        service.ListArchivedWorkflowExecutionsRequest
        if flags.archived
        else service.ListWorkflowExecutionsRequest
    )
    await listings.show(session, flags, WORKFLOWS, request(query=flags.query or ""))


@commands.add(
    "count", f.QUERY, f.WATCH,
    example="perdure workflow count --query \"WorkflowType = 'Order' GROUP BY ExecutionStatus\"",
)  # fmt: skip
async def count(session: Session, flags: Flags) -> None:
    """Count workflows that a filter finds, in groups if it says so."""
    await listings.show_count(session, service.CountWorkflowExecutionsRequest(query=flags.query or ""))


@commands.add("result", f.WORKFLOW_REFERENCE, example=f"perdure workflow result {_ID}")
async def result(session: Session, flags: Flags) -> None:
    """Wait for the result of a workflow, also through the runs that continue it.

    The exit code is 6 if the workflow does not complete.
    """
    described = await session.call(service.DescribeWorkflowExecutionRequest(execution=wire.execution(flags)))
    run_id = described.workflow_execution_info.execution.run_id
    async with unserved.told(session, described.workflow_execution_info.execution):
        closed = await histories.close_event(session, flags.workflow_id, run_id, waits=True)
    if session.out.is_json:
        session.out.json(
            {
                "workflowId": flags.workflow_id,
                "runId": run_id,
                "namespace": session.namespace,
                **histories.outcome(session, closed),
            }
        )
    histories.show_outcome(session, closed)
    histories.check_completed(closed)


@commands.add(
    "show", f.WORKFLOW_REFERENCE,
    f.switch("--follow", "-f", help="Go on as events come, until the workflow is closed."),
    f.switch("--detailed", help="Show all of each event."),
    f.switch("--reverse", help="Newest event first."),
    f.switch("--timeline", help="Draw what happened when, instead of listing events."),
    example=f"perdure workflow show {_ID} --timeline",
)  # fmt: skip
async def show(session: Session, flags: Flags) -> None:
    """Show the history of a workflow.

    As JSON it is what replayers read. With --timeline it is a picture: a bar for each activity, timer, child, Nexus
    operation and update, on one axis of time.
    """
    if flags.reverse and flags.follow:
        raise WrongUsageError("--reverse cannot be used with --follow")
    run_id = flags.run_id or ""
    found = histories.events(
        session, flags.workflow_id, run_id, follows=flags.follow, is_reversed=flags.reverse
    )
    if session.out.is_json:
        session.out.json(histories.as_json([event async for event in found]))
        return
    if flags.timeline:
        from perdure.cli.timeline import show_timeline

        await show_timeline(session, flags.workflow_id, found)
        return
    if not session.out.is_text:
        async for _ in found:
            pass
        return
    last = await histories.show_events(session, found, is_detailed=flags.detailed)
    if last is not None and histories.state_of(last) != "<unknown>":
        session.out.blank()
        histories.show_outcome(session, last)
