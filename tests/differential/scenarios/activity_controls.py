"""What operators do to pending activities: pause, unpause, reset, change options."""

from __future__ import annotations

from typing import Any

from tests.differential.context import IDLE_POLL_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    duration,
    payloads,
    queue,
    retry_policy,
    schedule_activity,
)
from tests.support.proto import activity, common, workflowservice

Pause = workflowservice.PauseActivityRequest
Unpause = workflowservice.UnpauseActivityRequest
Reset = workflowservice.ResetActivityRequest
Update = workflowservice.UpdateActivityOptionsRequest


async def _scheduled(ctx: Context, label: str = "wf", **fields: Any) -> Run:
    """A run whose activity "a" waits for a worker."""
    run = await ctx.start(label)
    values: dict[str, Any] = {"start_to_close_s": 60, "retry": retry_policy(initial_s=1, coefficient=1)}
    await run.step(schedule_activity("a", run.task_queue, **(values | fields)))
    return run


def _about(run: Run, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "namespace": run.client.namespace,
        "execution": run.execution,
        "identity": "operator",
        "id": "a",
    }
    return values | fields


async def _pending(ctx: Context, run: Run, label: str) -> None:
    described = await run.describe()
    ctx.record(label, list(described.pending_activities))
    fields = described.workflow_execution_info.search_attributes.indexed_fields
    pauses = fields["TemporalPauseInfo"].data.decode() if "TemporalPauseInfo" in fields else "[]"
    ctx.record(f"{label}: what lists show", pauses)


@scenario
async def activity_paused_before_start(ctx: Context) -> None:
    """A paused activity goes to no worker; unpaused it does."""
    run = await _scheduled(ctx)
    await ctx.attempt("pause", Pause(**_about(run, reason="why", request_id="q")))
    await _pending(ctx, run, "paused")
    ctx.record("nothing to do", await run.poll_activity(timeout_s=IDLE_POLL_S, expect=False))
    await ctx.attempt("same pause again", Pause(**_about(run, reason="why", request_id="q")))
    await ctx.attempt("another pause", Pause(**_about(run, request_id="r")))
    await ctx.attempt("unpause", Unpause(**_about(run)))
    await _pending(ctx, run, "unpaused")
    task = await run.poll_activity()
    await run.client.complete_activity(task.task_token, payloads("r"))
    await run.record_history()


@scenario
async def activity_paused_while_running(ctx: Context) -> None:
    """A running activity is told with its heartbeat; it may finish."""
    run = await _scheduled(ctx)
    task = await run.poll_activity()
    await ctx.attempt("pause", Pause(**_about(run, reason="why")))
    await _pending(ctx, run, "pause requested")
    ctx.record("heartbeat", await run.client.heartbeat_activity(task.task_token, payloads("p")))
    await run.client.complete_activity(task.task_token, payloads("r"))
    await run.record_history()


@scenario
async def activity_paused_and_failed(ctx: Context) -> None:
    """A paused activity that fails waits to be unpaused; attempts and heartbeats may begin again."""
    run = await _scheduled(ctx)
    task = await run.poll_activity()
    await run.client.heartbeat_activity(task.task_token, payloads("p"))
    await ctx.attempt("pause", Pause(**_about(run)))
    await run.client.fail_activity(task.task_token, application_failure())
    await _pending(ctx, run, "paused after a failure")
    await ctx.attempt("unpause", Unpause(**_about(run, reset_attempts=True, reset_heartbeat=True)))
    task = await run.poll_activity()
    ctx.record("next attempt", task)
    await run.client.complete_activity(task.task_token, payloads("r"))
    await run.record_history()


@scenario
async def activity_pause_by_type_and_all(ctx: Context) -> None:
    """By type, and everything at once."""
    run = await ctx.start()
    await run.step(*(schedule_activity(name, run.task_queue, start_to_close_s=60) for name in "ab"))
    about = _about(run)
    del about["id"]
    await ctx.attempt("pause by type", Pause(**about, type="work"))
    await ctx.attempt("pause by unknown type", Pause(**about, type="unknown"))
    await _pending(ctx, run, "after pause by type")
    await ctx.attempt("unpause all", Unpause(**about, unpause_all=True))
    await _pending(ctx, run, "after unpause")
    await ctx.attempt("reset all", Reset(**about, match_all=True))
    await _pending(ctx, run, "after reset")


