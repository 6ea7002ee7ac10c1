"""`perdure activity`: activities that stand alone, and those of workflows."""

from __future__ import annotations

import json
from typing import Any, Final

from perdure.api.activity import v1 as activity_api
from perdure.api.batch import v1 as batch
from perdure.api.common import v1 as common
from perdure.api.enums import v1 as enums
from perdure.api.failure import v1 as failure
from perdure.api.protobuf import FieldMask
from perdure.api.workflowservice import v1 as service
from perdure.cli import batches, listings, payloads, updates, wire
from perdure.cli import flags as f
from perdure.cli.command import Flags, Group
from perdure.cli.errors import UnsuccessfulError, WrongUsageError
from perdure.cli.session import Session
from perdure.cli.show import failure_text, look, nanoseconds_of
from perdure.cli.workflow_change import warn_if_global

activity = Group("activity", "Start activities without a workflow, and act on all kinds of activities.")

POLL_S: Final = 60.0
_EXAMPLE: Final = (
    "--activity-id mail-1 --type sendMail --task-queue mail --start-to-close-timeout 30s --input '\"ada\"'"
)
_DESCRIBED: Final = {
    "ActivityId": "activity_id", "RunId": "run_id", "Type": "activity_type.name", "Status": "status",
    "RunState": "run_state", "TaskQueue": "task_queue", "Attempt": "attempt",
    "ScheduleToCloseTimeout": "schedule_to_close_timeout",
    "ScheduleToStartTimeout": "schedule_to_start_timeout", "StartToCloseTimeout": "start_to_close_timeout",
    "HeartbeatTimeout": "heartbeat_timeout", "StartDelay": "start_delay", "ScheduleTime": "schedule_time",
    "LastStartedTime": "last_started_time", "LastHeartbeatTime": "last_heartbeat_time",
    "NextAttemptTime": "next_attempt_schedule_time", "CloseTime": "close_time",
    "ExecutionDuration": "execution_duration", "LastWorkerIdentity": "last_worker_identity",
    "SearchAttributes": "search_attributes.indexed_fields", "StateTransitionCount": "state_transition_count",
}  # fmt: skip
_OPTIONS: Final = (
    "schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout", "heartbeat_timeout",
    "start_delay",
)  # fmt: skip
_RETRY: Final = {
    "retry_initial_interval": "initial_interval",
    "retry_maximum_interval": "maximum_interval",
    "retry_backoff_coefficient": "backoff_coefficient",
    "retry_maximum_attempts": "maximum_attempts",
}


def _retry_policy(flags: Flags) -> common.RetryPolicy | None:
    """The retry policy that the flags give, None without any."""
    made = common.RetryPolicy(
        initial_interval=wire.duration(flags.retry_initial_interval),
        maximum_interval=wire.duration(flags.retry_maximum_interval),
        backoff_coefficient=flags.retry_backoff_coefficient or 0.0,
        maximum_attempts=flags.retry_maximum_attempts or 0,
    )
    return made if made.ListFields() else None


async def _start(session: Session, flags: Flags) -> str:
    """Starts a standalone activity; its run id."""
    limits: dict[str, Any] = {name: wire.duration(getattr(flags, name)) for name in _OPTIONS}
    answer = await session.call(
        service.StartActivityExecutionRequest(
            request_id=wire.new_id(),
            activity_id=flags.activity_id,
            activity_type=common.ActivityType(name=flags.type),
            task_queue=wire.queue(flags.task_queue),
            **limits,
            retry_policy=_retry_policy(flags),
            input=payloads.input_payloads(flags),
            id_reuse_policy=wire.enum_value(enums.ActivityIdReusePolicy, flags.id_reuse_policy),
            id_conflict_policy=wire.enum_value(enums.ActivityIdConflictPolicy, flags.id_conflict_policy),
            search_attributes=payloads.search_attributes(flags.search_attribute),
            header=payloads.header(flags.headers),
            user_metadata=wire.user_metadata(flags.static_summary, flags.static_details),
            priority=wire.priority(flags),
        )
    )
    return str(answer.run_id)


