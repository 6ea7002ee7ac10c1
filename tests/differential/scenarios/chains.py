"""Runs that follow runs: continue-as-new, retries of whole workflows, cron schedules, timeouts over a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.differential.context import Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.support.builders import (
    application_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    header,
    keyword,
    memo,
    payloads,
    queue,
    retry_policy,
    schedule_activity,
    start_timer,
    upsert_search_attributes,
)
from tests.support.proto import common, enums, workflowservice

EventType = enums.EventType
LINK = common.Link(
    workflow_event=common.Link.WorkflowEvent(
        namespace="default",
        workflow_id="caller",
        run_id="0190c7a8-0000-7000-8000-000000000001",
        event_ref=common.Link.WorkflowEvent.EventReference(
            event_id=3, event_type=enums.EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
        ),
    )
)
BACKOFF = "workflow_execution_started_event_attributes.first_workflow_task_backoff"
"""By default what is left of a second since the run before began: differs by nature."""
HELD_BACK_S = 4
"""How long a next run waits for its first task where it is shown waiting: a second may pass before it is shown."""
TRANSITIONS = "workflow_execution_info.state_transition_count"
_NEW_RUN = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "workflow_execution_continued_as_new_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "workflow_execution_failed_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "workflow_execution_completed_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "workflow_execution_timed_out_event_attributes",
}


async def next_run(run: Run, task_queue: str = "") -> Run:
    """The run that follows a closed one, by its closing event."""
    last = (await run.events())[-1]
    run_id = getattr(last, _NEW_RUN[last.event_type]).new_execution_run_id
    return Run(run.context, run.workflow_id, run_id, task_queue or run.task_queue)


async def _record_both(run: Run, task_queue: str = "", *, drop: Sequence[str] = ()) -> Run:
    following = await next_run(run, task_queue)
    await run.record_history("first run", drop=drop)
    run.context.record("first described", await run.describe(), drop=[*drop, TRANSITIONS])
    await following.record_history("second run", drop=drop)
    run.context.record("second described", await following.describe(), drop=[*drop, TRANSITIONS])
    return following


@scenario
async def continue_as_new_bare(ctx: Context) -> None:
    """Continue-as-new with an empty command: what the next run takes over by itself."""
    run = await ctx.start(
        input=payloads("in"), memo=memo({"a": "b"}), search_attributes=_shade("red"), links=[LINK]
    )
    await run.step(start_timer("t", 60), upsert_search_attributes({"Shade": keyword("blue")}))
    await run.signal()
    await run.step(continue_as_new())
    await (await next_run(run)).until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    following = await _record_both(run, drop=[BACKOFF])
    await following.step(complete_workflow(payloads("done")))
    await following.record_history("second run, closed", drop=[BACKOFF])


def _shade(value: str) -> common.SearchAttributes:
    return common.SearchAttributes(indexed_fields={"Shade": keyword(value)})


@scenario
async def continue_as_new_full(ctx: Context) -> None:
    """Continue-as-new with every field; another type and queue, timeouts, a backoff, memo and search attributes."""
    run = await ctx.start(
        workflow_execution_timeout=duration(300),
        workflow_run_timeout=duration(100),
        workflow_task_timeout=duration(7),
        retry_policy=retry_policy(attempts=3),
        priority=common.Priority(priority_key=2),
    )
    other = ctx.id("other-queue")
    await run.step(
        continue_as_new(
            workflow_type=common.WorkflowType(name="other"),
            task_queue=queue(other),
            input=payloads("next"),
            workflow_run_timeout=duration(400),
            workflow_task_timeout=duration(500),
            backoff_start_interval=duration(HELD_BACK_S),
            retry_policy=retry_policy(initial_s=3),
            header=header({"h": "v"}),
            memo=memo({"m": "n"}),
            search_attributes=_shade("green"),
            last_completion_result=payloads("result"),
            failure=application_failure("why"),
        )
    )
    following = await _record_both(run, other)
    await ctx.attempt("cancelled while held back", ctx.client.request_cancel(run.workflow_id))
    await following.step(complete_workflow())
    await following.record_history("second run, closed")


@scenario
async def continue_as_new_errors(ctx: Context) -> None:
    """Continue-as-new commands that are refused."""
    bad: dict[str, dict[str, Any]] = {
        "type": {"workflow_type": common.WorkflowType(name="x" * 1001)},
        "queue": {"task_queue": queue("x" * 1001)},
        "reserved queue": {"task_queue": queue("/_sys/x")},
        "run timeout": {"workflow_run_timeout": duration(-1)},
        "task timeout": {"workflow_task_timeout": duration(-1)},
        "backoff": {"backoff_start_interval": duration(-1)},
        "retry": {"retry_policy": retry_policy(initial_s=1, coefficient=0.5)},
        "search attribute": {
            "search_attributes": common.SearchAttributes(indexed_fields={"No": keyword("x")})
        },
    }
    for label, fields in bad.items():
        run = await ctx.start(label.replace(" ", "-"))
        task = await run.poll()
        await ctx.attempt(label, run.complete(task, continue_as_new(**fields)))
        await run.record_history(f"{label}: history")


@scenario
async def continue_as_new_unhandled(ctx: Context) -> None:
    """A signal comes while the task that continues as new is started."""
    run = await ctx.start()
    task = await run.poll()
    await run.signal()
    await ctx.attempt("continue", run.complete(task, continue_as_new()))
    await run.step(continue_as_new(input=payloads("again")))
    await (await next_run(run)).until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    await _record_both(run, drop=[BACKOFF])


@scenario
async def continue_as_new_with_work_pending(ctx: Context) -> None:
    """An activity and a timer are pending; a start of the same id, signals by id and by run, a repeated start."""
    run = await ctx.start(request_id=ctx.id("request"))
    await run.step(schedule_activity("a", run.task_queue, start_to_close_s=30), start_timer("t", 60))
    held = await run.poll_activity()
    await run.signal()
    await run.step(continue_as_new(backoff_start_interval=duration(HELD_BACK_S)))
    await ctx.attempt("late activity", ctx.client.complete_activity(held.task_token))
    await ctx.attempt(
        "same request", ctx.client.start(run.workflow_id, run.task_queue, request_id=ctx.id("request"))
    )
    await ctx.attempt("same id", ctx.client.start(run.workflow_id, run.task_queue))
    signal = workflowservice.SignalWorkflowExecutionRequest(
        namespace=ctx.client.namespace, workflow_execution=run.execution, signal_name="late"
    )
    await ctx.attempt("signal to the first run", signal)
    await run.signal("next", request_id=ctx.id("signal"))
    await ctx.attempt("terminate by first run", _terminate(ctx, run))
    following = await _record_both(run, drop=[BACKOFF])
    await following.until_closed()


def _terminate(ctx: Context, run: Run) -> workflowservice.TerminateWorkflowExecutionRequest:
    return workflowservice.TerminateWorkflowExecutionRequest(
        namespace=ctx.client.namespace,
        workflow_execution=common.WorkflowExecution(workflow_id=run.workflow_id),
        first_execution_run_id=run.run_id,
        reason="enough",
    )


@scenario
async def continue_as_new_three_times(ctx: Context) -> None:
    """First, continued and original run ids over a chain of four."""
    run = await ctx.start()
    for number in range(3):
        await run.step(continue_as_new(input=payloads(str(number))))
        run = await next_run(run)
        await run.until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
        await run.record_history(f"run {number}", drop=[BACKOFF])
        ctx.record(f"described {number}", await run.describe(), drop=[TRANSITIONS])
    first = Run(ctx, run.workflow_id, run.run_id, run.task_queue)
    ctx.record("first", await first.describe(), drop=[TRANSITIONS])


@scenario
async def workflow_retry(ctx: Context) -> None:
    """A workflow with a retry policy fails until its attempts are used up."""
    policy = retry_policy(
        initial_s=HELD_BACK_S, coefficient=2, maximum_s=10, attempts=2, non_retryable=("Bad",)
    )
    run = await ctx.start(
        retry_policy=policy,
        input=payloads("in"),
        memo=memo({"a": "b"}),
        search_attributes=_shade("red"),
        header=header({"h": "v"}),
        links=[LINK],
    )
    await run.step(upsert_search_attributes({"Shade": keyword("blue")}))
    await run.signal()
    await run.step(fail_workflow(application_failure("first")))
    following = await _record_both(run)
    await following.step(fail_workflow(application_failure("second")))
    await following.record_history("second run, closed")


@scenario
async def workflow_retry_not_retryable(ctx: Context) -> None:
    """Failures that no retry follows: a listed type, a non-retryable one; and one with its own delay."""
    policy = retry_policy(initial_s=1, attempts=5, non_retryable=("Bad",))
    for label, cause in {
        "listed": application_failure("no", type="Bad"),
        "non retryable": application_failure("no", non_retryable=True),
    }.items():
        run = await ctx.start(label.replace(" ", "-"), retry_policy=policy)
        await run.step(fail_workflow(cause))
        await run.record_history(label)
    run = await ctx.start("delay", retry_policy=policy)
    delayed = application_failure("later")
    delayed.application_failure_info.next_retry_delay.FromSeconds(HELD_BACK_S)
    await run.step(fail_workflow(delayed))
    await _record_both(run)


@scenario
async def workflow_retry_past_expiration(ctx: Context) -> None:
    """The next attempt would begin after the execution's time: none follows."""
    run = await ctx.start(
        retry_policy=retry_policy(initial_s=20, attempts=5), workflow_execution_timeout=duration(10)
    )
    await run.step(fail_workflow(application_failure("no")))
    await run.record_history()


