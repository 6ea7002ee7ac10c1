"""Runs that follow runs, by more than one rule at a time: retries beside cron, continue-as-new under a cron schedule,
timeouts of either kind in the middle, and what is done to a run that still waits for its first task."""

from __future__ import annotations

from typing import Any

from tests.differential.context import LATE_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF, HELD_BACK_S, TRANSITIONS, next_run
from tests.support.builders import (
    application_failure,
    complete_workflow,
    continue_as_new,
    duration,
    fail_workflow,
    memo,
    payloads,
    queue,
    retry_policy,
)
from tests.support.proto import common, enums, workflowservice

EventType = enums.EventType


async def _record(run: Run, label: str) -> None:
    """A run's history and description, but for how long its first task waits, which differs by nature."""
    await run.record_history(label, drop=[BACKOFF])
    run.context.record(f"{label}, described", await run.describe(), drop=[BACKOFF, TRANSITIONS])


@slow_scenario
async def cron_with_retry(ctx: Context) -> None:
    """A run of a cron workflow fails: it is tried again until its attempts are used up, then the schedule goes on."""
    run = await ctx.start(
        cron_schedule="@every 1s", retry_policy=retry_policy(initial_s=1, attempts=2), input=payloads("in")
    )
    await run.step(fail_workflow(application_failure("first")))
    await _record(run, "first attempt")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("second")))
    await _record(run, "second attempt")
    run = await next_run(run)
    await run.step(complete_workflow(payloads("done")))
    await _record(run, "next of the schedule")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("bad", non_retryable=True)))
    await _record(run, "not retryable")
    run = await next_run(run)
    await ctx.client.terminate(run.workflow_id)
    await _record(run, "terminated")


@slow_scenario
async def cron_continues_as_new(ctx: Context) -> None:
    """A run of a cron workflow continues as new: the next one begins at once or by the schedule, and hands it on."""
    run = await ctx.start(cron_schedule="@every 1s", input=payloads("in"), memo=memo({"a": "b"}))
    await run.step(continue_as_new(input=payloads("other"), cron_schedule="@every 1s"))
    await _record(run, "continued")
    run = await next_run(run)
    await run.step(complete_workflow(payloads("one")))
    await _record(run, "completed")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "failed")
    run = await next_run(run)
    await ctx.client.terminate(run.workflow_id)
    await _record(run, "terminated")


@slow_scenario
async def cron_times_out(ctx: Context) -> None:
    """A run of a cron workflow takes too long: the next one says so, and keeps the last result."""
    run = await ctx.start(cron_schedule="@every 1s", workflow_run_timeout=duration(3))
    await run.step(complete_workflow(payloads("kept")))
    run = await next_run(run)
    await run.step()
    await run.until_closed()
    await _record(run, "timed out")
    run = await next_run(run)
    await run.step(complete_workflow(payloads("new")))
    await _record(run, "after it")
    await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def cron_ends_with_its_execution_timeout(ctx: Context) -> None:
    """No run follows that would begin after the execution's time."""
    run = await ctx.start(cron_schedule="@every 1h", workflow_execution_timeout=duration(3))
    await run.until_closed()
    await _record(run, "held back, timed out")
    clock = ctx.clock()
    run = await ctx.start(
        "delayed", workflow_start_delay=duration(60), workflow_execution_timeout=duration(2)
    )
    await run.until_closed()
    ctx.record_about("its time does not wait for a delay", clock, 1.9, LATE_S)
    await _record(run, "delayed, timed out")
    run = await ctx.start("delayed-run", workflow_start_delay=duration(2), workflow_run_timeout=duration(2))
    clock = ctx.clock()
    await run.until_closed()
    ctx.record_about("that of a run does", clock, 3.9, LATE_S)
    run = await ctx.start("short", cron_schedule="@every 2s", workflow_execution_timeout=duration(3))
    await run.step(complete_workflow(payloads("one")))
    await run.until_closed()
    await _record(run, "completed near the end")


@slow_scenario
async def cancelled_while_held_back(ctx: Context) -> None:
    """A request to cancel reaches a run that waits for its first task: after a retry, by cron, by a start delay."""
    policy = retry_policy(initial_s=60, attempts=3)
    held_back: dict[str, dict[str, Any]] = {
        "retry": {"retry_policy": policy},
        "cron": {"cron_schedule": "@every 1h"},
        "delay": {"workflow_start_delay": duration(60)},
    }
    for label, fields in held_back.items():
        run = await ctx.start(label, **fields)
        if label == "retry":
            await run.step(fail_workflow(application_failure("no")))
            run = await next_run(run)
        await ctx.client.request_cancel(run.workflow_id)
        await _record(run, label)