def _show_started(session: Session, flags: Flags, run_id: str) -> None:
    shown = {"activityId": flags.activity_id, "runId": run_id, "namespace": session.namespace}
    if session.out.is_json:
        session.out.json(shown)
    session.out.heading("Running execution:")
    session.out.card(shown)


@activity.add("start", f.ACTIVITY_START, f.PAYLOAD_INPUT, example=f"perdure activity start {_EXAMPLE}")
async def start(session: Session, flags: Flags) -> None:
    """Start an activity without a workflow and do not wait for it."""
    _show_started(session, flags, await _start(session, flags))


@activity.add("execute", f.ACTIVITY_START, f.PAYLOAD_INPUT, example=f"perdure activity execute {_EXAMPLE}")
async def execute(session: Session, flags: Flags) -> None:
    """Start an activity without a workflow and wait for its result.

    The exit code is 6 if it fails.
    """
    run_id = await _start(session, flags)
    if session.out.is_text:
        _show_started(session, flags, run_id)
    await _show_result(session, flags.activity_id, run_id)


@activity.add("result", f.ACTIVITY_REFERENCE, example="perdure activity result --activity-id mail-1")
async def result(session: Session, flags: Flags) -> None:
    """Wait for the result of an activity that stands alone.

    The exit code is 6 if it failed.
    """
    await _show_result(session, flags.activity_id, flags.run_id or "")


async def _show_result(session: Session, activity_id: str, run_id: str) -> None:
    found: Any = None
    with session.out.progress(f"Waiting for {activity_id}"):
        while found is None:
            answer = await session.call(
                service.PollActivityExecutionRequest(activity_id=activity_id, run_id=run_id),
                timeout_s=POLL_S + 10,
            )
            found = answer.outcome if answer.HasField("outcome") else None
    shown: dict[str, Any] = {"activityId": activity_id, "runId": run_id}
    if found.HasField("failure"):
        if session.out.is_json:
            session.out.json({**shown, "status": "FAILED", "failure": found.failure})
        session.out.heading("Results:")
        session.out.card({"Status": "Failed", "Failure": failure_text(found.failure)})
        raise UnsuccessfulError(f"the activity failed: {updates.text_of(found.failure)}")
    if session.out.is_json:
        value = payloads.value_of(found.result) if session.out.has_short_payloads else found.result
        session.out.json({**shown, "status": "COMPLETED", "result": value})
    session.out.heading("Results:")
    value = json.dumps(payloads.value_of(found.result), ensure_ascii=False)
    session.out.card({"Status": "Completed", "Result": value})


@activity.add(
    "describe",
    f.ACTIVITY_REFERENCE,
    f.RAW,
    f.WATCH,
    example="perdure activity describe --activity-id mail-1 --watch",
)
async def describe(session: Session, flags: Flags) -> bool:
    """Show how an activity that stands alone is doing."""
    answer = await session.call(
        service.DescribeActivityExecutionRequest(
            activity_id=flags.activity_id,
            run_id=flags.run_id or "",
            include_input=True,
            include_outcome=True,
            include_last_failure=True,
        )
    )
    is_closed: bool = answer.info.status != enums.ACTIVITY_EXECUTION_STATUS_RUNNING
    if session.out.is_json or flags.raw:
        session.out.json(answer)
        return is_closed
    session.out.heading("Activity:")
    shown = {name: look(answer.info, path) for name, path in _DESCRIBED.items()}
    if answer.info.HasField("last_failure"):
        shown["LastFailure"] = failure_text(answer.info.last_failure)
    session.out.card({name: value for name, value in shown.items() if value not in ("Unspecified", 0)})
    return is_closed


_ACTIVITIES: Final = listings.Listing(
    request=service.ListActivityExecutionsRequest,
    items="executions",
    columns={
        "Status": "status",
        "ActivityId": "activity_id",
        "Type": "activity_type.name",
        "StartTime": "schedule_time",
        "CloseTime": "close_time",
    },
)


@activity.add(
    "list", f.QUERY, f.LIMIT, f.PAGE_SIZE, f.WATCH,
    example="perdure activity list --query \"ActivityType = 'sendMail'\"",
)  # fmt: skip
async def list_activities(session: Session, flags: Flags) -> None:
    """List activities that stand alone, newest first."""
    request = service.ListActivityExecutionsRequest(query=flags.query or "")
    await listings.show(session, flags, _ACTIVITIES, request)


