"""What is asked of a run that still waits for its first task: after a start delay, by cron, between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from tests.differential.context import IDLE_POLL_S, Context, Run
from tests.differential.registry import scenario, slow_scenario
from tests.differential.scenarios.chains import BACKOFF, TRANSITIONS, next_run
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
    retry_policy,
    user_metadata,
)
from tests.support.proto import common, workflow, workflowservice
from tests.support.updates import ACCEPTED, DISCARDS, poll_request, rejection, update_request

FOR_LONG: Final[Mapping[str, Mapping[str, Any]]] = {
    "retry": {"retry_policy": retry_policy(initial_s=60, attempts=3)},
    "cron": {"cron_schedule": "@every 1h"},
    "delay": {"workflow_start_delay": duration(60)},
    "continued": {},
}


async def held_back(ctx: Context, label: str, name: str = "") -> Run:
    """A run that waits for its first task for longer than anybody looks; why, the label says."""
    run = await ctx.start(name or label, **FOR_LONG[label])
    if label == "retry":
        await run.step(fail_workflow(application_failure("no")))
        return await next_run(run)
    if label == "continued":
        await run.step(continue_as_new(backoff_start_interval=duration(60)))
        return await next_run(run)
    return run


async def record(run: Run, label: str) -> None:
    """A run's history and description, but for how long its first task waits, which differs by nature."""
    await run.record_history(label, drop=[BACKOFF])
    run.context.record(f"{label}, described", await run.describe(), drop=[BACKOFF, TRANSITIONS])


@scenario
async def queried_while_held_back(ctx: Context) -> None:
    """There is no state yet that could be asked for."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        await ctx.attempt(label, ctx.client.query(run.workflow_id, timeout_s=4))
        await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def updated_while_held_back(ctx: Context) -> None:
    """An update of a run that has no task yet: whether it brings one, and what its caller is told."""
    for label in ("retry", "delay"):
        run = await held_back(ctx, label)
        request = update_request(ctx.client.namespace, run.execution, stage=ACCEPTED)
        asking = asyncio.create_task(ctx.attempt(f"{label}, update", request, timeout_s=3))
        task = await run.poll()
        ctx.record(f"{label}, messages", len(task.messages))
        ctx.record(f"{label}, written", [event.event_type for event in await run.events()])
        await asking
        await ctx.attempt(
            f"{label}, polled", poll_request(ctx.client.namespace, run.execution, stage=ACCEPTED), timeout_s=2
        )
        await ctx.client.terminate(run.workflow_id)
        await record(run, f"{label}, terminated")


@slow_scenario
async def rejected_while_held_back(ctx: Context) -> None:
    """The update is rejected, and the task that brought it did nothing else: what is left of that task."""
    run = await ctx.start(workflow_start_delay=duration(6))
    request = update_request(ctx.client.namespace, run.execution)
    asking = asyncio.create_task(ctx.client.invoke(request))
    task = await run.poll()
    await run.complete(task, messages=[rejection(task.messages[0])], capabilities=DISCARDS)
    ctx.record("update", await asking)
    ctx.record("written", [event.event_type for event in await run.events()])
    task = await run.poll(timeout_s=IDLE_POLL_S + 4, expect=False)
    ctx.record("another task came", bool(task.task_token))
    await ctx.client.terminate(run.workflow_id)


@scenario
async def paused_while_held_back(ctx: Context) -> None:
    """A pause before there was any workflow task."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        request = workflowservice.PauseWorkflowExecutionRequest(
            namespace=ctx.client.namespace, workflow_id=run.workflow_id
        )
        await ctx.attempt(label, request)
        await ctx.client.terminate(run.workflow_id)