@slow_scenario
async def signalled_while_held_back(ctx: Context) -> None:
    """Signals of a run that waits for its first task, the run's answer and the chain's."""
    policy = retry_policy(initial_s=HELD_BACK_S, attempts=3)
    run = await ctx.start(retry_policy=policy)
    await run.step(fail_workflow(application_failure("no")))
    first, run = run, await next_run(run)
    await ctx.client.signal(run.workflow_id, "by-id")
    await run.signal("by-run")
    await ctx.attempt("the first run", first.signal("late"))
    await _record(run, "signalled")
    await run.step(complete_workflow(payloads("done")))
    await _record(run, "completed")


@slow_scenario
async def retry_with_timeouts(ctx: Context) -> None:
    """The execution's time ends in the middle of an attempt, and while the next attempt is held back."""
    run = await ctx.start(
        "attempt",
        retry_policy=retry_policy(initial_s=1, attempts=9),
        workflow_execution_timeout=duration(4),
        workflow_run_timeout=duration(3),
        workflow_task_timeout=duration(2),
    )
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "failed")
    run = await next_run(run)
    await run.step()
    await run.until_closed()
    await _record(run, "its last")
    run = await ctx.start(
        "held back",
        retry_policy=retry_policy(initial_s=3, attempts=9),
        workflow_execution_timeout=duration(4),
    )
    await run.step(fail_workflow(application_failure("no")))
    await _record(run, "failed before the end")
    following = await next_run(run)
    await following.until_closed()
    await _record(following, "held back until the end")


@slow_scenario
async def continue_as_new_with_retry(ctx: Context) -> None:
    """Under a retry policy that the command brings attempts count anew; without one nothing is tried again."""
    policy = retry_policy(initial_s=1, attempts=2)
    run = await ctx.start(retry_policy=policy, input=payloads("in"))
    await run.step(fail_workflow(application_failure("first")))
    run = await next_run(run)
    await run.step(continue_as_new(input=payloads("next"), retry_policy=policy))
    await _record(run, "second attempt, continued")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("first of the next")))
    await _record(run, "continued, failed")
    run = await next_run(run)
    await run.step(continue_as_new(retry_policy=retry_policy(initial_s=2, coefficient=3, attempts=4)))
    await _record(run, "another policy")
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("under another policy")))
    await _record(run, "failed under another policy")
    run = await next_run(run)
    await run.step(continue_as_new())
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("under none")))
    await _record(run, "failed under none")


@slow_scenario
async def continue_as_new_with_timeouts(ctx: Context) -> None:
    """Timeouts of the command, and of the run before where it has none; the execution's counts from the first."""
    run = await ctx.start(
        workflow_execution_timeout=duration(30),
        workflow_run_timeout=duration(20),
        workflow_task_timeout=duration(5),
    )
    await run.step(continue_as_new(workflow_run_timeout=duration(60), workflow_task_timeout=duration(60)))
    await _record(run, "longer")
    run = await next_run(run)
    await run.step(continue_as_new(backoff_start_interval=duration(2)))
    await _record(run, "none, with a backoff")
    run = await next_run(run)
    await run.step(continue_as_new(backoff_start_interval=duration(100)))
    await _record(run, "a backoff beyond the end")
    await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def last_results_over_a_chain(ctx: Context) -> None:
    """What was completed last is handed on over failures, retries and continue-as-new."""
    run = await ctx.start(cron_schedule="@every 1s", retry_policy=retry_policy(initial_s=1, attempts=2))
    await run.step(complete_workflow(payloads("one")))
    run = await next_run(run)
    await run.step(fail_workflow(application_failure("a")))
    run = await next_run(run)
    await run.step(continue_as_new(cron_schedule="@every 1s"))
    await _record(run, "retried, continued")
    run = await next_run(run)
    await run.step(complete_workflow())
    await _record(run, "nothing as its result")
    run = await next_run(run)
    await run.until_event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    await _record(run, "after nothing")
    await ctx.client.terminate(run.workflow_id)


@scenario
async def started_again_over_a_held_back_run(ctx: Context) -> None:
    """A start, and a signal with start, of an id whose run waits for its first task."""
    run = await ctx.start(retry_policy=retry_policy(initial_s=60, attempts=3))
    await run.step(fail_workflow(application_failure("no")))
    run = await next_run(run)
    await ctx.attempt("start", ctx.client.start(run.workflow_id, run.task_queue))
    await ctx.attempt(
        "signal with start",
        workflowservice.SignalWithStartWorkflowExecutionRequest(
            namespace=ctx.client.namespace,
            workflow_id=run.workflow_id,
            workflow_type=common.WorkflowType(name="flow"),
            task_queue=queue(run.task_queue),
            signal_name="go",
        ),
        drop=["run_id"],
    )
    await _record(run, "signalled")
    await ctx.client.terminate(run.workflow_id)