@scenario
async def activity_reset_while_waiting(ctx: Context) -> None:
    """A reset activity that backs off starts at once, at its first attempt."""
    run = await _scheduled(ctx, retry=retry_policy(initial_s=100, coefficient=1))
    task = await run.poll_activity()
    await run.client.heartbeat_activity(task.task_token, payloads("p"))
    await run.client.fail_activity(task.task_token, application_failure())
    await ctx.attempt("reset", Reset(**_about(run, reset_heartbeat=True)))
    await _pending(ctx, run, "after reset")
    task = await run.poll_activity()
    ctx.record("first attempt again", task)
    await run.client.complete_activity(task.task_token, payloads("r"))
    await run.record_history()


@scenario
async def activity_reset_while_running(ctx: Context) -> None:
    """A reset activity that runs is told; its first attempt may still finish, a later one may not."""
    run = await _scheduled(ctx)
    task = await run.poll_activity()
    await ctx.attempt("reset", Reset(**_about(run)))
    await _pending(ctx, run, "after reset")
    ctx.record("heartbeat", await run.client.heartbeat_activity(task.task_token, payloads("p")))
    await run.client.fail_activity(task.task_token, application_failure())
    task = await run.poll_activity()
    ctx.record("second attempt", task)
    await ctx.attempt("reset again", Reset(**_about(run)))
    await ctx.attempt("heartbeat of a later attempt", run.client.heartbeat_activity(task.task_token, None))
    await ctx.attempt("completion of a later attempt", run.client.complete_activity(task.task_token, None))
    await _pending(ctx, run, "in the end")


@scenario
async def activity_reset_of_paused(ctx: Context) -> None:
    """A reset unpauses unless it is told not to."""
    run = await _scheduled(ctx)
    await ctx.attempt("pause", Pause(**_about(run)))
    await ctx.attempt("reset, still paused", Reset(**_about(run, keep_paused=True)))
    await _pending(ctx, run, "still paused")
    await ctx.attempt("reset", Reset(**_about(run)))
    await _pending(ctx, run, "not paused")
    await run.poll_activity()


@slow_scenario
async def activity_options_updated(ctx: Context) -> None:
    """Options change field by field, and back to what the activity was scheduled with."""
    run = await _scheduled(ctx)
    wanted = activity.ActivityOptions(
        task_queue=queue(ctx.id("other-queue")),
        schedule_to_close_timeout=duration(500),
        start_to_close_timeout=duration(50),
        heartbeat_timeout=duration(100),
        retry_policy=retry_policy(attempts=7, initial_s=3, coefficient=3, maximum_s=9),
        priority=common.Priority(priority_key=2, fairness_key="f"),
    )
    paths = {
        "queue": ["task_queue.name"],
        "timeouts": ["scheduleToCloseTimeout", "start_to_close_timeout", "heartbeat_timeout"],
        "part of the policy": ["retry_policy.maximum_attempts"],
        "policy": ["retry_policy"],
        "part of the priority": ["priority.priority_key"],
        "priority": ["priority"],
        "nothing": [],
        "unknown": ["unknown"],
    }
    for label, names in paths.items():
        request = Update(**_about(run, activity_options=wanted))
        request.update_mask.paths.extend(names)
        request.update_mask.SetInParent()
        await ctx.attempt(label, request)
    await _pending(ctx, run, "updated")
    task = await ctx.poll_activity(ctx.id("other-queue"))
    ctx.record("task", task)
    restore = Update(**_about(run, restore_original=True))
    await ctx.attempt("restore", restore)
    await _pending(ctx, run, "restored")