@scenario
async def reset_while_held_back(ctx: Context) -> None:
    """There is nothing to go back to."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        for event_id in (1, 2):
            await ctx.attempt(
                f"{label}, reset to {event_id}",
                workflowservice.ResetWorkflowExecutionRequest(
                    namespace=ctx.client.namespace,
                    workflow_execution=run.execution,
                    workflow_task_finish_event_id=event_id,
                    request_id=f"{label} {event_id}",
                ),
            )
        await ctx.client.terminate(run.workflow_id)


@scenario
async def options_changed_while_held_back(ctx: Context) -> None:
    """Options of a run that waits for its first task."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        request = workflowservice.UpdateWorkflowExecutionOptionsRequest(
            namespace=ctx.client.namespace, workflow_execution=run.execution
        )
        request.workflow_execution_options.priority.priority_key = 2
        request.update_mask.paths.append("priority")
        await ctx.attempt(f"{label}, options", request)
        await record(run, label)
        await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def signalled_with_start_while_held_back(ctx: Context) -> None:
    """Whether a signal with start begins a run's first task: after each reason to wait."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        request = workflowservice.SignalWithStartWorkflowExecutionRequest(
            namespace=ctx.client.namespace,
            workflow_id=run.workflow_id,
            workflow_type=common.WorkflowType(name="flow"),
            signal_name="go",
            request_id="s",
        )
        request.task_queue.name = run.task_queue
        await ctx.attempt(f"{label}, signal", request, drop=["run_id"])
        task = await run.poll(timeout_s=IDLE_POLL_S, expect=False)
        ctx.record(f"{label}, a task came", bool(task.task_token))
        await record(run, label)
        await ctx.client.terminate(run.workflow_id)


@scenario
async def times_of_a_held_back_run(ctx: Context) -> None:
    """When it started and when it begins, described and listed."""
    for label in FOR_LONG:
        run = await held_back(ctx, label)
        info = (await run.describe()).workflow_execution_info
        ctx.record(
            f"{label}, begins after its start", info.execution_time.seconds > info.start_time.seconds + 5
        )

        async def listed(run: Run = run) -> list[workflow.WorkflowExecutionInfo]:
            found = await ctx.client.call(
                workflowservice.ListWorkflowExecutionsRequest(
                    namespace=ctx.client.namespace, query=f"RunId = '{run.run_id}'"
                ),
                workflowservice.ListWorkflowExecutionsResponse,
            )
            return list(found.executions)

        rows = await ctx.until("it is listed", listed, bool)
        row = rows[0]
        ctx.record(f"{label}, listed so", row.execution_time.seconds > row.start_time.seconds + 5)
        ctx.record(f"{label}, row", row, drop=["state_transition_count", "history_size_bytes"])
        await ctx.client.terminate(run.workflow_id)


def _every_field() -> dict[str, Any]:
    return {
        "input": payloads("in"),
        "memo": memo({"m": "memo"}),
        "header": header({"h": "header"}),
        "search_attributes": common.SearchAttributes(indexed_fields={"Shade": keyword("blue")}),
        "user_metadata": user_metadata("summary", "details"),
        "priority": common.Priority(priority_key=2),
        "links": [
            common.Link(
                workflow_event=common.Link.WorkflowEvent(
                    namespace="default", workflow_id="other", run_id="0190c7a8-0000-7000-8000-000000000001"
                )
            )
        ],
    }


@slow_scenario
async def what_a_retry_takes_over(ctx: Context) -> None:
    """Header, memo, search attributes, metadata, priority and links of the first attempt, in the next one."""
    run = await ctx.start(retry_policy=retry_policy(initial_s=1, attempts=3), **_every_field())
    await run.step(fail_workflow(application_failure("no")))
    run = await next_run(run)
    ctx.record("its task", await run.poll(), drop=[f"history.events.0.{BACKOFF}"])
    await record(run, "second attempt")
    await ctx.client.terminate(run.workflow_id)


@slow_scenario
async def what_the_next_of_a_schedule_takes_over(ctx: Context) -> None:
    """The same over a cron schedule."""
    run = await ctx.start(cron_schedule="@every 1s", **_every_field())
    await run.step(complete_workflow(payloads("out")))
    run = await next_run(run)
    await record(run, "next")
    await ctx.client.terminate(run.workflow_id)


@scenario
async def what_continue_as_new_takes_over(ctx: Context) -> None:
    """The same over continue-as-new, bare and with fields of its own."""
    run = await ctx.start(**_every_field())
    await run.step(continue_as_new())
    run = await next_run(run)
    await record(run, "bare")
    await run.step(continue_as_new(memo=memo({"n": "other"}), header=header({"i": "other"})))
    run = await next_run(run)
    await record(run, "its own")
    await run.step(complete_workflow())


@scenario
async def what_a_reset_takes_over(ctx: Context) -> None:
    """The same over a reset."""
    run = await ctx.start(**_every_field())
    await run.step()
    response = await ctx.client.call(
        workflowservice.ResetWorkflowExecutionRequest(
            namespace=ctx.client.namespace,
            workflow_execution=run.execution,
            workflow_task_finish_event_id=4,
            request_id="reset",
        ),
        workflowservice.ResetWorkflowExecutionResponse,
    )
    run = Run(ctx, run.workflow_id, response.run_id, run.task_queue)
    await record(run, "reset")
    await ctx.client.terminate(run.workflow_id)