@activity.add("count", f.QUERY, f.WATCH, example="perdure activity count --query 'GROUP BY ExecutionStatus'")
async def count(session: Session, flags: Flags) -> None:
    """Count activities that stand alone, in groups if the filter says so."""
    await listings.show_count(session, service.CountActivityExecutionsRequest(query=flags.query or ""))


async def _activity_or_batch(
    session: Session, flags: Flags, *, allows_yes: bool = False
) -> service.StartBatchOperationRequest | None:
    """A request for a batch of standalone activities, None if the flags name one."""
    if flags.activity_id:
        for name in ("query", "yes", "rps"):
            if getattr(flags, name) and not (name == "yes" and allows_yes):
                raise WrongUsageError(f"--{name} is for batches and cannot be used with --activity-id")
        return None
    if not flags.query:
        raise WrongUsageError("either --activity-id or --query is needed")
    if flags.run_id:
        raise WrongUsageError("--run-id cannot be used with --query")
    await batches.confirm(
        session, flags, "activities", service.CountActivityExecutionsRequest(query=flags.query)
    )
    return batches.new_batch(flags)


@activity.add("cancel", f.ACTIVITY_OR_BATCH, example="perdure activity cancel --activity-id mail-1")
async def cancel(session: Session, flags: Flags) -> None:
    """Ask activities that stand alone to end; they learn it with their next heartbeat."""
    request = await _activity_or_batch(session, flags)
    reason = flags.reason or ""
    if request is not None:
        request.cancel_activities_operation.CopyFrom(
            batch.BatchOperationCancelActivities(identity=session.identity, reason=reason)
        )
        await batches.start(session, flags, request)
        return
    await session.call(
        service.RequestCancelActivityExecutionRequest(
            activity_id=flags.activity_id, run_id=flags.run_id or "", request_id=wire.new_id(), reason=reason
        )
    )
    session.out.note("The cancellation was requested")


@activity.add("terminate", f.ACTIVITY_OR_BATCH, example="perdure activity terminate --activity-id mail-1")
async def terminate(session: Session, flags: Flags) -> None:
    """End activities that stand alone at once."""
    request = await _activity_or_batch(session, flags)
    reason = flags.reason or wire.default_reason()
    if request is not None:
        request.terminate_activities_operation.CopyFrom(
            batch.BatchOperationTerminateActivities(identity=session.identity, reason=reason)
        )
        await batches.start(session, flags, request)
        return
    await session.call(
        service.TerminateActivityExecutionRequest(
            activity_id=flags.activity_id, run_id=flags.run_id or "", request_id=wire.new_id(), reason=reason
        )
    )
    session.out.note("The activity was terminated")


@activity.add("delete", f.ACTIVITY_OR_BATCH, example="perdure activity delete --activity-id mail-1 --yes")
async def delete(session: Session, flags: Flags) -> None:
    """Delete activities that stand alone; an open one is ended first."""
    await warn_if_global(session)
    request = await _activity_or_batch(session, flags, allows_yes=True)
    if request is not None:
        request.delete_activities_operation.CopyFrom(batch.BatchOperationDeleteActivities())
        await batches.start(session, flags, request)
        return
    session.confirm(f"Delete activity {flags.activity_id}?", flags.yes)
    await session.call(
        service.DeleteActivityExecutionRequest(activity_id=flags.activity_id, run_id=flags.run_id or "")
    )
    session.out.note("The activity was deleted")


_BY_ID: Final[f.FlagGroup] = (
    f.text("--activity-id", "-a", required=True, metavar="ID", help="Id of the activity."),
    f.text(
        "--workflow-id",
        "-w",
        metavar="ID",
        help="Its workflow; without it the activity stands alone.",
        shell_complete=f.complete_workflow_ids,
    ),
    f.text("--run-id", "-r", metavar="ID", help="Id of one run; without it the latest."),
)


def _ids(flags: Flags) -> dict[str, Any]:
    return {
        "activity_id": flags.activity_id,
        "workflow_id": flags.workflow_id or "",
        "run_id": flags.run_id or "",
    }


