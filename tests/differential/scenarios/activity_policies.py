"""Retry policies of activities that are changed while they run: as a whole, field by field, in the midst of a wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import application_failure, duration, queue, retry_policy, schedule_activity
from tests.support.proto import activity, common, workflowservice

ORIGINAL: Final = retry_policy(
    initial_s=2, coefficient=1.5, maximum_s=30, attempts=7, non_retryable=("Bad", "Worse")
)
_CHANGES: Final[Mapping[str, tuple[tuple[str, ...], common.RetryPolicy]]] = {
    "whole": (
        ("retry_policy",),
        retry_policy(initial_s=3, coefficient=3, maximum_s=40, attempts=9, non_retryable=("Other",)),
    ),
    "whole, with one field": (("retry_policy",), retry_policy(attempts=3)),
    "whole, with an interval": (("retry_policy",), retry_policy(initial_s=5)),
    "whole, with a long interval": (("retry_policy",), retry_policy(initial_s=50)),
    "whole, with types": (("retry_policy",), retry_policy(non_retryable=("Other",))),
    "whole, empty": (("retry_policy",), common.RetryPolicy()),
    "whole and a field": (
        ("retry_policy", "retry_policy.maximum_attempts"),
        retry_policy(initial_s=4, attempts=5),
    ),
    "initial": (("retry_policy.initial_interval",), retry_policy(initial_s=4, attempts=5)),
    "coefficient": (("retry_policy.backoff_coefficient",), retry_policy(coefficient=4)),
    "maximum": (("retry_policy.maximum_interval",), retry_policy(maximum_s=60)),
    "attempts": (("retry_policy.maximum_attempts",), retry_policy(attempts=8)),
    "no limit of attempts": (("retry_policy.maximum_attempts",), common.RetryPolicy()),
    "no initial": (("retry_policy.initial_interval",), common.RetryPolicy()),
    "no coefficient": (("retry_policy.backoff_coefficient",), common.RetryPolicy()),
    "no maximum": (("retry_policy.maximum_interval",), common.RetryPolicy()),
    "two fields": (
        ("retry_policy.maximum_attempts", "retry_policy.initial_interval"),
        retry_policy(initial_s=6, attempts=2),
    ),
    "camel case": (("retryPolicy.maximumAttempts",), retry_policy(attempts=8)),
    "whole in camel case": (("retryPolicy",), retry_policy(attempts=8)),
    "no such field": (("retry_policy.nonsense",), retry_policy(attempts=8)),
    "deeper": (("retry_policy.initial_interval.seconds",), retry_policy(initial_s=9)),
    "negative initial": (("retry_policy",), retry_policy(initial_s=-1)),
    "small coefficient": (("retry_policy.backoff_coefficient",), retry_policy(coefficient=0.5)),
    "maximum below initial": (("retry_policy.maximum_interval",), retry_policy(maximum_s=1)),
    "negative attempts": (("retry_policy.maximum_attempts",), retry_policy(attempts=-1)),
    "wrong timeout": (("retry_policy",), retry_policy(non_retryable=("TemporalTimeout:x",))),
    "empty mask": ((), retry_policy(attempts=8)),
    "a star": (("*",), retry_policy(attempts=8)),
}


def _update(
    run: Run, paths: tuple[str, ...], policy: common.RetryPolicy | None
) -> workflowservice.UpdateActivityOptionsRequest:
    request = workflowservice.UpdateActivityOptionsRequest(
        namespace=run.client.namespace,
        execution=run.execution,
        identity="operator",
        id="a",
        activity_options=activity.ActivityOptions(retry_policy=policy),
    )
    request.update_mask.paths.extend(paths)
    return request


async def _record_options(run: Run, label: str) -> None:
    (pending,) = (await run.describe()).pending_activities
    run.context.record(label, pending.activity_options)


@scenario
async def policy_of_an_activity(ctx: Context) -> None:
    """Each change to an activity that was scheduled with a policy, and to one that was scheduled without."""

    async def one(part: Context, how: str) -> None:
        for label, (paths, policy) in _CHANGES.items():
            run = await part.start(label)
            retry = ORIGINAL if how == "with" else None
            await run.step(schedule_activity("a", run.task_queue, start_to_close_s=60, retry=retry))
            await part.attempt(label, _update(run, paths, policy))
            await _record_options(run, f"{label}, described")

    await ctx.side_by_side(("with", "without"), one)


@scenario
async def policy_of_a_standalone_activity(ctx: Context) -> None:
    """The same for activities without a workflow."""
    for label, (paths, policy) in _CHANGES.items():
        values: dict[str, Any] = {
            "namespace": ctx.client.namespace,
            "activity_id": ctx.id(label),
            "activity_type": common.ActivityType(name="work"),
            "task_queue": queue(ctx.id("queue")),
            "start_to_close_timeout": duration(60),
            "retry_policy": ORIGINAL,
            "request_id": label,
        }
        await ctx.client.invoke(workflowservice.StartActivityExecutionRequest(**values))
        request = workflowservice.UpdateActivityExecutionOptionsRequest(
            namespace=ctx.client.namespace,
            activity_id=ctx.id(label),
            identity="operator",
            activity_options=activity.ActivityOptions(retry_policy=policy),
        )
        request.update_mask.paths.extend(paths)
        await ctx.attempt(label, request)
        described = await ctx.client.call(
            workflowservice.DescribeActivityExecutionRequest(
                namespace=ctx.client.namespace, activity_id=ctx.id(label)
            ),
            workflowservice.DescribeActivityExecutionResponse,
        )
        ctx.record(f"{label}, described", described.info.retry_policy)


@slow_scenario
async def policy_changed_between_attempts(ctx: Context) -> None:
    """An activity waits for its next attempt, or runs: its interval, its limit of attempts or its types change."""
    cases: Mapping[str, tuple[tuple[str, ...], common.RetryPolicy]] = {
        "a shorter wait": (("retry_policy.initial_interval",), retry_policy(initial_s=1)),
        "a longer wait": (("retry_policy.initial_interval",), retry_policy(initial_s=90)),
        "fewer attempts": (("retry_policy.maximum_attempts",), retry_policy(attempts=1)),
        "as many attempts": (("retry_policy.maximum_attempts",), retry_policy(attempts=2)),
        "types": (
            ("retry_policy",),
            retry_policy(initial_s=1, coefficient=1, maximum_s=10, non_retryable=("Boom",)),
        ),
        "coefficient": (("retry_policy.backoff_coefficient",), retry_policy(coefficient=1)),
    }

    async def one(part: Context, label: str) -> None:
        paths, policy = cases[label]
        for when in ("waiting", "running"):
            run = await part.start(when)
            retry = retry_policy(initial_s=30, coefficient=2, attempts=9)
            await run.step(schedule_activity("a", run.task_queue, start_to_close_s=60, retry=retry))
            task = await run.poll_activity()
            if when == "waiting":
                await run.client.fail_activity(task.task_token, application_failure("one"))
            await part.attempt(when, _update(run, paths, policy))
            if when == "running":
                await run.client.fail_activity(task.task_token, application_failure("one"))
            described = await run.describe()
            part.record(f"{when}, described", list(described.pending_activities))
            if label in ("a shorter wait", "types"):
                task = await run.poll_activity()
                part.record(f"{when}, attempt", task.attempt)
                await run.client.fail_activity(task.task_token, application_failure("two"))
            await run.record_history(f"{when}, history")

    await ctx.side_by_side(cases, one)
