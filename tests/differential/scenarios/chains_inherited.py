"""What runs hand on to those that follow: attempts, failures that end a chain, results, memo and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.differential.context import Context
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF, next_run
from tests.differential.scenarios.children import child_of, parent_and_child, until_has
from tests.differential.scenarios.held_back import record
from tests.differential.scenarios.resets import do_reset
from tests.support.builders import (
    application_failure,
    canceled_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    modify_memo,
    payload,
    payloads,
    queue,
    retry_policy,
    schedule_activity,
    start_child,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums, failure

EventType = enums.EventType
NO_PAYLOAD: Final = common.Payload(metadata={"encoding": b"binary/null"})


def _of(message: str, **fields: Any) -> failure.Failure:
    return failure.Failure(message=message, source="test", **fields)


def _failures() -> Mapping[str, failure.Failure]:
    bad = application_failure("bad", type="Bad")
    activity = failure.ActivityFailureInfo(
        activity_id="a", activity_type=common.ActivityType(name="t"), scheduled_event_id=5, started_event_id=6
    )
    child = failure.ChildWorkflowExecutionFailureInfo(
        namespace="default", workflow_type=common.WorkflowType(name="t")
    )
    timeout = enums.TimeoutType
    return {
        "listed": bad,
        "another case": application_failure("bad", type="bad"),
        "no type": application_failure("bad", type=""),
        "activity of a listed": _of("activity", activity_failure_info=activity, cause=bad),
        "child of a listed": _of("child", child_workflow_execution_failure_info=child, cause=bad),
        "caused by a listed": _of(
            "outer", application_failure_info=failure.ApplicationFailureInfo(type="Outer"), cause=bad
        ),
        "no info": _of("plain"),
        "caused, no info": _of("plain", cause=bad),
        "cancelled": canceled_failure(),
        "terminated": _of("terminated", terminated_failure_info=failure.TerminatedFailureInfo()),
        "server": _of("server", server_failure_info=failure.ServerFailureInfo()),
        "server, not retryable": _of(
            "server", server_failure_info=failure.ServerFailureInfo(non_retryable=True)
        ),
        "reset": _of("reset", reset_workflow_failure_info=failure.ResetWorkflowFailureInfo()),
        "start to close": _of(
            "t",
            timeout_failure_info=failure.TimeoutFailureInfo(timeout_type=timeout.TIMEOUT_TYPE_START_TO_CLOSE),
        ),
        "heartbeat": _of(
            "t", timeout_failure_info=failure.TimeoutFailureInfo(timeout_type=timeout.TIMEOUT_TYPE_HEARTBEAT)
        ),
        "schedule to close": _of(
            "t",
            timeout_failure_info=failure.TimeoutFailureInfo(
                timeout_type=timeout.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
            ),
        ),
        "schedule to start": _of(
            "t",
            timeout_failure_info=failure.TimeoutFailureInfo(
                timeout_type=timeout.TIMEOUT_TYPE_SCHEDULE_TO_START
            ),
        ),
        "timeout": _of("t", timeout_failure_info=failure.TimeoutFailureInfo()),
        "handler": _of("h", nexus_handler_failure_info=failure.NexusHandlerFailureInfo(type="BAD_REQUEST")),
        "operation": _of(
            "o",
            nexus_operation_execution_failure_info=failure.NexusOperationFailureInfo(endpoint="e"),
            cause=bad,
        ),
    }


_LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "types": ("Bad",),
    "timeouts": ("TemporalTimeout:StartToClose", "TemporalTimeout:Heartbeat"),
    "other names": (
        "TemporalTimeout",
        "START_TO_CLOSE",
        "Timeout",
        "ServerFailure",
        "",
        "Outer",
    ),
}


@scenario
async def lists_of_types_refused(ctx: Context) -> None:
    """Names of timeouts in a list of types that are none: of a start, a child, an activity, a continue-as-new."""
    names = (
        "START_TO_CLOSE",
        "",
        "StartToClose",
        "ScheduleToStart",
        "starttoclose",
        "Unspecified",
        "x",
        "Heartbeat:x",
    )
    for name in names:
        policy = retry_policy(initial_s=60, non_retryable=(f"TemporalTimeout:{name}",))
        start = ctx.client.start(ctx.id(f"s {name}"), ctx.id("queue"), retry_policy=policy)
        await ctx.attempt(f"start {name}", start, drop=["run_id", "link", "first_execution_run_id"])
        commands = {
            "child": start_child(ctx.id(f"c {name}"), task_queue=queue(ctx.id("q")), retry_policy=policy),
            "activity": schedule_activity("a", ctx.id("q"), retry=policy),
            "continue": continue_as_new(retry_policy=policy),
        }
        for label, command in commands.items():
            run = await ctx.start(f"{label} {name}")
            task = await run.poll()
            await ctx.attempt(f"{label} {name}", run.complete(task, command))


@scenario
async def failures_that_are_retried(ctx: Context) -> None:
    """Every kind of failure that a workflow may end with, under lists of types: whether another attempt follows."""

    async def one(part: Context, name: str) -> None:
        for label, failed in _failures().items():
            run = await part.start(
                label,
                retry_policy=retry_policy(initial_s=60, attempts=3, non_retryable=_LISTS[name]),
            )
            await run.step(fail_workflow(failed))
            (*_, last) = await run.events()
            ended = last.workflow_execution_failed_event_attributes
            part.record(
                label,
                {
                    "type": last.event_type,
                    "state": ended.retry_state,
                    "next": bool(ended.new_execution_run_id),
                },
            )
            if ended.new_execution_run_id:
                await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(_LISTS, one)


@slow_scenario
async def run_timeouts_that_are_listed(ctx: Context) -> None:
    """A list of types names a timeout, and the run times out."""

    async def one(part: Context, name: str) -> None:
        run = await part.start(
            workflow_run_timeout=duration(1),
            retry_policy=retry_policy(initial_s=60, attempts=3, non_retryable=_LISTS[name]),
        )
        await run.until_closed()
        await run.record_history("timed out")

    await ctx.side_by_side(_LISTS, one)


@slow_scenario
async def types_over_continue_as_new(ctx: Context) -> None:
    """Lists of types of the policy that a run was started with, and of the one that it continued with."""
    policy = retry_policy(initial_s=1, attempts=3, non_retryable=("Bad",))
    other = retry_policy(initial_s=1, attempts=3, non_retryable=("Other",))
    run = await ctx.start(retry_policy=policy)
    await run.step(fail_workflow(application_failure("other", type="Other")))
    run = await next_run(run)
    await run.step(continue_as_new(retry_policy=other))
    run = await next_run(run)
    await record(run, "continued")
    await run.step(fail_workflow(application_failure("bad", type="Bad")))
    await record(run, "failed as was not retryable")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("other", type="Other")))
    await record(run, "failed as is not retryable")


@slow_scenario
async def child_under_a_retry_policy(ctx: Context) -> None:
    """A child is tried again and then fails by a listed type; a child by schedule; what the parent hears."""
    parent, child = await parent_and_child(
        ctx,
        retry_policy=retry_policy(initial_s=1, attempts=4, non_retryable=("Bad",)),
        header=header({"h": "v"}),
        memo=memo({"m": "v"}),
        input=payloads("in"),
    )
    await child.step(fail_workflow(application_failure("once")))
    first, child = child, await next_run(child)
    await first.record_history("first")
    await record(child, "second")
    ctx.record("parent meanwhile", list((await parent.describe()).pending_children))
    await child.step(
        continue_as_new(retry_policy=retry_policy(initial_s=1, attempts=2, non_retryable=("Bad",)))
    )
    child = await next_run(child)
    await record(child, "continued")
    await child.step(fail_workflow(application_failure("bad", type="Bad")))
    await child.record_history("last", drop=[BACKOFF])
    await until_has(parent, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED)
    await parent.record_history("parent")


@slow_scenario
async def child_by_schedule(ctx: Context) -> None:
    """A child with a cron schedule and a retry policy: what it hands on, how its parent hears of its end."""
    parent = await ctx.start()
    await parent.step(
        start_child(
            ctx.id("child"),
            task_queue=queue(ctx.id("child-queue")),
            cron_schedule="@every 1s",
            retry_policy=retry_policy(initial_s=1, attempts=2),
        )
    )
    child = await child_of(parent, ctx.id("child"), ctx.id("child-queue"))
    await child.step(complete_workflow(payloads("one")))
    await record(child, "one")
    child = await next_run(child)
    await child.step(fail_workflow(application_failure("two")))
    await record(child, "two")
    child = await next_run(child)
    await record(child, "three")
    await ctx.client.request_cancel(child.workflow_id)
    await child.poll()
    await ctx.client.terminate(child.workflow_id)
    await until_has(parent, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED)
    await parent.record_history("parent")


@slow_scenario
async def results_and_failures_given_at_the_start(ctx: Context) -> None:
    """A start says what was completed and what failed before: how long that is handed on."""
    fields: dict[str, Any] = {
        "last_completion_result": payloads("before"),
        "continued_failure": application_failure("before"),
    }
    policy = retry_policy(initial_s=1, attempts=2)
    run = await ctx.start("plain", **fields)
    await record(run, "plain")
    await run.step(continue_as_new())
    run = await next_run(run)
    await record(run, "continued bare")
    await run.step(continue_as_new(last_completion_result=payloads(), failure=failure.Failure()))
    run = await next_run(run)
    await record(run, "continued with nothing")
    await run.step(complete_workflow())
    run = await ctx.start("retried", retry_policy=policy, **fields)
    await run.step(fail_workflow(application_failure("again")))
    run = await next_run(run)
    await record(run, "retried")
    await run.step(complete_workflow())
    run = await ctx.start("scheduled", cron_schedule="@every 1s", retry_policy=policy, **fields)
    await record(run, "scheduled")
    await run.step(fail_workflow(application_failure("one")))
    run = await next_run(run)
    await record(run, "scheduled, retried")
    await run.step(fail_workflow(application_failure("two")))
    run = await next_run(run)
    await record(run, "scheduled after failures")
    await run.step(complete_workflow(payloads("result")))
    run = await next_run(run)
    await record(run, "scheduled after a result")
    await run.step(continue_as_new(cron_schedule="@every 1s", last_completion_result=payloads("own")))
    run = await next_run(run)
    await record(run, "continued with its own")
    await run.step(fail_workflow(application_failure("bad", non_retryable=True)))
    run = await next_run(run)
    await record(run, "after its own")
    await ctx.client.terminate(run.workflow_id)


def _changing() -> list[Any]:
    return [
        upsert_search_attributes({"Shade": keyword("red"), "Count": _number(3)}),
        modify_memo({"kept": payload("changed"), "more": payload("new"), "gone": NO_PAYLOAD}),
    ]


def _number(value: int) -> common.Payload:
    return common.Payload(metadata={"encoding": b"json/plain", "type": b"Int"}, data=str(value).encode())


def _described() -> dict[str, Any]:
    return {
        "memo": memo({"kept": "memo", "gone": "memo"}),
        "search_attributes": common.SearchAttributes(indexed_fields={"Shade": keyword("blue")}),
        "header": header({"h": "header"}),
    }


@slow_scenario
async def changed_properties_over_chains(ctx: Context) -> None:
    """Memo and search attributes that a run changed: of the next attempt, the next by schedule, the continued run."""

    async def one(part: Context, how: str) -> None:
        chains: dict[str, dict[str, Any]] = {
            "retry": {"retry_policy": retry_policy(initial_s=1, attempts=9)},
            "cron": {"cron_schedule": "@every 1s"},
        }
        ending = {
            "retry": fail_workflow(application_failure("no")),
            "cron": complete_workflow(),
            "continue": continue_as_new(),
            "continue with others": continue_as_new(
                memo=memo({"own": "memo"}),
                search_attributes=common.SearchAttributes(indexed_fields={"Note": keyword("x")}),
                header=header({"own": "header"}),
            ),
            "continue with none": continue_as_new(
                memo=common.Memo(), search_attributes=common.SearchAttributes(), header=common.Header()
            ),
        }[how]
        run = await part.start(**_described(), **chains.get(how, {}))
        await run.step(*_changing(), ending)
        await record(run, "first")
        run = await next_run(run)
        await record(run, "second")
        await run.step(modify_memo({"last": payload("one")}), ending)
        run = await next_run(run)
        await record(run, "third")
        await part.client.terminate(run.workflow_id)

    await ctx.side_by_side(("retry", "cron", "continue", "continue with others", "continue with none"), one)


@scenario
async def changed_properties_over_resets(ctx: Context) -> None:
    """Memo and search attributes that were changed before and behind the point of a reset; then continued."""
    run = await ctx.start(**_described())
    await run.step(*_changing())
    await run.signal()
    await run.step(modify_memo({"more": payload("again")}), upsert_search_attributes({"Shade": NO_PAYLOAD}))
    await record(run, "old")
    finishes = [
        event.event_id
        for event in await run.events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    for number, finish in enumerate(finishes):
        new = await do_reset(run, finish, f"reset {number}", request_id=ctx.id(f"reset {number}"))
        await record(new, f"new {number}")
    await new.step(continue_as_new())
    await record(await next_run(new), "continued")


@slow_scenario
async def attempts_over_resets(ctx: Context) -> None:
    """The second attempt of a run, and one by schedule, is reset: its attempt, failure, result, and what follows."""
    run = await ctx.start(
        "retried", retry_policy=retry_policy(initial_s=1, attempts=3), last_completion_result=payloads("r")
    )
    await run.step(fail_workflow(application_failure("one")))
    run = await next_run(run)
    await run.step(start_timer("t", 60))
    run = await do_reset(run, 4, "reset the second")
    await record(run, "reset")
    await run.step(fail_workflow(application_failure("two")))
    await record(run, "failed")
    run = await next_run(run)
    await record(run, "third")
    await run.step(fail_workflow(application_failure("three")))
    await record(run, "the last")
    run = await ctx.start("scheduled", cron_schedule="@every 1s")
    await run.step(complete_workflow(payloads("one")))
    run = await next_run(run)
    await run.step(start_timer("t", 60))
    run = await do_reset(run, 4, "reset by schedule", request_id=ctx.id("scheduled"))
    await record(run, "by schedule, reset")
    await run.step(complete_workflow(payloads("two")))
    run = await next_run(run)
    await record(run, "by schedule, next")
    await ctx.client.terminate(run.workflow_id)


@scenario
async def reset_of_a_failed_last_attempt(ctx: Context) -> None:
    """Attempts are used up, the last run is reset, and fails once more."""
    run = await ctx.start(retry_policy=retry_policy(initial_s=1, attempts=1))
    await run.step(fail_workflow(application_failure("one")))
    run = await do_reset(run, 4)
    await record(run, "new")
    await run.step(fail_workflow(application_failure("two")))
    await record(run, "failed")