def _json(text: str) -> common.Payloads | None:
    """One value that was typed as JSON."""
    return payloads.input_payloads(
        Flags({"input": [text], "input_file": (), "input_meta": (), "input_base64": False})
    )


@activity.add(
    "complete", _BY_ID,
    f.text("--result", required=True, metavar="JSON", help="The result."),
    example="perdure activity complete --activity-id sign --workflow-id order-1 --result '\"signed\"'",
)  # fmt: skip
async def complete(session: Session, flags: Flags) -> None:
    """Complete an activity that somebody else works on, with a result."""
    await session.call(
        service.RespondActivityTaskCompletedByIdRequest(**_ids(flags), result=_json(flags.result))
    )
    session.out.note("The activity was completed")


@activity.add(
    "fail", _BY_ID,
    f.text("--detail", metavar="JSON", help="Details of the failure."),
    f.text("--reason", metavar="TEXT", help="The failure's message."),
    example="perdure activity fail --activity-id sign --workflow-id order-1 --reason 'nobody signs'",
)  # fmt: skip
async def fail(session: Session, flags: Flags) -> None:
    """Fail an activity that somebody else works on, for good."""
    details = _json(flags.detail) if flags.detail else None
    made = failure.Failure(
        message=flags.reason or "",
        source="CLI",
        application_failure_info=failure.ApplicationFailureInfo(non_retryable=True, details=details),
    )
    await session.call(service.RespondActivityTaskFailedByIdRequest(**_ids(flags), failure=made))
    session.out.note("The activity was failed")


async def _target(
    session: Session, flags: Flags
) -> tuple[dict[str, Any] | None, service.StartBatchOperationRequest | None]:
    """The ids of one activity, or a request for a batch of activities of the workflows that --query finds."""
    if flags.query:
        _, request = await batches.workflow_or_batch(session, flags)
        return None, request
    if not flags.activity_id:
        raise WrongUsageError("--activity-id is needed, with --workflow-id if it is a workflow's; or --query")
    resource = f"workflow:{flags.workflow_id}" if flags.workflow_id else f"activity:{flags.activity_id}"
    return {**_ids(flags), "resource_id": resource}, None


@activity.add(
    "pause", _BY_ID,
    f.text("--reason", metavar="TEXT", help="Why."),
    example="perdure activity pause --activity-id charge --workflow-id order-1",
)  # fmt: skip
async def pause(session: Session, flags: Flags) -> None:
    """Pause an activity: no further attempt is given to a worker."""
    resource = f"workflow:{flags.workflow_id}" if flags.workflow_id else f"activity:{flags.activity_id}"
    await session.call(
        service.PauseActivityExecutionRequest(
            **_ids(flags), reason=flags.reason or "", resource_id=resource, request_id=wire.new_id()
        )
    )
    session.out.note("The activity was paused")


_JITTER: Final = f.duration("--jitter", help="Begin at a random time within this.")
_CHANGE_EXAMPLE: Final = "--activity-id charge --workflow-id order-1"


@activity.add(
    "unpause", f.ACTIVITY_OF_WORKFLOW, _JITTER, example=f"perdure activity unpause {_CHANGE_EXAMPLE}"
)
async def unpause(session: Session, flags: Flags) -> None:
    """Let a paused activity go on, or all of the workflows that a filter finds."""
    ids, request = await _target(session, flags)
    jitter = wire.duration(flags.jitter)
    if request is not None:
        request.unpause_activities_operation.CopyFrom(
            batch.BatchOperationUnpauseActivities(identity=session.identity, jitter=jitter, match_all=True)
        )
        await batches.start(session, flags, request)
        return
    await session.call(
        service.UnpauseActivityExecutionRequest(
            **(ids or {}), reason=flags.reason or "", jitter=jitter, request_id=wire.new_id()
        )
    )
    session.out.note("The activity goes on")