@scenario
async def activity_controls_refused(ctx: Context) -> None:
    """Requests that make no sense, on every RPC."""
    run = await _scheduled(ctx)
    options = activity.ActivityOptions(start_to_close_timeout=duration(50))
    for name, request_type in (("pause", Pause), ("unpause", Unpause), ("reset", Reset), ("update", Update)):
        extra: dict[str, Any] = {}
        if request_type is Update:
            extra["activity_options"] = options

        def made(request_type: Any = request_type, extra: dict[str, Any] = extra, **fields: Any) -> Any:
            request = request_type(**(_about(run, **fields) | extra))
            if request_type is Update:
                request.update_mask.paths.append("start_to_close_timeout")
            return request

        no_activity = made()
        no_activity.ClearField("id")
        unknown = common.WorkflowExecution(workflow_id="unknown")
        await ctx.attempt(f"{name}: unknown activity", made(id="unknown"))
        await ctx.attempt(f"{name}: no activity", no_activity)
        await ctx.attempt(f"{name}: no workflow", made(execution=common.WorkflowExecution()))
        await ctx.attempt(f"{name}: unknown workflow", made(execution=unknown))
        await ctx.attempt(f"{name}: unknown namespace", made(namespace="no-such-namespace"))
    await ctx.attempt("update: no options", Update(**_about(run)))
    await ctx.attempt("update: no mask", Update(**_about(run, activity_options=options)))
    both = Update(**_about(run, activity_options=options, restore_original=True))
    both.update_mask.paths.append("priority")
    await ctx.attempt("update: both", both)
    no_policy = Update(**_about(run, activity_options=options))
    no_policy.update_mask.paths.append("retry_policy")
    await ctx.attempt("update: no policy", no_policy)
    await run.client.terminate(run.workflow_id)
    await run.until_closed()
    await ctx.attempt("pause: closed run", Pause(**_about(run)))
    await ctx.attempt("unpause: closed run", Unpause(**_about(run)))
    await ctx.attempt("reset: closed run", Reset(**_about(run)))


@scenario
async def activity_execution_controls(ctx: Context) -> None:
    """The newer RPCs, on an activity of a workflow."""
    run = await _scheduled(ctx)
    about: dict[str, Any] = {
        "namespace": run.client.namespace,
        "workflow_id": run.workflow_id,
        "run_id": run.run_id,
        "activity_id": "a",
        "identity": "operator",
    }
    await ctx.attempt("pause", workflowservice.PauseActivityExecutionRequest(**about, reason="why"))
    await _pending(ctx, run, "paused")
    await ctx.attempt("unpause", workflowservice.UnpauseActivityExecutionRequest(**about))
    await ctx.attempt("reset", workflowservice.ResetActivityExecutionRequest(**about))
    update = workflowservice.UpdateActivityExecutionOptionsRequest(
        **about, activity_options=activity.ActivityOptions(start_to_close_timeout=duration(50))
    )
    update.update_mask.paths.append("start_to_close_timeout")
    await ctx.attempt("update", update)
    await _pending(ctx, run, "in the end")


@scenario
async def activity_reset_keeps_priority(ctx: Context) -> None:
    """A reset to the original options leaves the priority that an update gave; an update to them does not."""
    for label, fields in {"none": {}, "some": {"priority": common.Priority(priority_key=1)}}.items():
        run = await _scheduled(ctx, label, **fields)
        wanted = activity.ActivityOptions(
            start_to_close_timeout=duration(50), priority=common.Priority(priority_key=4, fairness_key="f")
        )
        update = Update(**_about(run, activity_options=wanted))
        update.update_mask.paths.extend(["start_to_close_timeout", "priority"])
        await run.client.invoke(update)
        await ctx.attempt(f"{label}: reset", Reset(**_about(run, restore_original_options=True)))
        await _pending(ctx, run, f"{label}: after the reset")
        await ctx.attempt(f"{label}: restore", Update(**_about(run, restore_original=True)))
        await _pending(ctx, run, f"{label}: after the update")


@scenario
async def activity_non_retryable_types_by_themselves(ctx: Context) -> None:
    """Which errors are final cannot be changed by itself; a path that names it changes nothing."""
    run = await _scheduled(ctx)
    policy = common.RetryPolicy(non_retryable_error_types=["Error"])
    update = Update(**_about(run, activity_options=activity.ActivityOptions(retry_policy=policy)))
    update.update_mask.paths.append("retry_policy.non_retryable_error_types")
    await ctx.attempt("update", update)
    await _pending(ctx, run, "updated")