@slow_scenario
async def run_timeout_with_retry(ctx: Context) -> None:
    """A run times out and is tried again; the second attempt's timeout is the last."""
    run = await ctx.start(
        retry_policy=retry_policy(initial_s=HELD_BACK_S, attempts=2), workflow_run_timeout=duration(2)
    )
    await run.poll()
    await run.until_closed()
    following = await _record_both(run)
    await following.until_closed()
    await following.record_history("second run, closed")


@slow_scenario
async def execution_timeout_over_a_chain(ctx: Context) -> None:
    """The execution timeout counts from the first run."""
    run = await ctx.start(workflow_execution_timeout=duration(4), retry_policy=retry_policy(attempts=9))
    await run.step(continue_as_new())
    following = await _record_both(run, drop=[BACKOFF])
    await following.until_closed()
    await following.record_history("second run, closed", drop=[BACKOFF])


@slow_scenario
async def cron_every_second(ctx: Context) -> None:
    """A cron workflow: completes, fails, and is terminated; results and failures handed on."""
    held_back = await ctx.start("hourly", cron_schedule="@every 1h", input=payloads("in"))
    ctx.record("held back", await held_back.describe())
    run = await ctx.start(cron_schedule="@every 1s", input=payloads("in"))
    await run.step(complete_workflow(payloads("one")))
    await (await next_run(run)).until_event(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED)
    run = await _record_both(run)
    await run.step(fail_workflow(application_failure("two")))
    await run.record_history("failed run")
    run = await next_run(run)
    await run.step(complete_workflow())
    await run.record_history("third run")
    run = await next_run(run)
    await ctx.client.terminate(run.workflow_id)
    await run.record_history("terminated run")


@scenario
async def cron_errors(ctx: Context) -> None:
    """Cron schedules that are refused, and forms that are accepted."""
    for number, text in enumerate(
        (
            "* * * *",
            "60 * * * *",
            "@every",
            "@every 1x",
            "0 0 31 2 *",
            "@never",
            "* * * * 7",
            "TZ=Nowhere/X * * * * *",
            "1-5/2,7 */6 1,15 jan-mar MON",
            "@hourly",
            "@every 1h30m",
            "CRON_TZ=America/New_York 0 9 * * *",
        )
    ):
        await ctx.attempt(
            f"{number}: {text}", ctx.client.start(ctx.id(str(number)), ctx.id("q"), cron_schedule=text)
        )
