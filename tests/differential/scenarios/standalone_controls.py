"""What operators do to activities that no workflow scheduled: pause, unpause, reset, change options."""

from __future__ import annotations

from typing import Any

from tests.differential.context import IDLE_POLL_S, Context
from tests.differential.registry import scenario
from tests.differential.scenarios.standalone_activities import (
    Cancel,
    Terminate,
    about,
    describe,
    outcome,
    queue_of,
    start,
)
from tests.support.builders import application_failure, duration, payloads, queue, retry_policy
from tests.support.proto import activity, common, workflowservice

Pause = workflowservice.PauseActivityExecutionRequest
Unpause = workflowservice.UnpauseActivityExecutionRequest
Reset = workflowservice.ResetActivityExecutionRequest
Update = workflowservice.UpdateActivityExecutionOptionsRequest


def update(ctx: Context, *paths: str, label: str = "a", **options: Any) -> Update:
    """A request to change options."""
    request = Update(**about(ctx, label, identity="op"), activity_options=activity.ActivityOptions(**options))
    request.update_mask.paths.extend(paths)
    return request


@scenario
async def standalone_paused_before_start(ctx: Context) -> None:
    """A paused activity goes to no worker; unpaused it does."""
    await ctx.client.invoke(start(ctx))
    await ctx.attempt("pause", Pause(**about(ctx, identity="op", reason="why", request_id="q")))
    await describe(ctx, "paused")
    ctx.record("nothing to do", await ctx.poll_activity(queue_of(ctx), timeout_s=IDLE_POLL_S, expect=False))
    await ctx.attempt("same pause again", Pause(**about(ctx, request_id="q")))
    await ctx.attempt("another pause", Pause(**about(ctx, request_id="r")))
    await ctx.attempt("unpause", Unpause(**about(ctx, request_id="u")))
    await ctx.attempt("same unpause again", Unpause(**about(ctx, request_id="u")))
    await ctx.attempt("another unpause", Unpause(**about(ctx, request_id="v")))
    await ctx.attempt("old pause", Pause(**about(ctx, request_id="q")))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.complete_activity(task.task_token, payloads("r"))
    await describe(ctx, "completed")


@scenario
async def standalone_paused_while_running(ctx: Context) -> None:
    """A running activity is told with its heartbeat; if it fails, it waits to be unpaused."""
    await ctx.client.invoke(start(ctx))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt("pause", Pause(**about(ctx, identity="op", reason="why", request_id="q")))
    await describe(ctx, "pause requested")
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, payloads("p")))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await describe(ctx, "paused")
    ctx.record("nothing to do", await ctx.poll_activity(queue_of(ctx), timeout_s=IDLE_POLL_S, expect=False))
    await ctx.attempt("unpause", Unpause(**about(ctx, request_id="u")))
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("second task", task)
    await ctx.attempt("pause again", Pause(**about(ctx, request_id="s")))
    await ctx.attempt("unpause at once", Unpause(**about(ctx, request_id="w")))
    ctx.record("second heartbeat", await ctx.client.heartbeat_activity(task.task_token, None))
    await ctx.client.complete_activity(task.task_token, payloads("r"))
    await describe(ctx, "completed")


@scenario
async def standalone_paused_at_last_attempt(ctx: Context) -> None:
    """A pause gives no more attempts than the policy has."""
    await ctx.client.invoke(start(ctx, retry_policy=retry_policy(attempts=1)))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.invoke(Pause(**about(ctx, request_id="q")))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await describe(ctx, "failed")


@scenario
async def standalone_paused_times_out(ctx: Context) -> None:
    """Schedule-to-close runs on while an activity is paused, schedule-to-start does not."""
    await ctx.client.invoke(
        start(ctx, schedule_to_close_timeout=duration(3), schedule_to_start_timeout=duration(1))
    )
    await ctx.client.invoke(Pause(**about(ctx, request_id="q")))
    await outcome(ctx)
    await describe(ctx, "timed out")


@scenario
async def standalone_paused_then_ended(ctx: Context) -> None:
    """A paused activity can be canceled, terminated and completed by id."""
    for label in ("cancel", "terminate", "complete", "cancel running"):
        await ctx.client.invoke(start(ctx, label))
        if label == "cancel running":
            task = await ctx.poll_activity(queue_of(ctx))
        await ctx.client.invoke(Pause(**about(ctx, label, request_id="q")))
    await ctx.attempt("cancel", Cancel(**about(ctx, "cancel", request_id="c", identity="op")))
    await ctx.attempt("terminate", Terminate(**about(ctx, "terminate", request_id="t", identity="op")))
    await ctx.attempt(
        "complete",
        workflowservice.RespondActivityTaskCompletedByIdRequest(
            namespace=ctx.client.namespace, activity_id=ctx.id("complete"), identity="other"
        ),
    )
    await ctx.attempt("cancel running", Cancel(**about(ctx, "cancel running", request_id="c")))
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, None))
    for label in ("cancel", "terminate", "complete", "cancel running"):
        await describe(ctx, f"{label}: described", label)