@activity.add(
    "reset", f.ACTIVITY_OF_WORKFLOW, _JITTER,
    f.switch("--keep-paused", help="Leave it paused if it is."),
    f.switch("--restore-original-options", help="Take back changed options."),
    f.switch("--clear-heartbeat-details", help="Forget what it said with heartbeats."),
    example=f"perdure activity reset {_CHANGE_EXAMPLE}",
)  # fmt: skip
async def reset(session: Session, flags: Flags) -> None:
    """Let an activity begin again with its first attempt, or all of the workflows that a filter finds."""
    ids, request = await _target(session, flags)
    more: dict[str, Any] = {
        "keep_paused": flags.keep_paused,
        "jitter": wire.duration(flags.jitter),
        "restore_original_options": flags.restore_original_options,
        "reset_heartbeat": flags.clear_heartbeat_details,
    }
    if request is not None:
        request.reset_activities_operation.CopyFrom(
            batch.BatchOperationResetActivities(identity=session.identity, match_all=True, **more)
        )
        await batches.start(session, flags, request)
        return
    await session.call(service.ResetActivityExecutionRequest(**(ids or {}), **more, request_id=wire.new_id()))
    if session.out.is_json:
        session.out.json({"keepPaused": flags.keep_paused})
    session.out.note("The activity begins again")


def _changed(flags: Flags) -> tuple[activity_api.ActivityOptions, FieldMask]:
    """The options that the flags change, and which those are."""
    options, paths = activity_api.ActivityOptions(), []
    if flags.is_given("task_queue"):
        options.task_queue.name = flags.task_queue
        paths.append("task_queue.name")
    for name in _OPTIONS:
        if flags.is_given(name):
            getattr(options, name).CopyFrom(wire.duration(getattr(flags, name)))
            paths.append(name)
    for flag, field in _RETRY.items():
        if flags.is_given(flag):
            value = getattr(flags, flag)
            if field.endswith("interval"):
                getattr(options.retry_policy, field).CopyFrom(wire.duration(value))
            else:
                setattr(options.retry_policy, field, value)
            paths.append(f"retry_policy.{field}")
    return options, FieldMask(paths=paths)


@activity.add(
    "update-options", f.ACTIVITY_OF_WORKFLOW, f.ACTIVITY_TIMEOUTS,
    f.text("--task-queue", metavar="NAME", help="Task queue of its workers."),
    f.switch("--restore-original-options", help="Take back what was changed before."),
    example=f"perdure activity update-options {_CHANGE_EXAMPLE} --retry-maximum-attempts 9",
)  # fmt: skip
async def update_options(session: Session, flags: Flags) -> None:
    """Change time limits, retries or task queue of an activity, or of all of the workflows that a filter finds."""
    options, mask = _changed(flags)
    if flags.is_given("start_delay") and (flags.workflow_id or flags.query):
        raise WrongUsageError("--start-delay is for activities that stand alone")
    ids, request = await _target(session, flags)
    if request is not None:
        request.update_activity_options_operation.CopyFrom(
            batch.BatchOperationUpdateActivityOptions(
                identity=session.identity,
                match_all=True,
                activity_options=options,
                update_mask=mask,
                restore_original=flags.restore_original_options,
            )
        )
        await batches.start(session, flags, request)
        return
    answer = await session.call(
        service.UpdateActivityExecutionOptionsRequest(
            **(ids or {}),
            activity_options=options,
            update_mask=mask,
            restore_original=flags.restore_original_options,
            request_id=wire.new_id(),
        )
    )
    _show_options(session, answer.activity_options)


def _show_options(session: Session, options: activity_api.ActivityOptions) -> None:
    if session.out.is_json:
        # The official command prints its own record here: names in capitals, durations in nanoseconds.
        retry = options.retry_policy
        session.out.json(
            {
                "TaskQueue": options.task_queue.name,
                **{_capital(name): nanoseconds_of(getattr(options, name)) for name in _OPTIONS},
                "InitialInterval": nanoseconds_of(retry.initial_interval),
                "BackoffCoefficient": retry.backoff_coefficient,
                "MaximumInterval": nanoseconds_of(retry.maximum_interval),
                "MaximumAttempts": retry.maximum_attempts,
            }
        )
        return
    session.out.fields(
        options,
        {"TaskQueue": "task_queue.name"}
        | {_capital(name): name for name in _OPTIONS}
        | {_capital(field): f"retry_policy.{field}" for field in _RETRY.values()},
    )


def _capital(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