@scenario
async def standalone_reset_waiting(ctx: Context) -> None:
    """A reset activity that backs off starts at once, at its first attempt."""
    await ctx.client.invoke(start(ctx, retry_policy=retry_policy(initial_s=100, coefficient=1)))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.heartbeat_activity(task.task_token, payloads("p"))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await ctx.attempt("reset", Reset(**about(ctx, request_id="r", reset_heartbeat=True)))
    await describe(ctx, "after reset")
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("first attempt again", task)
    await ctx.attempt("same reset again", Reset(**about(ctx, request_id="r")))
    await ctx.client.complete_activity(task.task_token, payloads("r"))
    await ctx.attempt("reset after the end", Reset(**about(ctx, request_id="s")))


@scenario
async def standalone_reset_running(ctx: Context) -> None:
    """A reset activity that runs is told; when it fails it begins again, whatever its policy says."""
    await ctx.client.invoke(start(ctx, retry_policy=retry_policy(attempts=1)))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt("reset", Reset(**about(ctx, request_id="r", reset_heartbeat=True)))
    await describe(ctx, "after reset")
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, payloads("p")))
    await ctx.attempt("another reset", Reset(**about(ctx, request_id="s")))
    await ctx.attempt("pause", Pause(**about(ctx, request_id="p")))
    await ctx.attempt("options", update(ctx, "heartbeat_timeout", heartbeat_timeout=duration(9)))
    await ctx.client.fail_activity(task.task_token, application_failure(non_retryable=True))
    await describe(ctx, "failed")
    task = await ctx.poll_activity(queue_of(ctx))
    ctx.record("first attempt again", task)
    await ctx.client.complete_activity(task.task_token, payloads("r"))
    await describe(ctx, "completed")


@scenario
async def standalone_reset_paused(ctx: Context) -> None:
    """A reset unpauses unless it is told not to, also while the activity runs."""
    await ctx.client.invoke(start(ctx))
    await ctx.client.invoke(Pause(**about(ctx, request_id="p")))
    await ctx.attempt("reset, still paused", Reset(**about(ctx, keep_paused=True)))
    await describe(ctx, "still paused")
    await ctx.attempt("reset", Reset(**about(ctx)))
    await describe(ctx, "unpaused")
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.invoke(Pause(**about(ctx, request_id="q")))
    await ctx.attempt("reset while running", Reset(**about(ctx, keep_paused=True)))
    await describe(ctx, "reset and pause requested")
    ctx.record("heartbeat", await ctx.client.heartbeat_activity(task.task_token, None))
    await ctx.client.fail_activity(task.task_token, application_failure())
    await describe(ctx, "paused after the failure")
    await ctx.attempt("unpause", Unpause(**about(ctx)))
    task = await ctx.poll_activity(queue_of(ctx))
    await ctx.client.invoke(Cancel(**about(ctx, request_id="c")))
    await ctx.attempt("reset of what is to be canceled", Reset(**about(ctx)))
    await ctx.attempt("pause of what is to be canceled", Pause(**about(ctx)))
    await ctx.attempt("unpause of what is to be canceled", Unpause(**about(ctx)))
    await ctx.attempt(
        "options of what is to be canceled", update(ctx, "heartbeat_timeout", heartbeat_timeout=duration(9))
    )
    await ctx.client.cancel_activity(task.task_token, None)
    await describe(ctx, "canceled")


@scenario
async def standalone_options(ctx: Context) -> None:
    """Options change one by one and all go back to the original ones."""
    await ctx.client.invoke(start(ctx, retry_policy=retry_policy(initial_s=100, coefficient=1)))
    await ctx.attempt("queue", update(ctx, "task_queue.name", task_queue=queue(ctx.id("other"))))
    await ctx.attempt(
        "timeouts",
        update(
            ctx,
            "schedule_to_close_timeout",
            "start_to_close_timeout",
            schedule_to_close_timeout=duration(400),
            start_to_close_timeout=duration(50),
        ),
    )
    await ctx.attempt("priority", update(ctx, "priority", priority=common.Priority(priority_key=1)))
    await describe(ctx, "changed")
    task = await ctx.poll_activity(ctx.id("other"))
    ctx.record("task", task)
    await ctx.client.fail_activity(task.task_token, application_failure())
    await ctx.attempt(
        "interval",
        update(ctx, "retry_policy.initial_interval", retry_policy=retry_policy(initial_s=1), label="a"),
    )
    await describe(ctx, "backing off")
    task = await ctx.poll_activity(ctx.id("other"))
    await ctx.attempt("restore", Update(**about(ctx, identity="op", request_id="o", restore_original=True)))
    await ctx.attempt(
        "restore again", Update(**about(ctx, identity="op", request_id="o", restore_original=True))
    )
    await describe(ctx, "restored")
    await ctx.attempt("complete", ctx.client.complete_activity(task.task_token, payloads("r")))
    await ctx.attempt("after the end", update(ctx, "heartbeat_timeout", heartbeat_timeout=duration(9)))


@scenario
async def standalone_restore_by_reset(ctx: Context) -> None:
    """A reset may bring the original options back."""
    await ctx.client.invoke(start(ctx))
    await ctx.client.invoke(update(ctx, "heartbeat_timeout", heartbeat_timeout=duration(9)))
    await ctx.attempt("reset", Reset(**about(ctx, restore_original_options=True)))
    await describe(ctx, "restored")


@scenario
async def standalone_delay_changed(ctx: Context) -> None:
    """The delay of the first attempt changes until it is over."""
    await ctx.client.invoke(start(ctx, start_delay=duration(100)))
    await ctx.attempt("reset within the delay", Reset(**about(ctx)))
    await describe(ctx, "still delayed")
    await ctx.attempt("shorter", update(ctx, "start_delay", start_delay=duration(1)))
    await describe(ctx, "shorter: described")
    await ctx.poll_activity(queue_of(ctx))
    await ctx.attempt("too late", update(ctx, "start_delay", start_delay=duration(5)))


@scenario
async def standalone_controls_refused(ctx: Context) -> None:
    """Operators' requests that are refused, and the words."""
    await ctx.client.invoke(start(ctx))
    for kind in (Pause, Unpause, Reset):
        name = kind.DESCRIPTOR.name.removesuffix("ActivityExecutionRequest")
        namespace = ctx.client.namespace
        await ctx.attempt(f"{name}: no id", kind(namespace=namespace))
        await ctx.attempt(f"{name}: long id", kind(namespace=namespace, activity_id="x" * 1001))
        await ctx.attempt(f"{name}: unknown", kind(**about(ctx, "nobody")))
        await ctx.attempt(f"{name}: bad run id", kind(**about(ctx, run_id="x")))
        await ctx.attempt(f"{name}: long request id", kind(**about(ctx, request_id="x" * 1001)))
        await ctx.attempt(f"{name}: long identity", kind(**about(ctx, identity="x" * 1001)))
        await ctx.attempt(f"{name}: unknown namespace", kind(namespace="nope", activity_id="a"))
    await ctx.attempt("unpause what is not paused", Unpause(**about(ctx)))
    await ctx.attempt("long reason", Pause(**about(ctx, reason="x" * 2_100_000)))
    await ctx.attempt("negative jitter", Reset(**about(ctx), jitter=duration(-1)))
    await ctx.attempt("no options", Update(**about(ctx)))
    await ctx.attempt("no mask", Update(**about(ctx), activity_options=activity.ActivityOptions()))
    await ctx.attempt("empty mask", update(ctx))
    await ctx.attempt("unknown path", update(ctx, "nonsense"))
    await ctx.attempt(
        "mask and restore",
        Update(**about(ctx, restore_original=True), update_mask=update(ctx, "priority").update_mask),
    )
    await ctx.attempt("empty queue", update(ctx, "task_queue.name", task_queue=queue("")))
    await ctx.attempt("no queue", update(ctx, "task_queue.name"))
    await ctx.attempt(
        "negative timeout", update(ctx, "start_to_close_timeout", start_to_close_timeout=duration(-1))
    )
    await ctx.attempt("no timeouts", update(ctx, "start_to_close_timeout"))
    await ctx.attempt("coefficient", update(ctx, "retry_policy", retry_policy=retry_policy(coefficient=0.5)))
    await ctx.attempt("attempts", update(ctx, "retry_policy", retry_policy=retry_policy(attempts=-1)))
    await ctx.attempt("priority", update(ctx, "priority", priority=common.Priority(priority_key=-1)))
    await ctx.attempt("no delay to change", update(ctx, "start_delay", start_delay=duration(5)))
    await describe(ctx, "unchanged")
